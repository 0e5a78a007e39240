"""Publishes jobs as a careful client would, whatever breaks, and keeps the books of all replies.

A confirm that never comes means unknown: the job is published again under the same message id. Replies come to a
durable queue and are acked after they were recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from tests.faults.jobs import PROGRAM, SIGNATURE, body_of, label_of, message_id_of
from tests.support.replies import without_mark
from worker.amqp.connection import connect

_CONFIRM_SECONDS = 5.0
_CONNECT_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_PREFETCH = 500
# What aio-pika raises when the other side is gone; RuntimeError where a channel was closed under an operation.
_LOSSES = (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError, asyncio.CancelledError)


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply, as far as it must be the same each time."""

    message_id: str | None
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The reply's body."""
        return dict(json.loads(self.body))

    @property
    def code(self) -> str:
        """The error's code; ``ok`` for a success."""
        document = self.document
        return "ok" if document["success"] else str(document["error_detail"]["code"])

    def is_right(self, number: int) -> bool:
        """Whether this is the result of that job."""
        document = self.document
        return (
            document["success"] is True
            and document["id"] == number
            and document["result"]["outputs"] == {"label": label_of(number)}
        )


@dataclass(slots=True)
class Job:
    """What is known of one job.

    Attributes:
        number: Names it, in its input, its message id and its correlation id.
        publishes: How often it was published.
        confirmed_at: ``time.monotonic()`` of the first confirm, or None.
        answered_at: ``time.monotonic()`` of the first reply, or None.
        answers: The different replies that came; more than one is a fault.
        replies: How many replies came, equal ones too.
    """

    number: int
    publishes: int = 0
    confirmed_at: float | None = None
    answered_at: float | None = None
    answers: list[Answer] = field(default_factory=list)
    replies: int = 0

    @property
    def is_confirmed(self) -> bool:
        """Whether the broker has taken it."""
        return self.confirmed_at is not None


