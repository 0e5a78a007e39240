"""A reply that is too large is never silence: whoever asked gets an error with a code, or less at once."""

from __future__ import annotations

from typing import Any

import pytest
from aiormq.channel import Channel
from aiormq.exceptions import ChannelPreconditionFailed

from tests.integration.conftest import PATIENT, StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub
from tests.support.replies import unmarked_body
from worker.amqp import publisher
from worker.amqp.publisher import Parcel

MIB = 1024 * 1024
SIGNATURE = {"inputs": [{"name": "text"}], "outputs": [{"name": "label", "type": "string"}]}
JOB = {"id": 7, "args": {"signature": SIGNATURE, "fallback": "never", "inputs": {"text": "x"}}}
GET_RESULT = {"command": "get_result", "args": {"message_id": "m1"}}


async def control(caller: Caller, command: str, **args: Any) -> dict[str, Any]:
    reply = await caller.call("control", {"command": command, "args": args})
    assert reply["success"], reply
    return dict(reply["result"])


async def test_an_answer_that_fits_into_no_reply_ends_its_job_and_is_asked_for_once(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Paid for once, repairs or not: the error is stored, answered, dead-lettered, and can be asked for."""
    lm_stub.outputs = {"label": "x" * 16 * MIB}
    async with start_worker(**PATIENT):
        reply = await caller.call("execute", JOB, message_id="m1")
        again = await caller.call("execute", JOB, message_id="m1")
        letter = await caller.dead_letter("execute")
        kept = await control(caller, "get_result", message_id="m1")

    assert (reply["id"], reply["error_detail"]["code"], reply["error_detail"]["attempts"]) == (7, "output_invalid", 1)
    assert "the reply would have 16,777," in reply["error"]
    assert "15,663,104 is the limit; ask for less in one job" in reply["error"]
    assert letter.headers["x-dspex-code"] == "output_invalid"
    assert (kept["status"], kept["reply"]) == ("done", reply)
    assert lm_stub.calls == 1

    assert unmarked_body(again) == reply


async def test_the_largest_answer_that_is_kept_can_also_be_asked_for(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """What is stored leaves room for the reply of get_result around it."""
    lm_stub.outputs = {"label": "x" * (15 * MIB - 65 * 1024)}
    async with start_worker(**PATIENT):
        reply = await caller.call("execute", JOB, message_id="m1")
        kept = await control(caller, "get_result", message_id="m1")

    assert reply["success"]
    assert kept["reply"] == reply


async def test_a_list_of_programs_that_fits_into_no_reply_comes_in_pages(
    start_worker: StartWorker, caller: Caller
) -> None:
    """Each page is shorter than the limit; offset plus what came is the next one."""
    pages: list[list[str]] = []
    async with start_worker():
        for number in range(9):
            await caller.create({**SIGNATURE, "description": f"{number}" * 1_900_000}, id=f"p{number}")
        while (seen := sum(len(page) for page in pages)) < 9:
            page = await control(caller, "list_programs", offset=seen, limit=100)
            assert page["total_count"] == 9
            pages.append([one["id"] for one in page["programs"]])

    assert [len(page) for page in pages] == [8, 1]
    assert [name for page in pages for name in page] == [f"p{number}" for number in range(9)]


async def test_a_reply_over_the_brokers_own_limit_is_replaced_by_an_error(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator may set ``max_message_size`` lower; the channel is then closed, which is nobody's answer."""
    publish = publisher._publish

    async def limited(parcel: Parcel, channel: Channel) -> bool:
        if len(parcel.body) > 1_000:
            raise ChannelPreconditionFailed("message size is larger than configured max size 1000")
        return await publish(parcel, channel)

    monkeypatch.setattr(publisher, "_publish", limited)
    lm_stub.outputs = {"label": "x" * 1_000}
    async with start_worker():
        replies = [
            await caller.call("execute", JOB, message_id="m1"),
            await caller.call("control", {"id": 8, **GET_RESULT}),
        ]
        letters = [await caller.dead_letter(lane) for lane in ("execute", "control")]

    assert [(one["id"], one["error_detail"]["code"]) for one in replies] == [
        (7, "output_invalid"),
        (8, "output_invalid"),
    ]
    assert [letter.headers["x-dspex-code"] for letter in letters] == ["output_invalid", "output_invalid"]
    assert "max size 1000" in replies[0]["error"]
    assert lm_stub.calls == 1
