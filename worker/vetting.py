"""Tell whether a worker would refuse a job today, without running anything.

For a replay: a dead letter that would fail again at once is better found before it moves. Programs and flags are read
from the store itself; asking the workers would need one of them alive, and tells an operator nothing of a tenant's.

See Also:
    docs/RELIABILITY.md, "Replay of dead letters".
"""

from __future__ import annotations

from typing import Protocol

from worker.asyncapi.commands import COMMANDS
from worker.blueprints import Blueprint, Blueprints
from worker.errors import InvalidInputsError, InvalidRequestError, NotPermittedError, Problem, UnknownCommandError
from worker.flags import Flags
from worker.message import (
    CreateArgs,
    Delivery,
    ExecuteArgs,
    Job,
    check_properties,
    check_reply_to,
    decode,
    parse,
    read_args,
)
from worker.settings import Settings
from worker.signatures import check_inputs
from worker.store import ProgramRecord

_KNOWN = frozenset(command.name for command in COMMANDS)
_CREATE = frozenset(("create_program", "create_gemini_program"))
_EXECUTE = frozenset(("execute_program", "execute_gemini_program"))


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
        shelf: Programs and flags; None where no store can be read, so that inputs stay unchecked.
    """

    def __init__(self, settings: Settings, *, shelf: Shelf | None) -> None:
        self._settings = settings
        self._shelf = shelf
        self._blueprints = Blueprints(settings)
        self._flags: Flags | None = None
        self._programs: dict[tuple[str, str], Blueprint | None] = {}

    async def check(self, delivery: Delivery) -> bool:
        """Check one job as its worker would before it calls an LM.

        Returns:
            Whether the inputs were checked too; false where the program is not known here.

        Raises:
            WorkerError: The job would be refused, and this is the reply's error.
            StoreUnavailableError: Programs and flags cannot be read.
        """
        settings = self._settings
        check_reply_to(delivery.reply_to, namespace=settings.namespace, pattern=settings.effective_reply_to_pattern)
        document = parse(delivery.body, max_bytes=settings.max_body_bytes)
        check_properties(delivery)
        if settings.tenancy == "user_id" and not delivery.user_id:
            raise NotPermittedError("This deployment needs the user_id property, and the job has none")
        job = decode(document, delivery)
        if job.command not in _KNOWN:
            raise UnknownCommandError(job.command[:64])
        if job.command in _CREATE:
            await self._check_create(job)
        elif job.command in _EXECUTE:
            return await self._check_execute(job)
        return True

    async def _check_create(self, job: Job) -> None:
        args, _ = read_args(CreateArgs, job.args)
        flags = await self._read_flags()
        self._blueprints.in_force(self._blueprints.draw(args, flags=flags), flags=flags)

    async def _check_execute(self, job: Job) -> bool:
        args, _ = read_args(ExecuteArgs, job.args)
        if job.delivery.reply_to is None and job.delivery.message_id is None:
            raise InvalidRequestError("A job without reply_to needs a message_id, or nobody could see its result")
        blueprint = await self._find(args, tenant=self._tenant(job.delivery))
        if blueprint is None:
            return False
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

    async def _find(self, args: ExecuteArgs, *, tenant: str) -> Blueprint | None:
        if not args.program_id:
            if args.signature is None:
                raise InvalidRequestError("Program ID is required", field="program_id")
            return self._blueprints.draw(args, flags=await self._read_flags())
        key = (tenant, args.program_id)
        if key not in self._programs:
            self._programs[key] = await self._read_program(args.program_id, tenant=tenant)
        return self._programs[key]

    async def _read_program(self, program_id: str, *, tenant: str) -> Blueprint | None:
        record = None if self._shelf is None else await self._shelf.get_program(program_id, tenant=tenant)
        return None if record is None else Blueprint.from_text(record.definition)

    async def _read_flags(self) -> Flags:
        if self._flags is None:
            self._flags = self._blueprints.flags({} if self._shelf is None else await self._shelf.get_flags())
        return self._flags

    def _tenant(self, delivery: Delivery) -> str:
        return delivery.user_id or "" if self._settings.tenancy == "user_id" else ""
