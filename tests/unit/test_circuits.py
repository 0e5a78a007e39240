"""The circuits: what opens and closes them, the probes, the turns, and what counts for "all"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from worker.circuits import FAILURES_TO_OPEN, LONGEST_PAUSE_SECONDS, LONGEST_TURN_SECONDS, Circuit, Circuits
from worker.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMInvalidRequestError,
    LMRateLimitedError,
    LMTimeoutError,
    LMUnavailableError,
    TransientLMError,
    WorkerError,
)
from worker.telemetry import CIRCUIT_OPEN


class FakeLM:
    """Answers probes as told, and sleeps until it is woken.

    Attributes:
        trouble: What the next probe raises; None for an answer.
        pauses: Seconds of every sleep.
        probes: Aliases that were asked.
    """

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.pauses: list[float] = []
        self.probes: list[str] = []
        self._asleep = asyncio.Semaphore(0)
        self._awake = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._asleep.release()
        await self._awake.acquire()

    async def probe(self, alias: str) -> None:
        self.probes.append(alias)
        if self.trouble is not None:
            raise self.trouble

    async def asleep(self) -> None:
        """Wait until somebody has gone to sleep."""
        await self._asleep.acquire()

    def wake(self) -> None:
        self._awake.release()


@pytest.fixture
def lm() -> FakeLM:
    return FakeLM()


@pytest.fixture
async def circuits(lm: FakeLM) -> AsyncIterator[Circuits]:
    made = Circuits(["default", "other"], probe=lm.probe, sleep=lm.sleep)
    yield made
    await made.aclose()


@pytest.fixture
def circuit(circuits: Circuits) -> Circuit:
    return circuits.of("default")


def fail(circuit: Circuit, error: WorkerError, *, times: int = 1) -> None:
    for _ in range(times):
        circuit.failed(error, epoch=circuit.epoch, is_proof=isinstance(error, LMAuthError))


async def all_open(circuits: Circuits) -> bool:
    try:
        async with asyncio.timeout(0):
            await circuits.wait_all_open()
    except TimeoutError:
        return False
    return True


def trip(circuit: Circuit) -> None:
    fail(circuit, LMAuthError("no key"))


# Opening


async def test_a_refused_key_opens_it_at_once(circuit: Circuit) -> None:
    """And a call that was about to be made is not."""
    trip(circuit)

    with pytest.raises(LMAuthError, match="no key; until it answers again") as refused:
        circuit.check()
    assert (circuit.is_open, refused.value.is_circuit_open) == (True, True)


async def test_proof_opens_it_at_once_whatever_its_code(circuit: Circuit) -> None:
    """A model that the provider does not know."""
    circuit.failed(LMUnavailableError("no such model"), epoch=0, is_proof=True)

    assert circuit.is_open


@pytest.mark.parametrize("error", [LMUnavailableError, LMTimeoutError])
async def test_an_outage_opens_it_after_failures_in_a_row(circuit: Circuit, error: type[WorkerError]) -> None:
    """One success between them starts anew."""
    fail(circuit, error("down"), times=FAILURES_TO_OPEN - 1)
    circuit.succeeded()
    fail(circuit, error("down"), times=FAILURES_TO_OPEN - 1)
    assert not circuit.is_open
    fail(circuit, error("down"))

    assert circuit.is_open


@pytest.mark.parametrize("error", [LMRateLimitedError, LMInvalidRequestError, ContextWindowExceededError])
async def test_other_failures_never_open_it(circuit: Circuit, error: type[WorkerError]) -> None:
    """A rate limit has a hint of its own; a refused request says nothing about the next one."""
    fail(circuit, error("no"), times=100)

    assert not circuit.is_open


async def test_only_failures_that_meet_an_open_circuit_are_marked(circuit: Circuit) -> None:
    """Their jobs hop on, and attempts do not end them."""
    errors = [LMUnavailableError("down") for _ in range(FAILURES_TO_OPEN + 1)]
    for error in errors:
        circuit.failed(error, epoch=0)

    assert [error.is_circuit_open for error in errors] == [False] * (FAILURES_TO_OPEN - 1) + [True, True]


# Closing


async def test_a_call_that_was_under_way_and_succeeds_closes_it(circuit: Circuit) -> None:
    """There is no better probe."""
    trip(circuit)
    circuit.succeeded()

    circuit.check()
    assert not circuit.is_open


async def test_after_a_closing_the_first_outage_opens_it_again(circuit: Circuit) -> None:
    """The probe may have been luck."""
    trip(circuit)
    circuit.close()
    fail(circuit, LMTimeoutError("slow"))

    assert circuit.is_open


async def test_after_a_success_it_takes_failures_in_a_row_again(circuit: Circuit) -> None:
    """The LM is back."""
    trip(circuit)
    circuit.close()
    circuit.succeeded()
    fail(circuit, LMTimeoutError("slow"), times=FAILURES_TO_OPEN - 1)

    assert not circuit.is_open


async def test_a_failure_of_a_call_that_began_before_the_closing_tells_nothing(circuit: Circuit) -> None:
    """A call that hangs for two minutes ends after the outage."""
    begun = circuit.epoch
    trip(circuit)
    circuit.close()
    late = LMTimeoutError("slow")
    circuit.failed(late, epoch=begun)

    assert (circuit.is_open, late.is_circuit_open) == (False, False)


# Probes


async def test_the_worker_itself_asks_until_the_lm_answers(circuits: Circuits, circuit: Circuit, lm: FakeLM) -> None:
    """One probe at a time, for this alias only."""
    lm.trouble = LMAuthError("no key")
    trip(circuit)
    prober = circuits._probers["default"]
    for _ in range(3):
        await lm.asleep()
        lm.wake()
    await lm.asleep()
    lm.trouble = None
    lm.wake()
    await prober

    assert (lm.probes, circuit.is_open) == (["default"] * 4, False)


@pytest.mark.parametrize("error", [LMRateLimitedError("busy"), LMInvalidRequestError("no ping"), KeyError("odd")])
async def test_any_answer_closes_it(circuits: Circuits, circuit: Circuit, lm: FakeLM, error: Exception) -> None:
    """Somebody is there; jobs find out the rest and end with its code."""
    lm.trouble = error
    trip(circuit)
    lm.wake()
    await circuits._probers["default"]

    assert not circuit.is_open


async def test_pauses_between_probes_grow_and_are_jittered(circuit: Circuit, lm: FakeLM) -> None:
    """1, 2, 4, 8, 16, 30 seconds at most, half of that at least."""
    lm.trouble = LMTimeoutError("silent")
    trip(circuit)
    for _ in range(7):
        await lm.asleep()
        lm.wake()

    bounds = [1, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(lm.pauses, bounds, strict=True))


async def test_pauses_go_on_to_grow_where_it_opens_again_at_once(circuit: Circuit) -> None:
    """Until a job has succeeded."""
    pauses = []
    for _ in range(3):
        trip(circuit)
        pauses.append(circuit.next_pause())
        circuit.close()
    circuit.succeeded()

    assert 0.5 <= pauses[0] <= 1 <= pauses[1] <= 2 <= pauses[2] <= 4
    assert circuit.next_pause() <= 1


async def test_a_probe_ends_with_the_outage(circuits: Circuits, circuit: Circuit, lm: FakeLM) -> None:
    """A job's success closes the circuit; nobody asks any more."""
    trip(circuit)
    await lm.asleep()
    circuit.succeeded()
    await circuits.aclose()

    assert lm.probes == []


