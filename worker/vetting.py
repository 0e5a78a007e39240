"""Tell whether a worker would refuse a job today, without running anything.

For a replay: a dead letter that would fail again at once is better found before it moves. Programs and flags are read
from the store itself; asking the workers would need one of them alive, and tells an operator nothing of a tenant's.

See Also:
    docs/RELIABILITY.md, "Replay of dead letters".
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from worker.aliases import Priced, check_price, find_profile, wanted_alias
from worker.asyncapi.commands import COMMANDS
from worker.blueprints import Blueprint, Blueprints, program_fingerprint
from worker.bridge import CONFIGURE_LM, Bridge
from worker.callers import check_answerable
from worker.controls import check_list, check_reset, read_order
from worker.errors import (
    InternalError,
    InvalidRequestError,
    LMNotConfiguredError,
    NotPermittedError,
    ProgramExistsError,
    ProgramNotFoundError,
    UnknownCommandError,
)
from worker.flags import Flags
from worker.inputs import read_inputs
from worker.message import (
    CreateArgs,
    Delivery,
    ExecuteArgs,
    Job,
    check_deadline,
    named_job,
    named_program,
    read_args,
    read_number,
)
from worker.reading import read_document, read_job
from worker.settings import PREFIX, Settings
from worker.store import CorruptRowError, ProgramRecord

if TYPE_CHECKING:
    from worker.lm import LMs

_OWN_LMS = (
    f"; this was compared with {PREFIX}LM_MODEL and {PREFIX}LMS as they are set in this shell: "
    "set them as they are for the workers"
)
_KNOWN = frozenset(command.name for command in COMMANDS)


def now_ms() -> int:
    """Return Unix milliseconds now."""
    return time.time_ns() // 1_000_000


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
        clock_ms: Unix milliseconds now.
    """

    def __init__(self, settings: Settings, *, shelf: Shelf | None, clock_ms: Callable[[], int] = now_ms) -> None:
        self._settings = settings
        self._clock_ms = clock_ms
        self._profiles = settings.profiles
        self._shelf = shelf
        self._blueprints = Blueprints(settings)
        self._bridge = Bridge(settings)
        self._flags: Flags | None = None
        # Made for the first price that is asked for: DSPy takes seconds to load.
        self._lms: LMs | None = None
        self._records: dict[tuple[str, str], ProgramRecord | None] = {}
        # Revision → what it holds.
        self._drawn: dict[str, Blueprint] = {}
        self._looks: dict[str, Callable[[Job], Awaitable[bool]]] = {
            "create_program": self._check_create,
            "create_gemini_program": self._check_create,
            "execute_program": self._check_execute,
            "execute_gemini_program": self._check_execute,
            "delete_program": self._check_named,
            "get_program_info": self._check_described,
            "describe": self._check_described,
        }

    async def check(self, delivery: Delivery) -> bool:
        """Check one job as its worker would before it calls an LM.

        Returns:
            Whether it was compared with its program too; false where it names one and there is no store to read.

        Raises:
            WorkerError: The job would be refused, and this is the reply's error.
            StoreUnavailableError: Programs and flags cannot be read.
        """
        job = read_job(read_document(delivery, self._settings), delivery, self._settings)
        if job.command not in _KNOWN:
            raise UnknownCommandError(job.command[:64])
        check_deadline(job, now_ms=self._clock_ms())
        look = self._looks.get(job.command)
        if look is not None:
            return await look(job)
        await self._check_control(job)
        return True

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
            case "list_workers":
                check_list(job, self._settings)
            case "cleanup" | "reset_state":
                check_reset(self._settings)
            case command if command in self._bridge.answers:
                with _seen_from_here() if command == CONFIGURE_LM else contextlib.nullcontext():
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
        if record is None:
            return self._shelf is not None
        if record.fingerprint != fingerprint:
            raise ProgramExistsError(program_id)
        # The reply tells what is stored, which may have been decided otherwise.
        self._blueprints.in_force(self._read_definition(record), flags=flags)
        return True

    async def _check_named(self, job: Job) -> bool:
        program_id = named_program(job)
        if self._shelf is None:
            return False
        await self._get(program_id, tenant=job.tenant)
        return True

    async def _check_described(self, job: Job) -> bool:
        if not await self._check_named(job):
            return False
        self._read_definition(await self._get(named_program(job), tenant=job.tenant))
        return True

    async def _check_execute(self, job: Job) -> bool:
        args, _ = read_args(ExecuteArgs, job.args)
        check_answerable(job)
        if args.program_id and self._shelf is None:
            if args.options.lm:
                self._check_lm(args, own=None)
            return False
        blueprint = await self._blueprint(args, tenant=job.tenant)
        policy = args.options.fallback or (None if args.program_id else self._blueprints.policy(args))
        blueprint = self._blueprints.in_force(blueprint, flags=await self._read_flags(), policy=policy)
        read_inputs(args.inputs, signature=self._blueprints.normalized(blueprint))
        self._check_lm(args, own=blueprint.lm)
        return True

    def _check_lm(self, args: ExecuteArgs, *, own: str | None) -> None:
        """Check the LM that a job runs on as its run does before the first call."""
        alias, pointer = wanted_alias(args, own=own)
        with _seen_from_here():
            find_profile(self._profiles, alias, pointer=pointer)
            if args.options.max_cost_usd is not None:
                check_price(self._lm(alias), alias=alias, max_cost_usd=args.options.max_cost_usd)

    def _lm(self, alias: str) -> Priced:
        if self._lms is None:
            from worker.lm import LMs

            self._lms = LMs(self._profiles, timeout_seconds=self._settings.lm_timeout_seconds)
        return self._lms.get(alias)

    async def _blueprint(self, args: ExecuteArgs, *, tenant: str) -> Blueprint:
        if not args.program_id:
            if args.signature is None:
                raise InvalidRequestError("Program ID is required", field="program_id")
            return self._blueprints.draw(args, flags=await self._read_flags())
        return self._read_definition(await self._get(args.program_id, tenant=tenant))

    def _read_definition(self, record: ProgramRecord) -> Blueprint:
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


@contextlib.contextmanager
def _seen_from_here() -> Iterator[None]:
    """Add to a refusal of an LM which LMs it was compared with: the workers' may be others.

    Raises:
        WorkerError: The refusal, with its own code.
    """
    try:
        yield
    except (InvalidRequestError, LMNotConfiguredError, NotPermittedError) as error:
        told = f"{error.reason}{_OWN_LMS}"
        raise type(error)(told, field=error.field, problems=error.problems) from error
