"""Circuit breakers, one for each LM alias of this process: what is down is not asked by job after job.

A circuit opens at once where one failure is proof (the key is refused, the provider does not know the model), and
after five failures in a row that look like an outage. While it is open no job calls the LM: it goes back to the delay
ladder without an attempt, however many it has had. The worker itself asks, one small call at a time with growing
pauses, until the LM answers anything but that kind of failure: with consuming paused no job would come to ask.

======================================= ================================================================================
`Circuits.wait_all_open`                returns once every LM that counts is down, so that consuming makes no sense
`Circuits.wait_any_closed`              returns once it is so no longer
`Circuits.to_json`                      for ``get_stats``
======================================= ================================================================================

An alias counts if it has a real model, or was used: the offline default of a worker that has only named aliases is
nobody's LM, while one that answers jobs must go on to do so.

See Also:
    docs/RELIABILITY.md, "Circuits"; worker/retries.py: how long its jobs wait.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog

from worker.errors import LMAuthError, LMTimeoutError, LMUnavailableError, TransientLMError, WorkerError
from worker.telemetry import CIRCUIT_OPEN

FAILURES_TO_OPEN = 5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
HOPS_PER_SECOND = 20.0
# No clock of the job runs while it waits for its turn.
LONGEST_TURN_SECONDS = 2.0

_OPENING = (LMAuthError, LMUnavailableError, LMTimeoutError)

log = structlog.get_logger()

# Asks the LM of an alias something small; raises what a job's call would raise.
Probe = Callable[[str], Awaitable[object]]
Sleep = Callable[[float], Awaitable[object]]


class Circuit:
    """Whether one LM is taken for down.

    Attributes:
        alias: The LM's.
        error: The failure that opened it; None while it is closed.
        epoch: Counts the closings. A call that fails remembers the epoch in which it began: what began before the last
            closing tells of the past.
        is_used: Whether a job has called the LM.
    """

    def __init__(self, alias: str, *, on_change: Callable[[Circuit], None]) -> None:
        self.alias = alias
        self.error: TransientLMError | None = None
        self.epoch = 0
        self.is_used = False
        self._on_change = on_change
        self._failures = 0
        self._is_fresh = False
        self._pause = FIRST_PAUSE_SECONDS
        self._opened = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the LM is taken for down."""
        return self.error is not None

    @property
    def refusal(self) -> TransientLMError | None:
        """What a job is told instead of calling the LM; None while the circuit is closed."""
        if self.error is None:
            return None
        refusal = type(self.error)(f"{self.error.reason}; until it answers again, jobs do not ask it")
        refusal.is_circuit_open = True
        return refusal

    def check(self) -> None:
        """Let a call pass.

        Raises:
            TransientLMError: The failure that opened the circuit; the LM must not be called.
        """
        refusal = self.refusal
        if refusal is not None:
            raise refusal

    def succeeded(self) -> None:
        """Note an answer: it closes the circuit, or ends the care after a closing."""
        if self.is_open:
            self.close()
            return
        self._failures = 0
        if self._is_fresh:
            self._is_fresh = False
            self._pause = FIRST_PAUSE_SECONDS

    def failed(self, error: WorkerError, *, epoch: int, is_proof: bool = False) -> None:
        """Note a failed call; other errors than those of an outage say nothing about the LM.

        Args:
            error: By its wire code; marked where it finds the circuit open, or opens it.
            epoch: As of the begin of the call.
            is_proof: Whether every other call would fail alike: one is enough.
        """
        if not isinstance(error, _OPENING):
            return
        if not self.is_open and epoch == self.epoch:
            self._failures += 1
            if is_proof or self._is_fresh or self._failures >= FAILURES_TO_OPEN:
                self._open(error)
        error.is_circuit_open = self.is_open

    def close(self) -> None:
        """Let jobs call the LM again, with care: until one succeeds, the first outage opens it again."""
        if not self.is_open:
            return
        seconds = round(time.monotonic() - self._opened, 1)
        self.error = None
        self.epoch += 1
        self._failures = 0
        self._is_fresh = True
        log.info("circuit.closed", lm=self.alias, open_seconds=seconds)
        self._on_change(self)

    def next_pause(self) -> float:
        """Return the seconds until the next probe, jittered; each one is twice as long as the one before."""
        pause = self._pause
        self._pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return random.uniform(pause / 2, pause)  # noqa: S311 - jitter

    def to_json(self) -> dict[str, Any]:
        """Return the state as ``get_stats`` shows it."""
        if self.error is None:
            return {"state": "closed", "code": None, "open_seconds": None}
        return {"state": "open", "code": self.error.code, "open_seconds": time.monotonic() - self._opened}

    def _open(self, error: TransientLMError) -> None:
        # Not the error itself: it would hold on to the frames of its job.
        self.error = type(error)(error.reason)
        self._opened = time.monotonic()
        # Not its words: they are the provider's, and may quote the prompt.
        log.error("circuit.opened", lm=self.alias, code=error.code, status=error.status)
        self._on_change(self)


