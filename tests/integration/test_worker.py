"""Whole workers in this process, on the real broker and both stores."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.integration.amqp.raw import publish
from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, chat_text, completion, failing
from worker.amqp.connection import connect
from worker.amqp.shortstr import Unreadable
from worker.client import Client, ReplyError

DEFINITION = {
    "name": "Elixir.MyApp.Extraction",
    "description": "Finds what a text is about",
    "inputs": [{"name": "text", "type": "string", "required": True}],
    "outputs": [
        {"name": "topics", "type": "array(string)", "constraints": [["max_items", 3]]},
        {"name": "valid?", "type": "boolean"},
        {"name": "größe", "type": "float"},
    ],
    "metadata": {"module": "Elixir.MyApp.Extraction", "created_at": "2026-07-15T12:00:00Z"},
}
ANSWER = {"topics": '["a", "b"]', "valid?": "True", "größe": " 1 "}
OUTPUTS = {"topics": ["a", "b"], "valid?": True, "größe": 1.0}


@pytest.fixture(params=["sqlite", "postgresql"])
async def store_url(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """A store of the test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shared.db"
        return
    name = f"worker_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgres_url.rsplit('/', 1)[0]}/{name}"
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture(autouse=True)
def answers(lm_stub: LMStub) -> None:
    lm_stub.outputs = ANSWER


def run(program_id: str, **args: Any) -> dict[str, Any]:
    return {"id": 7, "args": {"program_id": program_id, "inputs": {"text": "x"}, **args}}


async def test_a_program_created_through_one_worker_runs_on_any_other_at_once(
    start_worker: StartWorker, caller: Caller, store_url: str
) -> None:
    """The first worker is gone before the second one starts; only the store is shared."""
    async with start_worker(store_url=store_url):
        created = await caller.create(DEFINITION, id="extraction")
    async with start_worker(store_url=store_url):
        reply = await caller.call("execute", run("extraction"))

    assert created["is_dynamic"]
    assert created["field_mapping"] == {name: name for name in ("text", *OUTPUTS)}
    assert reply["id"] == 7

    assert reply["result"]["outputs"] == OUTPUTS


async def test_a_float_is_written_as_a_float(start_worker: StartWorker, caller: Caller) -> None:
    """Elixir tells 1 from 1.0."""
    async with start_worker():
        await caller.create(DEFINITION, id="extraction")
        reply = await caller.reply(await caller.publish("execute", run("extraction")))

    assert '"größe":1.0'.encode() in reply.body


