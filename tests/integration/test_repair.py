"""Answers that are not valid: asked for again, counted, bounded; and the formats in which they are asked for."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, chat_text, failing, in_turn, saying

SENTIMENT = {
    "inputs": [{"name": "text", "type": "string"}],
    "outputs": [
        {"name": "sentiment", "type": "string", "constraints": {"enum": ["positive", "negative"]}},
        {"name": "confidence", "type": "probability"},
    ],
}
GOOD = {"sentiment": "positive", "confidence": "0.9"}
BAD = {"sentiment": "positive", "confidence": "7.3"}
OUTPUTS = {"sentiment": "positive", "confidence": 0.9}


def execute(**args: Any) -> dict[str, Any]:
    return {"args": {"signature": SENTIMENT, "inputs": {"text": "x"}, "fallback": "never", **args}}


async def test_an_invalid_answer_is_asked_for_again_with_the_problem_named(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The second prompt shows the first answer and what was wrong with it; both calls are counted."""
    lm_stub.behaviour = in_turn(saying(chat_text(BAD)), saying(chat_text(GOOD)))
    async with start_worker():
        reply = await caller.call("execute", execute(), message_id="m1")

    result = reply["result"]
    conversation = lm_stub.bodies[1]["messages"]
    assert [message["role"] for message in conversation] == ["system", "user", "assistant", "user"]
    assert conversation[2]["content"] == chat_text(BAD)
    assert "`confidence`: must be" in conversation[3]["content"]
    assert result["outputs"] == OUTPUTS
    assert (result["usage"]["lm_calls"], result["attempts"]) == (2, 1)