# Jobs while it is open


async def test_jobs_of_an_lm_that_is_down_take_turns(circuits: Circuits, circuit: Circuit, lm: FakeLM) -> None:
    """Twenty a second: a backlog must not spin."""
    lm.trouble = LMAuthError("no key")
    trip(circuit)
    await lm.asleep()
    jobs = [asyncio.create_task(circuits.admit("default")) for _ in range(4)]
    for _ in range(3):
        await lm.asleep()
    for _ in range(4):
        lm.wake()
    ended = await asyncio.gather(*jobs, return_exceptions=True)

    assert [type(error) for error in ended] == [LMAuthError] * 4
    assert lm.pauses[1:4] == pytest.approx([0.05, 0.1, 0.15], abs=0.04)


async def test_a_job_that_waits_for_its_turn_runs_if_the_lm_is_back(
    circuits: Circuits, circuit: Circuit, lm: FakeLM
) -> None:
    """It need not go back to the ladder."""
    trip(circuit)
    await lm.asleep()
    with pytest.raises(TransientLMError):
        await circuits.admit("default")
    waiting = asyncio.create_task(circuits.admit("default"))
    await lm.asleep()
    circuit.succeeded()
    lm.wake()
    lm.wake()

    await waiting


async def test_nobody_waits_long_for_a_turn(circuits: Circuits, circuit: Circuit, lm: FakeLM) -> None:
    """A thousand jobs in hand would wait for 50 seconds, which no clock of theirs bounds and no drain ends."""
    lm.trouble = LMAuthError("no key")
    trip(circuit)
    await lm.asleep()
    jobs = [asyncio.create_task(circuits.admit("default")) for _ in range(200)]
    for _ in jobs[1:]:
        await lm.asleep()
    for _ in range(len(jobs)):
        lm.wake()
    ended = await asyncio.gather(*jobs, return_exceptions=True)

    assert {type(error) for error in ended} == {LMAuthError}
    assert max(lm.pauses[1:]) == pytest.approx(LONGEST_TURN_SECONDS)


