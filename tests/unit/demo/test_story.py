"""How the demo ends."""

from __future__ import annotations

import pytest

from worker.amqp.errors import TopologyError
from worker.demo import story
from worker.demo.runs import Run
from worker.demo.screen import Screen

GOOD = Run("sentiment", {"text": "a"}, 0.1, {"sentiment": "positive"})
BAD = Run("sentiment (replayed)", {"text": "b"}, 0.2, problem="Program execution failed: no JSON")


def test_a_demo_that_failed_ends_on_its_reason_and_claims_nothing(capsys):
    """No next steps, and no dead letter that was not replayed."""
    code = story.end(Screen(), [GOOD, BAD], seconds=3)
    printed = capsys.readouterr().out

    assert printed.splitlines()[-1] == "✗ sentiment (replayed): Program execution failed: no JSON"
    assert "Only 1 of 2 jobs answered and valid" in printed
    assert "dead letter replayed" not in printed
    assert "What to type next" not in printed

    assert code == 1


def test_a_demo_that_went_well_ends_on_what_to_do_next(capsys):
    """With what was shown."""
    code = story.end(Screen(), [GOOD, GOOD], seconds=3)
    printed = capsys.readouterr().out

    assert "✓ 2 of 2 jobs answered and valid (1 worker killed, 1 dead letter replayed) in 3 s" in printed
    assert "docker compose up -d --build --scale worker=4" in printed

    assert code == 0


async def test_what_the_broker_refuses_is_the_last_line(capsys, monkeypatch):
    """No traceback."""

    def refuse(_url: str) -> None:
        raise TopologyError("the queue differs")

    monkeypatch.setattr(story, "set_up", refuse)
    code = await story.show("amqp://127.0.0.1/")

    assert (code, capsys.readouterr().out) == (1, "✗ The demo failed: the queue differs\n")


@pytest.fixture(autouse=True)
def no_signal_handlers(monkeypatch):
    """The test's process keeps its own."""
    monkeypatch.setattr(story, "_end_on_sigterm", lambda: None)
