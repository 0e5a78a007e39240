"""The Python client and real workers: another run of a failed job, stored replies, and a clock that is behind."""

from __future__ import annotations

import time

import pytest

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing
from worker.client import Client, ReplyError

SIGNATURE = "question -> answer"
INPUTS = {"question": "?"}


async def test_a_failed_job_is_repeated_as_stored_and_run_again_when_asked(
    start_worker: StartWorker, caller: Caller, amqp_url: str, lm_stub: LMStub
) -> None:
    """With the ids that the error carries, once, for one LM call."""
    lm_stub.behaviour = failing(400)
    async with start_worker(), Client(amqp_url, namespace=caller.namespace) as client:
        with pytest.raises(ReplyError) as failed:
            await client.predict(SIGNATURE, INPUTS, message_id="order-17")
        with pytest.raises(ReplyError) as repeated:
            await client.predict(SIGNATURE, INPUTS, message_id="order-17")
        lm_stub.behaviour = lm_stub.answer
        calls = lm_stub.calls
        error = repeated.value
        again = await client.predict(SIGNATURE, INPUTS, message_id=error.message_id, rerun_of=error.generation)
        twice = await client.predict(SIGNATURE, INPUTS, message_id=error.message_id, rerun_of=error.generation)

    assert (failed.value.generation, failed.value.stored_ms, error.generation) == (0, None, 0)
    assert abs((error.stored_ms or 0) - time.time() * 1_000) < 60_000
    assert (again["answer"], again.generation, again.stored_ms) == ("42", 1, None)
    assert (twice["answer"], twice.generation, twice.stored_ms is None) == ("42", 1, False)
    assert lm_stub.calls == calls + 1


async def test_a_caller_whose_clock_is_five_minutes_behind_is_answered(
    start_worker: StartWorker, caller: Caller, amqp_url: str, lm_stub: LMStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a warning that says so; its time-out still bounds the job."""
    true_time = time.time
    async with start_worker(), Client(amqp_url, namespace=caller.namespace, timeout=60) as client:
        monkeypatch.setattr("worker.client.link.time.time", lambda: true_time() - 300)
        result = await client.predict(SIGNATURE, INPUTS)

    assert result["answer"] == "42"
    assert [warning for warning in result.warnings if warning.startswith("clock_skew: the sender's clock is 5 min ")]