async def test_repairs_end_and_the_caller_learns_what_stayed_wrong(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Never a wrong value: three calls, then ``output_invalid`` with every problem."""
    lm_stub.behaviour = saying(chat_text({"sentiment": "meh", "confidence": "7.3"}))
    async with start_worker():
        reply = await caller.call("execute", execute(), message_id="m1")

    detail = reply["error_detail"]
    assert detail["code"] == "output_invalid"
    assert [problem["path"] for problem in detail["problems"]] == ["/outputs/sentiment", "/outputs/confidence"]
    assert lm_stub.calls == 3


async def test_repairs_stay_within_the_jobs_calls(start_worker: StartWorker, caller: Caller, lm_stub: LMStub) -> None:
    """A job that may make two calls makes two."""
    lm_stub.behaviour = saying("hello")
    async with start_worker():
        reply = await caller.call("execute", execute(options={"max_lm_calls": 2}), message_id="m1")

    assert reply["error_detail"]["code"] == "output_invalid"
    assert lm_stub.calls == 2


async def test_a_repair_never_comes_from_the_cache(start_worker: StartWorker, caller: Caller, lm_stub: LMStub) -> None:
    """Asked again means that the model is asked."""
    lm_stub.behaviour = saying("hello")
    async with start_worker():
        for number in range(2):
            await caller.call("execute", execute(options={"cache": True}), message_id=f"m{number}")

    # The second job's first answer is the cached one; its two repairs are not.
    assert lm_stub.calls == 5


@pytest.mark.parametrize("dialect", ["strict", "full"])
async def test_a_model_that_takes_a_schema_is_sent_one(
    dialect: str, start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Wire names, constraints, nothing besides; and the answer is read as one JSON object."""
    lm_stub.behaviour = saying('{"sentiment": "positive", "confidence": 0.9}')
    async with start_worker(lm_structured_outputs=dialect):
        reply = await caller.call("execute", execute(), message_id="m1")

    sent = lm_stub.bodies[0]["response_format"]["json_schema"]
    assert sent["strict"] is (dialect == "strict")
    assert sent["schema"]["additionalProperties"] is False
    assert sent["schema"]["required"] == ["sentiment", "confidence"]
    assert sent["schema"]["properties"]["sentiment"]["enum"] == ["positive", "negative"]
    assert sent["schema"]["properties"]["confidence"]["maximum"] == 1
    assert reply["result"]["outputs"] == OUTPUTS


@pytest.mark.parametrize(("model", "has_schema"), [("openai/gpt-4o-mini", True), ("openai/my-own-model", False)])
async def test_the_default_is_what_dspy_knows_of_the_model(
    model: str, has_schema: bool, start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """A known model gets the schema, an unknown one the chat format."""
    lm_stub.outputs = GOOD
    lm_stub.behaviour = lm_stub.answer_by_schema
    async with start_worker(lm_structured_outputs="auto", lm_model=model):
        reply = await caller.call("execute", execute(), message_id="m1")

    assert ("response_format" in lm_stub.bodies[0]) is has_schema
    assert reply["result"]["outputs"] == OUTPUTS


async def test_the_chain_of_thought_is_returned_when_asked_for_and_a_field_reasoning_is_the_users_own(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Both formats; the chain is an internal field of ours."""
    signature = {"inputs": [{"name": "text"}], "outputs": [{"name": "reasoning"}]}
    body = execute(
        signature=signature, program_type="chain_of_thought", options={"include_reasoning": True}, lm="either"
    )
    lm_stub.outputs = {"reasoning_": "because", "reasoning": "mine"}
    lm_stub.behaviour = lm_stub.answer_by_schema
    replies = []
    for dialect in ("false", "strict"):
        profile = f'{{"either": {{"model": "openai/gpt-4o-mini", "api_base": "{lm_stub.url}", "api_key": "k", "structured_outputs": "{dialect}"}}}}'
        async with start_worker(lms=profile):
            replies.append(await caller.call("execute", body, message_id=dialect))

    expected = {"reasoning": "mine", "_reasoning": "because"}
    assert [reply["result"]["outputs"] for reply in replies] == [expected, expected]


async def test_a_cost_budget_needs_a_price(start_worker: StartWorker, caller: Caller, lm_stub: LMStub) -> None:
    """An unknown price is no price of 0: the job is refused before any call."""
    async with start_worker(lm_model="openai/my-own-model"):
        reply = await caller.call("execute", execute(options={"max_cost_usd": 1.0}), message_id="m1")

    assert reply["error_detail"]["code"] == "invalid_request"
    assert reply["error_detail"]["field"] == "max_cost_usd"
    assert lm_stub.calls == 0


async def test_a_cost_budget_ends_the_repairs(start_worker: StartWorker, caller: Caller, lm_stub: LMStub) -> None:
    """The first call may go over it; no second one is begun."""
    lm_stub.behaviour = saying("hello")
    async with start_worker():
        reply = await caller.call("execute", execute(options={"max_cost_usd": 0.000001}), message_id="m1")

    assert reply["error_detail"]["code"] == "output_invalid"
    assert lm_stub.calls == 1


async def test_budgets_hold_over_redelivery(start_worker: StartWorker, caller: Caller, lm_stub: LMStub) -> None:
    """What earlier deliveries used counts: the second one may not call at all."""
    lm_stub.behaviour = failing(429)
    async with start_worker():
        calls = await caller.call("execute", execute(options={"max_lm_calls": 1}), message_id="m1")
        lm_stub.behaviour = lm_stub.hang
        cost = await caller.call("execute", execute(options={"max_cost_usd": 1.0}), message_id="m2")

    assert calls["error_detail"]["code"] == "budget_exceeded"
    # A call that was given up may be billed all the same, so what the job has cost is not known any more.
    assert cost["error_detail"]["code"] == "budget_exceeded"
    assert lm_stub.calls == 2


async def test_half_an_answer_is_no_answer(start_worker: StartWorker, caller: Caller, lm_stub: LMStub) -> None:
    """A text that was cut off at max_tokens looks like a whole one: the finish reason tells."""
    lm_stub.behaviour = in_turn(saying(chat_text(GOOD), finish_reason="length"), saying(chat_text(GOOD)))
    async with start_worker():
        reply = await caller.call("execute", execute(), message_id="m1")

    assert reply["result"]["usage"]["lm_calls"] == 2
    assert "cut off" in lm_stub.bodies[1]["messages"][-1]["content"]


async def test_no_second_call_is_made_for_a_caller_that_has_stopped_to_wait(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The call in flight may end after the deadline; no other one is begun."""

    async def fail_after_the_deadline(prompt: str, call: int) -> Any:
        await asyncio.sleep(deadline_ms / 1_000 + 0.01 - time.time())
        return await saying("hello")(prompt, call)

    lm_stub.behaviour = fail_after_the_deadline
    async with start_worker(lm_timeout_seconds="4"):
        deadline_ms = int(time.time() * 1_000) + 2_000
        reply = await caller.call("execute", execute(), message_id="m1", headers={"x-dspex-deadline": deadline_ms})

    assert reply["error_detail"]["code"] == "output_invalid"
    assert lm_stub.calls == 1


async def test_calls_of_a_job_without_a_row_count_too(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Its message carries the attempts; a budget of one call is one call."""
    lm_stub.behaviour = failing(429)
    async with start_worker():
        await caller.publish("execute", execute(options={"max_lm_calls": 1}), correlation_id=None)
        letter = await caller.dead_letter("execute")

    assert letter.headers["x-dspex-code"] == "budget_exceeded"
    assert lm_stub.calls == 1


async def test_the_quick_retry_respects_a_provider_that_asks_to_wait(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """A 503 with Retry-After goes to the ladder at once."""
    lm_stub.behaviour = failing(503, headers={"Retry-After": "60"})
    async with start_worker():
        reply = await caller.call("execute", execute(), message_id="m1")

    assert reply["error_detail"]["code"] == "lm_unavailable"
    assert lm_stub.calls == 1
