"""Would a worker take this job today?"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from worker.blueprints import Blueprints, program_fingerprint
from worker.errors import (
    DynamicSignaturesOffError,
    InternalError,
    InvalidInputsError,
    InvalidJSONError,
    InvalidRequestError,
    NotPermittedError,
    ProgramExistsError,
    ProgramNotFoundError,
    ReplyToNotAllowedError,
    UnknownCommandError,
    UnknownTypeError,
    WorkerError,
)
from worker.message import CreateArgs, Delivery
from worker.settings import Settings, load
from worker.store import ProgramRecord
from worker.vetting import Vetting

SENTIMENT = {"inputs": [{"name": "text", "type": "string"}], "outputs": [{"name": "sentiment"}]}


class FakeShelf:
    """One program ``sentiment`` of one tenant, and flags."""

    def __init__(self, settings: Settings, *, tenant: str = "", **flags: str) -> None:
        args = CreateArgs(signature=SENTIMENT, fallback="never")
        blueprint = Blueprints(settings).draw(args)
        fingerprint = program_fingerprint(blueprint, args)
        self.record = ProgramRecord("sentiment", "r1", 1, fingerprint, blueprint.to_text(), 0, 0, None)
        self.tenant = tenant
        self.flags = flags
        self.reads = 0

    async def get_program(self, program_id: str, *, tenant: str = "") -> ProgramRecord | None:
        self.reads += 1
        return self.record if (program_id, tenant) == ("sentiment", self.tenant) else None

    async def get_flags(self) -> dict[str, str]:
        return self.flags


@pytest.fixture
def settings() -> Settings:
    return load({})


@pytest.fixture
def vetting(settings: Settings) -> Vetting:
    return Vetting(settings, shelf=FakeShelf(settings))


def job(args: Any = None, *, body: bytes | None = None, **more: Any) -> Delivery:
    document = {"args": args if args is not None else {"program_id": "sentiment", "inputs": {"text": "a"}}}
    given: dict[str, Any] = {"lane": "execute", "message_id": "m1", **more}
    return Delivery(body=body if body is not None else json.dumps(document).encode(), **given)


async def test_a_job_that_fits_todays_definition_passes(vetting: Vetting) -> None:
    """And its inputs were checked."""
    assert await vetting.check(job()) is True


@pytest.mark.parametrize(
    ("delivery", "error"),
    [
        (job(body=b"{"), InvalidJSONError),
        (job(body=b'{"command": "nonsense"}'), UnknownCommandError),
        (job({"program_id": 7}), InvalidRequestError),
        (job({}), InvalidRequestError),
        (job({"program_id": "sentiment", "inputs": {}}), InvalidInputsError),
        (job({"program_id": "sentiment", "inputs": {"text": 1}}), InvalidInputsError),
        (job({"program_id": "sentiment", "inputs": "a"}), InvalidInputsError),
        (job({"signature": "question -> answer", "inputs": {}}), InvalidInputsError),
        (job({"signature": "a: what -> b", "fallback": "never", "inputs": {"a": 1}}), UnknownTypeError),
        (job({"signature": "a: what -> b", "fallback": "never"}, lane="create"), UnknownTypeError),
        (job(reply_to="dspex.execute"), ReplyToNotAllowedError),
        (job(message_id=None), InvalidRequestError),
        (job(content_type="text/plain"), InvalidRequestError),
    ],
)
async def test_a_job_that_would_fail_at_once_is_refused_with_its_own_code(
    vetting: Vetting, delivery: Delivery, error: type[WorkerError]
) -> None:
    """As the handler would refuse it."""
    with pytest.raises(error):
        await vetting.check(delivery)


def control(command: str, **args: Any) -> Delivery:
    return job(body=json.dumps({"command": command, "args": args}).encode(), lane="control")


@pytest.mark.parametrize(
    "delivery",
    [
        control("ping"),
        control("delete_program", program_id="sentiment"),
        control("describe", program_id="sentiment"),
        control("cancel", message_id="m1"),
        control("list_programs", limit=1),
        control("set_flag", name="dynamic_signatures", value="off"),
        control("configure_lm", model="default"),
        control("create_program", id="sentiment", signature=SENTIMENT, fallback="never"),
        control("create_program", id="sentiment", signature=SENTIMENT, replace=True),
        control("create_program", signature=SENTIMENT),
    ],
)
async def test_other_commands_pass_when_they_would_succeed(vetting: Vetting, delivery: Delivery) -> None:
    """A create too, where the same program is there already, or none."""
    assert await vetting.check(delivery) is True


@pytest.mark.parametrize(
    ("delivery", "error"),
    [
        (job({"program_id": "other", "inputs": {}}), ProgramNotFoundError),
        (control("delete_program"), InvalidRequestError),
        (control("delete_program", program_id="other"), ProgramNotFoundError),
        (control("get_program_info", program_id="other"), ProgramNotFoundError),
        (control("describe", program_id=7), InvalidRequestError),
        (control("cancel"), InvalidRequestError),
        (control("get_result", message_id=""), InvalidRequestError),
        (control("list_programs", limit=0), InvalidRequestError),
        (control("set_flag", name="nonsense", value="on"), InvalidRequestError),
        (control("set_flag", name="dynamic_signatures", value="maybe"), InvalidRequestError),
        (control("cleanup"), NotPermittedError),
        (control("configure_lm", model="unknown"), NotPermittedError),
        (control("shutdown"), NotPermittedError),
        (control("create_program", id="sentiment", signature=SENTIMENT), ProgramExistsError),
    ],
)
async def test_any_command_that_would_fail_at_once_is_refused(
    vetting: Vetting, delivery: Delivery, error: type[WorkerError]
) -> None:
    """Its arguments are read as the command reads them, and programs are there or not."""
    with pytest.raises(error):
        await vetting.check(delivery)


async def test_without_a_store_what_names_a_program_is_unchecked(settings: Settings) -> None:
    """Nobody knows then whether it is there; all else is checked."""
    vetting = Vetting(settings, shelf=None)
    create = {"id": "sentiment", "signature": SENTIMENT}
    named = [job(), control("describe", program_id="sentiment"), control("create_program", **create)]
    free = [control("ping"), control("create_program", **create, replace=True)]

    assert [await vetting.check(delivery) for delivery in (*named, *free)] == [False] * 3 + [True] * 2


async def test_a_damaged_program_is_an_error_of_its_job_alone(settings: Settings) -> None:
    """The replay goes on to the others."""
    shelf = FakeShelf(settings)
    shelf.record = replace(shelf.record, definition="{")
    with pytest.raises(InternalError):
        await Vetting(settings, shelf=shelf).check(job())


async def test_a_program_is_read_once(settings: Settings) -> None:
    """Five thousand letters of one program are one look."""
    shelf = FakeShelf(settings)
    vetting = Vetting(settings, shelf=shelf)
    for _ in range(3):
        await vetting.check(job())

    assert shelf.reads == 1


async def test_a_tenants_job_is_checked_against_the_tenants_program() -> None:
    """Of the same name, another tenant's is none."""
    settings = load({"DSPEX_TENANCY": "user_id"})
    vetting = Vetting(settings, shelf=FakeShelf(settings, tenant="ann"))

    assert await vetting.check(job(user_id="ann", reply_to="dspex.reply.ann")) is True
    with pytest.raises(ProgramNotFoundError):
        await vetting.check(job(user_id="bob"))
    with pytest.raises(ReplyToNotAllowedError):
        await vetting.check(job(user_id="bob", reply_to="dspex.reply.ann"))


async def test_with_tenants_a_job_of_nobody_is_refused() -> None:
    """As a worker refuses it."""
    settings = load({"DSPEX_TENANCY": "user_id"})
    with pytest.raises(NotPermittedError):
        await Vetting(settings, shelf=None).check(job())


async def test_flags_count_as_they_are_now(settings: Settings) -> None:
    """A rollback refuses what insists on its signature."""
    vetting = Vetting(settings, shelf=FakeShelf(settings, dynamic_signatures="force_off"))
    with pytest.raises(DynamicSignaturesOffError):
        await vetting.check(job())
