"""CPU per job against bare DSPy, and of a dynamic signature against legacy question and answer.

All four are taken in turn, round by round, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from benchmarks.figures import Figure, at_most, median, spread
from benchmarks.processes import Child
from benchmarks.programs import execute_args
from benchmarks.stage import Stage

ROUNDS = 8
JOBS = 400


async def measure(stage: Stage) -> list[Figure]:
    """Alternate bare calls and jobs; ratios are taken within a round, and the median of them is the figure."""
    async with stage.bare() as bare, stage.workers(1, concurrency=32) as running:
        rounds = [
            await _measure_round(
                stage, f"round {number}/{ROUNDS}", bare=bare, worker=running[0], programs=_order(number)
            )
            for number in range(1, ROUNDS + 1)
        ]
    to_bare = [one["label"] / one["bare"] for one in rounds]
    to_legacy = [one["reply"] / one["legacy"] for one in rounds]
    figures = [
        Figure(
            "CPU per execute job ÷ bare DSPy",
            median(to_bare),
            bound=at_most(2.2),
            note=f"32 in flight, known model; {spread(to_bare)}",
        ),
        Figure("dynamic ÷ legacy Q&A, CPU per job", median(to_legacy), bound=at_most(1.05), note=spread(to_legacy)),
    ]
    return figures + [_absolute(rounds, key) for key in ("bare", "label", "reply", "legacy")]


def _order(number: int) -> tuple[str, ...]:
    """Return the programs in another order every other round, so that none is always measured after the same one."""
    programs = ("label", "reply", "legacy")
    return programs if number % 2 else programs[::-1]


async def _measure_round(
    stage: Stage, title: str, *, bare: Child, worker: Child, programs: Iterable[str]
) -> dict[str, float]:
    """Return what was measured → CPU per job in milliseconds."""
    calls = await stage.call_bare(f"{title}: bare DSPy", bare, calls=JOBS)
    cpu = {"bare": calls.cpu_ms}
    for program in programs:
        make_args = partial(execute_args, program)
        run = await stage.execute(f"{title}: jobs of '{program}'", make_args, jobs=JOBS, measured=[worker])
        cpu[program] = run.cpu_ms
    return cpu


_TITLES = {
    "bare": "CPU per call, bare DSPy (text → label, score)",
    "label": "CPU per job (text → label, score)",
    "reply": "CPU per job (query → reply)",
    "legacy": "CPU per job, legacy (question → answer)",
}


def _absolute(rounds: list[dict[str, float]], key: str) -> Figure:
    values = [one[key] for one in rounds]
    return Figure(_TITLES[key], median(values), "ms", note=spread(values, "ms"))
