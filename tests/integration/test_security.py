"""Three broker users with least rights: each does its part, and is refused the rest."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aio_pika.abc import AbstractConnection
from aiormq.channel import Channel
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelPreconditionFailed
from local_services import temporary_folder
from pamqp.commands import Basic
from rabbit_node import RabbitNode
from remove_namespace import remove_namespace
from yarl import URL

from tests.integration.conftest import StartWorker
from tests.support.lm_stub import LMStub, failing, in_turn
from tests.support.pages import ROOT
from tests.support.processes import COMMAND, WorkerProcess, clean_environment
from worker.amqp.channels import scratch_channel
from worker.amqp.connection import connect
from worker.amqp.topology import Topology, declare
from worker.client import Client, NoWorkerError, ReplyError

pytestmark = pytest.mark.timeout(180)

NAMESPACE = "dspex"
DELAYS_MS = (200, 500)
TRUSTED = "worker,operator"
USERS = {"publisher": "publisher", "bob": "publisher", "worker": "worker", "operator": "operator"}
SCRIPT = ROOT / "deploy/rabbitmq/make_users.py"
FOREIGN = "billing"
BOBS_REPLIES = f"{NAMESPACE}.reply.bob.1"

Deed = Callable[[Channel], Awaitable[Any]]


@dataclass(frozen=True)
class Broker:
    """A node of the module's own with one user for each role, and a second publisher."""

    node: RabbitNode

    def url(self, user: str) -> str:
        return str(URL(self.node.url).with_user(user).with_password(f"{user}-secret"))

    def make_users(self, *lines: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, SCRIPT, "--namespace", NAMESPACE, "--rabbitmqctl", shlex.join(self.node.ctl_command)],
            input="\n".join(lines),
            capture_output=True,
            text=True,
        )

    def rights(self) -> list[dict[str, str]]:
        listed: list[dict[str, str]] = json.loads(self.node.ctl("list_permissions", "--formatter", "json"))
        return sorted(listed, key=lambda row: row["user"])


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with temporary_folder() as folder, RabbitNode(folder / "rabbitmq") as node:
        broker = Broker(node)
        made = broker.make_users(*(f"{role} {user} {user}-secret" for user, role in USERS.items()))
        assert made.returncode == 0, made.stderr
        yield broker


@pytest.fixture(scope="module")
def amqp_url(broker: Broker) -> str:
    """The administrator's URL: only for setting up and cleaning up."""
    return broker.node.url


@pytest.fixture
async def namespace(broker: Broker) -> AsyncIterator[str]:
    """The rights are those of one namespace, so it is the same for all tests here."""
    yield NAMESPACE
    await remove_namespace(broker.node.url, NAMESPACE, delays_ms=DELAYS_MS)


@pytest.fixture
def start(start_worker: StartWorker, broker: Broker) -> StartWorker:
    """Start a worker with the worker's own rights."""
    return lambda **changes: start_worker(amqp_url=broker.url("worker"), trusted_users=TRUSTED, **changes)


@pytest.fixture
async def topology(broker: Broker, namespace: str) -> Topology:
    """Everything that a namespace has, and a queue of another application."""
    topology = Topology.of(namespace=namespace, delays_ms=DELAYS_MS)
    connection = await connect(broker.node.url, name="test")
    await declare(topology, connection)
    async with scratch_channel(connection) as channel:
        await channel.queue_declare(FOREIGN, durable=True)
        await channel.queue_declare(BOBS_REPLIES, durable=True, arguments={"x-expires": 60_000})
    await connection.close()
    return topology


@asynccontextmanager
async def _connected(broker: Broker, user: str) -> AsyncIterator[AbstractConnection]:
    connection = await connect(broker.url(user), name=f"test {user}")
    try:
        yield connection
    finally:
        await connection.close()


async def _depth(broker: Broker, queue: str) -> int:
    async with _connected(broker, "operator") as connection, scratch_channel(connection) as channel:
        return (await channel.queue_declare(queue, passive=True)).message_count or 0


# Each can do its part.


