"""The control commands that only read: they cost nothing and are answered anew on every delivery."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psutil

from worker.blueprints import KINDS, Blueprint
from worker.commands import Commands, named_program
from worker.controls import named_job
from worker.errors import ProgramNotFoundError
from worker.lm import LMs
from worker.message import Job, parse
from worker.programs import Programs
from worker.signatures import LEGACY, write_schema
from worker.store import ProgramRecord, Store

# Inputs of a question are not checked: any object that is not empty is asked.
_ANY_QUESTION = {"type": "object", "minProperties": 1}

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
        }

    async def list_programs(self, job: Job) -> dict[str, Any]:
        """List all programs, oldest first."""
        await self._commands.flush_runs()
        programs = [_summary(record) for record in await self._store.list_programs()]
        return {"programs": programs, "total_count": len(programs)}

    async def get_program_info(self, job: Job) -> dict[str, Any]:
        """Describe one program."""
        program_id = named_program(job)
        await self._commands.flush_runs()
        record = await self._store.get_program(program_id)
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
        """Return this worker's figures."""
        memory, tally = self._process.memory_info(), self._commands.tally
        kinds = await self._store.count_kinds()
        return {
            "programs_count": sum(kinds.values()),
            "command_count": tally.commands,
            "error_count": tally.errors,
            "uptime": time.monotonic() - self._started,
            "memory_usage": {"rss": memory.rss, "vms": memory.vms, "percent": self._process.memory_percent()},
            "dspy_available": True,
            "gemini_available": self._has_gemini(),
            "worker_id": self._worker_id,
            "in_flight": tally.in_flight,
            "cache": self._programs.stats(),
            "lms": self._lms.models,
            "adoption": {"programs": _by_type(kinds), "jobs": _by_type(tally.runs)},
        }

    async def get_result(self, job: Job) -> dict[str, Any]:
        """Return the kept reply of a job; ``status`` is ``done``, or ``unknown`` where none is kept."""
        message_id = named_job(job)
        stored = await self._store.get_result(message_id)
        if stored is None:
            return {"message_id": message_id, "status": "unknown", "reply": None}
        reply = parse(stored.reply, max_bytes=len(stored.reply))
        return {"message_id": message_id, "status": "done", "reply": reply}

    async def get_flags(self, job: Job) -> dict[str, Any]:
        """Return the flags in force, and which of them were set: the others have this worker's start values."""
        stored = await self._store.get_flags()
        return {"flags": self._programs.blueprints.flags(stored).to_json(), "set": sorted(stored)}

    async def describe(self, job: Job) -> dict[str, Any]:
        """Return JSON Schemas of what a program takes and gives."""
        program_id = named_program(job)
        record = await self._store.get_program(program_id)
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

    def _has_gemini(self) -> bool:
        return any(model.startswith(("gemini/", "vertex_ai/")) for model in self._lms.models.values())


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
        "signature": Blueprint.from_text(record.definition).definition,
    }
