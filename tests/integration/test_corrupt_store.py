"""A row that is damaged ends its own job with a coded error, and no other."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.left_hand import SENTIMENT, LeftHand, open_left_hand, reply_of
from worker.message import DeadLetter, Outcome


@pytest.fixture
async def hand(tmp_path: Path) -> AsyncIterator[LeftHand]:
    async with open_left_hand(tmp_path) as hand:
        await hand.create(SENTIMENT, id="good")
        await hand.create(SENTIMENT, id="bad")
        yield hand


@pytest.fixture
def damage(tmp_path: Path, hand: LeftHand) -> Any:
    """A function that runs a statement on the open store's file."""

    def damaged(statement: str) -> None:
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as connection:
            assert connection.execute(statement).rowcount == 1

    return damaged


async def execute(hand: LeftHand, program_id: str, message_id: str) -> Outcome:
    """Execute a program."""
    args = {"program_id": program_id, "inputs": {"text": "fine"}}
    return await hand.handle({"command": "execute_program", "args": args}, message_id=message_id)


def ending(outcome: Outcome) -> tuple[str, bool]:
    """Return the code, and whether the message is dead-lettered."""
    assert outcome.code == reply_of(outcome).get("error_detail", {"code": "ok"})["code"]
    return outcome.code, isinstance(outcome.settlement, DeadLetter)


@pytest.mark.parametrize(
    "change",
    ["reply = X'7B'", "reply = NULL", "state = 'lost'", "settlement = '{', outcome = 'error'", "attempts = 'x'"],
)
async def test_a_job_whose_row_is_damaged_fails_alone(hand: LeftHand, damage: Any, change: str) -> None:
    """It is answered and dead-lettered, each time it comes; the next job runs."""
    await execute(hand, "good", "m")
    damage(f"UPDATE jobs SET {change} WHERE job_key = 'm'")

    endings = [ending(await execute(hand, "good", key)) for key in ("m", "m", "other")]

    assert endings == [("internal", True), ("internal", True), ("ok", False)]


@pytest.mark.parametrize("definition", ["{", "[]", "{}", '"x"'])
async def test_a_program_whose_definition_is_damaged_fails_its_own_jobs(
    hand: LeftHand, damage: Any, definition: str
) -> None:
    """And is still listed, with the others."""
    damage(f"UPDATE programs SET definition = '{definition}' WHERE program_id = 'bad'")

    endings = [ending(await execute(hand, program, program)) for program in ("bad", "good")]
    listed = (await hand.call("list_programs"))["result"]["programs"]

    assert endings == [("internal", True), ("ok", False)]
    assert {one["id"]: one["signature"] for one in listed} == {"good": SENTIMENT, "bad": None}


async def test_a_kept_reply_that_is_damaged_is_no_fault_of_who_asks(hand: LeftHand, damage: Any) -> None:
    """``internal``, not ``invalid_json``."""
    await execute(hand, "good", "m")
    damage("UPDATE jobs SET reply = X'7B' WHERE job_key = 'm'")

    reply = await hand.call("get_result", {"message_id": "m"})

    assert reply["error_detail"]["code"] == "internal"
