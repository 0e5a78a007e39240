"""A thousand jobs in flight in one process, on an LM that takes a second."""

from __future__ import annotations

from benchmarks.figures import Figure, at_least, median, spread
from benchmarks.programs import slow_args
from benchmarks.stage import Run, Stage

ROUNDS = 2
MANY, FEW = 1_000, 100
JOBS = {MANY: 3_000, FEW: 800}


async def measure(stage: Stage) -> list[Figure]:
    """Alternate workers with many and with few jobs in flight."""
    runs: dict[int, list[Run]] = {MANY: [], FEW: []}
    peaks = []
    for number in range(1, ROUNDS + 1):
        for concurrency in (FEW, MANY):
            run, peak = await _measure_worker(stage, f"round {number}/{ROUNDS}", concurrency=concurrency)
            runs[concurrency].append(run)
            if concurrency == MANY:
                peaks.append(float(peak))
    per_second = [run.per_second for run in runs[MANY]]
    wall = median([run.wall_seconds for run in runs[MANY]])
    ratios = [many.cpu_ms / few.cpu_ms for many, few in zip(runs[MANY], runs[FEW], strict=True)]
    return [
        Figure(
            "LM calls in flight in one process, 1 s LM",
            max(peaks),
            "",
            at_least(MANY),
            note=f"counted by the LM stub; {JOBS[MANY]:,} jobs in {wall:.1f} s, {spread(per_second, 'jobs/s')}",
            details={"jobs_per_second": median(per_second), "wall_seconds": wall},
        ),
        Figure("CPU per job at 1,000 in flight ÷ at 100", median(ratios), note=f"goal ≤ 1; {spread(ratios)}"),
        *(
            Figure(f"CPU per job at {concurrency:,} in flight", median([run.cpu_ms for run in runs[concurrency]]), "ms")
            for concurrency in (MANY, FEW)
        ),
    ]


async def _measure_worker(stage: Stage, title: str, *, concurrency: int) -> tuple[Run, int]:
    async with stage.workers(1, concurrency=concurrency) as running:
        await stage.take_lm_peak()
        run = await stage.execute(
            f"{title}: {concurrency:,} in flight", slow_args, jobs=JOBS[concurrency], measured=running
        )
        return run, await stage.take_lm_peak()
