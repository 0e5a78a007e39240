"""Metrics and logs.

===================================== ========= =========================== ==========================================
Metric                                Kind      Labels                      Meaning
===================================== ========= =========================== ==========================================
dspex_deliveries_total                counter   lane                        messages taken from a work queue
dspex_jobs_in_flight                  gauge     lane                        jobs being handled now
dspex_jobs_total                      counter   command, code               jobs ended; ``code`` is ``ok`` or the error's
dspex_job_seconds                     histogram type                        duration of a run, LM calls included
dspex_settlements_total               counter   settlement                  what became of the messages
dspex_replies_undeliverable_total     counter                               replies whose queue was gone
dspex_dead_letters_refused_total      counter                               dead letters the broker did not take
dspex_publish_retries_total           counter                               publishes repeated after a lost confirm
dspex_lm_calls_total                  counter   lm, result                  LM calls; ``result`` is ``ok``, the error's code, or ``probe_…``
dspex_lm_seconds                      histogram lm                          time of one LM call
dspex_lm_tokens_total                 counter   lm, kind                    tokens; ``kind`` is prompt or completion
dspex_repairs_total                   counter   lm                          invalid answers that were asked for again
dspex_programs_created_total          counter   type                        programs made: dynamic, legacy, fallback
dspex_program_runs_total              counter   type, result                runs by program type; ``result`` is ok or error
dspex_cache_total                     counter   cache, result               look-ups: signature or program, hit or miss
dspex_claims_total                    counter   verdict                     inbox claims: mine, stored, here, elsewhere, conflict, ahead
dspex_isolated_jobs_total             counter                               jobs run alone because they may have killed a worker
dspex_circuit_open                    gauge     lm                          1 while an LM is taken for down, else 0
dspex_consuming_paused                gauge     lane                        1 while a lane is not consumed on purpose, else 0
dspex_store_up                        gauge                                 1 while the store answers, else 0
dspex_log_lines_lost_total            counter                               log lines that stderr did not take
dspex_build_info                      gauge     version                     always 1; the label is the package's version
===================================== ========= =========================== ==========================================

A test compares this table with the registry and with docs/METRICS.md.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import Literal, TextIO

import structlog
from prometheus_client import Counter, Gauge, Histogram

_LOGGED_FRAMES = 12
# What a pipe takes at once where poll says that it takes something.
_CHUNK_BYTES = getattr(select, "PIPE_BUF", 4096)
_PATIENCE_MS = 100
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

DELIVERIES = Counter("dspex_deliveries_total", "Messages taken from a work queue", ["lane"])
JOBS_IN_FLIGHT = Gauge("dspex_jobs_in_flight", "Jobs being handled now", ["lane"])
JOBS = Counter("dspex_jobs_total", "Jobs ended, by command and code", ["command", "code"])
JOB_SECONDS = Histogram("dspex_job_seconds", "Duration of a run, LM calls included", ["type"], buckets=_SECONDS)
SETTLEMENTS = Counter("dspex_settlements_total", "What became of the messages", ["settlement"])
REPLIES_UNDELIVERABLE = Counter("dspex_replies_undeliverable_total", "Replies whose queue was gone")
DEAD_LETTERS_REFUSED = Counter("dspex_dead_letters_refused_total", "Dead letters the broker did not take")
PUBLISH_RETRIES = Counter("dspex_publish_retries_total", "Publishes repeated after a lost confirm")
LM_CALLS = Counter("dspex_lm_calls_total", "LM calls", ["lm", "result"])
LM_SECONDS = Histogram("dspex_lm_seconds", "Time of one LM call", ["lm"], buckets=_SECONDS)
LM_TOKENS = Counter("dspex_lm_tokens_total", "Tokens of LM calls", ["lm", "kind"])
REPAIRS = Counter("dspex_repairs_total", "Invalid answers that were asked for again", ["lm"])
PROGRAMS_CREATED = Counter("dspex_programs_created_total", "Programs made", ["type"])
PROGRAM_RUNS = Counter("dspex_program_runs_total", "Runs by program type", ["type", "result"])
CACHE = Counter("dspex_cache_total", "Cache look-ups", ["cache", "result"])
CLAIMS = Counter("dspex_claims_total", "Inbox claims", ["verdict"])
ISOLATED = Counter("dspex_isolated_jobs_total", "Jobs run alone because they may have killed a worker")
CIRCUIT_OPEN = Gauge("dspex_circuit_open", "1 while an LM is taken for down, else 0", ["lm"])
CONSUMING_PAUSED = Gauge("dspex_consuming_paused", "1 while a lane is not consumed on purpose, else 0", ["lane"])
STORE_UP = Gauge("dspex_store_up", "1 while the store answers, else 0")
LOG_LINES_LOST = Counter("dspex_log_lines_lost_total", "Log lines that stderr did not take")
BUILD_INFO = Gauge("dspex_build_info", "Always 1; the label is the package's version", ["version"])

log = structlog.get_logger()


class LogOutput:
    """Where the log goes. A line that it does not take is counted and forgotten: no job may depend on its log.

    It writes to the file itself, for what a buffer cannot get rid of would be tried again at the exit, and change its
    code. Nor does it wait for a reader that is there and reads nothing, but once, and shortly.

    Args:
        stream: Usually stderr.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor = _descriptor(stream)
        # A finalizer may log while its thread writes.
        self._lock = threading.RLock()
        self._is_cut = False
        self._is_stuck = False

    def write(self, line: str) -> None:
        """Write a line, with its line break."""
        with self._lock:
            try:
                if self._descriptor is None:
                    self._stream.write(line)
                    self._stream.flush()
                else:
                    self._write(self._descriptor, line.encode(errors="backslashreplace"))
            except (OSError, ValueError):
                LOG_LINES_LOST.inc()

    def flush(self) -> None:
        """Do nothing: no line waits here."""

    def _write(self, descriptor: int, data: bytes) -> None:
        # The line before ended in its middle, on a disk that was full; this one is whole again.
        rest = memoryview(b"\n" + data if self._is_cut else data)
        while rest:
            self._wait(descriptor)
            rest = rest[os.write(descriptor, rest[:_CHUNK_BYTES]) :]
            self._is_cut = bool(rest)

    def _wait(self, descriptor: int) -> None:
        """Wait shortly for a reader that does not read, and until it does so again not at all.

        Raises:
            BlockingIOError: A write would wait.
        """
        if not hasattr(select, "poll"):  # Windows
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        self._is_stuck = not poll.poll(0 if self._is_stuck else _PATIENCE_MS)
        if self._is_stuck:
            raise BlockingIOError


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # one in memory has none
        return None


