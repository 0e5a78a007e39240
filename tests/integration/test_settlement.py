"""Every row of the settlement table, against the real broker: the reply, and what becomes of the message."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import Behaviour, LMStub, failing, saying
from tests.support.replies import without_mark

SENTIMENT = {
    "inputs": [{"name": "text", "type": "string"}],
    "outputs": [
        {"name": "sentiment", "type": "string", "constraints": {"enum": ["positive", "negative"]}},
        {"name": "confidence", "type": "probability"},
    ],
}
INPUTS = {"text": "I love it"}
GOOD = "[[ ## sentiment ## ]]\npositive\n\n[[ ## confidence ## ]]\n0.9\n\n[[ ## completed ## ]]"
NEVER = {"fallback": "never"}


def execute(signature: Any = SENTIMENT, inputs: Any = INPUTS, **args: Any) -> dict[str, Any]:
    return {"args": {"signature": signature, "inputs": inputs, **NEVER, **args}}


def one_output(**definition: Any) -> dict[str, Any]:
    return execute({"inputs": [{"name": "text"}], "outputs": [{"name": "label", **definition}]})


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        code: Expected wire code; None for a success.
        body: What is published.
        lane: Where.
        settles: ``ack``, ``dead``, or ``taken``: ack if the reply was taken, else dead-letter.
        properties: AMQP properties.
        lm: What the LM does.
        lm_calls: Calls it gets.
        settings: Settings of the worker besides the usual ones.
    """

    code: str | None
    body: Any
    lane: str = "execute"
    settles: str = "taken"
    properties: Mapping[str, Any] = field(default_factory=dict)
    lm: Callable[[LMStub], Behaviour] = field(default=lambda stub: saying(GOOD))
    lm_calls: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)


def lm_does(behaviour: Behaviour) -> Callable[[LMStub], Behaviour]:
    return lambda stub: behaviour


