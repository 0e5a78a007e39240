"""The Elixir client and its compat project: format, warnings, and ExUnit against two real workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.elixir.mix import STEPS, Step, capture, mix_environment, workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of our own for what Mix builds: whoever else builds in the checkout meanwhile is not in the way."""
    return tmp_path_factory.mktemp("mix")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name.replace(" ", "-"))
async def test_mix_has_nothing_to_complain_about(
    step: Step, amqp_url: str, namespace: str, tmp_path: Path, builds: Path
) -> None:
    """Offline, without a single Hex package."""
    environment = mix_environment(amqp_url=amqp_url, namespace=namespace)
    environment["MIX_BUILD_PATH"] = str(builds / step.project.name)
    if step.arguments[0] != "test":
        code, printed = await capture(step, environment=environment)
    else:
        async with workers(amqp_url, namespace, tmp_path):
            code, printed = await capture(step, environment=environment)

    assert code == 0, printed
