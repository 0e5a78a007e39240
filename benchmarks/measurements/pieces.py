"""What the parts of a job cost by themselves."""

from __future__ import annotations

import json
from functools import partial

from benchmarks.figures import Figure, at_least, at_most, median, spread
from benchmarks.inside import CHECKED_FIELDS, COLD_ROUNDS, COLD_SIGNATURES, LOOK_UPS
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
        for part in ("cold", "hit", "validation", "kinds", "store"):
            with stage.progress.bar(part, total=1) as advance:
                numbers[part] = json.loads(await inside.ask(part))
                advance()
    store = numbers["store"]
    return [
        _cold(numbers["cold"]),
        *_hits(numbers["hit"]),
        *_validation(numbers["validation"]),
        _kinds(numbers["kinds"]),
        Figure(
            "store: CPU per claim and finish",
            store["cpu_ms"],
            "ms",
            note=f"SQLite, 32 in flight; {store['wall_ms']:.1f} ms by the clock",
        ),
    ]


def _cold(cold: dict[str, float]) -> Figure:
    builds = f"{COLD_SIGNATURES} definitions, CPU, each the best of {COLD_ROUNDS} builds"
    single = f"single builds by the clock: p50 {cold['single_p50_ms']:.2f}, p99 {cold['single_p99_ms']:.1f} ms"
    return Figure(
        "cold signature, p99, 10 fields",
        cold["cpu_p99_ms"],
        "ms",
        at_most(2),
        note=f"p50 {cold['cpu_p50_ms']:.2f} ms; {builds}; {single}",
        details=cold,
    )


def _hits(hit: dict[str, float]) -> list[Figure]:
    return [
        Figure(
            "cache hits with a fresh metadata.created_at",
            hit["rate_percent"],
            "%",
            at_least(99),
            note=f"{LOOK_UPS:,} look-ups of 50 definitions; each misses once",
        ),
        Figure(
            "cache hit: definition → program",
            hit["cpu_us"],
            "µs",
            at_most(20),
            note=f"10 fields; CPU, best of batches, median {hit['median_us']:.1f} µs",
            details=hit,
        ),
    ]


def _validation(validation: dict[str, float]) -> list[Figure]:
    return [
        Figure(
            f"validation of {CHECKED_FIELDS} {side}",
            validation[f"{side}_ms"],
            "ms",
            at_most(0.1),
            note=f"{what}; CPU, best of batches, median {validation[f'{side}_median_ms']:.3f} ms",
        )
        for side, what in (("inputs", "JSON values of all types"), ("outputs", "read from a model's text"))
    ]


def _kinds(kinds: dict[str, float]) -> Figure:
    return Figure(
        "dynamic ÷ legacy Q&A, without the broker",
        kinds["ratio"],
        bound=at_most(1.05),
        note=f"CPU, best of blocks: {kinds['dynamic_ms']:.2f} and {kinds['legacy_ms']:.2f} ms a job, offline LM",
        details=kinds,
    )


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