class Circuits:
    """The circuits of a worker.

    Args:
        aliases: Those that have a real model: each counts, used or not.
        probe: Asks an LM something small.
        sleep: Waits so many seconds.
    """

    def __init__(self, aliases: Iterable[str], *, probe: Probe, sleep: Sleep = asyncio.sleep) -> None:
        self._probe = probe
        self._sleep = sleep
        self._counted = set(aliases)
        self._circuits: dict[str, Circuit] = {}
        self._probers: dict[str, asyncio.Task[None]] = {}
        self._any_closed = asyncio.Event()
        self._all_open = asyncio.Event()
        self._any_closed.set()
        self._turns = _Turns(HOPS_PER_SECOND, sleep=sleep)
        # Probes belong to the worker: nothing of the job whose failure began them may go along.
        self._context = contextvars.copy_context()
        for alias in self._counted:
            CIRCUIT_OPEN.labels(alias).set(0)

    def of(self, alias: str) -> Circuit:
        """Return the circuit of an alias."""
        circuit = self._circuits.get(alias)
        if circuit is None:
            circuit = self._circuits[alias] = Circuit(alias, on_change=self._changed)
        return circuit

    async def admit(self, alias: str) -> None:
        """Let a run begin. Where the LM is down the job waits its turn first, so that a backlog does not spin.

        Raises:
            TransientLMError: The LM is down.
        """
        circuit = self.of(alias)
        if not circuit.is_used:
            circuit.is_used = True
            self._look()
        if circuit.is_open:
            await self._turns.take()
            circuit.check()

    async def wait_all_open(self) -> None:
        """Wait until every LM that counts is down."""
        await self._all_open.wait()

    async def wait_any_closed(self) -> None:
        """Wait until an LM that counts is not down."""
        await self._any_closed.wait()

    def to_json(self) -> dict[str, Any]:
        """Return alias → state, for ``get_stats``."""
        return {alias: self.of(alias).to_json() for alias in sorted(self._counting())}

    async def aclose(self) -> None:
        """End the probes."""
        probers = [*self._probers.values()]
        for prober in probers:
            prober.cancel()
        await asyncio.gather(*probers, return_exceptions=True)

    def _changed(self, circuit: Circuit) -> None:
        CIRCUIT_OPEN.labels(circuit.alias).set(circuit.is_open)
        if circuit.is_open:
            self._begin_probing(circuit)
        else:
            self._end_probing(circuit)
        self._look()

    def _look(self) -> None:
        """Set the events by what is so now."""
        counting = self._counting()
        is_all = bool(counting) and all(self.of(alias).is_open for alias in counting)
        for event, is_so in ((self._all_open, is_all), (self._any_closed, not is_all)):
            if is_so:
                event.set()
            else:
                event.clear()

    def _counting(self) -> set[str]:
        return self._counted | {alias for alias, circuit in self._circuits.items() if circuit.is_used}

    def _begin_probing(self, circuit: Circuit) -> None:
        prober = asyncio.get_running_loop().create_task(self._probe_until_closed(circuit), context=self._context.copy())
        self._probers[circuit.alias] = prober

    def _end_probing(self, circuit: Circuit) -> None:
        prober = self._probers.pop(circuit.alias, None)
        if prober is not None and prober is not asyncio.current_task():
            prober.cancel()

    async def _probe_until_closed(self, circuit: Circuit) -> None:
        while circuit.is_open:
            await self._sleep(circuit.next_pause())
            if await self._answers(circuit.alias):
                circuit.close()

    async def _answers(self, alias: str) -> bool:
        """Tell whether an LM answers, if only with an error of another kind."""
        try:
            await self._probe(alias)
        except _OPENING:
            return False
        except Exception as error:  # noqa: BLE001 - jobs find out what it is, and end with its code
            log.info("circuit.probe", lm=alias, error=type(error).__name__)
        return True


class _Turns:
    """Lets one after the other go, so many a second, and nobody wait for long; whoever is cancelled gives its turn back."""

    def __init__(self, per_second: float, *, sleep: Sleep) -> None:
        self._seconds = 1 / per_second
        self._sleep = sleep
        self._next = 0.0

    async def take(self) -> None:
        now = time.monotonic()
        wait = max(self._next - now, 0.0)
        if wait > LONGEST_TURN_SECONDS:
            await self._sleep(LONGEST_TURN_SECONDS)
            return
        self._next = now + wait + self._seconds
        if wait:
            try:
                await self._sleep(wait)
            except BaseException:
                self._next -= self._seconds
                raise
