"""What parts of the worker cost, called directly: ``python -m benchmarks.inside FOLDER``.

Each line on stdin is the name of a part; its numbers come back as one line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import median, percentile
from benchmarks.programs import wide_definition
from worker.message import ExecuteArgs, read_args
from worker.programs import Programs
from worker.settings import Settings
from worker.store import Spent, Store, StoredOutcome, Ticket

Numbers = dict[str, float]

IN_FLIGHT = 32
_COLD_SIGNATURES = 400
_KNOWN_SIGNATURES = 50
_LOOK_UPS = 10_000
_PAIRS = 1_000
_ROUNDS = 3
_REPLY = (
    b'{"id": 1, "success": true, "timestamp": 1.0, "result": {"outputs": {"label": "positive", "score": 0.93}}}' * 4
)


def measure_cold() -> Numbers:
    """Build programs from definitions that were never seen, 10 fields each; ms by the clock and of CPU."""
    programs = Programs(Settings())
    arguments = [_arguments(number) for number in range(_COLD_SIGNATURES)]
    for args in arguments[:20]:
        programs.one_off(args)
    gc.collect()
    wall, cpu = [], []
    for args in arguments[20:]:
        began, cpu_began = time.perf_counter(), time.thread_time()
        programs.one_off(args)
        cpu.append((time.thread_time() - cpu_began) * 1e3)
        wall.append((time.perf_counter() - began) * 1e3)
    return {
        "p50_ms": percentile(wall, 50),
        "p99_ms": percentile(wall, 99),
        "cpu_p50_ms": percentile(cpu, 50),
        "cpu_p99_ms": percentile(cpu, 99),
    }


def measure_hit() -> Numbers:
    """Look up programs of known definitions, 10 fields each, with a fresh time stamp in each job."""
    programs = Programs(Settings())
    arguments = [_arguments(number % _KNOWN_SIGNATURES) for number in range(_LOOK_UPS)]
    batches = []
    for batch in _batched(arguments, 500):
        began = time.thread_time()
        for args in batch:
            programs.one_off(args)
        batches.append((time.thread_time() - began) * 1e6 / len(batch))
    stats = programs.stats()["program"]
    rate = 100 * stats["hits"] / (stats["hits"] + stats["misses"])
    # The first batch holds the misses.
    return {"cpu_us": median(batches[1:]), "rate_percent": rate}


async def measure_store(folder: Path) -> Numbers:
    """Claim and finish jobs that name a program, 32 in flight, on SQLite; CPU of all threads."""
    store = await Store.open(
        f"sqlite:///{folder}/inside-{uuid.uuid4().hex}.db", namespace="bench", worker_id="bench", lease_seconds=10
    )
    try:
        rounds = [await _time_pairs(store, number) for number in range(_ROUNDS + 1)][1:]
    finally:
        await store.close()
    cpu, wall = zip(*rounds, strict=True)
    return {"cpu_ms": median(cpu), "wall_ms": median(wall)}


async def _time_pairs(store: Store, number: int) -> tuple[float, float]:
    """Return the CPU, and the time by the clock, of one claim with its finish, in milliseconds."""
    keys = (f"{number}-{pair}" for pair in range(_PAIRS))
    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(_claim_and_finish(store, keys))
    return (time.process_time() - cpu) * 1e3 / _PAIRS, (time.perf_counter() - began) * 1e3 / _PAIRS


async def _claim_and_finish(store: Store, keys: Iterator[str]) -> None:
    for key in keys:
        ticket = Ticket(job_key=key, body_hash="0" * 64, program_id="label")
        claim = await store.claim(ticket)
        outcome = StoredOutcome(is_success=True, code=None, reply=_REPLY, settlement="")
        await store.finish(ticket, token=claim.token, outcome=outcome, spent=Spent(lm_calls=1), ttl_ms=86_400_000)


def _arguments(number: int) -> ExecuteArgs:
    args, _ = read_args(ExecuteArgs, {"signature": wide_definition(number), "inputs": {}})
    return args


def _batched(arguments: list[ExecuteArgs], size: int) -> Iterator[list[ExecuteArgs]]:
    return (arguments[start : start + size] for start in range(0, len(arguments), size))


def main() -> None:
    """Measure what stdin names, until it is closed."""
    for line in sys.stdin:
        match line.strip():
            case "cold":
                numbers = measure_cold()
            case "hit":
                numbers = measure_hit()
            case _:
                numbers = asyncio.run(measure_store(Path(sys.argv[1])))
        print(json.dumps(numbers), flush=True)


if __name__ == "__main__":
    main()
