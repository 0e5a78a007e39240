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
dspex_claims_total                    counter   verdict                     inbox claims: mine, stored, here, elsewhere, conflict
dspex_isolated_jobs_total             counter                               jobs run alone because they may have killed a worker
dspex_circuit_open                    gauge     lm                          1 while an LM is taken for down, else 0
dspex_consuming_paused                gauge     lane                        1 while a lane is not consumed on purpose, else 0
dspex_store_up                        gauge                                 1 while the store answers, else 0
===================================== ========= =========================== ==========================================

A test compares this table with the registry and with docs/METRICS.md.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Literal

import structlog
from prometheus_client import Counter, Gauge, Histogram

_LOGGED_FRAMES = 12
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

log = structlog.get_logger()


def log_bug(error: BaseException, *, event: str, **facts: object) -> None:
    """Log where an unexpected error came from: its type and the frames it passed, the innermost last.

    Its message stays out of the log: it may quote a payload or a statement's values, and those are not logged.

    Args:
        error: What was raised.
        event: The line's event.
        **facts: More of the line.
    """
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error(event, error=type(error).__name__, frames=frames[-_LOGGED_FRAMES:], **facts)


def configure_logging(*, level: str, style: Literal["auto", "console", "json"]) -> None:
    """Send structured logs of this process to stderr.

    Args:
        level: Least level logged: debug, info, warning or error.
        style: ``json`` writes one object a line; ``auto`` does so unless stderr is a terminal.
    """
    is_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    # Tracebacks without the values of variables: those are payloads, and payloads are not logged.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    endings: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()] if is_json else [console]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *endings,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Libraries' own chatter; what matters of it reaches us as exceptions.
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(name)s: %(message)s")
