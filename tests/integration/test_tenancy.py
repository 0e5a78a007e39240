"""Two tenants with broker users of their own, and one worker that serves both."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aio_pika.exceptions
import pytest
from aio_pika.abc import AbstractConnection
from rabbit_node import RabbitNode

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing
from worker.amqp.channels import scratch_channel
from worker.amqp.connection import connect
from worker.amqp.topology import measure

DEFINITION = {
    "inputs": [{"name": "text", "type": "string"}],
    "outputs": [{"name": "label", "type": "string"}],
}
ONE_OFF = {"args": {"signature": DEFINITION, "inputs": {"text": "x"}}}
NAMED = {"args": {"program_id": "p", "inputs": {"text": "x"}}}
PASSWORD = "throw-away"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A broker of our own: users are the whole node's, and the tests' broker may be anybody's."""
    with RabbitNode(tmp_path_factory.mktemp("rabbitmq")) as node:
        for user in ("a", "b"):
            node.ctl("add_user", user, PASSWORD)
            node.ctl("set_permissions", user, ".*", ".*", ".*")
        yield node


@pytest.fixture(scope="module")
def amqp_url(node: RabbitNode) -> str:
    return node.url


class Tenant:
    """Publishes as one broker user."""

    def __init__(self, caller: Caller, user: str) -> None:
        self.caller = caller
        self.user = user

    async def publish(self, lane: str, body: Any, **properties: Any) -> str:
        return await self.caller.publish(lane, body, **{"user_id": self.user, **properties})

    async def call(self, lane: str, body: Any, **properties: Any) -> dict[str, Any]:
        return await self.caller.call(lane, body, **{"user_id": self.user, **properties})

    async def ask(self, command: str, **args: Any) -> dict[str, Any]:
        """Send a control command and return its reply."""
        return await self.call("control", {"command": command, "args": args})


@pytest.fixture
async def tenants(node: RabbitNode, namespace: str) -> AsyncIterator[tuple[Tenant, Tenant]]:
    async with contextlib.AsyncExitStack() as stack:
        urls = {user: f"amqp://{user}:{PASSWORD}@127.0.0.1:{node.port}/" for user in ("a", "b")}
        first, second = [
            Tenant(await stack.enter_async_context(Caller(url, namespace)), user) for user, url in urls.items()
        ]
        yield first, second


@pytest.fixture
def start_tenancy(start_worker: StartWorker, lm_stub: LMStub) -> StartWorker:
    lm_stub.outputs = {"label": "good"}

    def start(**changes: str) -> Any:
        return start_worker(tenancy="user_id", allow_reset="true", **changes)

    return start


def code_of(reply: dict[str, Any]) -> str:
    return "ok" if reply["success"] else str(reply["error_detail"]["code"])


async def test_a_tenant_sees_and_runs_nothing_of_another(
    start_tenancy: StartWorker, tenants: tuple[Tenant, Tenant], lm_stub: LMStub
) -> None:
    """Programs and results; what another asks for in vain costs no LM call."""
    a, b = tenants
    async with start_tenancy():
        assert code_of(await a.call("create", {"args": {"id": "p", "signature": DEFINITION}})) == "ok"
        assert code_of(await a.call("execute", NAMED, message_id="m")) == "ok"
        denied = [
            await b.call("execute", NAMED),
            await b.ask("get_program_info", program_id="p"),
            await b.ask("describe", program_id="p"),
            await b.ask("delete_program", program_id="p"),
        ]
        listed = [await one.ask("list_programs") for one in (a, b)]
        kept = [await one.ask("get_result", message_id="m") for one in (a, b)]
        cleaned = await b.ask("cleanup")
        still = await a.ask("list_programs")

    assert {code_of(reply) for reply in denied} == {"program_not_found"}
    assert [reply["result"]["total_count"] for reply in (*listed, still)] == [1, 0, 1]
    assert [reply["result"]["status"] for reply in kept] == ["done", "unknown"]
    assert (cleaned["result"]["programs_removed"], lm_stub.calls) == (0, 1)


async def test_a_tenant_cancels_nothing_of_another(
    start_tenancy: StartWorker, tenants: tuple[Tenant, Tenant], lm_stub: LMStub
) -> None:
    """Another's running job of the same id goes on; its own cancel stops it."""
    a, b = tenants
    lm_stub.behaviour = lm_stub.hang
    async with start_tenancy(lm_timeout_seconds="30", job_timeout_seconds="60", drain_seconds="61"):
        job = await a.publish("execute", ONE_OFF, message_id="m")
        await lm_stub.called.wait()
        await b.ask("cancel", message_id="m")
        state = await a.ask("get_result", message_id="m")
        await a.ask("cancel", message_id="m")
        reply = json.loads((await a.caller.reply(job)).body)

    assert (state["result"]["status"], code_of(reply)) == ("running", "cancelled")