class _Handler(logging.StreamHandler[LogOutput]):
    """Writes the records of libraries; one that cannot be formatted is lost, and not told to stderr as text."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        LOG_LINES_LOST.inc()


def log_bug(error: BaseException, *, event: str, **facts: object) -> None:
    """Log where an unexpected error came from: its type and the frames it passed, the innermost last.

    Its message stays out of the log: it may quote a payload or a statement's values, and those are not logged.

    Args:
        error: What was raised.
        event: The line's event.
        **facts: More of the line.
    """
    log.error(event, **_place(error), **facts)


def _place(error: BaseException) -> dict[str, object]:
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    return {"error": type(error).__name__, "frames": frames[-_LOGGED_FRAMES:]}


def configure_logging(*, level: str, style: Literal["auto", "console", "json"]) -> None:
    """Send structured logs of this process to stderr, those of its libraries and Python's warnings too.

    Libraries are heard from ``error`` on, what matters of the rest reaches us as exceptions; the handlers of those that
    are imported by now are taken away. No line raises, and none holds the caller up: see `LogOutput`.

    Args:
        level: Least level logged: debug, info, warning or error.
        style: ``json`` writes one object a line; ``auto`` does so unless stderr is a terminal.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    output = LogOutput(sys.stderr)
    is_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer(colors=_has_colors())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_words,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(output),  # type: ignore[arg-type]
    )
    handler = _Handler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    _forget_handlers_of_libraries()
    logging.basicConfig(level=max(least, logging.ERROR), handlers=[handler])
    warnings.showwarning = _log_warning  # type: ignore[assignment]


def _has_colors() -> bool:
    """Tell whether stderr shows colours: a terminal does, unless its user has set ``NO_COLOR``; a file never does."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def log_uncaught() -> None:
    """Log what nothing catches as other errors are logged: in the main thread, in others, and in finalizers."""

    def in_main(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        log_bug(error, event="worker.crashed")

    def in_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None and not isinstance(told.exc_value, SystemExit):
            log_bug(told.exc_value, event="thread.crashed", thread=told.thread.name if told.thread else None)

    def in_finalizer(told: sys.UnraisableHookArgs) -> None:
        if told.exc_value is not None:
            log_bug(told.exc_value, event="finalizer.failed")

    sys.excepthook = in_main
    threading.excepthook = in_thread
    sys.unraisablehook = in_finalizer


def _without_words(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Put type and place of an error into its line, as `log_bug` does, instead of a traceback that ends in its words."""
    error = line.pop("exc_info", None)
    error = error[1] if isinstance(error, tuple) else sys.exc_info()[1] if error is True else error
    if isinstance(error, BaseException):
        line.update(_place(error))
    return line


def _first_line(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Keep of a library's text what it is about.

    More lines quote: asyncio, tasks with their results and errors, and its first line a callback's arguments; drivers,
    the values of a row.
    """
    first = str(line["event"]).partition("\n")[0]
    if line.get("logger") == "asyncio":
        first = first.partition("(")[0].partition("<")[0].strip()
    line["event"] = first
    return line


def _forget_handlers_of_libraries() -> None:
    """Make all records come to the root: DSPy for one would write its own as text, and from ``info`` on."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.handlers:
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.NOTSET)


def _log_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    """Log a warning. The words of Python's own tell of code; those of a library may quote a value."""
    is_pythons = category.__module__ == "builtins" and category is not UserWarning
    words = {"reason": str(message)} if is_pythons else {}
    log.warning("python.warning", category=category.__name__, place=f"{filename}:{lineno}", **words)
