"""What is logged of an unexpected error."""

from __future__ import annotations

from structlog.testing import capture_logs

from worker.telemetry import log_bug


def quote(payload: str) -> None:
    raise ValueError(f"cannot read {payload}")


def test_a_bug_is_logged_by_type_and_place_and_never_by_its_words() -> None:
    """The message of an error may quote what a caller sent."""
    with capture_logs() as log:
        try:
            quote("a secret")
        except ValueError as error:
            log_bug(error, event="chore.failed", chore="sweep")

    [line] = log
    assert "secret" not in str(line)
    assert line["frames"][-1].endswith(" quote")

    assert (line["event"], line["error"], line["chore"]) == ("chore.failed", "ValueError", "sweep")
