"""Declaring what a worker needs, and saying what differs."""

from __future__ import annotations

import time

import pytest
from aio_pika.abc import AbstractConnection
from yarl import URL

from tests.faults.proxy import Proxy
from tests.integration.amqp.conftest import MakeHandler, StartConsumer
from worker.amqp.channels import scratch_channel
from worker.amqp.connection import connect
from worker.amqp.errors import TopologyError
from worker.amqp.topology import Topology, count_consumers, declare, measure, remove
from worker.message import Ack


async def test_declaring_twice_changes_nothing(connection: AbstractConnection, topology: Topology) -> None:
    """Every worker declares at its start."""
    await declare(topology, connection)
    await declare(topology, connection)

    assert [await measure(connection, queue.name) for queue in topology.queues] == [(0, 0)] * 8


async def test_declaring_again_through_a_slow_network_is_one_round_trip(
    connection: AbstractConnection, topology: Topology, amqp_url: str
) -> None:
    """A worker that comes back declares three times; 20 round trips each would keep it away for long."""
    await declare(topology, connection)
    async with Proxy(URL(amqp_url).port or 0) as proxy:
        slow = await connect(proxy.url(amqp_url), name="slow")
        proxy.latency_seconds = 0.2
        before = time.monotonic()
        await declare(topology, slow)
        seconds = time.monotonic() - before
        proxy.latency_seconds = 0.0
        await slow.close()

    # Three of 0.4 s: the channel opened, all declared, the channel closed.
    assert 1.2 <= seconds < 2.4


async def test_every_difference_is_told_with_what_to_do(
    connection: AbstractConnection, topology: Topology, namespace: str
) -> None:
    """Queue, argument, have, want, mend: one sentence each, all at once."""
    await declare(Topology.of(namespace=namespace, delays_ms=[200], dead_letter_max_bytes=2**21), connection)
    async with scratch_channel(connection) as channel:
        await channel.queue_delete(f"{namespace}.delay.200")
        await channel.queue_declare(f"{namespace}.delay.200", durable=True, arguments={"x-queue-type": "quorum"})
    with pytest.raises(TopologyError) as raised:
        await declare(topology, connection)

    sentences = str(raised.value).splitlines()
    mend = "Empty the queue, delete it and start the worker again, or use another DSPEX_NAMESPACE."
    assert sentences[0] == (
        f"The queue {namespace}.create.dead has x-max-length-bytes = 2097152, this worker wants 1048576. {mend}"
    )
    assert sentences[3].startswith(f"The queue {namespace}.delay.200 has ")
    assert sentences[3].endswith(f". {mend}")
    assert len(sentences) == 4


async def test_a_consumer_does_not_start_on_another_topology(
    connection: AbstractConnection,
    topology: Topology,
    namespace: str,
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
) -> None:
    """It says so at its start and not job by job."""
    await declare(Topology.of(namespace=namespace, delays_ms=[200], dead_letter_max_bytes=2**21), connection)
    with pytest.raises(TopologyError):
        async with start_consumer(make_handler(Ack()).handle):
            pass


async def test_consumers_are_counted(
    connection: AbstractConnection, topology: Topology, make_handler: MakeHandler, start_consumer: StartConsumer
) -> None:
    """None says that there is no such queue."""
    queue = topology.work_queue("execute")
    counts = [await count_consumers(connection, queue)]
    async with start_consumer(make_handler(Ack()).handle):
        counts.append(await count_consumers(connection, queue))
    counts.append(await count_consumers(connection, queue))

    assert counts == [None, 1, 0]


async def test_remove_leaves_nothing(connection: AbstractConnection, topology: Topology) -> None:
    """Removing twice is no error."""
    await declare(topology, connection)
    await remove(topology, connection)
    await remove(topology, connection)

    assert [await measure(connection, queue.name) for queue in topology.queues] == [None] * 8
