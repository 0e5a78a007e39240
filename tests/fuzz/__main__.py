"""``python -m tests.fuzz``: many bodies through a handler in this process. ``make fuzz`` runs it."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.progress import Progress
from tests.fuzz.cases import Case, make_case
from tests.fuzz.report import answer_all
from tests.fuzz.run import SECONDS_A_CASE, Run, opened_hand
from tests.support.left_hand import LeftHand

BODIES = 100_000
WARM_BODIES = 10_000
MAX_GROWTH_MB = 20
EXIT_INTERRUPTED = 130

_FOLDER = Path("build/fuzz")
_STEPS = 20
_MAX_SHOWN = 10


def main() -> int:
    """Parse the command line, fuzz, report; return the exit code: 1 where a promise does not hold."""
    options = _parse(sys.argv[1:])
    try:
        return uvloop.run(_run(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED


async def _run(options: argparse.Namespace) -> int:
    progress = Progress()
    progress.say(f"seed {options.seed}; again with ARGS='--seed {options.seed}'")
    verdicts = []
    async with opened_hand() as hand:
        if options.body is not None:
            return await _show(hand, make_case(options.seed, options.body), progress)
        if not options.only_hostile:
            run = await _fuzz(hand, options.seed, bodies=options.bodies, progress=progress)
            verdicts.append(_report(run, bodies=options.bodies, progress=progress))
    if not options.only_fuzz:
        verdicts.append(await answer_all(progress))
    return 0 if all(verdicts) else 1


async def _fuzz(hand: LeftHand, seed: int, *, bodies: int, progress: Progress) -> Run:
    run, began = Run(), time.perf_counter()
    warm, step = min(WARM_BODIES, bodies // 10), max(1, bodies // _STEPS)
    with progress.bar(f"{bodies:,} bodies", total=bodies) as advance:
        for number in range(bodies):
            # Python cannot interrupt a loop in C: this shows where it hangs, and ends the process.
            faulthandler.dump_traceback_later(2 * SECONDS_A_CASE, exit=True)
            await run.take(hand, make_case(seed, number))
            advance()
            done = number + 1
            if done in (warm, bodies) or done % step == 0:
                run.note_memory(done)
                progress.say(_step(run, done, seconds=time.perf_counter() - began))
    faulthandler.cancel_dump_traceback_later()
    await run.retime(hand)
    return run


def _step(run: Run, done: int, *, seconds: float) -> str:
    rate, faults = done / seconds, len(run.faults)
    return f"    {done:>7,} bodies, {rate:,.0f}/s, RSS {run.rss_mb[done]:.0f} MB, {faults} faults"


def _report(run: Run, *, bodies: int, progress: Progress) -> bool:
    """Print what came of the cases, save the ones to look at, and tell whether all promises hold."""
    warm = min(WARM_BODIES, bodies // 10)
    growth = run.rss_mb[bodies] - run.rss_mb[warm]
    progress.say("  " + ", ".join(f"{code} {count:,}" for code, count in run.codes.most_common()))
    seconds, slowest = run.slowest[0]
    progress.say(f"  slowest: {seconds * 1e3:.0f} ms, {_saved(slowest, 'slowest')}")
    largest, size = run.largest
    progress.say(f"  largest reply: {size:,} bytes, {_saved(largest, 'largest-reply')}")
    for case, fault in run.faults[:_MAX_SHOWN]:
        progress.say(f"  FAULT: {_saved(case, f'fault-{case.number}')}\n{fault}")
    progress.say(
        f"  {len(run.faults)} faults; RSS grew by {growth:+.1f} MB (at most {MAX_GROWTH_MB}) after {warm:,} bodies"
    )
    # Before they are full, the caches grow.
    return not run.faults and (growth < MAX_GROWTH_MB or warm < WARM_BODIES)


def _saved(case: Case | None, name: str) -> str:
    """Save the body of a case and tell where."""
    if case is None:
        return "none"
    _FOLDER.mkdir(parents=True, exist_ok=True)
    path = _FOLDER / f"{name}.body"
    path.write_bytes(case.body)
    return f"body {case.number} ({len(case.body):,} bytes), {case.properties or 'ordinary properties'}, saved as {path}"


async def _show(hand: LeftHand, case: Case, progress: Progress) -> int:
    """Handle one case and print all of it."""
    run = Run()
    await run.take(hand, case)
    progress.say(f"{case.properties}\n{case.body[:2_000]!r}\n{dict(run.codes)} {run.slowest[0][0] * 1e3:.1f} ms")
    for _, fault in run.faults:
        progress.say(fault)
    return 1 if run.faults else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description="Send bodies that no sender would write.")
    parser.add_argument("--bodies", type=int, default=BODIES, help="how many")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9, help="the same one gives the same bodies")
    parser.add_argument("--body", type=int, metavar="NUMBER", help="only this one of the seed, shown in full")
    parser.add_argument("--only-hostile", action="store_true", help="only the hostile bodies with names")
    parser.add_argument("--only-fuzz", action="store_true", help="not the hostile bodies with names")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
