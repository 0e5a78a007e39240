"""The commands that change something or cost something: create, execute and delete programs.

Each stores its own success, together with what it changed, and is run by the `Inbox`.
"""

from __future__ import annotations

import collections
from typing import Any

from worker.blueprints import Blueprint, field_mapping, program_fingerprint, signature_class_name
from worker.errors import InvalidRequestError, ProgramNotFoundError
from worker.execution import Limits, Runner
from worker.inbox import Inbox, Run, Standing, steadily
from worker.message import CreateArgs, ExecuteArgs, Job, read_args
from worker.programs import Program, Programs
from worker.settings import Settings
from worker.store import NewProgram, ProgramRecord, Store, StoredOutcome, StoreUnavailableError
from worker.telemetry import JOB_SECONDS, PROGRAM_RUNS, PROGRAMS_CREATED


class Commands:
    """The commands of the wire contract.

    Args:
        store: Programs and results.
        settings: Limits and defaults.
        programs: Definitions into programs.
        runner: Runs them.
        inbox: Stores successes.
    """

    def __init__(self, store: Store, settings: Settings, *, programs: Programs, runner: Runner, inbox: Inbox) -> None:
        self._store = store
        self._settings = settings
        self._programs = programs
        self._runner = runner
        self._inbox = inbox
        self._runs: collections.Counter[str] = collections.Counter()
        self.once: dict[str, Run] = {
            "create_program": self.create_program,
            "execute_program": self.execute_program,
            "delete_program": self.delete_program,
        }

    async def create_program(self, job: Job, standing: Standing) -> StoredOutcome:
        """Define a program; the same definition under the same id is a success, however often."""
        args, warnings = read_args(CreateArgs, job.args)
        blueprint = self._programs.blueprints.draw(args)
        standing.fingerprint = blueprint.fingerprint
        fingerprint = program_fingerprint(blueprint, args)
        new = NewProgram(
            program_id=args.id or f"sig-{fingerprint[:32]}",
            fingerprint=fingerprint,
            definition=blueprint.to_text(),
            replace=args.replace,
            ttl_ms=self._inbox.ttl_ms,
        )
        known = [*standing.warnings, *warnings]

        def answer(record: ProgramRecord) -> StoredOutcome:
            return self._inbox.success(job, self._created(record, blueprint, warnings=known))

        _, stored = await steadily(
            lambda: self._store.create_program(new, ticket=standing.ticket, token=standing.token, answer=answer)
        )
        PROGRAMS_CREATED.labels(blueprint.kind).inc()
        return stored

    async def execute_program(self, job: Job, standing: Standing) -> StoredOutcome:
        """Run a program, or a definition that the job brings along, on inputs."""
        args, warnings = read_args(ExecuteArgs, job.args)
        self._check_payable(job, args)
        record, program = await self._find(args, standing)
        standing.fingerprint = program.blueprint.fingerprint
        inputs, input_warnings = program.read_inputs(args.inputs)
        limits, limit_warnings = self._limits(args, program, standing)
        run = await self._runner.run(program, inputs, limits=limits, meter=standing.meter)
        self._count(record, program, seconds=run.seconds, fell_back=run.fallback_reason is not None)
        blueprint = program.blueprint
        reason = run.fallback_reason or blueprint.reason
        result = {
            "program_id": record.program_id if record else None,
            "outputs": run.outputs,
            "is_dynamic": program.is_dynamic and run.fallback_reason is None,
            "fallback_used": reason is not None,
            "fallback_reason": reason,
            "usage": standing.meter.to_json(),
            "attempts": standing.attempts_now,
            "execution_time": run.seconds,
            "signature_fingerprint": blueprint.fingerprint,
            "program_version": record.version if record else None,
            "warnings": [
                *standing.warnings,
                *warnings,
                *blueprint.warnings,
                *input_warnings,
                *limit_warnings,
                *run.warnings,
            ],
        }
        return await self._inbox.keep(job, standing, result)

    async def delete_program(self, job: Job, standing: Standing) -> StoredOutcome:
        """Delete a program; results of its jobs stay."""
        program_id = named_program(job)
        stored = self._inbox.success(job, {"program_id": program_id, "status": "deleted"})
        ticket, token, ttl_ms = standing.ticket, standing.token, self._inbox.ttl_ms
        is_deleted = await steadily(
            lambda: self._store.delete_program(program_id, ticket=ticket, token=token, outcome=stored, ttl_ms=ttl_ms)
        )
        if not is_deleted:
            raise ProgramNotFoundError(program_id)
        return stored

    async def flush_runs(self) -> None:
        """Write the run counts that gathered since the last call; a store that is down gets them the next time."""
        counts, self._runs = self._runs, collections.Counter()
        if not counts:
            return
        try:
            await self._store.add_executions(counts)
        except StoreUnavailableError:
            self._runs.update(counts)
            raise

    def _check_payable(self, job: Job, args: ExecuteArgs) -> None:
        if job.delivery.reply_to is None and job.delivery.message_id is None:
            raise InvalidRequestError("A job without reply_to needs a message_id, or nobody could see its result")
        if args.options.max_cost_usd is not None:
            raise InvalidRequestError("max_cost_usd is not enforced by this version", field="max_cost_usd")

    async def _find(self, args: ExecuteArgs, standing: Standing) -> tuple[ProgramRecord | None, Program]:
        if args.program_id is not None:
            record = standing.program
            program_id = args.program_id
            if record is None and standing.ticket is None:
                record = await steadily(lambda: self._store.get_program(program_id))
            if record is None:
                raise ProgramNotFoundError(program_id)
            return record, self._programs.load(record)
        if args.signature is None:
            raise InvalidRequestError("Program ID is required", field="program_id")
        return None, self._programs.one_off(args)

    def _limits(self, args: ExecuteArgs, program: Program, standing: Standing) -> tuple[Limits, list[str]]:
        """Apply the precedence: options, then the program, then the settings."""
        options, blueprint = args.options, program.blueprint
        config = {"cache": options.cache, **blueprint.config}
        given = {"temperature": options.temperature, "max_tokens": options.max_tokens}
        config |= {key: value for key, value in given.items() if value is not None}
        standing.meter.max_calls = options.max_lm_calls or self._settings.max_lm_calls
        warnings = []
        timeout_seconds = self._settings.job_timeout_seconds
        if options.timeout_ms is not None:
            if options.timeout_ms > timeout_seconds * 1_000:
                warnings.append(f"timeout_ms was cut to this worker's limit of {timeout_seconds * 1_000:g}")
            timeout_seconds = min(timeout_seconds, options.timeout_ms / 1_000)
        policy = options.fallback or blueprint.fallback or self._settings.fallback
        limits = Limits(
            lm=options.lm or blueprint.lm or "default",
            timeout_seconds=timeout_seconds,
            config=config,
            may_fall_back=policy == "execute",
            has_reasoning=options.include_reasoning,
        )
        return limits, warnings

    def _count(self, record: ProgramRecord | None, program: Program, *, seconds: float, fell_back: bool) -> None:
        kind = "fallback" if fell_back else program.blueprint.kind
        PROGRAM_RUNS.labels(kind).inc()
        JOB_SECONDS.labels(kind).observe(seconds)
        if record is not None:
            self._runs[record.program_id] += 1

    def _created(self, record: ProgramRecord, blueprint: Blueprint, *, warnings: list[Any]) -> dict[str, Any]:
        signature = self._programs.blueprints.normalized(blueprint)
        return {
            "program_id": record.program_id,
            "status": "created",
            "signature": blueprint.definition,
            "signature_def": blueprint.definition,
            "signature_normalized": signature.to_json() if signature else None,
            "signature_class": signature_class_name(signature) if signature else None,
            "field_mapping": field_mapping(signature),
            "signature_fingerprint": blueprint.fingerprint,
            "program_version": record.version,
            "program_type": blueprint.program_type,
            "is_dynamic": blueprint.kind == "dynamic",
            "fallback_used": blueprint.reason is not None,
            "fallback_reason": blueprint.reason,
            "warnings": [*warnings, *blueprint.warnings],
        }


def named_program(job: Job) -> str:
    """Return the ``program_id`` that a job names.

    Raises:
        InvalidRequestError: It names none.
    """
    program_id = job.args.get("program_id")
    if not isinstance(program_id, str) or not program_id:
        raise InvalidRequestError("Program ID is required", field="program_id")
    return program_id