async def test_a_publisher_creates_executes_cancels_and_gets_results(
    broker: Broker, start: StartWorker, namespace: str
) -> None:
    """Through the client, by direct reply-to, which needs no right."""
    async with start(), Client(broker.url("publisher"), namespace=namespace) as client:
        program = await client.create_program("question -> answer", id="qa")
        result = await client.execute("qa", {"question": "?"}, message_id="m1")
        kept = await client.get_result("m1")
        cancelled = await client.cancel("m1")

    assert kept is not None
    assert (program["program_id"], result.outputs, kept.outputs) == ("qa", {"answer": "42"}, {"answer": "42"})
    assert cancelled == "too_late"


@pytest.mark.parametrize("kind", ["named by the broker", "named by aio-pika", "durable"])
async def test_a_publisher_has_reply_queues_of_its_own(
    broker: Broker, start: StartWorker, namespace: str, kind: str
) -> None:
    """Exclusive ones of any name that a library gives, or durable ones under its user's name."""
    async with start(), _connected(broker, "publisher") as connection, scratch_channel(connection) as channel:
        queue = {"named by the broker": "", "named by aio-pika": f"amq_{os.urandom(16).hex()}"}.get(kind)
        if queue is None:
            queue = f"{namespace}.reply.publisher.1"
            await channel.queue_declare(queue, durable=True, arguments={"x-expires": 60_000})
        else:
            queue = (await channel.queue_declare(queue, exclusive=True)).queue or ""
        replies: asyncio.Queue[bytes] = asyncio.Queue()

        async def take(message: Any) -> None:
            await replies.put(message.body)

        await channel.basic_consume(queue, take, no_ack=True)
        properties = Basic.Properties(reply_to=queue, correlation_id="c", user_id="publisher")
        body = b'{"command": "ping"}'
        await channel.basic_publish(
            body, exchange=namespace, routing_key="control", properties=properties, mandatory=True
        )
        reply = json.loads(await replies.get())

    assert reply["success"]


async def test_a_worker_declares_retries_and_dead_letters(
    broker: Broker, start: StartWorker, namespace: str, lm_stub: LMStub
) -> None:
    """On an empty broker; the ladder and the dead-letter exchange are its own."""
    lm_stub.behaviour = in_turn(failing(429), lm_stub.answer)
    async with start(), Client(broker.url("publisher"), namespace=namespace) as client:
        retried = await client.predict("question -> answer", {"question": "?"})
        lm_stub.behaviour = failing(400)
        with pytest.raises(ReplyError) as refused:
            await client.predict("question -> answer", {"question": "!"})

    assert (retried.outputs, refused.value.code) == ({"answer": "42"}, "lm_invalid_request")
    assert await _depth(broker, f"{namespace}.execute.dead") == 1


