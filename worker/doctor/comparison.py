"""Compare the broker's queues and exchanges with the topology, argument by argument, and change nothing.

RabbitMQ names one difference at a time: a declaration of what exists is answered with 406, one argument, and both
values. So the broker's value is taken over and the declaration is repeated until nothing differs; then it is a
declaration of what exists, which does nothing. What does not exist is declared with an argument that no queue may have:
the broker looks at the rights first and at the arguments second, so the answer tells the right and nothing is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq.channel import Channel
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from worker.amqp.channels import open_channel, scratch_channel
from worker.amqp.connection import RPC_SECONDS, losses
from worker.amqp.differences import Difference, read_difference
from worker.amqp.errors import ConnectionLostError
from worker.amqp.topology import Exchange, Queue, Topology

_ANSWERS = (ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity, ChannelPreconditionFailed)
_MAX_DIFFERENCES = 20
_GET_SECONDS = 3.0
# No queue may have it: 406, after the rights were looked at.
_IMPOSSIBLE_QUEUE = {"x-max-length": -1}
_IMPOSSIBLE_EXCHANGE: dict[str, Any] = {"alternate-exchange": 0}


class State(Enum):
    """What became of the comparison of one queue or exchange.

    A silent queue is there and answers no get; of what is late, nothing is known.
    """

    SAME = "same"
    DIFFERS = "differs"
    MISSING = "missing"
    REFUSED = "refused"
    SILENT = "silent"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Finding:
    """A queue or an exchange, and how it is on the broker.

    Attributes:
        item: As the topology wants it.
        state: How it is.
        differences: Every argument that differs.
        reason: The broker's own words where it refused.
        may_configure: Whether the broker user may declare it; None where that is not known.
        messages: Ready messages of a queue.
        consumers: Consumers of a queue.
    """

    item: Exchange | Queue
    state: State
    differences: tuple[Difference, ...] = ()
    reason: str = ""
    may_configure: bool | None = None
    messages: int = 0
    consumers: int = 0

    @property
    def kind(self) -> str:
        """``queue`` or ``exchange``."""
        return "queue" if isinstance(self.item, Queue) else "exchange"


async def compare(connection: AbstractConnection, topology: Topology) -> list[Finding]:
    """Compare everything at once, each on channels of its own."""
    items: list[Exchange | Queue] = [*topology.exchanges, *topology.queues]
    return list(await asyncio.gather(*(_compare_one(connection, item) for item in items)))


async def _compare_one(connection: AbstractConnection, item: Exchange | Queue) -> Finding:
    try:
        async with asyncio.timeout(_GET_SECONDS + 1):
            return await _look(connection, item)
    except TimeoutError:
        return Finding(item, State.LATE)


async def _look(connection: AbstractConnection, item: Exchange | Queue) -> Finding:
    try:
        messages, consumers = await _measure(connection, item)
    except ChannelNotFoundEntity:
        return await _look_at_rights(connection, item)
    except _ANSWERS as fault:
        return Finding(item, State.DIFFERS, reason=str(fault))
    finding = await _look_at_arguments(connection, item)
    finding = replace(finding, messages=messages, consumers=consumers)
    if isinstance(item, Queue) and not messages and await _is_silent(connection, item.name):
        return replace(finding, state=State.SILENT)
    return finding


async def _measure(connection: AbstractConnection, item: Exchange | Queue) -> tuple[int, int]:
    async with scratch_channel(connection) as channel:
        with losses(*_ANSWERS):
            if isinstance(item, Exchange):
                await channel.exchange_declare(item.name, passive=True, timeout=RPC_SECONDS)
                return 0, 0
            found = await channel.queue_declare(item.name, passive=True, timeout=RPC_SECONDS)
    return int(found.message_count or 0), int(found.consumer_count or 0)


async def _look_at_rights(connection: AbstractConnection, item: Exchange | Queue) -> Finding:
    missing = Finding(item, State.MISSING, may_configure=True)
    try:
        await _declare(connection, item, _wanted(item, impossible=True))
    except ChannelAccessRefused as fault:
        return replace(missing, may_configure=False, reason=str(fault))
    except _ANSWERS:
        return missing
    return missing


async def _look_at_arguments(connection: AbstractConnection, item: Exchange | Queue) -> Finding:
    attributes = _wanted(item)
    differences: list[Difference] = []
    while len(differences) < _MAX_DIFFERENCES:
        try:
            await _declare(connection, item, attributes)
        except ChannelAccessRefused as fault:
            return Finding(item, State.REFUSED, reason=str(fault), may_configure=False)
        except _ANSWERS as fault:
            difference = read_difference(str(fault))
            if difference is None or difference.argument in {each.argument for each in differences}:
                return Finding(item, State.DIFFERS, tuple(differences), reason=str(fault), may_configure=True)
            differences.append(difference)
            attributes = _taken_over(attributes, difference)
        else:
            break
    state = State.DIFFERS if differences else State.SAME
    return Finding(item, state, tuple(differences), may_configure=True)


async def _declare(connection: AbstractConnection, item: Exchange | Queue, attributes: Mapping[str, Any]) -> None:
    async with scratch_channel(connection) as channel:
        with losses(*_ANSWERS):
            declare = channel.exchange_declare if isinstance(item, Exchange) else channel.queue_declare
            await declare(item.name, timeout=RPC_SECONDS, **attributes)


async def _is_silent(connection: AbstractConnection, queue: str) -> bool:
    """Tell whether a queue that exists answers nobody.

    Only an empty queue is asked, so that no message is taken; one without an answer always says that it is empty.
    """
    channel = await open_channel(connection)
    try:
        async with asyncio.timeout(_GET_SECONDS):
            return await _is_without_answer(channel, queue)
    except TimeoutError:
        # Such a channel cannot be closed either; it goes with the connection.
        return True


async def _is_without_answer(channel: Channel, queue: str) -> bool:
    try:
        with losses(*_ANSWERS):
            await channel.basic_get(queue)
    except ConnectionLostError:
        return False
    except _ANSWERS:
        return False
    # What arrived meanwhile goes back to its place.
    await channel.close()
    return False


def _wanted(item: Exchange | Queue, *, impossible: bool = False) -> dict[str, Any]:
    """Return the arguments of a declaration."""
    if isinstance(item, Exchange):
        arguments = _IMPOSSIBLE_EXCHANGE if impossible else None
        return {"exchange_type": item.kind, "durable": True, "arguments": arguments}
    more = _IMPOSSIBLE_QUEUE if impossible else {}
    return {"durable": True, "arguments": {**item.arguments, **more}}


def _taken_over(attributes: Mapping[str, Any], difference: Difference) -> dict[str, Any]:
    """Return the arguments of a declaration with the broker's value for one of them."""
    name = "exchange_type" if difference.argument == "type" else difference.argument
    value = _value(difference)
    if not name.startswith("x-") and name != "alternate-exchange":
        return {**attributes, name: value}
    arguments = dict(attributes["arguments"] or {})
    arguments.pop(name, None)
    if value is not None:
        arguments[name] = value
    return {**attributes, "arguments": arguments}


def _value(difference: Difference) -> Any:
    text = difference.have
    if difference.is_text or difference.argument == "type":
        return text
    if text in ("true", "false"):
        return text == "true"
    if text == "none":
        return None
    return int(text) if text.lstrip("-").isdecimal() else text
