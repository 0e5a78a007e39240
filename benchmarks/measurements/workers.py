"""Two workers against one.

While cores last, twice the workers do twice the work. A small machine shares its cores between the workers, the broker, the LM
stub and the load generator, so with an LM that answers at once the cores run out first: that ratio says more about the
machine. The one that counts is taken with an LM that takes a while, and few enough jobs in flight to leave cores idle.
"""

from __future__ import annotations

from functools import partial

from benchmarks.figures import Figure, at_least, median, spread
from benchmarks.programs import calm_args, execute_args
from benchmarks.stage import Run, Stage

ROUNDS = 2
CONCURRENCY = 16
CALM_JOBS_PER_WORKER = 256
BUSY_JOBS = 600

Runs = dict[tuple[str, int], list[Run]]


async def measure(stage: Stage) -> list[Figure]:
    """Alternate one and two workers, each under a calm and under a busy load."""
    runs: Runs = {(load, count): [] for load in ("calm", "busy") for count in (1, 2)}
    for number in range(1, ROUNDS + 1):
        for count in (1, 2):
            await _measure_workers(stage, f"round {number}/{ROUNDS}", count=count, runs=runs)
    calm, busy = _ratios(runs, "calm"), _ratios(runs, "busy")
    more_cpu = [two.cpu_ms / one.cpu_ms for one, two in zip(runs["busy", 1], runs["busy", 2], strict=True)]
    return [
        Figure(
            "two workers ÷ one, jobs/s, while cores last",
            median(calm),
            bound=at_least(1.8),
            note=f"{CONCURRENCY} in flight each, 250 ms LM; {spread(calm)}",
        ),
        Figure(
            "two workers ÷ one, jobs/s, cores exhausted",
            median(busy),
            note=f"broker, load and LM stub share the cores; {spread(busy)}",
        ),
        Figure("two workers ÷ one, CPU per job, cores exhausted", median(more_cpu), note=spread(more_cpu)),
        *(_throughput(runs, count) for count in (1, 2)),
    ]


async def _measure_workers(stage: Stage, title: str, *, count: int, runs: Runs) -> None:
    title = f"{title}: {count} worker{'s' * (count > 1)}"
    async with stage.workers(count, concurrency=CONCURRENCY) as running:
        jobs = CALM_JOBS_PER_WORKER * count
        runs["calm", count].append(await stage.execute(f"{title}, calm", calm_args, jobs=jobs, measured=running))
        busy = partial(execute_args, "label")
        runs["busy", count].append(await stage.execute(f"{title}, busy", busy, jobs=BUSY_JOBS, measured=running))


def _ratios(runs: Runs, load: str) -> list[float]:
    return [two.per_second / one.per_second for one, two in zip(runs[load, 1], runs[load, 2], strict=True)]


def _throughput(runs: Runs, count: int) -> Figure:
    values = [run.per_second for run in runs["busy", count]]
    return Figure(
        f"jobs/s, {count} worker{'s' * (count > 1)}, LM at once", median(values), "1/s", note=spread(values, "1/s")
    )
