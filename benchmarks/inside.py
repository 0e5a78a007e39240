"""What parts of the worker cost, called directly: ``python -m benchmarks.inside FOLDER``.

Each line on stdin is the name of a part; its numbers come back as one line of JSON. What takes micro- or milliseconds is measured
in CPU time of its thread, several times over: the clock would measure what else the machine does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import median, percentile
from benchmarks.programs import DEFINITIONS, execute_args, wide_definition
from tests.support.left_hand import LeftHand, open_left_hand
from worker.circuits import Circuits
from worker.inbox.joins import Joins
from worker.message import Delivery, ExecuteArgs, read_args
from worker.programs import Programs
from worker.runs import Runs
from worker.settings import Settings
from worker.signatures import Signature, check_inputs, parse, read_outputs, sample_outputs
from worker.store import Spent, Store, StoredOutcome, Ticket

Numbers = dict[str, float]

IN_FLIGHT = 32
COLD_SIGNATURES = 400
COLD_ROUNDS = 9
_WARM_SIGNATURES = 20
_KNOWN_SIGNATURES = 50
LOOK_UPS = 10_000
_BATCH = 500
_CHECKS = 4_000
CHECKED_FIELDS = 20
FEW_SIGNATURES, MANY_SIGNATURES = 5_000, 50_000
_BLOCKS, _BLOCK_JOBS = 30, 50
_PAIRS = 1_000
_GUARD_BATCHES = 20
_ROUNDS = 3
_REPLY = (
    b'{"id": 1, "success": true, "timestamp": 1.0, "result": {"outputs": {"label": "positive", "score": 0.93}}}' * 4
)


def measure_cold() -> Numbers:
    """Build programs from definitions that were never seen, 10 fields each, all of them anew and in another order each round.

    A definition's figure is the best of its rounds: what makes the others slower is another process on the same core, or
    the garbage collector. The 99th percentile is taken over definitions; that of single builds by the clock, which holds
    all of that, stands beside it.
    """
    cpu: dict[int, list[float]] = {number: [] for number in range(COLD_SIGNATURES)}
    wall: list[float] = []
    for number in range(COLD_ROUNDS):
        _build_all(random.Random(number), cpu, wall)
    best = [min(times) for times in cpu.values()]
    return {
        "cpu_p50_ms": percentile(best, 50),
        "cpu_p99_ms": percentile(best, 99),
        "cpu_median_p99_ms": percentile([median(times) for times in cpu.values()], 99),
        "single_p50_ms": percentile(wall, 50),
        "single_p99_ms": percentile(wall, 99),
    }


def _build_all(order: random.Random, cpu: dict[int, list[float]], wall: list[float]) -> None:
    """Add milliseconds of CPU by definition, and by the clock, of each build; nothing is known from an earlier round."""
    programs = Programs(Settings())
    re.purge()
    for number in range(_WARM_SIGNATURES):
        programs.one_off(_arguments(COLD_SIGNATURES + number))
    definitions = [(number, _arguments(number)) for number in order.sample(range(COLD_SIGNATURES), COLD_SIGNATURES)]
    gc.collect()
    for number, args in definitions:
        began, cpu_began = time.perf_counter(), time.thread_time()
        programs.one_off(args)
        cpu[number].append((time.thread_time() - cpu_began) * 1e3)
        wall.append((time.perf_counter() - began) * 1e3)


def measure_hit() -> Numbers:
    """Look up programs of known definitions, 10 fields each, with a fresh time stamp in each job."""
    programs = Programs(Settings())
    arguments = [_arguments(number % _KNOWN_SIGNATURES) for number in range(LOOK_UPS)]
    # The first batch holds the misses.
    batches = _time_batches(lambda number: programs.one_off(arguments[number]), LOOK_UPS)[1:]
    stats = programs.stats()["program"]
    rate = 100 * stats["hits"] / (stats["hits"] + stats["misses"])
    return {"cpu_us": min(batches), "median_us": median(batches), "worst_us": max(batches), "rate_percent": rate}


def measure_validation() -> Numbers:
    """Check jobs with 20 inputs, and read answers with 20 outputs, of all types; valid ones, which take longest."""
    signature = parse(wide_definition(0, fields=2 * CHECKED_FIELDS))
    inputs = sample_outputs(Signature("Turned", "", signature.outputs, signature.inputs), seed="")
    texts: dict[str, Any] = {name: _as_text(value) for name, value in sample_outputs(signature, seed="").items()}
    checked = _time_batches(lambda _: check_inputs(signature, inputs), _CHECKS)
    read = _time_batches(lambda _: read_outputs(signature, texts), _CHECKS)
    return {
        "inputs_ms": min(checked) / 1e3,
        "inputs_median_ms": median(checked) / 1e3,
        "outputs_ms": min(read) / 1e3,
        "outputs_median_ms": median(read) / 1e3,
    }


def measure_growth() -> Numbers:
    """Build many distinct signatures, each with both its adapters, and look at the resident memory on the way."""
    programs, process = Programs(Settings()), psutil.Process()
    rss: dict[int, float] = {}
    for number in range(MANY_SIGNATURES):
        programs.one_off(_arguments(number)).compiled.adapter_for("full")
        if number + 1 in (FEW_SIGNATURES, MANY_SIGNATURES // 2, MANY_SIGNATURES):
            rss[number + 1] = process.memory_info().rss / 1e6
    return {
        "few_mb": rss[FEW_SIGNATURES],
        "half_mb": rss[MANY_SIGNATURES // 2],
        "many_mb": rss[MANY_SIGNATURES],
        "kept": programs.stats()["program"]["entries"],
    }


def _time_batches(step: Callable[[int], object], steps: int) -> list[float]:
    """Return microseconds of CPU per step, of one batch after the other."""
    batches = []
    for start in range(0, steps, _BATCH):
        began = time.thread_time()
        for number in range(start, start + _BATCH):
            step(number)
        batches.append((time.thread_time() - began) * 1e6 / _BATCH)
    return batches


def _as_text(value: object) -> str:
    """Write a value as a model does."""
    return value if isinstance(value, str) else json.dumps(value)


async def measure_kinds(folder: Path) -> Numbers:
    """Handle jobs of a dynamic and of the legacy program in turn, without a broker, on the offline LM.

    What both have in common is less here than in a whole job, so the ratio is rather too high than too low; and a block of jobs
    that nothing disturbed is found more easily. All threads count.
    """
    best: dict[str, list[float]] = {"reply": [], "legacy": []}
    async with open_left_hand(folder) as hand:
        for program in best:
            await hand.create(DEFINITIONS[program], id=program)
        for block in range(_BLOCKS + 1):
            for program, blocks in list(best.items())[:: 1 if block % 2 else -1]:
                blocks.append(await _time_jobs(hand, program, block))
    dynamic, legacy = (min(blocks[1:]) for blocks in best.values())
    return {"dynamic_ms": dynamic, "legacy_ms": legacy, "ratio": dynamic / legacy}


async def _time_jobs(hand: LeftHand, program: str, block: int) -> float:
    """Return milliseconds of CPU per job."""
    bodies = []
    for number in range(_BLOCK_JOBS):
        args = execute_args(program, block * _BLOCK_JOBS + number) | {"options": {}}
        bodies.append({"command": "execute_program", "id": number, "args": args})
    gc.collect()
    began = time.process_time()
    for body in bodies:
        await hand.handle(body)
    return (time.process_time() - began) * 1e3 / _BLOCK_JOBS


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


async def measure_guards() -> Numbers:
    """Pass what stands around each run in this process: the run that others may join, the cancel mark, the circuit."""
    circuits = Circuits(["bench"], probe=_never)
    joins, runs, delivery = Joins(), Runs(), Delivery("execute", b"")
    batches = []
    for _ in range(_GUARD_BATCHES):
        began = time.thread_time()
        for number in range(_BATCH):
            job = ("", f"job-{number}")
            with joins.leading(job, delivery), runs.stoppable(job):
                await circuits.admit("bench")
                circuits.of("bench").check()
                circuits.of("bench").succeeded()
        batches.append((time.thread_time() - began) * 1e6 / _BATCH)
    return {"cpu_us": min(batches), "median_us": median(batches)}


async def _never(_: str) -> None:
    raise AssertionError("a closed circuit is not probed")


def _arguments(number: int) -> ExecuteArgs:
    args, _ = read_args(ExecuteArgs, {"signature": wide_definition(number), "inputs": {}})
    return args


_PARTS: dict[str, Callable[[], Numbers]] = {
    "cold": measure_cold,
    "hit": measure_hit,
    "validation": measure_validation,
    "growth": measure_growth,
    "kinds": lambda: asyncio.run(measure_kinds(Path(sys.argv[1]))),
    "guards": lambda: asyncio.run(measure_guards()),
    "store": lambda: asyncio.run(measure_store(Path(sys.argv[1]))),
}


def main() -> None:
    """Measure what stdin names, until it is closed."""
    for line in sys.stdin:
        print(json.dumps(_PARTS[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
