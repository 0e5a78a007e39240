"""What would make too large a reply is refused with a code, and no page is longer than a reply."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.left_hand import SENTIMENT, LeftHand, make_settings, open_left_hand, reply_of
from worker.blueprints import Blueprint
from worker.cli.contract import _ids
from worker.client import Client
from worker.message import MAX_KEPT_BYTES, MAX_REPLY_BYTES, Ack, AckIfReplied, DeadLetter
from worker.questions import _page
from worker.store import ProgramRecord

MIB = 1024 * 1024
RUN = {"command": "execute_program", "args": {"program_id": "p", "inputs": {"text": "x"}}}


@pytest.fixture
async def hand(tmp_path: Path) -> AsyncIterator[LeftHand]:
    async with open_left_hand(tmp_path, make_settings(max_body_bytes=64 * MIB)) as opened:
        yield opened


def record(program_id: str, description: str) -> ProgramRecord:
    definition = Blueprint("dynamic", {"description": description}, "predict", None, None, {}, [], None, "f", [])
    return ProgramRecord(
        program_id, "r", 1, "f", definition.to_text(), created_ms=0, executions=0, last_executed_ms=None
    )


def grow(folder: Path, key: str) -> None:
    """Make a stored reply as large as only an older worker stored one."""
    body = json.dumps(
        {"id": None, "success": True, "timestamp": 1.0, "result": {"text": "x" * 16 * MIB, "attempts": 1}}
    )
    with closing(sqlite3.connect(folder / "store.db")) as connection, connection:
        assert connection.execute("UPDATE jobs SET reply = ? WHERE job_key = ?", (body.encode(), key)).rowcount == 1


async def test_a_definition_whose_reply_would_be_too_large_makes_no_program(hand: LeftHand) -> None:
    """Its reply repeats it; nothing is stored, so a smaller one may have the id."""
    large = {**SENTIMENT, "description": "😀" * 1_900_000}
    body = {"command": "create_program", "args": {"id": "p", "signature": large}}
    outcome = await hand.handle(json.dumps(body, ensure_ascii=False).encode(), message_id="m")
    refused = reply_of(outcome)["error_detail"]
    created = await hand.create(SENTIMENT, id="p")

    assert (refused["code"], refused["attempts"]) == ("invalid_signature", 0)
    assert "15,663,104 is the limit" in refused["message"]
    assert isinstance(outcome.settlement, AckIfReplied)
    assert created["program_version"] == 1


@pytest.mark.parametrize("command", ["ping", "cancel", "fly", "get_program_info"])
async def test_a_request_whose_own_words_fill_the_reply_is_answered_without_them(hand: LeftHand, command: str) -> None:
    """An id is copied to the reply, a name is quoted: neither is a reason to say nothing."""
    words = "x" * 16 * MIB
    outcome = await hand.handle({"command": command, "id": words, "args": {"message_id": words, "program_id": words}})
    assert outcome.reply is not None
    said = reply_of(outcome)

    assert len(outcome.reply.body) < 10_000
    assert (said["id"], said["success"]) == (None, False)
    assert isinstance(outcome.settlement, AckIfReplied)


async def test_a_long_name_that_is_quoted_costs_the_reply_no_id(hand: LeftHand) -> None:
    """The sentence is cut instead."""
    body = {"command": "get_program_info", "id": 7, "args": {"program_id": "x" * 16 * MIB}}
    said = reply_of(await hand.handle(body))

    assert (said["id"], said["error_detail"]["code"]) == (7, "program_not_found")
    assert len(said["error"]) == 1_000


async def test_a_result_that_an_older_worker_stored_is_refused_where_it_is_too_large(
    hand: LeftHand, tmp_path: Path
) -> None:
    """Both to who asks for it and to who sends the job again; it stays in the store."""
    await hand.create(SENTIMENT, id="p")
    first = await hand.handle(RUN, message_id="m")
    grow(tmp_path, "m")
    asked = await hand.handle({"command": "get_result", "args": {"message_id": "m"}}, lane="control")
    again = await hand.handle(RUN, message_id="m")
    details = [reply_of(one)["error_detail"] for one in (asked, again)]

    assert isinstance(first.settlement, Ack)
    assert [one["code"] for one in details] == ["invalid_request", "output_invalid"]
    assert [one["attempts"] for one in details] == [0, 1]
    assert all("15,728,640 is the limit" in one["message"] for one in details)
    assert all("another message_id" in one["message"] for one in details)
    assert isinstance(asked.settlement, AckIfReplied)
    assert isinstance(again.settlement, DeadLetter)


async def test_a_created_program_that_an_older_worker_answered_at_too_great_length_is_refused(
    hand: LeftHand, tmp_path: Path
) -> None:
    """It is no run, so it fails like a request."""
    body = {"command": "create_program", "args": {"id": "p", "signature": SENTIMENT}}
    await hand.handle(body, message_id="m")
    grow(tmp_path, "m")
    again = await hand.handle(body, message_id="m")

    assert reply_of(again)["error_detail"]["code"] == "invalid_request"
    assert isinstance(again.settlement, AckIfReplied)


def test_a_page_ends_where_the_reply_is_full() -> None:
    """With one program at least."""
    records = [record(name, "x" * 1_000) for name in "abc"]

    assert [[one["id"] for one in _page(records, room=room)] for room in (2_400, 1_200, 9_000)] == [
        ["a", "b"],
        ["a"],
        ["a", "b", "c"],
    ]


def test_a_program_that_fits_into_no_reply_is_listed_without_its_signature() -> None:
    """Alone on its page, so that whoever pages gets past it."""
    [listed] = _page([record("a", "x" * 1_000), record("b", "x")], room=500)

    assert (listed["id"], listed["signature"]) == ("a", None)


async def test_the_command_line_asks_for_page_after_page() -> None:
    """A page may be shorter than what was asked for; a program that was listed twice is described once."""
    pages = {0: ["a", "b"], 2: ["b"], 3: ["c"]}

    class Pages:
        async def call(self, command: str, args: dict[str, Any]) -> dict[str, Any]:
            assert command == "list_programs"
            return {"programs": [{"id": name} for name in pages[args["offset"]]], "total_count": 4}

    assert await _ids(cast("Client", Pages())) == ["a", "b", "c"]


def test_replies_stay_below_what_rabbitmq_takes() -> None:
    """RabbitMQ 4 closes the channel at 16 MiB; and what is kept must fit into the reply of get_result."""
    assert MAX_KEPT_BYTES < MAX_REPLY_BYTES < 16 * MIB