class Load:
    """Publishes jobs and collects their replies; survives the death of its broker.

    Attributes:
        jobs: Number → what is known of it.
        answered: How many jobs have a reply.
        last_reply_at: ``time.monotonic()`` of the newest reply.
        strays: Replies that belong to no job, and second ones to a `call` that differ from the first.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._namespace = namespace
        self._reply_queue = f"{namespace}.reply.load"
        self.jobs: dict[int, Job] = {}
        self.answered = 0
        self.last_reply_at = 0.0
        self.strays: list[AbstractIncomingMessage] = []
        self._others: dict[str, asyncio.Future[Answer]] = {}
        self._arrived = asyncio.Condition()
        self._collecting: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._is_over = False
        self._outlet = _Outlet(url)
        # A broker that is away is what this is about; aiormq would report each attempt.
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)

    async def __aenter__(self) -> Self:
        self._collecting = asyncio.create_task(self._collect(), name="load: replies")
        await self._ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._collecting is not None
        self._is_over = True
        self._collecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._collecting
        await self._outlet.close()

    async def create(self, program_id: str = PROGRAM, signature: str = SIGNATURE) -> None:
        """Create the program that the jobs run."""
        answer = await self.call("create", {"args": {"id": program_id, "signature": signature, "fallback": "never"}})
        assert answer.code == "ok", answer.body

    async def call(self, lane: str, body: dict[str, Any], *, timeout_seconds: float = 30) -> Answer:
        """Publish any other job and wait for its reply."""
        name = f"call-{len(self._others)}"
        future = self._others[name] = asyncio.get_running_loop().create_future()
        await self._outlet.publish(f"{self._namespace}.{lane}", self._message(json.dumps(body).encode(), name))
        return await asyncio.wait_for(future, timeout_seconds)

    async def publish(
        self,
        numbers: Iterable[int],
        *,
        window: int = 128,
        per_second: float | None = None,
        make_body: Callable[[int], dict[str, Any]] = body_of,
    ) -> None:
        """Publish jobs until each one is confirmed.

        Args:
            numbers: Which; one that was published before is published again, as a duplicate.
            window: How many wait for their confirm at once.
            per_second: Publish no faster; None for as fast as the window allows.
            make_body: Number → request.
        """
        began = time.monotonic()
        left = enumerate(numbers)

        async def work() -> None:
            for index, number in left:
                if per_second is not None:
                    await asyncio.sleep(max(0.0, began + index / per_second - time.monotonic()))
                await self._publish(number, make_body)

        await asyncio.gather(*(work() for _ in range(window)))

    async def replied(self, numbers: Iterable[int] | None = None, *, stall_seconds: float = 60.0) -> None:
        """Wait until these jobs (all by default) have a reply, or until nothing has come for a while.

        It does not fail: the oracle says what is missing.

        Args:
            numbers: Which jobs; those whose books are closed meanwhile are done.
            stall_seconds: Give up when no reply at all came for so long.
        """
        wanted = set(self.jobs if numbers is None else numbers)
        async with self._arrived:
            while True:
                wanted = {number for number in wanted if (job := self.jobs.get(number)) and not job.replies}
                if not wanted:
                    return
                before = self.answered
                try:
                    await asyncio.wait_for(self._grown(before + min(50, len(wanted))), stall_seconds)
                except TimeoutError:
                    if self.answered == before:
                        return

    async def reach(self, answered: int) -> None:
        """Wait until so many jobs have a reply."""
        async with self._arrived:
            await self._grown(answered)

    async def _grown(self, answered: int) -> None:
        await self._arrived.wait_for(lambda: self.answered >= answered)

    async def _publish(self, number: int, make_body: Callable[[int], dict[str, Any]]) -> None:
        job = self.jobs.setdefault(number, Job(number))
        body = json.dumps(make_body(number)).encode()
        message = self._message(body, message_id_of(number), correlation_id=str(number))
        job.publishes += await self._outlet.publish(f"{self._namespace}.execute", message)
        if job.confirmed_at is None:
            job.confirmed_at = time.monotonic()

    def _message(self, body: bytes, message_id: str, *, correlation_id: str | None = None) -> aio_pika.Message:
        return aio_pika.Message(
            body,
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=message_id,
            correlation_id=correlation_id or message_id,
            reply_to=self._reply_queue,
        )

    async def _collect(self) -> None:
        """Consume replies to the end, on one connection after the other."""
        # Closing a lost connection may swallow the cancellation.
        while not self._is_over:
            try:
                await self._consume()
            except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _consume(self) -> None:
        connection = await _connect(self._url)
        try:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=_PREFETCH)
            queue = await channel.declare_queue(
                self._reply_queue, durable=True, arguments={"x-queue-type": "quorum"}, timeout=_CONNECT_SECONDS
            )
            await queue.consume(self._take, timeout=_CONNECT_SECONDS)
            self._ready.set()
            await _lost(connection, channel)
        finally:
            with contextlib.suppress(*_LOSSES):
                await connection.close()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        await self._record(message)
        with contextlib.suppress(AMQPError, ChannelInvalidStateError, OSError, RuntimeError):
            await message.ack()

    async def _record(self, message: AbstractIncomingMessage) -> None:
        name = message.correlation_id or ""
        # A reply that comes from the row says since when it is there; all else is as it was sent first.
        answer = Answer(message.message_id, without_mark(message.body))
        async with self._arrived:
            job = self.jobs.get(int(name)) if name.isdecimal() else None
            if job is not None:
                self._note(job, answer)
            elif name in self._others:
                future = self._others[name]
                if not future.done():
                    future.set_result(answer)
                elif future.cancelled() or future.result() != answer:
                    self.strays.append(message)
            else:
                self.strays.append(message)
            self._arrived.notify_all()

    def _note(self, job: Job, answer: Answer) -> None:
        self.last_reply_at = time.monotonic()
        job.replies += 1
        if answer not in job.answers:
            job.answers.append(answer)
        if job.answered_at is None:
            job.answered_at = self.last_reply_at
            self.answered += 1


async def _connect(url: str) -> AbstractConnection:
    """Connect as a worker does, which leaves nothing behind of an attempt that failed."""
    async with asyncio.timeout(_CONNECT_SECONDS):
        return await connect(url, name="load")


async def _lost(connection: AbstractConnection, channel: AbstractChannel) -> None:
    """Wait until the connection or the channel is gone."""
    gone = asyncio.Event()
    connection.close_callbacks.add(lambda *_: gone.set())
    channel.close_callbacks.add(lambda *_: gone.set())
    if not connection.is_closed and not channel.is_closed:
        await gone.wait()


class _Outlet:
    """A channel with confirms that is opened again after it was lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()

    async def publish(self, queue: str, message: aio_pika.Message) -> int:
        """Publish until it is confirmed, and return how often that took."""
        for attempt in itertools.count(1):
            try:
                channel = await self._open()
                await channel.default_exchange.publish(message, routing_key=queue, timeout=_CONFIRM_SECONDS)
            except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError):
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return attempt
        raise AssertionError("an endless count has ended")

    async def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError):
                await connection.close()

    async def _open(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is not None and not self._channel.is_closed:
                return self._channel
            await self.close()
            self._connection = await _connect(self._url)
            self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            return self._channel
