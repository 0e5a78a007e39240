"""The control commands that only read: they cost nothing and are answered anew on every delivery."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psutil
import structlog

from worker import __version__
from worker.blueprints import KINDS, Blueprint
from worker.commands import Commands
from worker.errors import ProgramNotFoundError, RefusedError
from worker.lm import LMs
from worker.message import (
    MAX_REPLY_BYTES,
    Job,
    ResultStatus,
    dump,
    encode_success,
    named_job,
    named_program,
    parse,
    read_number,
)
from worker.programs import Programs
from worker.signatures import LEGACY, write_schema
from worker.store import CorruptRowError, ProgramRecord, Store, StoredOutcome, describe_workers
from worker.store.calls import MAX_LISTED_PROGRAMS

# Inputs of a question are not checked: any object that is not empty is asked.
_ANY_QUESTION = {"type": "object", "minProperties": 1}

# Figures of a worker that tell a tenant nothing of the others.
_OF_TENANTS = ("programs_count", "uptime", "dspy_available", "gemini_available", "worker_id", "version")

# A page's time stamp may be written longer than that of the frame that it was measured by.
_SPARE_BYTES = 100
_MENDS_OF_SIZE = {
    "get_result": "send that job again under another message_id and ask for less",
    "get_program_info": "create the program anew with a smaller definition",
    "describe": "create the program anew with a smaller definition",
}

log = structlog.get_logger()

Question = Callable[[Job], Awaitable[dict[str, Any]]]


class Questions:
    """The control commands that only read.

    Args:
        store: Programs and results.
        programs: For the figures of its caches.
        lms: For what is configured.
        commands: For its tally; its run counts are written before they are read.
        worker_id: Named in ``ping``.
    """

    def __init__(self, store: Store, programs: Programs, *, lms: LMs, commands: Commands, worker_id: str) -> None:
        self._store = store
        self._programs = programs
        self._lms = lms
        self._commands = commands
        self._worker_id = worker_id
        self._started = time.monotonic()
        self._process = psutil.Process(os.getpid())
        self.answers: dict[str, Question] = {
            "ping": self.ping,
            "list_programs": self.list_programs,
            "get_program_info": self.get_program_info,
            "get_stats": self.get_stats,
            "get_result": self.get_result,
            "get_flags": self.get_flags,
            "describe": self.describe,
            "list_workers": self.list_workers,
            **commands.bridge.answers,
        }

    async def ping(self, job: Job) -> dict[str, Any]:
        """Say that a worker lives."""
        return {
            "status": "ok",
            "timestamp": time.time(),
            "dspy_available": True,
            "gemini_available": self._has_gemini(),
            "uptime": time.monotonic() - self._started,
            "mode": "queue-worker",
            "worker_id": self._worker_id,
            "version": __version__,
        }

    async def list_programs(self, job: Job) -> dict[str, Any]:
        """List a page of programs, the oldest first; ``total_count`` counts them all.

        The page ends where the reply is full, and has one program at least, so that whoever pages gets to the end.
        """
        limit = read_number(job, "limit", least=1, default=MAX_LISTED_PROGRAMS)
        offset = read_number(job, "offset", least=0, default=0)
        await self._commands.flush_runs()
        records = await self._store.list_programs(
            tenant=job.tenant, limit=min(limit, MAX_LISTED_PROGRAMS), offset=offset, most_characters=MAX_REPLY_BYTES
        )
        total = await self._store.count_programs(tenant=job.tenant)
        frame = encode_success(job.id, {"programs": [], "total_count": total}, now_ms=0)
        return {"programs": _page(records, room=MAX_REPLY_BYTES - len(frame) - _SPARE_BYTES), "total_count": total}

    async def get_program_info(self, job: Job) -> dict[str, Any]:
        """Describe one program."""
        program_id = named_program(job)
        await self._commands.flush_runs()
        record = await self._store.get_program(program_id, tenant=job.tenant)
        if record is None:
            raise ProgramNotFoundError(program_id)
        blueprint = Blueprint.from_text(record.definition)
        signature = self._programs.blueprints.normalized(blueprint)
        summary = _summary(record)
        del summary["id"]
        return {
            "program_id": program_id,
            **summary,
            "signature_normalized": signature.to_json() if signature else None,
            "signature_fingerprint": blueprint.fingerprint,
            "program_version": record.version,
            "program_type": blueprint.program_type,
            "is_dynamic": blueprint.kind == "dynamic",
            "fallback_used": blueprint.reason is not None,
            "fallback_reason": blueprint.reason,
            "lm": blueprint.lm,
            "config": dict(blueprint.config),
        }

    async def get_stats(self, job: Job) -> dict[str, Any]:
        """Return this worker's figures; one tenant of several gets those that tell of nobody else."""
        memory, tally = self._process.memory_info(), self._commands.tally
        kinds = await self._store.count_kinds(tenant=job.tenant)
        programs, runs = {"programs": _by_type(kinds)}, {"jobs": _by_type(tally.runs)}
        figures = {
            "programs_count": sum(kinds.values()),
            "command_count": tally.commands,
            "error_count": tally.errors,
            "uptime": time.monotonic() - self._started,
            "memory_usage": {"rss": memory.rss, "vms": memory.vms, "percent": self._process.memory_percent()},
            "dspy_available": True,
            "gemini_available": self._has_gemini(),
            "worker_id": self._worker_id,
            "version": __version__,
            "in_flight": tally.in_flight,
            "cache": self._programs.stats(),
            "lms": self._lms.models,
            "circuits": self._lms.circuits.to_json(),
            "adoption": programs | runs,
        }
        if self._commands.may_know_all(job):
            return figures
        return {name: figures[name] for name in _OF_TENANTS} | {"adoption": programs}

    async def get_result(self, job: Job) -> dict[str, Any]:
        """Return the kept reply of a job, its generation and when it was stored, with ``status`` ``done``; else how far it is.

        ``cancelled``; ``running``; ``waiting`` on the ladder or to be delivered again; ``unknown`` where the store knows
        nothing of it: it is still in its queue, was refused, is forgotten, or never was.
        """
        message_id = named_job(job)
        state = await self._store.get_state(message_id, tenant=job.tenant)
        stored = await self._store.get_result(message_id, tenant=job.tenant) if state == "done" else None
        if stored is not None:
            return _kept(message_id, "done", stored)
        is_cancelled = await self._store.find_cancelled({(job.tenant, message_id)})
        return _kept(message_id, "cancelled" if is_cancelled else _unfinished(state))

    async def get_flags(self, job: Job) -> dict[str, Any]:
        """Return the flags in force, and which of them were set: the others have this worker's start values."""
        stored = await self._store.get_flags()
        return {"flags": self._programs.blueprints.flags(stored).to_json(), "set": sorted(stored)}

    async def describe(self, job: Job) -> dict[str, Any]:
        """Return JSON Schemas of what a program takes and gives."""
        program_id = named_program(job)
        record = await self._store.get_program(program_id, tenant=job.tenant)
        if record is None:
            raise ProgramNotFoundError(program_id)
        blueprint = Blueprint.from_text(record.definition)
        signature = self._programs.blueprints.normalized(blueprint)
        return {
            "program_id": program_id,
            "inputs": write_schema(signature, dialect="full", side="inputs") if signature else _ANY_QUESTION,
            "outputs": write_schema(signature or LEGACY, dialect="full", side="outputs"),
            "signature_fingerprint": blueprint.fingerprint,
            "program_version": record.version,
            "is_dynamic": blueprint.kind == "dynamic",
        }

    async def list_workers(self, job: Job) -> dict[str, Any]:
        """Return all workers of the namespace, as their heartbeats tell.

        Raises:
            NotPermittedError: A tenant asks.
        """
        self._commands.check_list(job)
        return {"workers": describe_workers(await self._store.list_workers())}

    def _has_gemini(self) -> bool:
        return any(model.startswith(("gemini/", "vertex_ai/")) for model in self._lms.models.values())


