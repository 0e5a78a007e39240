"""Would a worker take this job today?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.blueprints import Blueprints
from worker.errors import (
    DynamicSignaturesOffError,
    InvalidInputsError,
    InvalidJSONError,
    InvalidRequestError,
    NotPermittedError,
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
        blueprint = Blueprints(settings).draw(CreateArgs(signature=SENTIMENT, fallback="never"))
        self.record = ProgramRecord("sentiment", "r1", 1, "f", blueprint.to_text(), 0, 0, None)
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


@pytest.mark.parametrize("command", ["ping", "delete_program"])
async def test_other_commands_pass_when_they_are_known(vetting: Vetting, command: str) -> None:
    """What they would find is not asked."""
    assert await vetting.check(job(body=json.dumps({"command": command}).encode(), lane="control")) is True


async def test_a_program_that_is_not_known_leaves_its_inputs_unchecked(vetting: Vetting, settings: Settings) -> None:
    """The store that is read here may be another one than the workers'."""
    found = await vetting.check(job({"program_id": "other", "inputs": {}}))
    without = await Vetting(settings, shelf=None).check(job())

    assert (found, without) == (False, False)


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
    found = [await vetting.check(job(user_id=user)) for user in ("ann", "bob")]

    assert found == [True, False]


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
