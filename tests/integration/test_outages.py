"""What a worker does while something that it needs is away: it stops to consume, and goes on by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from tests.integration.amqp.conftest import until, until_depth
from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing, in_turn


def ask(text: str) -> dict[str, object]:
    return {"args": {"signature": "text -> answer", "fallback": "never", "inputs": {"text": text}}}


@pytest.mark.timeout(120)
async def test_a_store_that_is_down_for_long_stops_consuming_until_it_answers(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub, tmp_path: Path
) -> None:
    """The job in hand goes back once, for another worker; nothing runs unprotected, and nothing is lost."""
    async with start_worker(store_hold_seconds="0.5", max_age_seconds="600") as consumer:
        holder = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN IMMEDIATE")
        try:
            correlation_id = await caller.publish("execute", ask("one"), message_id="m1")
            async with asyncio.timeout(60):
                while consumer.faults != ["paused: the store is down"]:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
                await until_depth(caller, "execute", 1)
            calls, in_hand = lm_stub.calls, consumer.in_flight("execute")
        finally:
            holder.execute("ROLLBACK")
            holder.close()
        reply = await caller.reply(correlation_id)
        await until(lambda: consumer.is_consuming)

    assert (calls, in_hand) == (0, 0)
    assert b'"success":true' in reply.body.replace(b" ", b"")


@pytest.mark.timeout(120)
async def test_while_every_lm_is_down_no_job_is_taken_and_programs_are_still_made(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """One wrong key opens the circuit; the worker's own probe closes it, and the job is answered."""
    lm_stub.behaviour = in_turn(failing(401), failing(401), lm_stub.answer)
    async with start_worker(max_age_seconds="600") as consumer:
        first = await caller.publish("execute", ask("one"), message_id="m1")
        await until(lambda: consumer.faults == ["paused: every LM is down"])
        created = await caller.create("text -> answer", id="made")
        reply = await caller.reply(first)
        await until(lambda: consumer.is_consuming)

    assert created["status"] == "created"
    assert b'"success":true' in reply.body.replace(b" ", b"")
    assert await caller.depth("execute.dead") == 0
