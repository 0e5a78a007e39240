"""Flags, cancels and control commands on the real broker, over one and two workers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, chat_text, completion, failing
from tests.support.processes import COMMAND, clean_environment
from tests.support.replies import unmarked_body

DEFINITION = {
    "inputs": [{"name": "text", "type": "string"}],
    "outputs": [{"name": "label", "type": "string"}],
}
OUTPUTS = {"label": "good"}
# Long enough that only a cancel ends what hangs.
PATIENT = {"lm_timeout_seconds": "30", "job_timeout_seconds": "60", "drain_seconds": "61"}


def one_off(**args: Any) -> dict[str, Any]:
    return {"id": 7, "args": {"signature": DEFINITION, "inputs": {"text": "x"}, **args}}


def run(program_id: str, **args: Any) -> dict[str, Any]:
    return {"args": {"program_id": program_id, "inputs": {"text": "x"}, **args}}


async def control(caller: Caller, command: str, **args: Any) -> dict[str, Any]:
    """Send a control command and return its result."""
    reply = await caller.call("control", {"command": command, "args": args})
    assert reply["success"], reply
    return dict(reply["result"])


async def reply_to(caller: Caller, correlation_id: str) -> dict[str, Any]:
    return dict(json.loads((await caller.reply(correlation_id)).body))


async def assert_settled(caller: Caller) -> None:
    """Check that no message is left, and none was dead-lettered."""
    assert [await caller.depth(queue) for queue in ("execute", "execute.dead", "control.dead")] == [0, 0, 0]


def code_of(reply: dict[str, Any]) -> str:
    assert not reply["success"], reply
    return str(reply["error_detail"]["code"])


# Cancel


async def test_a_running_job_is_stopped_its_call_aborted_and_its_caller_told(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The LM sees the connection close; job and cancel are answered, each on its own."""
    lm_stub.behaviour = lm_stub.hang
    async with start_worker(**PATIENT):
        job = await caller.publish("execute", one_off(), message_id="m1")
        await lm_stub.called.wait()
        said = [await control(caller, "cancel", message_id="m1") for _ in range(2)]
        reply = await reply_to(caller, job)
        async with asyncio.timeout(5):
            await lm_stub.aborted.wait()
        # Delivered again, it answers the same and costs nothing.
        again = await caller.call("execute", one_off(), message_id="m1")
        kept = await control(caller, "get_result", message_id="m1")

    assert [one["status"] for one in said] == ["cancelled", "already_cancelled"]
    assert (reply["id"], reply["error"]) == (7, "The job was cancelled")
    assert [code_of(one) for one in (reply, again)] == ["cancelled", "cancelled"]
    assert [one["error_detail"]["attempts"] for one in (reply, again)] == [1, 1]
    assert kept["status"] == "cancelled"
    assert lm_stub.calls == 1
    await assert_settled(caller)


async def test_a_queued_job_is_not_started(start_worker: StartWorker, caller: Caller, lm_stub: LMStub) -> None:
    """It waits behind another one, and answers as cancelled when its turn comes."""
    lm_stub.behaviour = lm_stub.hang
    async with start_worker(**PATIENT, concurrency="1"):
        first = await caller.publish("execute", one_off(), message_id="m1")
        await lm_stub.called.wait()
        second = await caller.publish("execute", one_off(), message_id="m2")
        said = await control(caller, "cancel", message_id="m2")
        lm_stub.outputs = OUTPUTS
        lm_stub.released.set()
        replies = [await reply_to(caller, job) for job in (first, second)]

    assert said == {"message_id": "m2", "status": "cancelled"}
    assert replies[0]["success"]
    assert code_of(replies[1]) == "cancelled"
    assert replies[1]["error_detail"]["attempts"] == 0
    assert lm_stub.calls == 1
    await assert_settled(caller)


