"""The control commands that only read: they cost nothing and are answered anew on every delivery."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psutil

from worker.blueprints import Blueprint
from worker.commands import Commands, named_program
from worker.errors import InvalidRequestError, ProgramNotFoundError
from worker.lm import LMs
from worker.message import Job, parse
from worker.programs import Programs
from worker.store import ProgramRecord, Store

Question = Callable[[Job], Awaitable[dict[str, Any]]]


class Questions:
    """The control commands that only read.

    Args:
        store: Programs and results.
        programs: For the figures of its caches.
        lms: For what is configured.
        commands: Its run counts are written before they are read.
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
        self.command_count = 0
        self.error_count = 0
        self.in_flight = 0
        self.answers: dict[str, Question] = {
            "ping": self.ping,
            "list_programs": self.list_programs,
            "get_program_info": self.get_program_info,
            "get_stats": self.get_stats,
            "get_result": self.get_result,
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
        memory = self._process.memory_info()
        return {
            "programs_count": await self._store.count_programs(),
            "command_count": self.command_count,
            "error_count": self.error_count,
            "uptime": time.monotonic() - self._started,
            "memory_usage": {"rss": memory.rss, "vms": memory.vms, "percent": self._process.memory_percent()},
            "dspy_available": True,
            "gemini_available": self._has_gemini(),
            "worker_id": self._worker_id,
            "in_flight": self.in_flight,
            "cache": self._programs.stats(),
            "lms": self._lms.models,
        }

    async def get_result(self, job: Job) -> dict[str, Any]:
        """Return the kept reply of a job; ``status`` is ``done``, or ``unknown`` where none is kept."""
        message_id = job.args.get("message_id")
        if not isinstance(message_id, str) or not message_id:
            raise InvalidRequestError("message_id is required", field="message_id")
        stored = await self._store.get_result(message_id)
        if stored is None:
            return {"message_id": message_id, "status": "unknown", "reply": None}
        reply = parse(stored.reply, max_bytes=len(stored.reply))
        return {"message_id": message_id, "status": "done", "reply": reply}

    def _has_gemini(self) -> bool:
        return any(model.startswith(("gemini/", "vertex_ai/")) for model in self._lms.models.values())


def _summary(record: ProgramRecord) -> dict[str, Any]:
    last = record.last_executed_ms
    return {
        "id": record.program_id,
        "created_at": record.created_ms / 1_000,
        "execution_count": record.executions,
        "last_executed": None if last is None else last / 1_000,
        "signature": Blueprint.from_text(record.definition).definition,
    }
