"""A thousand jobs in flight in one process, on an LM that takes a second.

A job is in flight from its delivery to its outcome; the worker says how many are. How many of them are at the LM at once is
counted by the LM stub: fewer where a connection pool or the CPU is the limit.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from benchmarks.figures import Figure, at_least, median, spread
from benchmarks.programs import slow_args
from benchmarks.stage import Run, Stage

ROUNDS = 2
MANY, FEW = 1_000, 100
JOBS = {MANY: 3_000, FEW: 500}
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that was in flight together.

    Attributes:
        jobs: In the worker.
        lm_calls: At the LM.
    """

    jobs: int
    lm_calls: int


async def measure(stage: Stage) -> list[Figure]:
    """Alternate workers with many and with few jobs in flight."""
    few: list[Run] = []
    many: list[Run] = []
    peaks: list[Peak] = []
    for number in range(1, ROUNDS + 1):
        title = f"round {number}/{ROUNDS}"
        few.append((await _measure_worker(stage, title, concurrency=FEW))[0])
        run, peak = await _measure_worker(stage, title, concurrency=MANY)
        many.append(run)
        peaks.append(peak)
    return [
        Figure(
            "jobs in flight in one process, 1 s LM",
            max(peak.jobs for peak in peaks),
            bound=at_least(MANY),
            note="as the worker's get_stats says, control job not counted",
        ),
        Figure(
            "LM calls in flight at most, of those",
            max(peak.lm_calls for peak in peaks),
            note="counted by the LM stub; less where a connection pool or the CPU limits",
        ),
        *_compare(few, many),
    ]


def _compare(few: list[Run], many: list[Run]) -> list[Figure]:
    cpu = [much.cpu_ms / little.cpu_ms for much, little in zip(many, few, strict=True)]
    rates = [run.per_second for run in many]
    wall_seconds = median([run.wall_seconds for run in many])
    return [
        Figure(
            "jobs/s at 1,000 in flight, 1 s LM",
            median(rates),
            "1/s",
            note=f"{JOBS[MANY]:,} jobs in {wall_seconds:.1f} s; {spread(rates, '1/s')}",
        ),
        Figure("CPU per job at 1,000 in flight ÷ at 100", median(cpu), note=f"goal ≤ 1; {spread(cpu)}"),
        Figure("CPU per job at 1,000 in flight", median([run.cpu_ms for run in many]), "ms"),
        Figure("CPU per job at 100 in flight", median([run.cpu_ms for run in few]), "ms"),
    ]


async def _measure_worker(stage: Stage, title: str, *, concurrency: int) -> tuple[Run, Peak]:
    async with stage.workers(1, concurrency=concurrency) as running:
        await stage.take_lm_peak()
        seen: list[int] = []
        looking = asyncio.create_task(_look(stage, seen))
        try:
            title = f"{title}: {concurrency:,} in flight"
            run = await stage.execute(title, slow_args, jobs=JOBS[concurrency], measured=running)
        finally:
            looking.cancel()
            await asyncio.wait([looking])
        return run, Peak(max(seen, default=0), await stage.take_lm_peak())


async def _look(stage: Stage, seen: list[int]) -> None:
    """Note how many jobs are in flight, again and again; the question itself is one of them."""
    while True:
        stats = await stage.load.call("control", {}, command="get_stats")
        seen.append(stats["in_flight"] - 1)
        await asyncio.sleep(_LOOK_SECONDS)