async def test_a_job_that_is_cancelled_gives_its_turn_back(circuits: Circuits, circuit: Circuit, lm: FakeLM) -> None:
    """Those after it wait no longer than they must."""
    lm.trouble = LMAuthError("no key")
    trip(circuit)
    await lm.asleep()
    with pytest.raises(LMAuthError):
        await circuits.admit("default")
    waiting = [asyncio.create_task(circuits.admit("default")) for _ in range(20)]
    for _ in waiting:
        await lm.asleep()
    for job in waiting:
        job.cancel()
    await asyncio.wait(waiting)
    last = asyncio.create_task(circuits.admit("default"))
    await lm.asleep()
    pause = lm.pauses[-1]
    last.cancel()
    await asyncio.wait({last})

    assert pause < 0.1


async def test_jobs_of_another_lm_do_not_wait(circuits: Circuits, circuit: Circuit) -> None:
    """Each alias has a circuit of its own."""
    trip(circuit)

    await circuits.admit("other")


# All of them


async def test_all_are_open_once_the_last_one_is(circuits: Circuits) -> None:
    """And no longer, once one is closed."""
    trip(circuits.of("default"))
    seen = [await all_open(circuits)]
    trip(circuits.of("other"))
    seen.append(await all_open(circuits))
    circuits.of("default").close()
    await circuits.wait_any_closed()

    assert [*seen, await all_open(circuits)] == [False, True, False]


async def test_the_offline_alias_counts_once_it_was_used(lm: FakeLM) -> None:
    """Nobody's default must not keep the queue busy; one that answers jobs must go on to do so."""
    circuits = Circuits(["real"], probe=lm.probe, sleep=lm.sleep)
    trip(circuits.of("real"))
    before = await all_open(circuits)
    await circuits.admit("default")
    await circuits.aclose()

    assert (before, await all_open(circuits)) == (True, False)


async def test_without_a_real_lm_nothing_is_down(lm: FakeLM) -> None:
    """The offline demo."""
    circuits = Circuits([], probe=lm.probe)

    assert not await all_open(circuits)
    await circuits.wait_any_closed()


async def test_the_state_is_shown(circuits: Circuits, circuit: Circuit) -> None:
    """In ``get_stats`` and as a metric."""
    trip(circuit)
    shown = circuits.to_json()
    seconds = shown["default"].pop("open_seconds")

    assert shown == {
        "default": {"state": "open", "code": "lm_auth"},
        "other": {"state": "closed", "code": None, "open_seconds": None},
    }
    assert 0 <= seconds < 60
    assert CIRCUIT_OPEN.labels("default")._value.get() == 1
