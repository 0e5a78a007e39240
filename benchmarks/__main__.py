"""``python -m benchmarks``: measure, and print the figures of docs/PERFORMANCE.md. ``make bench`` starts a broker for it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.errors import MeasurementError
from benchmarks.figures import Figure
from benchmarks.measurements import MEASUREMENTS
from benchmarks.progress import Progress
from benchmarks.report import describe_machine, print_report, write_json
from benchmarks.stage import Stage, staged

EXIT_INTERRUPTED = 130


def main() -> int:
    """Parse the command line, measure, print; return the exit code: 1 where a measurement failed."""
    options = _parse(sys.argv[1:])
    url = os.environ.get("DSPEX_AMQP_URL")
    if url is None:
        print("DSPEX_AMQP_URL is not set; `make bench` starts a broker and sets it.", file=sys.stderr)
        return 1
    try:
        return uvloop.run(_run(url, options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED


async def _run(url: str, options: argparse.Namespace) -> int:
    _stop_on_sigterm()
    progress = Progress()
    machine = await describe_machine(url)
    figures: list[Figure] = []
    failures = 0
    async with staged(url, progress) as stage:
        stage.is_full = options.full
        stage.earlier = options.against
        await stage.prepare_programs()
        for name in options.only or MEASUREMENTS:
            measured = await _measure(stage, name)
            figures += measured
            failures += not measured
    print_report(figures, machine)
    if options.json is not None:
        write_json(options.json, figures, machine)
    return 1 if failures else 0


async def _measure(stage: Stage, name: str) -> list[Figure]:
    """Return the figures of a measurement, none if it failed."""
    stage.progress.say(f"  {name} …")
    began = time.perf_counter()
    try:
        figures = await MEASUREMENTS[name](stage)
    except (MeasurementError, TimeoutError) as error:
        stage.progress.say(f"  {name} failed: {str(error) or 'no answer in time'}")
        await stage.load.purge()
        return []
    stage.progress.say(f"  {name}: {time.perf_counter() - began:.0f} s")
    return figures


def _stop_on_sigterm() -> None:
    """Have SIGTERM tidy up as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure what a job costs.")
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS), help="measure this; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    parser.add_argument("--full", action="store_true", help="memory over 100,000 jobs and 5,000 signatures (~10 min)")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of an earlier version, for `safety`")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
