"""What the parts of a job cost by themselves."""

from __future__ import annotations

import json
from functools import partial

from benchmarks.figures import Figure, at_least, at_most, median, spread
from benchmarks.programs import execute_args
from benchmarks.stage import Stage

ECHO_ROUNDS = 3
ECHO_JOBS = 1_500


async def measure(stage: Stage) -> list[Figure]:
    """Measure signatures, cache and store inside one process, and AMQP with a handler that does nothing."""
    return [*await _measure_inside(stage), await _measure_amqp(stage)]


async def _measure_inside(stage: Stage) -> list[Figure]:
    numbers: dict[str, dict[str, float]] = {}
    async with stage.module("inside", str(stage.folder)) as inside:
        for part in ("cold", "hit", "store"):
            with stage.progress.bar(part, total=1) as advance:
                numbers[part] = json.loads(await inside.ask(part))
                advance()
    cold, hit, store = numbers["cold"], numbers["hit"], numbers["store"]
    return [
        Figure(
            "cold signature, p99, 10 fields",
            cold["p99_ms"],
            "ms",
            at_most(50),
            note=f"p50 {cold['p50_ms']:.1f} ms; of CPU p50 {cold['cpu_p50_ms']:.1f}, p99 {cold['cpu_p99_ms']:.1f} ms",
            details=cold,
        ),
        Figure(
            "cache hits with a fresh metadata.created_at",
            hit["rate_percent"],
            "%",
            at_least(90),
            note="10,000 look-ups of 50 definitions; each misses once",
        ),
        Figure("cache hit: definition → program", hit["cpu_us"], "µs", note="10 fields; goal ≤ 20"),
        Figure(
            "store: CPU per claim and finish",
            store["cpu_ms"],
            "ms",
            note=f"SQLite, 32 in flight; {store['wall_ms']:.1f} ms by the clock",
        ),
    ]


async def _measure_amqp(stage: Stage) -> Figure:
    rounds = []
    async with stage.module("amqp_echo") as echo:
        await echo.read_line()
        await stage.load.execute(partial(execute_args, "label"), jobs=200, on_reply=lambda: None)
        for number in range(1, ECHO_ROUNDS + 1):
            run = await stage.execute(
                f"AMQP alone {number}/{ECHO_ROUNDS}",
                partial(execute_args, "label"),
                jobs=ECHO_JOBS,
                measured=[echo],
            )
            rounds.append(run.cpu_ms)
    return Figure(
        "AMQP alone: CPU per consume, confirmed reply, ack",
        median(rounds),
        "ms",
        note=f"the worker's own consumer and publisher; {spread(rounds, 'ms')}",
    )
