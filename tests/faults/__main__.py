"""``python -m tests.faults``: measure the goals. ``make chaos`` runs the long form and writes its table."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import uvloop

from benchmarks.progress import Progress
from tests.faults import report
from tests.faults.goals import all_goals, soak
from tests.faults.measured import Goal, Measured, missed
from tests.faults.stage import broker_node, lend

EXIT_INTERRUPTED = 130


def main() -> int:
    """Measure the goals that are asked for; return 1 where one was missed."""
    options = _parse(sys.argv[1:])
    try:
        return uvloop.run(_stoppable(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED


async def _stoppable(options: argparse.Namespace) -> int:
    """End in order on SIGTERM too: every stage is taken down."""
    task = asyncio.ensure_future(_measure_all(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _measure_all(options: argparse.Namespace) -> int:
    progress = Progress()
    progress.say(f"seed {options.seed}; again with --seed {options.seed}")
    results: list[tuple[Goal[Any], Measured]] = []
    with ExitStack() as stack:
        if not options.long:
            stack.enter_context(lend(stack.enter_context(broker_node())))
        for goal in _chosen(options.only):
            progress.say(f"{goal.name}: {goal.load(_size(goal, options))} …")
            measured = await _measure(goal, options)
            results.append((goal, measured))
            progress.say(f"    {'ok' if measured.is_passed else 'MISSED'}: {measured.words()}")
            if measured.reason:
                progress.say(f"    {measured.reason}")
            if options.write:
                report.keep(goal, measured, seed=options.seed)
    progress.say("\n".join(_line(goal, measured) for goal, measured in results))
    return 0 if all(measured.is_passed for _, measured in results) else 1


async def _measure(goal: Goal[Any], options: argparse.Namespace) -> Measured:
    began = time.monotonic()
    try:
        return await goal.run(_size(goal, options), seed=options.seed)
    except Exception as error:  # noqa: BLE001 - whatever it is, the goal is missed and the next ones go on
        return missed(error, seconds=time.monotonic() - began)


def _size(goal: Goal[Any], options: argparse.Namespace) -> Any:
    size = goal.long if options.long else goal.short
    if options.minutes is not None and isinstance(size, soak.Size):
        return size.lasting(options.minutes)
    return size


def _line(goal: Goal[Any], measured: Measured) -> str:
    return f"{'ok    ' if measured.is_passed else 'MISSED'}  {goal.name:<20} {goal.passes}"


def _chosen(keys: Sequence[str] | None) -> list[Goal[Any]]:
    return [goal for goal in all_goals() if not keys or goal.key in keys]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description="Break everything and count what is left.")
    keys = [goal.key for goal in all_goals()]
    parser.add_argument("--long", action="store_true", help="the sizes of the table, not those of the tests")
    parser.add_argument("--only", nargs="+", choices=keys, metavar="GOAL", help=f"some of: {', '.join(keys)}")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9), help="default: any")
    parser.add_argument("--write", action="store_true", help="keep what the long form measured in docs/")
    parser.add_argument("--minutes", type=float, help="the long soak for so long, and less of a warm-up")
    options = parser.parse_args(arguments)
    if options.write and not options.long:
        parser.error("--write needs --long: only the long form stands in docs/RELIABILITY.md")
    if options.minutes is not None and (options.write or not options.long):
        parser.error("--minutes needs --long and is not kept: it goes without --write")
    return options


if __name__ == "__main__":
    sys.exit(main())
