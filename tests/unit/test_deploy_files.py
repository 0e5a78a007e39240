"""The files that build and deploy the worker say what the settings and the docs say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.settings import Settings
from worker.settings.names import ROLLOUT_ALIAS

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock", "deploy/build.lock"]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in requirements}


def _asked_for(project: dict[str, Any]) -> set[str]:
    extras = [name for group in project["project"]["optional-dependencies"].values() for name in group]
    return _names([*project["project"]["dependencies"], *extras])


def _locked(name: str) -> dict[str, str]:
    """Package → its whole entry."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return {line.split("==")[0].split("[")[0]: line for line in text.splitlines()}


def test_docker_compose_accepts_the_file():
    """Debian's docker-compose reads the file without a complaint."""
    tool = shutil.which("docker-compose")
    assert tool, "docker-compose is missing: `make test` installs it, `apt-get install docker-compose` too."
    environment = {"PATH": os.environ["PATH"], "HOME": os.devnull}

    done = subprocess.run([tool, "config", "--quiet"], cwd=ROOT, env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_workers_can_be_scaled(compose):
    """Nothing of the worker service can exist only once: no host port, no container name."""
    assert {"container_name", "ports", "hostname"}.isdisjoint(compose["services"]["worker"])


def test_every_service_has_a_health_check(compose):
    """Docker can tell for each service whether it works."""
    assert all("healthcheck" in service for service in compose["services"].values())


def test_stop_grace_is_above_the_drain(compose):
    """A stopped container gets the time to finish the jobs in flight."""
    grace_seconds = int(compose["services"]["worker"]["stop_grace_period"].removesuffix("s"))

    assert grace_seconds > Settings().drain


def test_every_setting_of_the_env_file_reaches_the_worker(tmp_path):
    """And none that the worker does not know, which would stop its start."""
    names = {f"DSPEX_{name.upper()}" for name in Settings.model_fields} | {ROLLOUT_ALIAS}
    given = {name: f"value-of-{name}" for name in names} | {"DSPEX_BROKER_PASSWORD": "x", "DSPEX_STORE_PASSWORD": "y"}

    reached = _composed(tmp_path, "".join(f"{name}={value}\n" for name, value in given.items()))

    assert reached == {name: given[name] for name in names}


def test_the_example_of_an_env_file_gives_broker_and_store_the_same_passwords_as_the_worker(tmp_path):
    """Changed in one place, they are changed in both."""
    example = (ROOT / "deploy/compose.env.example").read_text(encoding="utf-8")
    changed = example.replace("PASSWORD=dspex", "PASSWORD=changed")

    reached = _composed(tmp_path, changed)

    assert changed.count("=changed") == 2
    assert reached["DSPEX_AMQP_URL"] == "amqp://dspex:changed@rabbitmq:5672/"
    assert reached["DSPEX_STORE_URL"] == "postgresql://dspex:changed@postgres:5432/dspex"


def _composed(folder: Path, env_file: str) -> dict[str, str | None]:
    """Return the worker's environment as docker-compose makes it of an ``.env`` file."""
    shutil.copy(ROOT / "docker-compose.yml", folder)
    (folder / ".env").write_text(env_file, encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": os.devnull}
    command = ["docker-compose", "config"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    made: dict[str, str | None] = yaml.safe_load(done.stdout)["services"]["worker"]["environment"]
    return made


def test_published_ports_stay_on_loopback(compose):
    """Broker and store, with their default passwords, are reachable from this machine only."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_image_installs_the_runtime_lock_with_hashes_only(dockerfile):
    """No package without a hash, and no developer's tool, gets into the image."""
    installs = re.findall(r"pip install (.+?)(?: \\)?$", dockerfile, flags=re.MULTILINE)

    assert installs == [
        "--require-hashes --requirement requirements.lock",
        "--require-hashes --requirement build.lock",
        "--no-deps /wheels/*.whl",
    ]


def test_image_runs_without_root_and_is_checked_on_its_http_port(dockerfile):
    """The worker's user is a number above 0, and the health check asks the port that the image sets."""
    user = re.findall(r"^USER (\d+)$", dockerfile, flags=re.MULTILINE)
    port = re.findall(r"DSPEX_HTTP_PORT=(\d+)", dockerfile)

    assert user == ["10001"]
    assert port == ["8080"]
    assert f"http://127.0.0.1:{port[0]}/healthz" in dockerfile


@pytest.mark.parametrize("name", LOCKS)
def test_lock_has_hashes_and_names_no_index(name):
    """Every entry is pinned and hashed, and no line says where it comes from."""
    entries = _locked(name)

    assert entries
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries.values())
    assert not re.search(r"://|file:|^-", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_locks_hold_what_the_project_asks_for(project):
    """The runtime lock holds the dependencies and nothing of the tools; the other one holds both."""
    runtime, everything = set(_locked("requirements.lock")), set(_locked("requirements-dev.lock"))
    tools = _names(project["dependency-groups"]["dev"])

    assert _asked_for(project) <= runtime
    assert tools <= everything
    assert runtime <= everything
    assert {"pytest", "mypy", "ruff", "uv", "hatchling"}.isdisjoint(runtime)


def test_locks_agree_on_versions():
    """What is tested is what is shipped."""
    runtime, everything = _locked("requirements.lock"), _locked("requirements-dev.lock")

    assert runtime == {name: everything[name] for name in runtime}


def test_every_dependency_is_explained(project):
    """docs/DEPENDENCIES.md has one line for each dependency, and none for others."""
    page = (ROOT / "docs/DEPENDENCIES.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)

    assert sorted(_asked_for(project) | _names(project["dependency-groups"]["dev"])) == sorted(explained)


def test_make_lists_its_targets():
    """`make` alone says what can be typed."""
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = re.findall(r"^  make (\w+)", done.stdout, flags=re.MULTILINE)

    assert {"setup", "demo", "test", "check", "bench", "lock", "clean", "help"} <= set(targets)


def test_ci_can_be_run():
    """.ci/run is executable and is bash."""
    script = ROOT / ".ci/run"

    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
