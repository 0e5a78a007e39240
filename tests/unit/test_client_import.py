"""Importing the client is cheap: an application pays for aio-pika and the contract, not for a worker."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_MEASURE = """
import json, sys
import worker.client
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"modules": sorted(sys.modules), "kib": int(status["VmHWM"].split()[0])}))
"""
_TOO_HEAVY = {"dspy", "litellm", "openai", "tenacity", "pydantic_settings", "sqlalchemy", "structlog", "typer", "rich"}
_OURS = {
    "worker",
    "worker.client",
    "worker.errors",
    "worker.facts",
    "worker.message",
    "worker.suggestions",
    "worker.urls",
}


@pytest.fixture(scope="module")
def fresh_process() -> dict[str, object]:
    """What a fresh interpreter holds after ``import worker.client``."""
    done = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True)
    figures: dict[str, object] = json.loads(done.stdout)
    return figures


def test_importing_the_client_loads_no_dspy_and_none_of_the_workers_libraries(fresh_process):
    """Neither the LM side nor logging, settings, store and retries come along."""
    loaded = {name.partition(".")[0] for name in fresh_process["modules"]}

    assert loaded & _TOO_HEAVY == set()


def test_importing_the_client_loads_only_the_contract_and_the_errors_of_the_worker(fresh_process):
    """A new import in the client is a decision, not an accident."""
    ours = {
        ".".join(name.split(".")[:2])
        for name in fresh_process["modules"]
        if name == "worker" or name.startswith("worker.")
    }

    assert ours == _OURS


def test_importing_the_client_takes_less_than_45_mb(fresh_process):
    """Resident memory at its highest, interpreter included."""
    assert fresh_process["kib"] < 45 * 1_024