ROWS = {
    "a result": Row(None, execute(), settles="ack", lm_calls=1),
    "a definition": Row(None, {"args": {"id": "s", "signature": SENTIMENT, **NEVER}}, lane="create", settles="ack"),
    "an answer": Row(None, {"command": "ping"}, lane="control", settles="ack"),
    "not JSON": Row("invalid_json", b"{"),
    "not UTF-8": Row("invalid_json", '{"command": "ä"}'.encode("latin-1")),
    "too deep": Row("invalid_json", b"[" * 200_000),
    "duplicate keys": Row("invalid_json", b'{"args": {}, "args": {}}'),
    "NaN": Row("invalid_json", b'{"args": {"inputs": {"x": NaN}}}'),
    "a lone surrogate": Row("invalid_json", b'{"args": {"inputs": {"x": "\\ud800"}}}'),
    "too large": Row("body_too_large", b" " * 17 * 1024 * 1024),
    "another content type": Row("invalid_request", execute(), properties={"content_type": "text/plain"}),
    "gzip": Row("invalid_request", execute(), properties={"content_encoding": "gzip"}),
    "not an object": Row("invalid_request", []),
    "an unknown key": Row("invalid_request", {"comand": "ping"}),
    "no command on control": Row("invalid_request", {}, lane="control"),
    "no program id": Row("invalid_request", {"args": {"inputs": INPUTS}}),
    "an unknown command": Row("unknown_command", {"command": "fly"}, lane="control"),
    "not permitted": Row("not_permitted", {"command": "shutdown"}, lane="control"),
    "cancelled": Row("cancelled", execute(), settles="ack"),
    "switched off": Row("dynamic_signatures_off", execute(), settings={"dynamic_signatures": "false"}),
    "a bad definition": Row("invalid_signature", execute("text ->")),
    "a bad field name": Row("invalid_field_name", execute("a, a -> b")),
    "an unknown type": Row("unknown_type", execute("a: strin -> b")),
    "a bad constraint": Row("invalid_constraint", one_output(type="string", constraints={"minimum": 1})),
    "an unknown program type": Row("unsupported_program_type", execute(program_type="react")),
    "a missing input": Row("invalid_inputs", execute(inputs={})),
    "a wrong input": Row("invalid_inputs", execute(inputs={"text": 1})),
    "an unknown program": Row("program_not_found", {"args": {"program_id": "nobody", "inputs": {}}}),
    "another program": Row("program_exists", {"args": {"id": "taken", "signature": "a -> c", **NEVER}}, lane="create"),
    "another content": Row("idempotency_conflict", execute(), properties={"message_id": "used"}),
    "past its deadline": Row("expired", execute(), settles="ack", properties={"headers": {"x-dspex-deadline": 1}}),
    "LM limited": Row("lm_rate_limited", execute(), settles="dead", lm=lm_does(failing(429)), lm_calls=2),
    "LM asks for an hour": Row(
        "lm_rate_limited",
        execute(),
        settles="dead",
        lm=lm_does(failing(429, headers={"Retry-After": "3600"})),
        lm_calls=1,
    ),
    "LM silent": Row("lm_timeout", execute(), settles="dead", lm=lambda stub: stub.hang, lm_calls=2),
    "LM down": Row("lm_unavailable", execute(), settles="dead", lm=lm_does(failing(500)), lm_calls=4),
    "LM refuses the key": Row(
        "lm_auth",
        execute(),
        settles="dead",
        lm=lm_does(failing(401)),
        lm_calls=1,
        # Attempts do not end it while the circuit is open, and with every LM down it would wait in its queue.
        settings={"max_age_seconds": "0.45", "lms": '{"spare": {"model": "openai/gpt-4o-mini", "api_key": "k"}}'},
    ),
    "LM refuses": Row("lm_invalid_request", execute(), settles="dead", lm=lm_does(failing(400)), lm_calls=1),
    "prompt too long": Row(
        "context_window_exceeded",
        execute(),
        settles="dead",
        lm=lm_does(failing(400, code="context_length_exceeded")),
        lm_calls=1,
    ),
    "no such LM": Row("lm_not_configured", execute(lm="nobody"), settles="dead"),
    "garbage": Row("output_invalid", execute(), settles="dead", lm=lm_does(saying("hello")), lm_calls=3),
    "an empty answer": Row("output_invalid", execute(), settles="dead", lm=lm_does(saying("")), lm_calls=3),
    "a wrong value": Row(
        "output_invalid", execute(), settles="dead", lm=lm_does(saying(GOOD.replace("0.9", "7.3"))), lm_calls=3
    ),
    "over its time": Row(
        "timeout", execute(options={"timeout_ms": 100}), settles="dead", lm=lambda stub: stub.hang, lm_calls=1
    ),
    "over its calls": Row(
        "budget_exceeded", execute(options={"max_lm_calls": 1}), settles="dead", lm=lm_does(failing(500)), lm_calls=1
    ),
}


@pytest.fixture(params=list(ROWS.values()), ids=list(ROWS))
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


async def prepare(caller: Caller, code: str | None) -> None:
    """Take the program id ``taken`` and the message id ``used``, or cancel the job ``m1``."""
    if code == "cancelled":
        body = {"command": "cancel", "args": {"message_id": "m1"}}
        assert (await caller.call("control", body))["success"]
    if code not in ("program_exists", "idempotency_conflict"):
        return
    await caller.create("a -> b", id="taken")
    reply = await caller.call("control", {"command": "delete_program", "args": {"program_id": "x"}})
    assert not reply["success"]
    body = {"args": {"id": "other", "signature": "a -> b", **NEVER}}
    assert (await caller.call("create", body, message_id="used"))["success"]


