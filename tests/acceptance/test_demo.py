"""``dspex-worker demo``: the first thing that a stranger runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.processes import COMMAND, clean_environment


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_demo_answers_every_job_and_leaves_nothing_behind(amqp_url: str, tmp_path: Path) -> None:
    """200 jobs, a killed worker, a dead letter replayed, Elixir publishes; exit 0, no file and no queue left."""
    environment = clean_environment(amqp_url=amqp_url) | {"TMPDIR": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        COMMAND, "demo", env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    printed = output.decode()

    assert process.returncode == 0, printed
    assert "201 of 201 jobs answered and valid" in printed
    assert "Killed worker-" in printed
    assert "… 12 of 12 answered and valid: %{text: " in printed
    assert "What to type next" in printed
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_the_demo_says_what_it_needs() -> None:
    """Without a broker to talk to, one line that tells what to type."""
    process = await asyncio.create_subprocess_exec(
        COMMAND, "demo", env=clean_environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()

    assert process.returncode != 0
    assert "make demo" in output.decode()
