"""Resident memory of a worker: idle, after its first job, and after many jobs over many signatures.

Signatures alone are built in a process of their own, ten times more of them than jobs could bring along in that time.
"""

from __future__ import annotations

import json
from functools import partial

from benchmarks.figures import Figure, at_most
from benchmarks.inside import FEW_SIGNATURES, MANY_SIGNATURES
from benchmarks.processes import Child
from benchmarks.programs import execute_args, one_off_args
from benchmarks.stage import Stage

JOBS, SIGNATURES = 10_000, 500
FULL_JOBS, FULL_SIGNATURES = 100_000, 5_000
STEPS = 5


async def measure(stage: Stage) -> list[Figure]:
    """Run jobs that bring their definitions along, and look at the memory after each fifth of them."""
    jobs, signatures = (FULL_JOBS, FULL_SIGNATURES) if stage.is_full else (JOBS, SIGNATURES)
    async with stage.worker() as worker:
        idle = worker.rss_mb()
        await stage.load.execute(partial(execute_args, "label"), jobs=1, on_reply=lambda: None)
        first = worker.rss_mb()
        steps = await _grow(stage, worker, jobs=jobs, signatures=signatures)
        stats = await stage.load.call("control", {}, command="get_stats")
    cache = stats["cache"]["program"]
    hits = 100 * cache["hits"] / (cache["hits"] + cache["misses"])
    growth = 100 * (steps[-1] / idle - 1)
    course = " → ".join(f"{step:.0f}" for step in steps)
    return [
        Figure("RSS idle", idle, "MB", at_most(120), note="consuming, no job yet"),
        Figure("RSS after the first job", first, "MB"),
        Figure(
            f"RSS after {jobs:,} jobs over {signatures:,} signatures",
            steps[-1],
            "MB",
            note=f"each fifth: {course} MB; {hits:.1f} % cache hits",
            details={f"rss_mb_{index}_of_{STEPS}": step for index, step in enumerate(steps, start=1)},
        ),
        Figure("RSS growth over idle", growth, "%", at_most(20), note=_note(steps, first=first, is_full=stage.is_full)),
        await _measure_signatures(stage),
    ]


async def _measure_signatures(stage: Stage) -> Figure:
    async with stage.module("inside", str(stage.folder)) as inside:
        with stage.progress.bar(f"memory: {MANY_SIGNATURES:,} signatures", total=1) as advance:
            grown = json.loads(await inside.ask("growth"))
            advance()
    course = f"{grown['few_mb']:.0f} → {grown['half_mb']:.0f} → {grown['many_mb']:.0f} MB"
    return Figure(
        f"RSS after {MANY_SIGNATURES:,} signatures over that after {FEW_SIGNATURES:,}",
        100 * (grown["many_mb"] / grown["few_mb"] - 1),
        "%",
        at_most(10),
        note=f"{course}; programs of 10 fields, {grown['kept']:,.0f} kept",
        details=grown,
    )


async def _grow(stage: Stage, worker: Child, *, jobs: int, signatures: int) -> list[float]:
    """Return MB after each step."""
    steps = []
    make_args = partial(one_off_args, signatures=signatures)
    for step in range(1, STEPS + 1):
        await stage.execute(f"memory {step}/{STEPS}", make_args, jobs=jobs // STEPS, measured=[worker])
        steps.append(worker.rss_mb())
    return steps


def _note(steps: list[float], *, first: float, is_full: bool) -> str:
    over_first = 100 * (steps[-1] / first - 1)
    last_fifth = 100 * (steps[-1] / steps[-2] - 1)
    scale = "" if is_full else "; the budget's own numbers with --full"
    return f"{over_first:+.0f} % over the first job, {last_fifth:+.1f} % in the last fifth{scale}"