async def test_an_operator_lists_shows_replays_and_purges(
    broker: Broker, start: StartWorker, namespace: str, lm_stub: LMStub, environment: dict[str, str]
) -> None:
    """With the command line; the workers trust what it puts back."""

    async def dead(*words: str) -> Any:
        given = {"amqp_url": broker.url("operator"), "namespace": namespace, "trusted_users": TRUSTED}
        settings = clean_environment(**given, store_url=environment["DSPEX_STORE_URL"])
        command = [COMMAND, "dead", *words, "--json"]
        done = await asyncio.to_thread(subprocess.run, command, env=settings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    async with start(), Client(broker.url("publisher"), namespace=namespace) as client:
        lm_stub.behaviour = failing(400)
        for message_id in ("m1", "m2"):
            args = {"signature": "question -> answer", "inputs": {"question": "?"}}
            await client.ask("execute_program", args, message_id=message_id)
        counts = {queue["name"]: queue["messages"] for queue in await dead("list")}
        shown = {letter["message_id"]: letter["code"] for letter in await dead("show", "execute")}
        dry = await dead("replay", "execute", "--dry-run")
        lm_stub.behaviour = lm_stub.answer
        replayed = await dead("replay", "execute", "--message-id", "m1")
        result = await _kept(client, "m1")
        await dead("purge", "execute", "--yes")

    assert counts == {f"{namespace}.create.dead": 0, f"{namespace}.execute.dead": 2, f"{namespace}.control.dead": 0}
    assert shown == {"m1": "lm_invalid_request", "m2": "lm_invalid_request"}
    assert (dry["replayed"], replayed["replayed"], result) == (2, 1, {"answer": "42"})
    assert await _depth(broker, f"{namespace}.execute.dead") == 0


async def _kept(client: Client, message_id: str) -> Any:
    """Wait for the result of a replayed job."""
    async with asyncio.timeout(20):
        while True:
            try:
                kept = await client.get_result(message_id)
            except ReplyError:
                kept = None
            if kept is not None:
                return kept.outputs
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("user", ["publisher", "operator"])
async def test_who_sends_jobs_is_told_that_no_worker_listens(broker: Broker, topology: Topology, user: str) -> None:
    """At once: the right to ask for a work queue's consumers, which RabbitMQ 4.3 wants, is among theirs."""
    async with Client(broker.url(user), namespace=NAMESPACE) as client:
        with pytest.raises(NoWorkerError):
            await client.ask("ping", timeout=30)


@pytest.mark.parametrize(
    ("user", "queue"),
    [("publisher", "dspex.execute"), ("operator", "dspex.execute"), ("worker", BOBS_REPLIES)],
)
async def test_each_part_may_look_at_what_it_asks_about(
    broker: Broker, topology: Topology, user: str, queue: str
) -> None:
    """Whether workers or a caller are there: RabbitMQ 4.3 wants some right for a passive declare."""
    async with _connected(broker, user) as connection, scratch_channel(connection) as channel:
        found = (await channel.queue_declare(queue, passive=True)).queue

    assert found == queue


# And no more.


def _get(queue: str) -> Deed:
    return lambda channel: channel.basic_get(queue)


def _consume(queue: str) -> Deed:
    async def take(_: Any) -> None:
        raise AssertionError

    return lambda channel: channel.basic_consume(queue, take)


def _purge(queue: str) -> Deed:
    return lambda channel: channel.queue_purge(queue)


def _delete(queue: str) -> Deed:
    return lambda channel: channel.queue_delete(queue)


def _publish(exchange: str, key: str = "x") -> Deed:
    return lambda channel: channel.basic_publish(b"{}", exchange=exchange, routing_key=key)


def _declare(queue: str, **arguments: str) -> Deed:
    given = {f"x-{name.replace('_', '-')}": text for name, text in arguments.items()}
    return lambda channel: channel.queue_declare(queue, durable=True, arguments=dict(given))


def _listen(queue: str, exchange: str, key: str) -> Deed:
    async def listen(channel: Channel) -> None:
        await channel.queue_declare(queue, exclusive=True)
        await channel.queue_bind(queue, exchange, routing_key=key)

    return listen


def _publish_to_own(exchange: str) -> Deed:
    async def publish(channel: Channel) -> None:
        await channel.exchange_declare(exchange, auto_delete=True)
        await channel.queue_bind("dspex.execute", exchange)
        await channel.basic_publish(b"{}", exchange=exchange, routing_key="")

    return publish


OWN = "dspex.reply.publisher.own"
REFUSED: list[tuple[str, str, Deed]] = [
    ("publisher", "take a waiting job", _get("dspex.execute")),
    ("publisher", "consume a work queue", _consume("dspex.control")),
    ("publisher", "empty a work queue", _purge("dspex.execute")),
    ("publisher", "delete a work queue", _delete("dspex.execute")),
    ("publisher", "delete the exchange", lambda channel: channel.exchange_delete("dspex")),
    ("publisher", "declare a work queue", _declare("dspex.other")),
    ("publisher", "read dead letters", _get("dspex.execute.dead")),
    ("publisher", "empty a dead-letter queue", _purge("dspex.execute.dead")),
    ("publisher", "read a delay queue", _get("dspex.delay.200")),
    ("publisher", "read another's replies", _get(BOBS_REPLIES)),
    ("publisher", "delete another's reply queue", _delete(BOBS_REPLIES)),
    ("publisher", "publish to any queue", _publish("", "dspex.execute")),
    ("publisher", "forge a reply", _publish("", BOBS_REPLIES)),
    ("publisher", "forge a dead letter", _publish("dspex.dead", "dspex.execute")),
    ("publisher", "forge a retry", _publish("dspex.delay.200", "dspex.execute")),
    ("publisher", "publish to other applications", _publish("amq.topic")),
    ("publisher", "dead-letter into any queue", _declare(OWN, dead_letter_exchange="")),
    ("publisher", "dead-letter into the dead letters", _declare(OWN, dead_letter_exchange="dspex.dead")),
    ("publisher", "cut a work queue off", lambda channel: channel.queue_unbind("dspex.execute", "dspex", "execute")),
    ("publisher", "bind a work queue", lambda channel: channel.queue_bind("dspex.execute", "amq.topic", "#")),
    ("publisher", "publish to an exchange of its own", _publish_to_own("dspex.reply.publisher.exchange")),
    ("publisher", "listen to jobs", _listen("amq.gen-eavesdropper", "dspex", "execute")),
    ("publisher", "hold the lock of a replay", _declare("dspex.replay-lock.execute.dead")),
    ("worker", "read dead letters", _get("dspex.execute.dead")),
    ("worker", "empty a dead-letter queue", _purge("dspex.execute.dead")),
    ("worker", "read replies", _get(BOBS_REPLIES)),
    ("worker", "delete a reply queue", _delete(BOBS_REPLIES)),
    ("worker", "read a foreign queue", _get(FOREIGN)),
    ("worker", "delete a foreign queue", _delete(FOREIGN)),
    ("worker", "declare a foreign queue", _declare("other")),
    ("worker", "publish to foreign exchanges", _publish("amq.topic")),
    ("operator", "take a waiting job", _get("dspex.execute")),
    ("operator", "consume a work queue", _consume("dspex.execute")),
    ("operator", "empty a work queue", _purge("dspex.execute")),
    ("operator", "delete a work queue", _delete("dspex.execute")),
    ("operator", "delete a dead-letter queue", _delete("dspex.execute.dead")),
    ("operator", "read a delay queue", _get("dspex.delay.200")),
    ("operator", "read replies", _get(BOBS_REPLIES)),
    ("operator", "forge a reply", _publish("", BOBS_REPLIES)),
    ("operator", "forge a dead letter", _publish("dspex.dead", "dspex.execute")),
    ("operator", "cut a work queue off", lambda channel: channel.queue_unbind("dspex.execute", "dspex", "execute")),
    ("operator", "bind a work queue", lambda channel: channel.queue_bind("dspex.execute", "amq.topic", "#")),
    ("operator", "declare a queue", _declare("dspex.other")),
    ("operator", "read a foreign queue", _get(FOREIGN)),
]


@pytest.mark.parametrize("user", ["publisher", "worker", "operator"])
async def test_what_no_part_needs_is_refused(broker: Broker, topology: Topology, user: str) -> None:
    """ACCESS_REFUSED, whatever the user knows of the namespace."""
    async with _connected(broker, user) as connection:
        allowed = [what for who, what, deed in REFUSED if who == user and not await _is_refused(connection, deed)]

    assert allowed == []


async def _is_refused(connection: AbstractConnection, deed: Deed) -> bool:
    async with scratch_channel(connection, has_confirms=True) as channel:
        try:
            await deed(channel)
        except ChannelAccessRefused:
            return True
        return False


async def test_an_exclusive_reply_queue_is_its_owners(broker: Broker, topology: Topology) -> None:
    """Its name alone opens nothing, not even to a user with the same rights."""
    async with _connected(broker, "publisher") as owner, scratch_channel(owner) as own:
        queue = (await own.queue_declare("", exclusive=True)).queue or ""
        async with _connected(broker, "bob") as other, scratch_channel(other) as channel:
            with pytest.raises(ChannelLockedResource):
                await channel.basic_get(queue)


@pytest.mark.parametrize("user", ["publisher", "worker", "operator"])
async def test_nobody_publishes_under_anothers_name(broker: Broker, topology: Topology, user: str) -> None:
    """The broker checks ``user_id``, on which trust and tenancy rest."""
    properties = Basic.Properties(user_id="bob")
    exchange = "" if user == "worker" else NAMESPACE
    async with _connected(broker, user) as connection, scratch_channel(connection, has_confirms=True) as channel:
        with pytest.raises(ChannelPreconditionFailed, match="user_id"):
            await channel.basic_publish(b"{}", exchange=exchange, routing_key="execute", properties=properties)


async def test_the_client_says_what_the_broker_refuses(broker: Broker, topology: Topology) -> None:
    """A call that is refused ends at once, and the client goes on."""
    async with Client(broker.url("publisher"), namespace=NAMESPACE, no_worker=("wait", 0)) as client:
        with pytest.raises(Exception, match="ACCESS_REFUSED"):
            await client.ask("ping", queue=FOREIGN)
        with pytest.raises(TimeoutError):
            await client.ask("ping", timeout=0.5)

    assert await _depth(broker, f"{NAMESPACE}.control") == 1


# Secrets and LMs.


async def test_no_secret_is_logged_answered_or_dead_lettered(
    broker: Broker, topology: Topology, environment: dict[str, str], lm_stub: LMStub
) -> None:
    """Broker password, LM key and the key in a message, at the finest log level; the provider says the key itself."""
    key, sent = "sk-configured-0123456789", "sk-sent-9876543210"
    lm_stub.behaviour = failing(400, code=f"bad key {key}")
    given = {name.removeprefix("DSPEX_").lower(): text for name, text in environment.items()}
    changed = {"amqp_url": broker.url("worker"), "lm_api_key": key, "log_level": "debug"}
    worker = WorkerProcess(clean_environment(**given | changed))
    await worker.start()
    async with Client(broker.url("publisher"), namespace=NAMESPACE) as client:
        replies = [
            await client.ask("execute_program", {"signature": "question -> answer", "inputs": {"question": "?"}}),
            await client.ask("configure_lm", {"model": "other", "api_key": sent}),
            await client.ask("configure_lm", {"model": "default", "api_key": sent}),
        ]
    code = await worker.stop()
    async with _connected(broker, "operator") as connection, scratch_channel(connection) as channel:
        letter = await channel.basic_get(f"{NAMESPACE}.execute.dead", no_ack=True)
    told = f"{worker.log} {json.dumps(replies)} {letter.body!r} {letter.header.properties.headers}"

    assert code == 0
    assert replies[0]["error_detail"]["code"] == "lm_invalid_request"
    assert [secret for secret in (key, sent, "worker-secret") if secret in told] == []


async def test_a_message_can_name_an_alias_and_nothing_else(
    start_worker: StartWorker, broker: Broker, namespace: str, lm_stub: LMStub
) -> None:
    """A URL, a key or a model in it reaches no LM: the reply warns, and the configured one is asked."""
    stranger = LMStub()
    await stranger.start()
    wishes = {
        "api_base": stranger.url,
        "base_url": stranger.url,
        "api_key": "sk-sent",
        "model": "openai/other",
        "headers": {"x-sent": "1"},
    }
    question = {"signature": "question -> answer", "inputs": {"question": "?"}}
    async with start_worker(), Client(broker.node.url, namespace=namespace) as client:
        for place in ({"options": wishes}, {"config": wishes}, wishes):
            result = await client.call("execute_program", {**question, **place})
            assert {name for name in wishes if name in " ".join(result["warnings"])} == set(wishes)
        with pytest.raises(ReplyError) as refused:
            await client.call("execute_program", {**question, "lm": "openai/other"})
    await stranger.stop()

    assert refused.value.code == "lm_not_configured"
    assert (lm_stub.calls, stranger.calls) == (3, 0)
    assert {body["model"] for body in lm_stub.bodies} == {"gpt-4o-mini"}
    assert "sent" not in json.dumps(lm_stub.bodies)


# The script and the definitions.


def test_running_the_script_again_changes_nothing_but_passwords(broker: Broker) -> None:
    """A user without a password keeps its own; a new one needs one, and then nothing happens at all."""
    before = broker.rights()
    again = broker.make_users("publisher bob", "", "# a comment")
    refused = broker.make_users("operator bob", "publisher eve")

    assert (again.returncode, refused.returncode, refused.stdout) == (0, 1, "")
    assert "a new user needs a password: eve" in refused.stderr
    assert broker.rights() == before


async def test_the_definitions_give_the_same_rights(broker: Broker) -> None:
    """For users called as their roles; an import leaves their passwords alone."""
    before = broker.rights()
    broker.node.ctl("clear_permissions", "publisher")
    file = shutil.copy(ROOT / "deploy/rabbitmq/definitions.json", broker.node.folder)
    broker.node.ctl("import_definitions", str(file))
    async with _connected(broker, "publisher") as connection:
        is_closed = connection.is_closed

    assert (broker.rights(), is_closed) == (before, False)
