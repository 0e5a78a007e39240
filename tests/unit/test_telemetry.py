"""What is logged of an unexpected error and of what libraries say, and what becomes of a line that nobody takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from structlog.testing import capture_logs

from worker.telemetry import LOG_LINES_LOST, LogOutput, log_bug


def quote(payload: str) -> None:
    raise ValueError(f"cannot read {payload}")


def test_a_bug_is_logged_by_type_and_place_and_never_by_its_words() -> None:
    """The message of an error may quote what a caller sent."""
    with capture_logs() as log:
        try:
            quote("a secret")
        except ValueError as error:
            log_bug(error, event="chore.failed", chore="sweep")

    [line] = log
    assert "secret" not in str(line)
    assert line["frames"][-1].endswith(" quote")

    assert (line["event"], line["error"], line["chore"]) == ("chore.failed", "ValueError", "sweep")


def lost() -> float:
    return float(LOG_LINES_LOST._value.get())


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The end to read and the end to write; the test may close the first."""
    source, target = os.pipe()
    with os.fdopen(target, "w") as stream:
        yield source, stream
    os.close(source)


def test_a_line_whose_reader_is_gone_is_counted_and_raises_nothing() -> None:
    """As with ``dspex-worker serve 2>&1 | tee`` when tee dies; nothing stays behind to fail at the exit."""
    before = lost()
    source, target = os.pipe()
    os.close(source)
    with os.fdopen(target, "w") as stream:
        LogOutput(stream).write("one\n")
        LogOutput(stream).write("two\n")

    assert lost() - before == 2


def test_a_line_that_the_disk_does_not_take_is_counted_and_raises_nothing() -> None:
    """Nor does one to a stream that is closed."""
    before = lost()
    with Path("/dev/full").open("w") as stream:
        output = LogOutput(stream)
        output.write("one\n")
    LogOutput(stream).write("two\n")

    assert lost() - before == 2


def test_a_reader_that_reads_nothing_holds_nobody_up(pipe: tuple[int, TextIO]) -> None:
    """Lines beyond what the pipe holds are lost; once it is read again, the next one is whole."""
    source, stream = pipe
    output = LogOutput(stream)
    before = lost()

    def write() -> None:
        for _ in range(200):
            output.write("x" * 999 + "\n")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(10)
    was_held_up = writer.is_alive()
    os.read(source, 1 << 20)
    output.write("next\n")

    assert (was_held_up, lost() - before > 100) == (False, True)
    assert os.read(source, 1 << 20) == b"next\n"


def test_a_line_after_one_that_was_cut_begins_anew(pipe: tuple[int, TextIO]) -> None:
    """So that what parses the log loses one line and not two."""
    source, stream = pipe
    output = LogOutput(stream)
    before = lost()
    output.write("x" * (1 << 20) + "\n")
    os.read(source, 1 << 20)
    output.write("next\n")

    assert (os.read(source, 1 << 20), lost() - before) == (b"\nnext\n", 1)


_SCRIPT = """
import asyncio, gc, logging, sys, threading, warnings
logging.getLogger("dspy").addHandler(logging.StreamHandler())
logging.getLogger("dspy").propagate = False
from worker.telemetry import configure_logging, log_uncaught
configure_logging(level="info", style="json")
log_uncaught()
warnings.simplefilter("always")
secret = "I love it"

def fail(*words):
    raise ValueError("got " + secret)

class Final:
    def __del__(self):
        fail()

async def forgotten():
    async def job():
        fail()
    task = asyncio.create_task(job())
    await asyncio.sleep(0)
    del task
    gc.collect()

async def called_back():
    asyncio.get_running_loop().call_soon(fail, secret)
    await asyncio.sleep(0)

logging.getLogger("pool").error("row (%s)\\nDETAIL: I love it", "id")
logging.getLogger("pool").error("reset", exc_info=ValueError(secret))
logging.getLogger("pool").error("%d", secret)  # cannot be formatted: lost, where logging would print its arguments
logging.getLogger("pool").warning("not what matters")
logging.getLogger("dspy.predict").error("mismatch")
asyncio.run(forgotten())
asyncio.run(called_back())
warnings.warn("old", DeprecationWarning)
warnings.warn("got " + secret)
for target in (sys.exit, fail):  # the first ends its thread on purpose
    thread = threading.Thread(target=target, name="t")
    thread.start()
    thread.join()
Final()
fail()
"""


def test_whatever_is_told_is_one_line_of_json_without_values() -> None:
    """Libraries, tasks, warnings, threads: the same shape as a worker's own lines; of errors, type and place."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]
    told = [(line.get("logger"), line["event"], line.get("error"), line.get("category")) for line in lines]

    assert "I love it" not in done.stderr
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)
    assert all("frames" in line for line in lines if "error" in line)
    assert [line["reason"] for line in lines if "reason" in line] == ["old"]
    assert done.returncode == 1

    assert told == [
        ("pool", "row (id)", None, None),
        ("pool", "reset", "ValueError", None),
        ("dspy.predict", "mismatch", None, None),
        ("asyncio", "Task exception was never retrieved", "ValueError", None),
        ("asyncio", "Exception in callback fail", "ValueError", None),
        (None, "python.warning", None, "DeprecationWarning"),
        (None, "python.warning", None, "UserWarning"),
        (None, "thread.crashed", "ValueError", None),
        (None, "finalizer.failed", "ValueError", None),
        (None, "worker.crashed", "ValueError", None),
    ]


_LINE = """
import structlog
from worker.telemetry import configure_logging
configure_logging(level="info", style="console")
structlog.get_logger().info("worker.ready")
"""


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "expected"), [(False, "", False), (True, "", True), (True, "1", False)]
)
def test_the_console_log_has_colours_on_a_terminal_only(is_terminal: bool, no_color: str, expected: bool) -> None:
    """Not in a file, and not where NO_COLOR is set."""
    source, target = os.openpty() if is_terminal else os.pipe()
    environment = os.environ | {"NO_COLOR": no_color}
    subprocess.run([sys.executable, "-c", _LINE], stderr=target, env=environment, check=True)
    shown = os.read(source, 4096).decode()
    os.close(source)
    os.close(target)

    assert "worker.ready" in shown
    assert ("\x1b[" in shown) is expected
