"""Whose job a delivery is: the publisher's as the broker has checked it, and on a copy what the copy says."""

from __future__ import annotations

from aio_pika.abc import AbstractConnection
from yarl import URL

from tests.integration.amqp.conftest import MakeHandler, StartConsumer
from tests.integration.amqp.raw import publish
from tests.support.caller import Caller
from worker.message import Ack, DeadLetter, Delay, Letter, Trail


async def test_a_job_is_its_publishers(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, amqp_url: str
) -> None:
    """None where the publisher did not say; the broker refuses a name that is not the connection's."""
    handler = make_handler(Ack())
    user = URL(amqp_url).user
    async with start_consumer(handler.handle):
        await caller.reply(await caller.publish("execute", {}))
        await caller.reply(await caller.publish("execute", {}, user_id=user))

    assert [delivery.user_id for delivery in handler.deliveries] == [None, user]


async def test_a_copy_stays_its_tenants(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, amqp_url: str
) -> None:
    """The copy's own user is the worker's; the tenant travels beside it, over every hop and into the dead letter."""
    user = URL(amqp_url).user
    hop = Delay(200, Trail())
    handler = make_handler(hop, hop, DeadLetter(Letter("internal", "…")), is_replying=False)
    async with start_consumer(handler.handle, tenancy="user_id"):
        forwarded = {"x-dspex-tenant": "anna", "x-dspex-generation": 0}
        await caller.publish("execute", {}, user_id=user, headers=forwarded)
        deliveries = await handler.seen(3)
        letter = await caller.dead_letter("execute")

    assert [delivery.user_id for delivery in deliveries] == ["anna"] * 3
    assert (letter.user_id, letter.headers["x-dspex-tenant"]) == (user, "anna")


async def test_a_job_of_the_worker_users_own_becomes_its_tenants_copy(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, amqp_url: str
) -> None:
    """A trusted user is a publisher like any other, until it copies."""
    user = URL(amqp_url).user
    handler = make_handler(Delay(200, Trail()), Ack())
    async with start_consumer(handler.handle, tenancy="user_id"):
        await caller.publish("execute", {}, user_id=user)
        first, second = await handler.seen(2)

    assert (first.user_id, second.user_id) == (user, user)
    assert second.trail.tenant == user


async def test_a_copy_that_names_no_tenant_is_nobodys(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, amqp_url: str
) -> None:
    """A job that was refused for want of a user does not become the copier's by a replay."""
    handler = make_handler(Ack())
    async with start_consumer(handler.handle, tenancy="user_id"):
        headers = {"x-dspex-generation": 1}
        await caller.reply(await caller.publish("execute", {}, user_id=URL(amqp_url).user, headers=headers))

    assert [delivery.user_id for delivery in handler.deliveries] == [None]


async def test_a_forged_tenant_is_ignored_and_dropped(
    make_handler: MakeHandler, start_consumer: StartConsumer, connection: AbstractConnection, namespace: str
) -> None:
    """Internal headers count only from a trusted user, and none of them reaches a copy."""
    handler = make_handler(Delay(200, Trail()), Ack(), is_replying=False)
    forged = {"x-dspex-tenant": "anna", "x-dspex-generation": 0}
    async with start_consumer(handler.handle, tenancy="user_id"):
        await publish(connection, f"{namespace}.execute", message_id="m1", headers=forged)
        first, second = await handler.seen(2)

    assert (first.user_id, second.user_id) == (None, None)
    assert "x-dspex-tenant" not in second.headers


async def test_with_tenancy_off_copies_name_no_tenant(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, amqp_url: str
) -> None:
    """One trust domain: who published is no part of the job."""
    handler = make_handler(Delay(200, Trail()), Ack())
    async with start_consumer(handler.handle):
        await caller.publish("execute", {}, user_id=URL(amqp_url).user)
        _, second = await handler.seen(2)

    assert "x-dspex-tenant" not in second.headers
