"""The commands that change something or cost something: create, execute and delete programs.

Each stores its own success, together with what it changed, and is run by the `Inbox`.
"""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Iterator
from typing import Any

from worker.aliases import wanted_alias
from worker.blueprints import Blueprint, Kind, field_mapping, program_fingerprint, signature_class_name
from worker.bridge import Bridge
from worker.callers import IsGone, check_answerable, check_caller, nobody_knows
from worker.controls import Controls, check_list, is_operator
from worker.errors import (
    InvalidRequestError,
    InvalidSignatureError,
    OutputInvalidError,
    ProgramNotFoundError,
    RunError,
)
from worker.execution import Limits, Result, Runner
from worker.inbox import Inbox, Run
from worker.message import CreateArgs, ExecuteArgs, Job, named_program, read_args
from worker.programs import Program, Programs
from worker.settings import Settings
from worker.standing import Standing
from worker.store import NewProgram, ProgramRecord, Store, StoredOutcome, briefly, steadily
from worker.tally import Tally
from worker.telemetry import JOB_SECONDS, PROGRAM_RUNS, PROGRAMS_CREATED


class Commands:
    """The commands of the wire contract.

    Args:
        store: Programs and results.
        settings: Limits and defaults.
        programs: Definitions into programs.
        runner: Runs them.
        inbox: Stores successes.
        callers: Tells who has gone, before the LM is paid for.

    Attributes:
        once: Command → what runs it, `Controls` included.
        tally: What this worker has done.
        bridge: Answers what only DSPex's own bridge had work to do for.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        programs: Programs,
        runner: Runner,
        inbox: Inbox,
        callers: IsGone = nobody_knows,
    ) -> None:
        self._store = store
        self._settings = settings
        self._programs = programs
        self._runner = runner
        self._inbox = inbox
        self._is_gone = callers
        self._runs: collections.Counter[tuple[str, str]] = collections.Counter()
        self.tally = Tally()
        self.bridge = Bridge(settings)
        self.once: dict[str, Run] = {
            "create_program": self.create_program,
            "execute_program": self.execute_program,
            "create_gemini_program": self.create_gemini_program,
            "execute_gemini_program": self.execute_gemini_program,
            "delete_program": self.delete_program,
            **Controls(store, settings, inbox=inbox, tally=self.tally).once,
        }

    async def create_program(self, job: Job, standing: Standing) -> StoredOutcome:
        """Define a program; the same definition under the same id is a success, however often."""
        return await self._create(job, standing, is_gemini=False)

    async def create_gemini_program(self, job: Job, standing: Standing) -> StoredOutcome:
        """Define a program as DSPex's bridge did for Gemini; the LM is that of the alias, here as everywhere."""
        return await self._create(job, standing, is_gemini=True)

    async def _create(self, job: Job, standing: Standing, *, is_gemini: bool) -> StoredOutcome:
        args, warnings = read_args(CreateArgs, job.args)
        blueprints = self._programs.blueprints
        blueprint = blueprints.draw(args, flags=standing.flags)
        # Refuses what the flags forbid before anything is stored.
        blueprints.in_force(blueprint, flags=standing.flags)
        standing.fingerprint = blueprint.fingerprint
        fingerprint = program_fingerprint(blueprint, args)
        new = NewProgram(
            program_id=args.id or f"sig-{fingerprint[:32]}",
            fingerprint=fingerprint,
            definition=blueprint.to_text(),
            kind=blueprint.kind,
            replace=args.replace,
            tenant=job.tenant,
            ttl_ms=self._inbox.ttl_ms,
        )
        known = [*standing.warnings, *warnings]

        def answer(record: ProgramRecord) -> StoredOutcome:
            # What is stored counts: the same definition may have been decided otherwise before.
            stored_blueprint = blueprints.in_force(Blueprint.from_text(record.definition), flags=standing.flags)
            created = self._created(record, stored_blueprint, warnings=known)
            result = created | (self._gemini(blueprint.lm) if is_gemini else {})
            return self._inbox.success(job, result, refusal=_too_large_to_create)

        record, stored = await steadily(
            lambda: self._store.create_program(new, ticket=standing.ticket, token=standing.token, answer=answer)
        )
        if record.is_new:
            PROGRAMS_CREATED.labels(blueprint.kind).inc()
        return stored

    async def execute_program(self, job: Job, standing: Standing) -> StoredOutcome:
        """Run a program, or a definition that the job brings along, on inputs."""
        return await self._execute(job, standing, is_gemini=False)

    async def execute_gemini_program(self, job: Job, standing: Standing) -> StoredOutcome:
        """Run a program as DSPex's bridge did for Gemini; the provider's own response is not passed on."""
        return await self._execute(job, standing, is_gemini=True)

    async def _execute(self, job: Job, standing: Standing, *, is_gemini: bool) -> StoredOutcome:
        args, warnings = read_args(ExecuteArgs, job.args)
        check_answerable(job)
        record, program = await self._find(args, standing)
        standing.fingerprint = program.blueprint.fingerprint
        if record is not None and args.signature is not None:
            warnings.append("The signature was ignored: the job names a program")
        inputs, input_warnings = program.read_inputs(args.inputs)
        limits, limit_warnings = self._limits(args, program, standing)
        await check_caller(job, choice=self._settings.when_caller_gone, is_gone=self._is_gone)
        known = [*standing.warnings, *warnings, *program.blueprint.warnings, *input_warnings, *limit_warnings]
        with self._inbox.stoppable(standing):
            await self._runner.admit(limits, meter=standing.meter)
            with self._counting_failures(program):
                run = await self._runner.run(program, inputs, limits=limits, meter=standing.meter)
                result = _executed(record, program, run=run, standing=standing, warnings=known)
                result |= self._gemini(limits.lm) if is_gemini else {}
                success = self._inbox.success(job, result, refusal=_too_large_to_send)
        kind: Kind = program.blueprint.kind if run.fallback_reason is None else "fallback"
        self._count(kind, result="ok", seconds=run.seconds)
        if record is not None:
            self._runs[job.tenant, record.program_id] += 1
        return await self._inbox.keep(standing, success)

    async def delete_program(self, job: Job, standing: Standing) -> StoredOutcome:
        """Delete a program; results of its jobs stay."""
        program_id = named_program(job)
        outcome = self._inbox.success(job, {"program_id": program_id, "status": "deleted"})
        holding = self._inbox.holding(standing)
        return await steadily(lambda: self._store.delete_program(program_id, holding=holding, outcome=outcome))

    def may_know_all(self, job: Job) -> bool:
        """Tell whether what concerns all tenants may be told to whoever sent the job."""
        return is_operator(job, self._settings)

    def check_list(self, job: Job) -> None:
        """Refuse to tell a tenant about the workers of all.

        Raises:
            NotPermittedError: A tenant asks.
        """
        check_list(job, self._settings)

    async def flush_runs(self) -> None:
        """Write the run counts that gathered since the last call; a store that is down gets them the next time."""
        counts, self._runs = self._runs, collections.Counter()
        if not counts:
            return
        try:
            await self._store.add_executions(counts)
        except BaseException:
            # A cancelled write may have been made: a run that is counted twice is better than one that is not.
            self._runs.update(counts)
            raise

    async def _find(self, args: ExecuteArgs, standing: Standing) -> tuple[ProgramRecord | None, Program]:
        if args.program_id:
            record = standing.program
            program_id = args.program_id
            if record is None and standing.ticket is None:
                hold_seconds = self._settings.store_hold_seconds
                record = await briefly(
                    lambda: self._store.get_program(program_id, tenant=standing.tenant), hold_seconds=hold_seconds
                )
            if record is None:
                raise ProgramNotFoundError(program_id)
            standing.program = record
            return record, self._programs.load(record, flags=standing.flags, policy=args.options.fallback)
        if args.signature is None:
            raise InvalidRequestError("Program ID is required", field="program_id")
        return None, self._programs.one_off(args, flags=standing.flags)

    def _limits(self, args: ExecuteArgs, program: Program, standing: Standing) -> tuple[Limits, list[str]]:
        """Apply the precedence: options, then the program, then the settings."""
        options, blueprint = args.options, program.blueprint
        config = {"cache": options.cache, **blueprint.config}
        given = {"temperature": options.temperature, "max_tokens": options.max_tokens}
        config |= {key: value for key, value in given.items() if value is not None}
        standing.meter.max_calls = options.max_lm_calls or self._settings.max_lm_calls
        standing.meter.max_cost_usd = options.max_cost_usd
        warnings = []
        timeout_seconds = self._settings.job_timeout_seconds
        if options.timeout_ms is not None:
            if options.timeout_ms > timeout_seconds * 1_000:
                warnings.append(f"timeout_ms was cut to this worker's limit of {timeout_seconds * 1_000:g}")
            timeout_seconds = min(timeout_seconds, options.timeout_ms / 1_000)
        policy = options.fallback or blueprint.fallback or self._settings.fallback
        standing.lm, pointer = wanted_alias(args, own=blueprint.lm)
        limits = Limits(
            lm=standing.lm,
            timeout_seconds=timeout_seconds,
            config=config,
            may_fall_back=policy == "execute",
            has_reasoning=options.include_reasoning,
            lm_pointer=pointer,
        )
        return limits, warnings

    @contextlib.contextmanager
    def _counting_failures(self, program: Program) -> Iterator[None]:
        """Count a run that fails by its type as well: a rollout is watched by them."""
        began = time.perf_counter()
        try:
            yield
        except RunError:
            self._count(program.blueprint.kind, result="error", seconds=time.perf_counter() - began)
            raise

    def _count(self, kind: Kind, *, result: str, seconds: float) -> None:
        PROGRAM_RUNS.labels(kind, result).inc()
        JOB_SECONDS.labels(kind).observe(seconds)
        self.tally.runs[kind] += 1

    def _gemini(self, alias: str | None) -> dict[str, Any]:
        """Return what DSPex reads of a Gemini program besides; the model is whatever the alias names."""
        profile = self._settings.profiles.get(alias or "default")
        return {"type": "gemini", "model_name": profile.model if profile else None, "raw_response": None}

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


def _too_large_to_create(problem: str) -> InvalidSignatureError:
    return InvalidSignatureError(f"{problem}; it repeats the definition three times: shorten that, or its metadata")


def _too_large_to_send(problem: str) -> OutputInvalidError:
    return OutputInvalidError(f"{problem}; ask for less in one job")


def _executed(
    record: ProgramRecord | None, program: Program, *, run: Result, standing: Standing, warnings: list[Any]
) -> dict[str, Any]:
    """Return the result of a run as the reply spells it."""
    blueprint = program.blueprint
    reason = run.fallback_reason or blueprint.reason
    return {
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
        "warnings": [*warnings, *run.warnings],
    }
