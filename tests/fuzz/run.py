"""Cases through one handler, with what went wrong, how long each took, and what the memory did."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import structlog

from tests.fuzz.cases import Case
from tests.fuzz.jobs import ALIASES
from tests.fuzz.verdict import fault_of
from tests.support.left_hand import LeftHand, make_settings, open_left_hand
from worker.signatures import patterns
from worker.telemetry import LM_CALLS

SECONDS_A_CASE = 60.0
"""A body that takes longer has hung its job."""

CACHE_SIZE = 256
"""So small that all caches are full after 10,000 bodies: one in thirty is a new signature that can run. What the memory grows by
after that stays in it."""

_SLOWEST_KEPT = 10
_RETIMED = 3


@dataclass
class Run:
    """What came of many cases.

    Attributes:
        codes: Code → how many outcomes had it.
        faults: The cases that ended in something else than an outcome with a known code, each with what is wrong.
        slowest: The cases that took longest, the very longest first, each with its seconds.
        largest: The case with the largest reply, and its bytes.
        rss_mb: Number of cases done → resident memory then, in MB (10⁶ bytes).
    """

    codes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[Case, str]] = field(default_factory=list)
    slowest: list[tuple[float, Case]] = field(default_factory=list)
    largest: tuple[Case | None, int] = (None, 0)
    rss_mb: dict[int, float] = field(default_factory=dict)

    async def take(self, hand: LeftHand, case: Case) -> None:
        """Handle one case and note what came of it."""
        _bugs.clear()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(SECONDS_A_CASE):
                outcome = await hand.handler.handle(case.delivery())
            seconds = time.perf_counter() - began
            self.codes[outcome.code] += 1
            self._note_reply(case, len(outcome.reply.body) if outcome.reply else 0)
            fault = fault_of(case, outcome)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            seconds = time.perf_counter() - began
            fault = f"{type(error).__name__}: {error}"
        self._note_time(case, seconds)
        if fault is not None:
            self.faults.append((case, "\n".join([fault, *_bugs])))

    def note_memory(self, done: int) -> None:
        """Look at the resident memory after so many cases."""
        self.rss_mb[done] = psutil.Process().memory_info().rss / 1e6

    async def retime(self, hand: LeftHand) -> None:
        """Take the slowest cases again: one that was slow for what else the machine did is not slow then."""
        for seconds, case in self.slowest.copy():
            again = Run()
            for attempt in range(_RETIMED):
                forget_definitions(hand)
                await again.take(hand, replace(case, number=-case.number - attempt * 10**9))
            self.slowest.remove((seconds, case))
            self.slowest.append((min(seconds, *(one for one, _ in again.slowest)), case))
        self.slowest.sort(key=_by_seconds)

    def _note_time(self, case: Case, seconds: float) -> None:
        self.slowest.append((seconds, case))
        self.slowest.sort(key=_by_seconds)
        del self.slowest[_SLOWEST_KEPT:]

    def _note_reply(self, case: Case, size: int) -> None:
        if size > self.largest[1]:
            self.largest = (case, size)


@contextlib.asynccontextmanager
async def opened_hand() -> AsyncIterator[LeftHand]:
    """Open a handler on a store of its own, with the offline LM and a log that keeps nothing but bugs."""
    structlog.configure(processors=[_keep_bugs], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="dspex-fuzz-") as folder:
        # Without a reset each program would make `list_programs` longer.
        lms = {alias: {"model": "offline", "structured_outputs": dialect} for alias, dialect in ALIASES.items()}
        settings = make_settings(allow_reset="true", cache_size=CACHE_SIZE, lms=json.dumps(lms))
        async with open_left_hand(Path(folder), settings) as hand:
            yield hand


async def handle_all(cases: Iterable[Case]) -> Run:
    """Handle cases one after the other."""
    run = Run()
    async with opened_hand() as hand:
        for case in cases:
            await run.take(hand, case)
    return run


def forget_definitions(hand: LeftHand) -> None:
    """Empty the caches, so that the next body is read for the first time."""
    patterns._compiled.clear()
    for cache in (hand.programs.blueprints.cache, hand.programs._compiled, hand.programs._programs):
        cache._entries.clear()


def count_lm_calls() -> float:
    """Return how many LM calls this process has made, failed ones included."""
    samples = (sample for metric in LM_CALLS.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


def _by_seconds(timed: tuple[float, Case]) -> float:
    return -timed[0]


_bugs: list[str] = []


def _keep_bugs(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep the traceback of a bug that the handler has caught."""
    if event.get("exc_info"):
        _bugs.append(structlog.processors.format_exc_info(_logger, _name, event)["exception"])
    raise structlog.DropEvent