async def test_the_same_message_id_of_two_tenants_is_two_jobs(
    start_tenancy: StartWorker, tenants: tuple[Tenant, Tenant], lm_stub: LMStub
) -> None:
    """Other content is no conflict, and the same content is no repetition."""
    a, b = tenants
    other = {"args": {**ONE_OFF["args"], "inputs": {"text": "y"}}}
    async with start_tenancy():
        replies = [
            await a.call("execute", ONE_OFF, message_id="m", correlation_id="c"),
            await b.call("execute", other, message_id="m", correlation_id="c"),
            await a.call("execute", ONE_OFF, message_id="n", correlation_id="c"),
            await b.call("execute", ONE_OFF, message_id="n", correlation_id="c"),
        ]

    assert [code_of(reply) for reply in replies] == ["ok"] * 4
    assert (lm_stub.calls, a.caller.waiting("c"), b.caller.waiting("c")) == (4, 0, 0)


async def test_a_job_stays_its_tenants_over_the_ladder_and_in_the_dead_letter_queue(
    start_tenancy: StartWorker, tenants: tuple[Tenant, Tenant], lm_stub: LMStub
) -> None:
    """Copies carry the worker's user; the tenant travels in a header of ours."""
    a, b = tenants
    lm_stub.behaviour = failing(429)
    async with start_tenancy():
        reply = await a.call("execute", ONE_OFF, message_id="m")
        letter = await a.caller.dead_letter("execute")
        kept = [await one.ask("get_result", message_id="m") for one in (a, b)]

    assert (code_of(reply), lm_stub.calls) == ("lm_rate_limited", 2)
    assert (letter.headers["x-dspex-tenant"], letter.user_id) == ("a", "dspex")
    assert [one["result"]["status"] for one in kept] == ["done", "unknown"]


async def test_nobody_speaks_for_another_tenant(start_tenancy: StartWorker, tenants: tuple[Tenant, Tenant]) -> None:
    """No header does it, the broker refuses another's ``user_id``, and none at all is refused by us."""
    a, b = tenants
    forged = {"x-dspex-tenant": "a", "x-dspex-generation": 1}
    async with start_tenancy():
        await a.call("create", {"args": {"id": "p", "signature": DEFINITION}})
        replies = [await b.call("execute", NAMED, headers=forged), await b.call("execute", NAMED, user_id=None)]
        with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed):
            await b.publish("execute", NAMED, user_id="a")

    assert [code_of(reply) for reply in replies] == ["program_not_found", "not_permitted"]


async def test_a_tenant_sends_no_reply_to_anothers_durable_queue(
    start_tenancy: StartWorker, tenants: tuple[Tenant, Tenant], lm_stub: LMStub, node: RabbitNode, namespace: str
) -> None:
    """What is there at the end is the owner's own reply; another's job ends as a dead letter, and costs no LM call."""
    a, b = tenants
    queue = f"{namespace}.reply.a"
    connection = await connect(node.url, name="test")
    async with scratch_channel(connection) as channel, start_tenancy():
        await channel.queue_declare(queue, durable=True)
        await b.publish("execute", ONE_OFF, message_id="theirs", reply_to=queue)
        letter = await a.caller.dead_letter("execute")
        calls = lm_stub.calls
        await a.publish("execute", ONE_OFF, message_id="own", correlation_id="own", reply_to=queue)
        await reach(connection, queue, 1)
        reply = await channel.basic_get(queue)
        depth = await measure(connection, queue)
        await channel.queue_delete(queue)
    await connection.close()

    assert (letter.headers["x-dspex-code"], letter.message_id, calls) == ("reply_to_not_allowed", "theirs", 0)
    assert (reply.header.properties.correlation_id, depth) == ("own", (0, 0))


async def reach(connection: AbstractConnection, queue: str, count: int) -> None:
    """Wait until so many messages are in a queue."""
    async with asyncio.timeout(20):
        while await measure(connection, queue) != (count, 0):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.02)


async def test_a_tenant_sends_no_reply_to_anothers_queue_and_sets_no_flag(
    start_tenancy: StartWorker, tenants: tuple[Tenant, Tenant], lm_stub: LMStub
) -> None:
    """The job ends as a dead letter; the flag stays as it was."""
    a, b = tenants
    async with start_tenancy():
        await b.publish("execute", ONE_OFF, reply_to="orders-of-a")
        letter = await a.caller.dead_letter("execute")
        flagged = await b.ask("set_flag", name="dynamic_signatures", value="off")
        flags = await a.ask("get_flags")

    assert (letter.headers["x-dspex-code"], lm_stub.calls) == ("reply_to_not_allowed", 0)
    assert (code_of(flagged), flags["result"]["set"]) == ("not_permitted", [])


async def test_a_tenant_learns_nothing_of_the_workers_and_a_trusted_user_does(
    start_tenancy: StartWorker, tenants: tuple[Tenant, Tenant]
) -> None:
    """Hosts, versions and what is down are the operator's."""
    a, b = tenants
    async with start_tenancy(trusted_users="a"):
        trusted, tenant = await a.ask("list_workers"), await b.ask("list_workers")

    assert code_of(tenant) == "not_permitted"
    assert [one["worker_id"] for one in trusted["result"]["workers"]] == ["worker-1"]