async def test_a_job_on_the_delay_ladder_is_not_started_again(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """It is answered when it comes back."""
    lm_stub.behaviour = failing(429)
    async with start_worker(max_attempts="5", delays_seconds="0.5,600"):
        job = await caller.publish("execute", one_off(), message_id="m1")
        await lm_stub.called.wait()
        await control(caller, "cancel", message_id="m1")
        reply = await reply_to(caller, job)

    assert code_of(reply) == "cancelled"
    assert lm_stub.calls == 1
    await assert_settled(caller)


@pytest.mark.parametrize("canceller", [0, 1])
async def test_a_job_that_runs_in_another_worker_is_stopped_there(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub, canceller: int
) -> None:
    """Whichever of two workers takes the cancel, within a second or so."""
    lm_stub.behaviour = lm_stub.hang
    async with start_worker(**PATIENT):
        job = await caller.publish("execute", one_off(), message_id="m1")
        await lm_stub.called.wait()
        async with start_worker(**PATIENT):
            # Two workers take turns on the queue, so one more message decides who gets the cancel.
            for _ in range(canceller):
                await control(caller, "ping")
            said = await control(caller, "cancel", message_id="m1")
            async with asyncio.timeout(5):
                await lm_stub.aborted.wait()
            reply = await reply_to(caller, job)

    assert said["status"] == "cancelled"
    assert code_of(reply) == "cancelled"
    assert lm_stub.calls == 1
    await assert_settled(caller)


async def test_a_job_that_is_done_is_too_late_to_cancel(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Its reply stays, and can be had again."""
    lm_stub.outputs = OUTPUTS
    async with start_worker():
        first = await caller.call("execute", one_off(), message_id="m1")
        said = await control(caller, "cancel", message_id="m1")
        kept = await control(caller, "get_result", message_id="m1")
        again = await caller.call("execute", one_off(), message_id="m1")

    assert said == {"message_id": "m1", "status": "too_late"}
    assert kept["reply"] == first == unmarked_body(again)
    assert kept["stored_ms"] == again["stored_ms"]
    assert lm_stub.calls == 1


async def test_a_cancelled_job_stays_cancelled_over_a_restart(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The mark is in the store; the job was published while no worker ran."""
    async with start_worker():
        await control(caller, "cancel", message_id="m1")
    job = await caller.publish("execute", one_off(), message_id="m1")
    async with start_worker():
        reply = await reply_to(caller, job)

    assert code_of(reply) == "cancelled"
    assert lm_stub.calls == 0
    await assert_settled(caller)


async def test_a_job_that_the_drain_cut_off_is_no_cancelled_job(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """It is delivered again and runs."""
    lm_stub.behaviour = lm_stub.hang
    async with start_worker(**PATIENT) as consumer:
        job = await caller.publish("execute", one_off(), message_id="m1")
        await lm_stub.called.wait()
        assert not await consumer.drain(0.1)
        async with asyncio.timeout(5):
            await lm_stub.aborted.wait()
    lm_stub.outputs = OUTPUTS
    lm_stub.released.set()
    async with start_worker():
        reply = await reply_to(caller, job)

    assert reply["result"]["outputs"] == OUTPUTS
    assert lm_stub.calls == 2


# Flags


async def test_a_flag_holds_for_two_workers_at_once_and_after_a_restart(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Rollback and return, each with one command; the environment is only the start value."""

    async def answer(prompt: str, call: int) -> Any:
        return completion(chat_text({"answer": "42"} if "[[ ## question ## ]]" in prompt else OUTPUTS))

    lm_stub.behaviour = answer

    async def kinds() -> set[bool]:
        """Run the program often enough that every worker gets it."""
        jobs = [await caller.publish("execute", run("p")) for _ in range(8)]
        results = [(await reply_to(caller, job))["result"] for job in jobs]
        assert all(set(one["outputs"]) == ({"label"} if one["is_dynamic"] else {"answer"}) for one in results)
        return {one["is_dynamic"] for one in results}

    async with start_worker(concurrency="1"), start_worker(concurrency="1"):
        await caller.create(DEFINITION, id="p", fallback="create")
        before = await kinds()
        said = await control(caller, "set_flag", name="dynamic_signatures", value="force_off")
        forced = await kinds()
    async with start_worker():
        restarted = await kinds()
        shown = await control(caller, "get_flags")
        insisting = await caller.call("execute", run("p", options={"fallback": "never"}))
        await control(caller, "set_flag", name="dynamic_signatures", value="on")
        after = await kinds()

    assert said == {"name": "dynamic_signatures", "value": "force_off", "previous": "on"}
    assert (before, forced, restarted, after) == ({True}, {False}, {False}, {True})
    assert shown["flags"]["dynamic_signatures"] == "force_off"
    assert code_of(insisting) == "dynamic_signatures_off"


async def test_the_rollback_is_one_command_of_the_command_line(
    start_worker: StartWorker, caller: Caller, amqp_url: str, lm_stub: LMStub
) -> None:
    """And the flags are shown by another one."""
    environment = clean_environment(amqp_url=amqp_url, namespace=caller.namespace)

    async def dspex_worker(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            COMMAND, *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    lm_stub.outputs = {"answer": "42"}
    async with start_worker():
        await caller.create(DEFINITION, id="p", fallback="create")
        rolled_back = await dspex_worker("flags", "set", "dynamic_signatures", "force_off")
        shown = await dspex_worker("flags", "--json")
        refused = await dspex_worker("flags", "set", "dynamic_signatures", "maybe")
        reply = await caller.call("execute", run("p"))

    assert rolled_back == (0, "dynamic_signatures: on → force_off\n")
    assert json.loads(shown[1])["flags"] == {"dynamic_signatures": "force_off", "dynamic_signatures_rollout": 100}
    assert refused[0] == 1
    assert "on, off or force_off" in refused[1]
    assert reply["result"]["outputs"] == {"answer": "42"}


# The other commands


async def test_the_commands_of_dspex_s_bridge_answer_in_their_shapes(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """What DSPex reads of them is there."""
    lm_stub.outputs = OUTPUTS
    async with start_worker(allow_reset="true"):
        gemini = await control(caller, "create_gemini_program", id="p", signature=DEFINITION)
        ran = await control(caller, "execute_gemini_program", program_id="p", inputs={"text": "x"})
        described = await control(caller, "describe", program_id="p")
        stats = await control(caller, "get_stats")
        sessions = [
            await control(caller, command, session_id="s")
            for command in ("cleanup_session", "get_session_data", "update_session_data")
        ]
        configured = await control(caller, "configure_lm", model="default", api_key="sk-very-secret")
        refused = [
            await caller.call("control", {"command": command, "args": {"model": "x", "api_key": "sk-very-secret"}})
            for command in ("configure_lm", "shutdown")
        ]
        reset = await control(caller, "reset_state")
        cleaned = await control(caller, "cleanup")
        alive = await control(caller, "ping")

    words = {"type": "gemini", "model_name": "openai/gpt-4o-mini", "raw_response": None}
    assert words.items() <= gemini.items()
    assert words.items() <= ran.items()
    assert ran["outputs"] == OUTPUTS
    assert set(described["inputs"]["properties"]) == {"text"}
    assert set(described["outputs"]["properties"]) == {"label"}
    assert stats["adoption"]["programs"]["dynamic_share"] == stats["adoption"]["jobs"]["dynamic_share"] == 1.0
    assert [one["status"] for one in sessions] == ["not_applicable", "not_stored_locally", "acknowledged"]
    assert configured == {"status": "configured", "model": "default", "provider": "openai", "temperature": None}
    assert [code_of(reply) for reply in refused] == ["not_permitted"] * 2
    assert (reset["status"], reset["programs_cleared"]) == ("reset", 1)
    assert cleaned == {"status": "cleaned", "programs_removed": 0}
    assert alive["status"] == "ok"


async def test_a_key_that_nobody_hears_the_refusal_of_is_kept_nowhere(
    start_worker: StartWorker, caller: Caller
) -> None:
    """No dead letter, unlike for any other refusal."""
    body = {"command": "configure_lm", "args": {"model": "x", "api_key": "sk-very-secret"}}
    async with start_worker():
        await caller.publish("control", body, reply_to="no-such-queue", message_id="m1")
        await caller.publish("control", body, reply_to=f"{caller.namespace}.execute", message_id="m2")
        await caller.publish("control", {"command": "shutdown"}, reply_to="no-such-queue", message_id="m3")
        letter = await caller.dead_letter("control")

    assert letter.message_id == "m3"
    assert letter.headers["x-dspex-code"] == "not_permitted"
    assert await caller.depth("control.dead") == 0
    assert await caller.depth("control") == 0
