"""One line of the log for each job that did not simply succeed, from a worker on the real broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aio_pika.abc import AbstractConnection
from aiohttp import web
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing, saying
from worker.amqp.connection import user_of
from worker.amqp.dead_letters import replay, show
from worker.amqp.job_lines import JOB_FIELDS
from worker.amqp.settling import Settler
from worker.amqp.topology import Topology

SECRET = "I love it"
NEVER = {"fallback": "never"}


def run(program: str = "p", *, text: object = SECRET, **args: Any) -> dict[str, Any]:
    return {"args": {"program_id": program, "inputs": {"text": text}, **args}}


def lines(log: list[EventDict]) -> list[tuple[Any, ...]]:
    """Return level, event and the fields of each line about a job's end."""
    ends = [line for line in log if line["event"] in ("job.failed", "job.dead_lettered", "job.delayed")]
    assert all(set(line) == {*JOB_FIELDS, "event", "log_level"} for line in ends)
    return [(line["log_level"], line["event"], *(line[name] for name in JOB_FIELDS)) for line in ends]


async def test_a_success_has_no_line_and_a_refusal_one_with_the_program_it_was_for(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Whatever was known when it was refused: version and LM after the program was read, nothing of a body that is none."""
    with capture_logs() as log:
        async with start_worker():
            await caller.create("text -> answer", id="p")
            await caller.call("execute", run(), message_id="good", correlation_id="c1")
            await caller.call("execute", run(text=1), message_id="inputs", correlation_id="c2")
            await caller.call("execute", b"{", message_id="json", correlation_id="c3")
            await caller.call("control", {"command": "get_program_info", "args": {"program_id": "q"}}, message_id="q")

    *told, asked = lines(log)
    assert [line[:9] for line in told] == [
        ("info", "job.failed", "inputs", "c2", "", "p", 1, None, "invalid_inputs"),
        ("info", "job.failed", "json", "c3", "", None, None, None, "invalid_json"),
    ]
    assert asked[5:9] == ("q", None, None, "program_not_found")
    assert SECRET not in str(log)


async def test_a_job_that_is_delayed_and_dead_lettered_has_a_line_for_each(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """With attempts and costs, and nothing of what the provider says; a rate limit opens no circuit."""
    lm_stub.behaviour = quoting
    with capture_logs() as log:
        async with start_worker(max_attempts="2"):
            await caller.create("text -> answer", id="p")
            await caller.call("execute", run(), message_id="m", correlation_id="c")
            await caller.dead_letter("execute")

    facts = ("m", "c", "", "p", 1, "default", "lm_rate_limited")
    assert lines(log) == [
        ("info", "job.delayed", *facts, 1, 0.0),
        ("warning", "job.dead_lettered", *facts, 2, 0.0),
    ]
    assert SECRET not in str(log)


async def test_a_replayed_job_has_a_line_with_the_code_that_it_had_failed_with(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub, connection: AbstractConnection
) -> None:
    """One line however often it is delayed afterwards; its letter names the LM that it used."""
    lm_stub.behaviour = quoting
    topology = Topology.of(namespace=caller.namespace, delays_ms=(200,))
    with capture_logs() as log:
        async with start_worker(max_attempts="2"):
            await caller.create("text -> answer", id="p")
            await caller.call("execute", run(), message_id="m", correlation_id="c")
            async with asyncio.timeout(10):
                while not (letters := await show(connection, topology, "execute")):  # noqa: ASYNC110 - the broker tells nobody
                    await asyncio.sleep(0.02)
            await replay(connection, topology, "execute")
            await caller.dead_letter("execute")

    [replayed] = [line for line in log if line["event"] == "job.replayed"]
    assert letters[0].lm == "default"
    assert (replayed["message_id"], replayed["program"], replayed["code"]) == ("m", "p", "lm_rate_limited")
    assert replayed["generation"] == 1


async def quoting(prompt: str, call: int) -> web.StreamResponse:
    return web.json_response({"error": {"message": f"slow down: {prompt}"}}, status=429)


async def test_what_a_failed_job_has_cost_is_in_its_line(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Three calls of a model whose price is known, for answers that stay invalid."""
    lm_stub.behaviour = saying("hello")
    with capture_logs() as log:
        async with start_worker():
            await caller.create("text -> answer: bool", id="p")
            reply = await caller.call("execute", run(), message_id="m")
            await caller.dead_letter("execute")
    [line] = lines(log)

    assert reply["error_detail"]["code"] == line[8] == "output_invalid"
    assert line[9] == 1
    assert isinstance(line[10], float)
    assert line[10] > 0


async def test_hops_of_a_job_whose_lm_is_down_are_told_once(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """A backlog behind an open circuit hops for as long as it lasts: one line at info, the other ones at debug."""
    lm_stub.behaviour = failing(401)
    spare = '{"spare": {"model": "openai/gpt-4o-mini", "api_key": "k"}}'
    with capture_logs() as log:
        async with start_worker(lms=spare, max_age_seconds="1.5", delays_seconds="0.1"):
            await caller.create("text -> answer", id="p")
            opener = await caller.publish("execute", run(), message_id="opener")
            await caller.reply(opener)
            later = await caller.publish("execute", run(), message_id="later")
            await caller.reply(later)
    ends = [line for line in lines(log) if line[2] == "later"]
    levels = [line[0] for line in ends if line[1] == "job.delayed"]

    assert {line[8] for line in ends} == {"lm_auth"}
    assert ends[-1][:2] == ("warning", "job.dead_lettered")
    assert levels == ["info", *["debug"] * (len(levels) - 1)]
    assert len(levels) > 1


async def test_a_letter_that_the_worker_cannot_copy_has_its_line_too(start_worker: StartWorker, caller: Caller) -> None:
    """The broker moves it; the line says so all the same."""
    with capture_logs() as log:
        async with start_worker():
            headers = {f"h{n}": "x" * 1000 for n in range(70)}
            await caller.publish("execute", run(), message_id="m", correlation_id="c", headers=headers)
            await caller.dead_letter("execute")

    assert [line[:9] for line in lines(log)] == [
        ("warning", "job.dead_lettered", "m", "c", "", None, None, None, "invalid_request")
    ]


@pytest.mark.parametrize("reply_to", ["nowhere"])
async def test_a_refusal_that_nobody_heard_of_is_a_dead_letter_in_the_log_too(
    start_worker: StartWorker, caller: Caller, reply_to: str
) -> None:
    """The line is written when it is known what became of the message, and it is the only one."""
    with capture_logs() as log:
        async with start_worker():
            await caller.publish("execute", b"{", message_id="m", reply_to=reply_to)
            await caller.dead_letter("execute")

    assert [line[:3] for line in lines(log)] == [("warning", "job.dead_lettered", "m")]


async def test_a_job_that_kills_its_worker_has_one_line(
    start_worker: StartWorker, caller: Caller, amqp_url: str
) -> None:
    """It is ended unseen, so only its ids are told; control characters in them obey nobody's terminal."""
    headers = {"x-dspex-deliveries": 25, "x-dspex-generation": 0, "x-dspex-waits": 0}
    with capture_logs() as log:
        async with start_worker():
            await caller.publish("execute", run(), message_id="m\x1b[31m", user_id=user_of(amqp_url), headers=headers)
            await caller.dead_letter("execute")

    assert [line[:9] for line in lines(log)] == [
        ("warning", "job.dead_lettered", "m\\x1b[31m", lines(log)[0][3], "", None, None, None, "worker_lost")
    ]


async def test_a_message_that_a_bug_left_unsettled_has_its_line_beside_the_bugs_own(
    start_worker: StartWorker, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker rejects it, so it lies in the dead-letter queue as it came."""

    async def fail(*_: object) -> bool:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Settler, "_reply", fail)
    with capture_logs() as log:
        async with start_worker():
            await caller.publish("execute", run(), message_id="m", correlation_id="c")
            await caller.dead_letter("execute")
    [bug] = [line for line in log if line["event"] == "message.not_settled"]

    assert (bug["log_level"], bug["error"]) == ("error", "RuntimeError")
    assert SECRET not in str(log)
    assert [line[:9] for line in lines(log)] == [
        ("warning", "job.dead_lettered", "m", "c", "", None, None, None, "internal")
    ]