def mend_of_size(command: str) -> str:
    """Return what to do where the answer to a question is too large to be sent."""
    return _MENDS_OF_SIZE.get(command, "shorten the request's id and what it names")


def _by_type(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return how many there are of each type, and the dynamic ones' share, null where there are none."""
    numbers: dict[str, int] = {kind: counts.get(kind, 0) for kind in KINDS}
    total = sum(numbers.values())
    return {**numbers, "dynamic_share": numbers["dynamic"] / total if total else None}


def _summary(record: ProgramRecord) -> dict[str, Any]:
    last = record.last_executed_ms
    return {
        "id": record.program_id,
        "created_at": record.created_ms / 1_000,
        "execution_count": record.executions,
        "last_executed": None if last is None else last / 1_000,
        "signature": _definition(record),
    }


def _page(records: list[ProgramRecord], *, room: int) -> list[dict[str, Any]]:
    """Return the first programs, as many as fit; one that fits into no reply is listed without its signature."""
    page: list[dict[str, Any]] = []
    for record in records:
        summary = _summary(record)
        size = len(dump(summary)) + 1
        if size > room and not page:
            log.warning("program.too_large_to_list", program_id=record.program_id, size=size)
            return [summary | {"signature": None}]
        room -= size
        if room < 0:
            break
        page.append(summary)
    return page


def _kept(message_id: str, status: ResultStatus, stored: StoredOutcome | None = None) -> dict[str, Any]:
    told = (stored.generation, stored.stored_ms, _kept_reply(stored)) if stored else (None, None, None)
    generation, stored_ms, reply = told
    return {
        "message_id": message_id,
        "status": status,
        "generation": generation,
        "stored_ms": stored_ms,
        "reply": reply,
    }


def _unfinished(state: str | None) -> ResultStatus:
    return "running" if state == "running" else "waiting" if state == "waiting" else "unknown"


def _kept_reply(stored: StoredOutcome) -> Any:
    try:
        return parse(stored.reply, max_bytes=len(stored.reply))
    except RefusedError as error:
        raise CorruptRowError("The kept reply of a job cannot be read") from error


def _definition(record: ProgramRecord) -> Any:
    """Return the definition as it was sent; null where the row is damaged, for a list shows the other programs."""
    try:
        return Blueprint.from_text(record.definition).definition
    except CorruptRowError:
        log.error("program.corrupt", program_id=record.program_id)
        return None
