"""Give dead letters back to their work queue.

Two passes over as many messages as there were at the start. The first one only looks: which letters are meant, and
which of them would fail again at once; unless it is told to skip or to force those, nothing moves while there is one.
The second one moves, message by message: copy, confirm, a line in the audit trail, ack. Killed anywhere it leaves at
most one duplicate, under the same ``message_id``, which the inbox absorbs; so there is nothing to resume, it is run
again.

See Also:
    docs/RELIABILITY.md.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import DeliveryError

from worker.amqp.channels import scratch_channel
from worker.amqp.connection import losses
from worker.amqp.copies import HEADER_REPLAY, replay_copy
from worker.amqp.dead_letters.audit import AuditLine
from worker.amqp.dead_letters.letters import DeadLetterView, read_header, read_trail
from worker.amqp.dead_letters.patches import patch_args
from worker.amqp.dead_letters.plan import Plan, Ports, ReplayReport
from worker.amqp.dead_letters.refusals import Refusal, object_to, refuse_for
from worker.amqp.dead_letters.source import Source, browse, depth_of, locked, peek, put_back
from worker.amqp.errors import ReplayStoppedError
from worker.amqp.incoming import read
from worker.amqp.topology import Topology
from worker.errors import WorkerError
from worker.message import HEADER_DEADLINE, HEADER_RERUN, HEADER_TIMEOUT, Delivery, Lane, Trail, rerun_of

CONFIRM_SECONDS = 30.0
# What a replay leaves out: it holds for the job as it was sent.
_OF_THE_SENDING = (HEADER_DEADLINE, HEADER_RERUN, HEADER_TIMEOUT)


async def replay(
    connection: AbstractConnection,
    topology: Topology,
    lane: Lane,
    *,
    plan: Plan = Plan(),  # noqa: B008 - frozen
    ports: Ports | None = None,
) -> ReplayReport:
    """Give the dead letters of a lane back to its work queue, each as a job of the next generation.

    It stops after as many messages as there were at the start, or at the first that it has itself produced.
    The connection's user must be the workers' own or in their ``DSPEX_TRUSTED_USERS``, or they ignore the generation.

    Args:
        connection: To the broker.
        topology: The namespace.
        lane: Whose dead letters.
        plan: Which ones, and how; by default all that failed, unless one of them would be refused.
        ports: What it calls on the way.

    Raises:
        ReplayLockedError: Another replay or purge of this queue is running.
        ReplayStoppedError: No work queue takes the copies.
        AuditError: The audit trail takes no more; the letter in hand stays and is replayed by the next run.
        ConnectionLostError: The connection was lost; what was replayed stays replayed.
    """
    source = Source.of(connection, topology, lane=lane, trusted_users=plan.trusted_users)
    async with locked(connection, source), scratch_channel(connection, has_confirms=True) as channel:
        run = _Replay(channel, source=source, plan=plan, ports=ports or Ports())
        return await run.run(await depth_of(connection, source))


@dataclass(frozen=True, slots=True)
class _Copy:
    """A letter that may be replayed, with the trail and the body of the job to come."""

    message: DeliveredMessage
    letter: DeadLetterView
    trail: Trail
    body: bytes
    is_checked: bool

    @property
    def is_patched(self) -> bool:
        return self.body is not self.message.body


@dataclass(slots=True)
class _Findings:
    """What one pass has found.

    ``is_cut`` tells that it was ended, by a stop or by the limit, and did not run out of letters.
    """

    seen: int = 0
    is_cut: bool = False
    meant: int = 0
    expired: int = 0
    unchecked: int = 0
    patched: int = 0
    counts: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    refusals: list[Refusal] = field(default_factory=list)

    def note(self, copy: _Copy) -> None:
        """Count a letter that is, or would be, replayed."""
        self.counts[copy.letter.program_id, copy.letter.code] += 1
        self.patched += copy.is_patched
        self.unchecked += not copy.is_checked


class _Replay:
    """One run over a dead-letter queue, on a channel with confirms."""

    def __init__(self, channel: Channel, *, source: Source, plan: Plan, ports: Ports) -> None:
        self._channel = channel
        self._source = source
        self._plan = plan
        self._ports = ports
        self._id = uuid.uuid4().hex

    async def run(self, depth: int) -> ReplayReport:
        """Look at everything, then move it if it may be moved."""
        found = await self._survey(depth)
        unseen = 0 if found.is_cut else depth - found.seen
        if self._plan.is_dry_run:
            return self._report(found, done=found, unseen=unseen)
        if self._ports.stop.is_set() or self._is_held_up_by(found.refusals):
            return self._report(found, done=_Findings(unchecked=found.unchecked), unseen=unseen)
        moved = await self._move(found)
        if not moved.is_cut:
            unseen += found.seen - moved.seen
        return self._report(found, done=moved, unseen=unseen)

    async def _survey(self, depth: int) -> _Findings:
        """Look at every message, change none."""
        found = _Findings()
        async for copy in self._copies(browse(self._channel, self._source.queue, depth), found):
            found.note(copy)
            if self._plan.is_dry_run:
                self._ports.on_progress(found.counts.total(), depth)
        await put_back(self._channel)
        return found

    def _is_held_up_by(self, refusals: list[Refusal]) -> bool:
        return self._plan.on_refusal == "stop" and any(not refusal.is_final for refusal in refusals)

    async def _move(self, found: _Findings) -> _Findings:
        """Copy, confirm, note and ack, message by message."""
        moved, goal = _Findings(), found.counts.total()
        pace = _Pace(self._plan.rate, stop=self._ports.stop)
        async for copy in self._copies(peek(self._channel, self._source.queue, found.seen), moved):
            if await pace.is_stopped():
                moved.is_cut = True
                break
            await self._move_one(copy)
            moved.note(copy)
            self._ports.on_progress(moved.counts.total(), goal)
        return moved

    async def _copies(self, messages: AsyncGenerator[DeliveredMessage], found: _Findings) -> AsyncIterator[_Copy]:
        """Yield what may be replayed of some messages.

        The others stay unacked until the channel closes, so that none is fetched twice.
        """
        async with aclosing(messages):
            async for message in messages:
                if self._ports.stop.is_set():
                    found.is_cut = True
                    return
                if read_header(message, HEADER_REPLAY) == self._id:
                    return
                found.seen += 1
                copy = await self._prepare(message, found)
                if copy is not None:
                    yield copy
                if found.counts.total() == self._plan.limit:
                    found.is_cut = True
                    return

    async def _prepare(self, message: DeliveredMessage, found: _Findings) -> _Copy | None:
        """Return what would be published for a letter, or None where it stays."""
        letter = self._source.view(message)
        if not self._plan.selection.takes(letter):
            found.expired += self._plan.selection.matches(letter)
            return None
        found.meant += 1
        old = read_trail(message, trusted_users=self._source.trusted_users)
        # A rerun that the broker itself has dead-lettered, not a worker, tells its generation in no other way.
        last = max(old.generation, rerun_of(message.header.properties.headers or {}) or 0)
        trail = Trail(generation=last + 1, original_routing_key=old.original_routing_key, tenant=old.tenant)
        refusal = object_to(message, letter, trusted_users=self._source.trusted_users)
        body, is_checked = message.body, True
        try:
            body = body if self._plan.patch is None else patch_args(body, self._plan.patch)
            is_checked = await self._check(message, body, trail)
        except WorkerError as error:
            refusal = refusal or refuse_for(letter, error)
        if refusal is not None and (refusal.is_final or self._plan.on_refusal != "force"):
            found.refusals.append(refusal)
            return None
        return _Copy(message, letter, trail, body, is_checked)

    async def _check(self, message: DeliveredMessage, body: bytes, trail: Trail) -> bool:
        """Ask whether a worker would take the job, and return whether its inputs could be checked."""
        if self._ports.check is None:
            return True
        source = self._source
        incoming = read(message, lane=source.lane, queue=source.work_queue, trusted_users=source.trusted_users)
        old = incoming.delivery
        headers = {name: value for name, value in old.headers.items() if name not in _OF_THE_SENDING}
        job: Delivery = replace(old, body=body, headers=headers, trail=trail, user_id=trail.tenant, is_rerun=False)
        return await self._ports.check(job)

    async def _move_one(self, copy: _Copy) -> None:
        user_id = self._source.user_id
        properties = replay_copy(copy.message, trail=copy.trail, replay_id=self._id, user_id=user_id)
        work_queue = self._source.work_queue
        try:
            with losses():
                answer = await self._channel.basic_publish(
                    copy.body,
                    exchange=self._source.exchange,
                    routing_key=self._source.lane,
                    properties=properties,
                    mandatory=True,
                    timeout=CONFIRM_SECONDS,
                )
        except DeliveryError as error:
            raise ReplayStoppedError(f"{work_queue} refuses the copy: {error}") from error
        if isinstance(answer, DeliveredMessage):
            raise ReplayStoppedError(f"There is no queue {work_queue}; start a worker, it declares it.")
        self._ports.audit(
            AuditLine.of_replay(copy.letter, source=self._source, run_id=self._id, is_patched=copy.is_patched)
        )
        with losses():
            await self._channel.basic_ack(copy.message.delivery_tag or 0)

    def _report(self, found: _Findings, *, done: _Findings, unseen: int) -> ReplayReport:
        """Set what was moved against what the survey found; letters that came in between are on top of it."""
        total, replayed = max(found.meant, done.meant), done.counts.total()
        return ReplayReport(
            queue=self._source.queue,
            is_dry_run=self._plan.is_dry_run,
            is_interrupted=self._ports.stop.is_set(),
            total=total,
            replayed=replayed,
            left=total - replayed,
            expired=found.expired,
            unseen=unseen,
            unchecked=done.unchecked,
            patched=done.patched,
            counts=dict(done.counts),
            refusals=tuple(found.refusals),
        )


class _Pace:
    """At most so many steps a second, evenly; the wait ends early when the run is to stop."""

    def __init__(self, rate: float | None, *, stop: asyncio.Event) -> None:
        self._seconds = 0.0 if rate is None else 1 / rate
        self._stop = stop
        self._next = 0.0

    async def is_stopped(self) -> bool:
        """Wait for the next step, and tell whether there is none."""
        clock = asyncio.get_running_loop().time
        wait = self._next - clock()
        if wait > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stop.wait()
        self._next = max(self._next, clock()) + self._seconds
        return self._stop.is_set()
