"""Give dead letters back to their work queue.

A replay copies, waits for the confirm and only then acks, one message at a time: killed anywhere it leaves at most one
duplicate, under the same ``message_id``, which the inbox absorbs.

See Also:
    docs/RELIABILITY.md.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelLockedResource, DeliveryError

from worker.amqp.connection import RPC_SECONDS, losses, scratch_channel, user_of
from worker.amqp.copies import HEADER_REPLAY, replay_copy
from worker.amqp.dead_letters.letters import peek, view
from worker.amqp.errors import ConnectionLostError, ReplayLockedError, ReplayStoppedError
from worker.amqp.incoming import is_copyable
from worker.amqp.topology import Topology, measure
from worker.message import Lane, Trail

CONFIRM_SECONDS = 30.0

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did, or would do.

    Attributes:
        queue: The dead-letter queue.
        is_dry_run: Whether nothing was changed.
        total: Messages it set out to replay.
        replayed: Messages that are back in their work queue; in a dry run, that would be.
        left: Messages that cannot be copied and stay (oversized or unreadable headers).
        counts: (program id or None, code or None) → messages.
    """

    queue: str
    is_dry_run: bool
    total: int
    replayed: int = 0
    left: int = 0
    counts: Mapping[tuple[str | None, str | None], int] = field(default_factory=dict)


async def replay(
    connection: AbstractConnection,
    topology: Topology,
    lane: Lane,
    *,
    is_dry_run: bool = False,
    limit: int | None = None,
    on_progress: OnProgress | None = None,
) -> ReplayReport:
    """Give the dead letters of a lane back to its work queue, each as a job of the next generation.

    It stops after as many messages as there were at the start, or at the first that it has itself produced.
    The connection's user must be the workers' own or in their ``DSPEX_TRUSTED_USERS``, or they ignore the generation.

    Args:
        connection: To the broker.
        topology: The namespace.
        lane: Whose dead letters.
        is_dry_run: Only count, by program and code.
        limit: At most so many messages; None for all.
        on_progress: Called with (messages done, messages in all).

    Raises:
        ReplayLockedError: Another replay of this queue is running.
        ReplayStoppedError: No work queue takes the copies.
        ConnectionLostError: The connection was lost; what was replayed stays replayed.
    """
    queue = topology.dead_queue(lane)
    async with _locked(connection, topology, queue), scratch_channel(connection, has_confirms=True) as channel:
        depth = await measure(connection, queue)
        total = min(depth[0] if depth else 0, limit if limit is not None else 2**63)
        run = _Replay(channel, queue=queue, work_queue=topology.work_queue(lane), user_id=_user(connection))
        if is_dry_run:
            return await run.count(total, on_progress or _no_progress)
        return await run.move(total, on_progress or _no_progress)


class _Replay:
    """One run over a dead-letter queue, on a channel with confirms."""

    def __init__(self, channel: Channel, *, queue: str, work_queue: str, user_id: str) -> None:
        self._channel = channel
        self._queue = queue
        self._work_queue = work_queue
        self._user_id = user_id
        self._id = uuid.uuid4().hex
        self._counts: Counter[tuple[str | None, str | None]] = Counter()
        self._left = 0

    async def count(self, total: int, on_progress: OnProgress) -> ReplayReport:
        """Look at every message, change none."""
        done = 0
        async for message in peek(self._channel, self._queue, total):
            self._note(message)
            done += 1
            on_progress(done, total)
        return self._report(total, is_dry_run=True)

    async def move(self, total: int, on_progress: OnProgress) -> ReplayReport:
        """Copy, confirm, ack, message by message."""
        done = 0
        # What cannot be copied stays unacked until the channel closes, so it is not fetched twice.
        async for message in peek(self._channel, self._queue, total):
            if _header(message, HEADER_REPLAY) == self._id:
                break
            if self._note(message):
                await self._move_one(message)
            done += 1
            on_progress(done, total)
        return self._report(total, is_dry_run=False)

    def _note(self, message: DeliveredMessage) -> bool:
        """Count a message, and tell whether it can be copied."""
        if not is_copyable(message.header.properties):
            self._left += 1
            return False
        seen = view(message)
        self._counts[seen.program_id, seen.code] += 1
        return True

    async def _move_one(self, message: DeliveredMessage) -> None:
        trail = _trail(message, user_id=self._user_id)
        properties = replay_copy(message, trail=trail, replay_id=self._id, user_id=self._user_id)
        try:
            with losses():
                answer = await self._channel.basic_publish(
                    message.body,
                    routing_key=self._work_queue,
                    properties=properties,
                    mandatory=True,
                    timeout=CONFIRM_SECONDS,
                )
        except DeliveryError as error:
            raise ReplayStoppedError(f"{self._work_queue} refuses the copy: {error}") from error
        if isinstance(answer, DeliveredMessage):
            raise ReplayStoppedError(f"There is no queue {self._work_queue}; start a worker, it declares it.")
        with losses():
            await self._channel.basic_ack(message.delivery_tag or 0)

    def _report(self, total: int, *, is_dry_run: bool) -> ReplayReport:
        return ReplayReport(self._queue, is_dry_run, total, self._counts.total(), self._left, dict(self._counts))


@asynccontextmanager
async def _locked(connection: AbstractConnection, topology: Topology, queue: str) -> AsyncIterator[None]:
    """Hold the lock of a queue: an exclusive queue, which the broker frees if this process dies."""
    name = topology.replay_lock(queue)
    async with scratch_channel(connection) as channel:
        try:
            with losses(ChannelLockedResource):
                await channel.queue_declare(name, exclusive=True, timeout=RPC_SECONDS)
        except ChannelLockedResource as error:
            raise ReplayLockedError(f"Another replay of {queue} is running.") from error
        try:
            yield
        finally:
            with suppress(ConnectionLostError), losses():
                await channel.queue_delete(name, timeout=RPC_SECONDS)


def _trail(message: DeliveredMessage, *, user_id: str) -> Trail:
    """Read the trail; a message that RabbitMQ moved still carries what its publisher wrote, forged or not."""
    properties = message.header.properties
    headers: Mapping[str, Any] = properties.headers or {}
    if "x-death" in headers and properties.user_id != user_id:
        return Trail(original_routing_key=_death_key(headers))
    return Trail.from_headers(headers)


def _death_key(headers: Mapping[str, Any]) -> str | None:
    match headers.get("x-death"):
        case [{"routing-keys": [str(key), *_]}, *_]:
            return key
        case _:
            return None


def _header(message: DeliveredMessage, name: str) -> object:
    return (message.header.properties.headers or {}).get(name)


def _user(connection: AbstractConnection) -> str:
    # aio-pika's abstract connection does not name its URL; both of its real ones have it.
    return user_of(str(getattr(connection, "url", "")))


def _no_progress(_done: int, _total: int) -> None:
    pass
