"""A job that the LM refuses once comes back after its step of the delay ladder: never early, hardly late."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.faults.lm_stub import Call, Fault, LMStub, Trouble
from tests.faults.load import Load
from tests.faults.measured import Goal, Measured, percentile
from tests.faults.oracle import judge
from tests.faults.stage import Stage

# Well below what the workers can do: this is about the ladder, not about a backlog behind it.
_JOBS_PER_SECOND = 25.0
_WORKERS = 2


@dataclass(frozen=True, slots=True)
class Size:
    """How much: the steps are whole seconds, as ``Retry-After`` is."""

    jobs_per_step: int
    steps: tuple[int, ...]
    late_seconds: float


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    began = time.monotonic()
    settings = {"delays_seconds": ",".join(str(step) for step in size.steps)}
    async with Stage.open(seed=seed, has_own_node=False, settings=settings) as stage, stage.load() as load:
        async with stage.crew(_WORKERS):
            await load.create()
            numbers = await _publish_steps(stage, load, size)
            await load.replied(stall_seconds=60.0 + max(size.steps))
        await judge(stage, load)
        late = {step: _lateness(stage.lm, jobs, step=step) for step, jobs in numbers.items()}
    early = [seconds for of_step in late.values() for seconds in of_step if seconds < 0]
    figures: dict[str, int | float | str] = {"jobs": len(load.jobs), "early": len(early)}
    figures |= {f"seconds late at {step} s, p99": percentile(of_step, 0.99) for step, of_step in late.items()}
    figures |= {"seconds late, most": max(map(max, late.values())), "seconds": time.monotonic() - began}
    return Measured(figures, _problem(size, late, early))


async def _publish_steps(stage: Stage, load: Load, size: Size) -> dict[int, range]:
    """Publish the jobs of the longest step first and wait until the LM has refused all of them, then those of the next.

    The first step is what a job takes that is told nothing else; the others are asked for with ``Retry-After``.
    """
    numbers: dict[int, range] = {}
    for index, step in reversed(list(enumerate(size.steps))):
        fault: Fault = "429-retry-after" if index else "429"
        stage.lm.trouble = Trouble({fault: 1.0}, is_first_only=True, retry_after_seconds=step)
        numbers[step] = range(index * size.jobs_per_step, (index + 1) * size.jobs_per_step)
        await load.publish(numbers[step], per_second=_JOBS_PER_SECOND)
        await _refused(stage.lm, numbers[step])
    return numbers


async def _refused(lm: LMStub, numbers: range) -> None:
    """Wait until each of these jobs has called."""
    while not all(lm.by_job[number] for number in numbers):
        lm.arrived.clear()
        await lm.arrived.wait()


def _lateness(lm: LMStub, numbers: range, *, step: int) -> list[float]:
    """Return of each job the seconds from its refusal to its next call, beyond the step; negative for too early."""
    calls: dict[int, list[Call]] = {number: [] for number in numbers}
    for call in lm.calls:
        if call.job in calls:
            calls[call.job].append(call)
    return [_gap(of_job) - step for of_job in calls.values()]


def _gap(calls: list[Call]) -> float:
    assert len(calls) == 2, f"job {calls[0].job} called {len(calls)} times, not twice"
    refused, again = calls
    assert refused.ended is not None
    return again.began - refused.ended


def _problem(size: Size, late: dict[int, list[float]], early: list[float]) -> str | None:
    if early:
        return f"{len(early)} jobs came back early, by up to {-min(early):.3f} s"
    for step, of_step in late.items():
        if (p99 := percentile(of_step, 0.99)) > size.late_seconds:
            return f"after a step of {step} s jobs came {p99:.2f} s late (p99), not {size.late_seconds:g}"
    return None


GOAL = Goal(
    name="retry timing",
    load=lambda size: f"{size.jobs_per_step} jobs a step of {', '.join(str(step) for step in size.steps)} s",
    passes="never early, ≤ 0.5 s late (p99)",
    # The short form shares its machine with other tests; a job on the wrong step must still be found.
    short=Size(jobs_per_step=100, steps=(1, 3), late_seconds=1.5),
    long=Size(jobs_per_step=200, steps=(1, 5, 30), late_seconds=0.5),
    run=run,
)
