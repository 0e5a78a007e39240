"""What it costs to be safe: all of it against an earlier version, and by its parts.

``--against FOLDER`` names a checkout of the earlier version, e.g. of ``git worktree add FOLDER TAG``; its worker runs beside
this one, in a namespace of its own, and both are measured in turn. Without it, only the parts are measured.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from benchmarks.figures import Figure, at_most, median, spread
from benchmarks.load import Load
from benchmarks.processes import Child
from benchmarks.programs import execute_args
from benchmarks.stage import Stage

ROUNDS = 12
JOBS = 1_000

# What is measured → the worker that is, and who sends it jobs.
Ways = dict[str, tuple[Child, Load]]


async def measure(stage: Stage) -> list[Figure]:
    """Alternate bare calls and jobs; differences are taken within a round, over bare DSPy of the same round."""
    rounds = []
    async with stage.bare() as bare, _ways(stage) as ways:
        for number in range(1, ROUNDS + 1):
            title = f"round {number}/{ROUNDS}"
            cpu = {"bare": (await stage.call_bare(f"{title}: bare DSPy", bare, calls=JOBS)).cpu_ms}
            for way in list(ways)[:: 1 if number % 2 else -1]:
                cpu[way] = await _measure_way(stage, f"{title}: {way}", *ways[way])
            rounds.append(cpu)
        has_earlier = "earlier" in ways
    figures = [_more("direct", "queue", rounds, "asking after a caller on direct reply-to, CPU per job ÷ bare DSPy")]
    if has_earlier:
        title = "CPU per job more than the earlier version, ÷ bare DSPy"
        figures.insert(0, _more("queue", "earlier", rounds, title, limit=0.2))
    return [*figures, await _measure_guards(stage)]


@asynccontextmanager
async def _ways(stage: Stage) -> AsyncIterator[Ways]:
    async with AsyncExitStack() as stack:
        [worker] = await stack.enter_async_context(stage.workers(1, concurrency=32))
        direct = await stack.enter_async_context(stage.direct_load())
        ways = {"queue": (worker, stage.load), "direct": (worker, direct)}
        if stage.earlier is not None:
            ways["earlier"] = await stack.enter_async_context(stage.earlier_worker(stage.earlier))
        yield ways


async def _measure_way(stage: Stage, title: str, worker: Child, load: Load) -> float:
    """Return the CPU of a worker per job, in milliseconds."""
    make_args = partial(execute_args, "label")
    return (await stage.execute(title, make_args, jobs=JOBS, measured=[worker], load=load)).cpu_ms


def _more(one: str, other: str, rounds: list[dict[str, float]], name: str, *, limit: float | None = None) -> Figure:
    differences = [(cpu[one] - cpu[other]) / cpu["bare"] for cpu in rounds]
    middle = median([cpu[one] - cpu[other] for cpu in rounds])
    return Figure(
        name,
        median(differences),
        bound=None if limit is None else at_most(limit),
        note=f"32 in flight; {middle:+.2f} ms; {spread(differences)}",
        details={"ms": middle},
    )


async def _measure_guards(stage: Stage) -> Figure:
    async with stage.module("inside", str(stage.folder)) as inside:
        guards = json.loads(await inside.ask("guards"))
    return Figure(
        "joining, circuit and cancel mark: CPU per job",
        guards["cpu_us"],
        "µs",
        note="what each run passes in this process, without the store",
        details=guards,
    )
