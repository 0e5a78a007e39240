"""Tell whether a worker would refuse a job today, without running anything.

For a replay: a dead letter that would fail again at once is better found before it moves. Programs and flags are read
from the store itself; asking the workers would need one of them alive, and tells an operator nothing of a tenant's.

See Also:
    docs/RELIABILITY.md, "Replay of dead letters".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from worker.asyncapi.commands import COMMANDS
from worker.blueprints import Blueprint, Blueprints, program_fingerprint
from worker.bridge import Bridge
from worker.controls import check_reset, read_order
from worker.errors import (
    InternalError,
    InvalidInputsError,
    InvalidRequestError,
    NotPermittedError,
    Problem,
    ProgramExistsError,
    ProgramNotFoundError,
    UnknownCommandError,
)
from worker.flags import Flags
from worker.message import (
    CreateArgs,
    Delivery,
    ExecuteArgs,
    Job,
    check_properties,
    check_reply_to,
    decode,
    named_job,
    named_program,
    parse,
    read_args,
    read_number,
)
from worker.settings import Settings
from worker.signatures import check_inputs
from worker.store import CorruptRowError, ProgramRecord

_KNOWN = frozenset(command.name for command in COMMANDS)


class Shelf(Protocol):
    """Where programs and flags are read."""

    async def get_program(self, program_id: str, *, tenant: str = "") -> ProgramRecord | None:
        """Return a program, or None."""

    async def get_flags(self) -> dict[str, str]:
        """Return name → value of the flags that were set."""


class Vetting:
    """Looks at many jobs against the definitions of one moment: each program is read once.

    Args:
        settings: Of the workers: limits, reply queues, tenancy, start values of flags.
        shelf: Programs and flags; None where no store can be read, so that nothing is compared with a program.
    """

    def __init__(self, settings: Settings, *, shelf: Shelf | None) -> None:
        self._settings = settings
        self._shelf = shelf
        self._blueprints = Blueprints(settings)
        self._bridge = Bridge(settings)
        self._flags: Flags | None = None
        self._records: dict[tuple[str, str], ProgramRecord | None] = {}
        # Revision → what it holds.
        self._drawn: dict[str, Blueprint] = {}
        self._looks: dict[str, Callable[[Job], Awaitable[bool]]] = {
            "create_program": self._check_create,
            "create_gemini_program": self._check_create,
            "execute_program": self._check_execute,
            "execute_gemini_program": self._check_execute,
            "delete_program": self._check_named,
            "get_program_info": self._check_named,
            "describe": self._check_named,
        }

    async def check(self, delivery: Delivery) -> bool:
        """Check one job as its worker would before it calls an LM.

        Returns:
            Whether it was compared with its program too; false where it names one and there is no store to read.

        Raises:
            WorkerError: The job would be refused, and this is the reply's error.
            StoreUnavailableError: Programs and flags cannot be read.
        """
        job = self._read(delivery)
        look = self._looks.get(job.command)
        if look is not None:
            return await look(job)
        await self._check_control(job)
        return True

    def _read(self, delivery: Delivery) -> Job:
        settings = self._settings
        tenant = (delivery.user_id or "") if settings.tenancy == "user_id" else None
        check_reply_to(
            delivery.reply_to,
            namespace=settings.namespace,
            pattern=settings.effective_reply_to_pattern,
            tenant=tenant,
        )
        document = parse(delivery.body, max_bytes=settings.max_body_bytes)
        check_properties(delivery)
        if tenant == "":
            raise NotPermittedError("This deployment needs the user_id property, and the job has none")
        job = decode(document, delivery, tenant=tenant or "")
        if job.command not in _KNOWN:
            raise UnknownCommandError(job.command[:64])
        return job

    async def _check_control(self, job: Job) -> None:
        """Read the arguments of a command that has nothing to do with one program."""
        match job.command:
            case "cancel" | "get_result":
                named_job(job)
            case "list_programs":
                read_number(job, "limit", least=1, default=1)
                read_number(job, "offset", least=0, default=0)
            case "set_flag":
                read_order(job, self._settings)
            case "cleanup" | "reset_state":
                check_reset(self._settings)
            case command if command in self._bridge.answers:
                await self._bridge.answers[command](job)

    async def _check_create(self, job: Job) -> bool:
        args, _ = read_args(CreateArgs, job.args)
        flags = await self._read_flags()
        blueprint = self._blueprints.draw(args, flags=flags)
        self._blueprints.in_force(blueprint, flags=flags)
        if args.replace:
            return True
        fingerprint = program_fingerprint(blueprint, args)
        program_id = args.id or f"sig-{fingerprint[:32]}"
        record = await self._find(program_id, tenant=job.tenant)
        if record is not None and record.fingerprint != fingerprint:
            raise ProgramExistsError(program_id)
        return self._shelf is not None

    async def _check_named(self, job: Job) -> bool:
        program_id = named_program(job)
        if self._shelf is None:
            return False
        await self._get(program_id, tenant=job.tenant)
        return True

    async def _check_execute(self, job: Job) -> bool:
        args, _ = read_args(ExecuteArgs, job.args)
        if job.delivery.reply_to is None and job.delivery.message_id is None:
            raise InvalidRequestError("A job without reply_to needs a message_id, or nobody could see its result")
        if args.program_id and self._shelf is None:
            return False
        blueprint = await self._blueprint(args, tenant=job.tenant)
        policy = args.options.fallback or (None if args.program_id else self._blueprints.policy(args))
        blueprint = self._blueprints.in_force(blueprint, flags=await self._read_flags(), policy=policy)
        self._check_inputs(blueprint, args.inputs)
        return True

    def _check_inputs(self, blueprint: Blueprint, inputs: object) -> None:
        if not isinstance(inputs, dict):
            raise InvalidInputsError(
                "Field inputs: must be an object", field="inputs", problems=[Problem("/inputs", "must be an object")]
            )
        signature = self._blueprints.normalized(blueprint)
        if signature is not None:
            check_inputs(signature, inputs)
        elif not inputs:
            raise InvalidInputsError("Missing required field: question", field="question")

    async def _blueprint(self, args: ExecuteArgs, *, tenant: str) -> Blueprint:
        if not args.program_id:
            if args.signature is None:
                raise InvalidRequestError("Program ID is required", field="program_id")
            return self._blueprints.draw(args, flags=await self._read_flags())
        record = await self._get(args.program_id, tenant=tenant)
        if record.revision not in self._drawn:
            self._drawn[record.revision] = _read_blueprint(record)
        return self._drawn[record.revision]

    async def _get(self, program_id: str, *, tenant: str) -> ProgramRecord:
        record = await self._find(program_id, tenant=tenant)
        if record is None:
            raise ProgramNotFoundError(program_id)
        return record

    async def _find(self, program_id: str, *, tenant: str) -> ProgramRecord | None:
        if self._shelf is None:
            return None
        key = (tenant, program_id)
        if key not in self._records:
            self._records[key] = await self._shelf.get_program(program_id, tenant=tenant)
        return self._records[key]

    async def _read_flags(self) -> Flags:
        if self._flags is None:
            self._flags = self._blueprints.flags({} if self._shelf is None else await self._shelf.get_flags())
        return self._flags


def _read_blueprint(record: ProgramRecord) -> Blueprint:
    try:
        return Blueprint.from_text(record.definition)
    except CorruptRowError as error:
        raise InternalError(str(error)) from error
