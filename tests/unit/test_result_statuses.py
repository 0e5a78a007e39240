"""The statuses of a job: one list for workers, contract, page and clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import quoted, table_after
from worker.asyncapi.commands import COMMANDS
from worker.client import ClientError, ReplyError
from worker.client.kept import Kept
from worker.message import CANCEL_STATUSES, RESULT_STATUSES
from worker.store import Cancellation

# The list that the tests of the Elixir client read too.
STATUSES = json.loads((Path(__file__).parents[1] / "contract" / "result_statuses.json").read_text())


def told(status: str) -> str:
    """Return what a caller of `Client.get_result` gets for a status."""
    reply = {"success": True, "result": {"outputs": {"n": 1}}} if status == "done" else None
    try:
        result = Kept.read("m", {"message_id": "m", "status": status, "reply": reply}).result()
    except ReplyError as error:
        return f"raises {error.code} of {error.message_id}"
    return "None" if result is None else f"outputs {dict(result.outputs)}"


def test_each_status_of_the_wire_means_something_to_the_client():
    """A new one fails here until somebody has decided what callers get."""
    assert {status: told(status) for status in STATUSES} == {
        "done": "outputs {'n': 1}",
        "running": "None",
        "waiting": "None",
        "cancelled": "raises cancelled of m",
        "unknown": "None",
    }


def test_the_list_for_clients_is_that_of_the_code():
    """In the order of the wire."""
    assert list(RESULT_STATUSES) == STATUSES


@pytest.mark.parametrize(("command", "statuses"), [("get_result", RESULT_STATUSES), ("cancel", CANCEL_STATUSES)])
def test_the_contract_and_the_page_have_the_statuses_of_the_code(command, statuses):
    """The published schema and docs/WIRE.md."""
    [result] = [each.result for each in COMMANDS if each.name == command]
    shown = [
        name for row in table_after("docs/WIRE.md", f"`{command}` ", "Status", "Meaning") for name in quoted(row[0])
    ]
    schema: Any = result

    assert [schema["properties"]["status"]["enum"], shown] == [list(statuses), list(statuses)]


def test_the_statuses_of_a_cancel_are_those_of_the_store():
    """Its answer is passed on as it is."""
    assert sorted(each.value for each in Cancellation) == sorted(CANCEL_STATUSES)


def test_a_status_of_a_newer_worker_is_said_and_not_taken_for_a_job_that_may_still_end():
    """Else a caller would wait for ever."""
    with pytest.raises(ClientError, match="'paused' is of a newer worker"):
        Kept.read("m", {"status": "paused", "reply": None})


def test_a_kept_reply_has_its_generation_and_the_time_when_it_was_stored():
    """With them the job can be run again."""
    document = {"success": False, "error": "slow", "error_detail": {"code": "lm_unavailable"}, "stored_ms": 17}
    with pytest.raises(ReplyError) as caught:
        Kept.read("m", {"status": "done", "reply": document, "generation": 2}).result()
    error = caught.value

    assert (error.message_id, error.generation, error.stored_ms) == ("m", 2, 17)
