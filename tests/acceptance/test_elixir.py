"""The Elixir client and its compat project: format, warnings, and ExUnit against two real workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.elixir.mix import STEPS, Step, capture, mix_environment, workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name.replace(" ", "-"))
async def test_mix_has_nothing_to_complain_about(step: Step, amqp_url: str, namespace: str, tmp_path: Path) -> None:
    """Offline, without a single Hex package."""
    environment = mix_environment(amqp_url=amqp_url, namespace=namespace)
    if step.arguments[0] != "test":
        code, printed = await capture(step, environment=environment)
    else:
        async with workers(amqp_url, namespace, tmp_path):
            code, printed = await capture(step, environment=environment)

    assert code == 0, printed
