"""Jobs of an LM that is down, through the whole left hand: they hop, are not counted, and end by their clocks only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.left_hand import LeftHand, let_time_come, open_left_hand, reply_of, stub_settings
from tests.support.lm_stub import LMStub, failing
from worker.message import DeadLetter, Delay, Outcome, Trail
from worker.telemetry import PROGRAM_RUNS

JOB = {"command": "execute_program", "args": {"signature": "question -> answer", "inputs": {"question": "job-1"}}}


@pytest.fixture
async def stub() -> AsyncIterator[LMStub]:
    server = LMStub()
    server.behaviour = failing(401)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def hand(stub: LMStub, tmp_path: Path) -> AsyncIterator[LeftHand]:
    async with open_left_hand(tmp_path, stub_settings(stub.url, max_attempts=2, max_lm_calls=3)) as opened:
        yield opened


async def run(hand: LeftHand, key: str, **properties: Any) -> Outcome:
    """Run a job, as its copy does when its time has come."""
    await let_time_come(hand.store)
    return await hand.handle(JOB, message_id=key, **properties)


def hop_of(outcome: Outcome) -> tuple[int, int, int]:
    """Return step, attempts and waits of a job that went back to the ladder."""
    assert isinstance(outcome.settlement, Delay)
    trail = outcome.settlement.trail
    return outcome.settlement.delay_ms, trail.attempts, trail.waits


async def test_only_the_first_job_meets_the_lm(hand: LeftHand, stub: LMStub) -> None:
    """Its attempt counts; the others' are none."""
    hops = [hop_of(await run(hand, key)) for key in ("a", "b", "c")]

    assert (hops, stub.calls) == ([(1_000, 1, 0), (1_000, 0, 1), (1_000, 0, 1)], 1)


async def test_neither_attempts_nor_calls_are_used_up_by_hops(hand: LeftHand, stub: LMStub) -> None:
    """Two attempts and three calls would be allowed."""
    outcome = await run(hand, "a")
    steps = []
    for _ in range(5):
        assert isinstance(outcome.settlement, Delay)
        outcome = await run(hand, "a", trail=outcome.settlement.trail)
        steps.append(hop_of(outcome))

    assert steps == [(1_000, 1, 1), (5_000, 1, 2), (30_000, 1, 3), (30_000, 1, 4), (30_000, 1, 5)]
    assert stub.calls == 1


async def test_a_job_whose_last_attempt_opens_the_circuit_hops_on(hand: LeftHand, stub: LMStub) -> None:
    """An outage dead-letters nothing before its age."""
    hops = []
    for _ in range(2):
        hops.append(hop_of(await run(hand, "a")))
        hand.lms.circuits.of("default").close()

    assert (hops, stub.calls) == ([(1_000, 1, 0), (5_000, 2, 0)], 2)


@pytest.mark.parametrize("by", ["age", "deadline"])
async def test_a_job_ends_by_its_clocks_with_the_lms_own_code(hand: LeftHand, by: str) -> None:
    """Nobody called the LM for it."""
    await run(hand, "a")
    now_ms = hand.clock.now_ms
    properties: dict[str, Any] = {"trail": Trail(waits=9, first_delivered_ms=now_ms - 7_199_500)}
    if by == "deadline":
        properties = {"headers": {"x-dspex-deadline": now_ms + 900}}
    outcome = await run(hand, "b", **properties)
    detail = reply_of(outcome)["error_detail"]

    assert isinstance(outcome.settlement, DeadLetter)
    assert (outcome.code, detail["code"], detail["attempts"]) == ("lm_auth", "lm_auth", 0)


async def test_a_hop_is_no_run_in_the_metrics(hand: LeftHand) -> None:
    """A rollout is watched by them."""
    await run(hand, "a")
    before = PROGRAM_RUNS.labels("dynamic", "error")._value.get()
    await run(hand, "b")

    assert PROGRAM_RUNS.labels("dynamic", "error")._value.get() == before


async def test_jobs_run_again_once_the_lm_answers(hand: LeftHand, stub: LMStub) -> None:
    """The worker's own probe closes the circuit."""
    await run(hand, "a")
    stub.behaviour = stub.answer
    await hand.lms.circuits.wait_any_closed()
    outcome = await run(hand, "a")

    assert reply_of(outcome)["result"]["outputs"] == {"answer": "42"}
    assert reply_of(outcome)["result"]["attempts"] == 2
