"""How long a worker takes from its start to its first job."""

from __future__ import annotations

import asyncio
import time

from benchmarks.figures import Figure, at_most, median, spread
from benchmarks.load import REPLY_SECONDS
from benchmarks.programs import execute_args
from benchmarks.stage import Stage

ROUNDS = 3


async def measure(stage: Stage) -> list[Figure]:
    """Start workers with jobs waiting in the queues.

    The reply to a ``ping`` tells when the first job was taken; that of an execute job holds the first use of DSPy too.
    """
    taken, answered = [], []
    for number in range(1, ROUNDS + 1):
        with stage.progress.bar(f"start {number}/{ROUNDS}", total=1) as advance:
            first_taken, first_answered = await _start(stage)
            advance()
        taken.append(first_taken)
        answered.append(first_answered)
    return [
        Figure("`serve` to first job taken", median(taken), "s", at_most(3), note=f"a ping; {spread(taken, 's')}"),
        Figure("`serve` to first execute reply", median(answered), "s", note=spread(answered, "s")),
    ]


async def _start(stage: Stage) -> tuple[float, float]:
    """Return seconds from the start of the process to the reply of a ping, and of an execute job."""
    ping = await stage.load.publish("control", {}, command="ping")
    job = await stage.load.publish("execute", execute_args("label", 0))
    began = time.perf_counter()
    seconds: dict[str, float] = {}
    ping.add_done_callback(lambda _: seconds.setdefault("ping", time.perf_counter() - began))
    job.add_done_callback(lambda _: seconds.setdefault("job", time.perf_counter() - began))
    async with stage.worker(is_ready=False), asyncio.timeout(REPLY_SECONDS):
        await asyncio.gather(ping, job)
    return seconds["ping"], seconds["job"]