async def test_each_row_replies_and_settles_as_the_table_says(
    row: Row, start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The reply carries the code, no LM call is made for nothing, and the message ends where the table says."""
    lm_stub.behaviour = row.lm(lm_stub)
    async with start_worker(**row.settings):
        await prepare(caller, row.code)
        correlation_id = await caller.publish(row.lane, row.body, **{"message_id": "m1", **row.properties})
        message = await caller.reply(correlation_id)
        reply = json.loads(message.body)
        if row.settles == "dead":
            letter = await caller.dead_letter(row.lane)
            assert letter.headers["x-dspex-code"] == row.code
            assert letter.message_id == "m1"

    assert message.type == "dspex.reply"
    assert reply["success"] is (row.code is None), reply
    assert row.code is None or reply["error_detail"]["code"] == row.code, reply
    assert lm_stub.calls == row.lm_calls
    assert await caller.depth(f"{row.lane}.dead") == 0
    assert await caller.depth(row.lane) == 0


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.settles == "taken"])
async def test_a_refusal_that_nobody_hears_is_a_dead_letter(
    name: str, start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Where no reply can be taken, the refused message is kept for the operator."""
    row = ROWS[name]
    async with start_worker(**row.settings):
        await prepare(caller, row.code)
        properties = {"message_id": "m1", **row.properties, "reply_to": "no-such-queue"}
        await caller.publish(row.lane, row.body, **properties)
        letter = await caller.dead_letter(row.lane)

    assert letter.headers["x-dspex-code"] == row.code
    assert lm_stub.calls == 0
    expected = row.body if isinstance(row.body, bytes) else json.dumps(row.body).encode()

    assert expected == letter.body


async def test_a_job_may_not_have_its_reply_sent_to_a_work_queue(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """No reply, a dead letter, no LM call."""
    async with start_worker():
        await caller.publish("execute", execute(), reply_to=f"{caller.namespace}.execute", message_id="m1")
        letter = await caller.dead_letter("execute")

    assert letter.headers["x-dspex-code"] == "reply_to_not_allowed"
    assert lm_stub.calls == 0


async def test_trouble_that_passes_delays_the_job_and_then_answers_it(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """A first attempt that fails goes to the ladder; the second one succeeds and says so."""

    async def fail_once(prompt: str, call: int) -> Any:
        return await (failing(429) if call == 1 else saying(GOOD))(prompt, call)

    lm_stub.behaviour = fail_once
    async with start_worker():
        began = time.monotonic()
        reply = await caller.call("execute", execute(), message_id="m1")
        waited = time.monotonic() - began

    assert reply["result"]["attempts"] == 2
    assert reply["result"]["usage"]["lm_calls"] == 2
    assert waited >= 0.2
    assert reply["result"]["outputs"] == {"sentiment": "positive", "confidence": 0.9}


async def test_a_result_whose_caller_is_gone_is_kept(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The success is acked, no dead letter is made, and ``get_result`` returns it."""
    lm_stub.behaviour = saying(GOOD)
    async with start_worker():
        await caller.publish("execute", execute(), reply_to="no-such-queue", message_id="m1")
        while True:
            kept = await caller.call("control", {"command": "get_result", "args": {"message_id": "m1"}})
            if kept["result"]["status"] == "done":
                break

    assert kept["result"]["reply"]["result"]["outputs"]["sentiment"] == "positive"
    assert await caller.depth("execute.dead") == 0
    assert await caller.depth("execute") == 0


async def test_an_error_whose_caller_is_gone_is_a_dead_letter(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Errors after an LM call are dead-lettered, whoever listens."""
    lm_stub.behaviour = saying("hello")
    async with start_worker():
        await caller.publish("execute", execute(), reply_to="no-such-queue", message_id="m1")
        letter = await caller.dead_letter("execute")

    assert letter.headers["x-dspex-code"] == "output_invalid"


async def test_a_repeated_message_gets_the_stored_reply_and_costs_nothing(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The same message id with the same content is the same job: one LM call, two equal replies."""
    lm_stub.behaviour = saying(GOOD)
    async with start_worker():
        first = await caller.reply(await caller.publish("execute", execute(), message_id="m1"))
        second = await caller.reply(await caller.publish("execute", execute(), message_id="m1"))

    assert lm_stub.calls == 1
    assert first.message_id == second.message_id

    assert first.body == without_mark(second.body) != second.body


async def test_what_a_shutdown_cuts_off_is_delivered_again(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """A job that outlives the drain has no reply and no dead letter; the next worker runs it."""
    lm_stub.behaviour = lm_stub.hang
    settings = {"lm_timeout_seconds": "30", "job_timeout_seconds": "60", "drain_seconds": "61"}
    async with start_worker(**settings) as consumer:
        correlation_id = await caller.publish("execute", execute(), message_id="m1")
        await lm_stub.called.wait()
        assert not await consumer.drain(0.1)
    lm_stub.behaviour = saying(GOOD)
    async with start_worker():
        reply = json.loads((await caller.reply(correlation_id)).body)

    assert reply["success"], reply
    assert lm_stub.calls == 2