async def test_descriptions_and_wire_names_reach_the_prompt_and_internal_names_do_not(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The model sees what the sender declared."""
    async with start_worker():
        await caller.create(DEFINITION, id="extraction")
        await caller.call("execute", run("extraction"))

    prompt = lm_stub.prompts[0]
    assert "Finds what a text is about" in prompt
    assert "[[ ## valid? ## ]]" in prompt
    assert "f0" not in prompt


async def test_a_job_that_comes_before_its_program_waits_for_it(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """One hop on the ladder, then it runs."""
    async with start_worker():
        job = await caller.publish("execute", run("late"), message_id="m1")
        await caller.create(DEFINITION, id="late")
        reply = json.loads((await caller.reply(job)).body)

    assert reply["result"]["outputs"] == OUTPUTS
    assert lm_stub.calls == 1


async def test_replacing_a_program_makes_the_next_job_run_the_new_version(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The revision is read with the claim, so no cache is stale."""
    async with start_worker():
        await caller.create(DEFINITION, id="p")
        first = await caller.call("execute", run("p"))
        lm_stub.outputs = {"label": "new"}
        await caller.create("text -> label", id="p", replace=True)
        second = await caller.call("execute", run("p"))

    assert (first["result"]["program_version"], second["result"]["program_version"]) == (1, 2)
    assert second["result"]["outputs"] == {"label": "new"}


async def test_the_fallback_runs_once_as_question_and_answer_and_says_so(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Policy ``execute``: outputs that stay invalid are asked for once more, never in silence."""

    async def answer_only_questions(prompt: str, call: int) -> Any:
        return completion(chat_text({"answer": "42"}) if "[[ ## question ## ]]" in prompt else "no idea")

    lm_stub.behaviour = answer_only_questions
    async with start_worker():
        reply = await caller.call(
            "execute",
            {"args": {"signature": DEFINITION, "fallback": "execute", "inputs": {"text": "x"}}},
            message_id="m1",
        )

    result = reply["result"]
    assert result["outputs"] == {"answer": "42"}
    assert result["fallback_used"]
    assert result["fallback_reason"].startswith("output_invalid: ")
    # One answer, two repairs, and the question.
    assert result["usage"]["lm_calls"] == 4


async def test_a_refused_definition_becomes_question_and_answer_where_that_is_allowed(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Policy ``create``: a success that carries the whole refusal in its warnings."""
    lm_stub.outputs = {"answer": "42"}
    async with start_worker():
        created = await caller.create("text: strin -> label", id="p", fallback="create")
        reply = await caller.call("execute", run("p"))

    assert created["fallback_used"]
    assert created["signature_class"] is None
    assert created["warnings"][0]["code"] == "unknown_type"
    assert reply["result"]["fallback_reason"].startswith("unknown_type: ")
    assert reply["result"]["outputs"] == {"answer": "42"}


async def test_the_control_commands_answer_in_their_shapes(start_worker: StartWorker, caller: Caller) -> None:
    """What DSPex reads of them is there."""
    async with start_worker():
        await caller.create(DEFINITION, id="p")
        await caller.call("execute", run("p"))

        async def ask(command: str, **args: Any) -> dict[str, Any]:
            return dict((await caller.call("control", {"command": command, "args": args}))["result"])

        ping = await ask("ping")
        listed = await ask("list_programs")
        info = await ask("get_program_info", program_id="p")
        stats = await ask("get_stats")
        deleted = await ask("delete_program", program_id="p")
        gone = await caller.call("control", {"command": "get_program_info", "args": {"program_id": "p"}})

    assert ping.keys() >= {"status", "timestamp", "dspy_available", "gemini_available", "uptime", "mode", "worker_id"}
    assert listed["total_count"] == 1
    assert listed["programs"][0].keys() == {"id", "created_at", "execution_count", "last_executed", "signature"}
    assert listed["programs"][0]["execution_count"] == 1
    assert info["signature"] == DEFINITION
    assert stats["memory_usage"].keys() == {"rss", "vms", "percent"}
    assert stats["cache"]["program"]["misses"] == 1
    assert deleted == {"program_id": "p", "status": "deleted"}
    assert gone["error"] == "Program not found: p"


async def test_a_correlation_id_that_is_not_utf_8_costs_its_job_and_no_neighbour(
    start_worker: StartWorker, caller: Caller, amqp_url: str, lm_stub: LMStub
) -> None:
    """A coded error, no LM call for it, and the jobs around it run."""
    bad = Unreadable(b"\xe4")
    connection = await connect(amqp_url, name="test")
    try:
        async with start_worker():
            await caller.create(DEFINITION, id="p")
            before = await caller.publish("execute", run("p"))
            queue = f"{caller.namespace}.execute"
            body = json.dumps(run("p")).encode()
            await publish(connection, queue, body, correlation_id=bad, reply_to=caller.reply_queue)
            after = await caller.publish("execute", run("p"))
            refused = json.loads((await caller.reply(bad)).body)
            replies = [json.loads((await caller.reply(job)).body) for job in (before, after)]
    finally:
        await connection.close()

    assert refused["error_detail"]["code"] == "invalid_request"
    assert all(reply["success"] for reply in replies)
    assert lm_stub.calls == 2


async def test_the_python_client_calls_the_worker(start_worker: StartWorker, caller: Caller, amqp_url: str) -> None:
    """Create, execute and predict over direct reply-to."""
    async with start_worker(), Client(amqp_url, namespace=caller.namespace) as client:
        await client.create_program(DEFINITION, id="p")
        executed = await client.execute("p", {"text": "x"})
        predicted = await client.predict(DEFINITION, {"text": "x"})

    assert executed.outputs == OUTPUTS
    assert predicted["größe"] == 1.0


async def test_nothing_is_paid_twice_over_redelivery_and_retries(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """LM calls of all deliveries add up in the reply."""

    async def fail_twice(prompt: str, call: int) -> Any:
        if call <= 2:
            return await failing(500)(prompt, call)
        return await lm_stub.answer(prompt, call)

    lm_stub.behaviour = fail_twice
    async with start_worker():
        await caller.create(DEFINITION, id="p")
        reply = await caller.call("execute", run("p"), message_id="m1")

    assert reply["result"]["usage"]["lm_calls"] == lm_stub.calls == 3
    assert reply["result"]["usage"]["cost_usd"] > 0
    assert reply["result"]["attempts"] == 2


async def test_the_python_client_cancels_and_asks_for_kept_results(
    start_worker: StartWorker, caller: Caller, amqp_url: str, lm_stub: LMStub
) -> None:
    """By message id, whoever sent the job."""
    async with start_worker(), Client(amqp_url, namespace=caller.namespace) as client:
        await client.predict(DEFINITION, {"text": "x"}, message_id="done")
        kept = await client.get_result("done")
        unknown = await client.get_result("never seen")
        too_late = await client.cancel("done")
        cancelled = await client.cancel("not sent yet")
        with pytest.raises(ReplyError) as refused:
            await client.predict(DEFINITION, {"text": "x"}, message_id="not sent yet")

    assert kept is not None
    assert kept.outputs == OUTPUTS
    assert unknown is None
    assert (too_late, cancelled) == ("too_late", "cancelled")
    assert refused.value.code == "cancelled"
    assert lm_stub.calls == 1


async def test_as_many_calls_are_in_flight_as_the_concurrency_says(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """DSPy's own connection pool would stop at 100."""
    lm_stub.behaviour = lm_stub.hang
    async with start_worker(concurrency="150", lm_timeout_seconds="30", job_timeout_seconds="60", drain_seconds="61"):
        await caller.create(DEFINITION, id="p")
        jobs = [await caller.publish("execute", run("p"), message_id=f"m{number}") for number in range(150)]
        await lm_stub.reach(150)
        lm_stub.released.set()
        replies = [json.loads((await caller.reply(job)).body) for job in jobs]

    assert all(reply["success"] for reply in replies)
