"""Give dead letters back to their work queue.

Two passes over the letters that are there at the start. The first one only looks at all of them: which are meant, which
of those are the oldest if there is a limit, and which would fail again at once; unless it is told to skip or to force
those, nothing moves while there is one. The second one finds the chosen letters again, in whatever order the broker
sends them, and moves them one by one: copy, confirm, a line in the audit trail, ack. Killed anywhere it leaves at most
one duplicate, under the same ``message_id``, which the inbox absorbs; so there is nothing to resume, it is run again.

See Also:
    docs/RELIABILITY.md.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing, suppress
from dataclasses import replace

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import DeliveryError
from pamqp.commands import Basic

from worker.amqp.channels import scratch_channel
from worker.amqp.connection import losses
from worker.amqp.copies import replay_copy
from worker.amqp.dead_letters.audit import AuditLine
from worker.amqp.dead_letters.letters import DeadLetterView, read_trail
from worker.amqp.dead_letters.patches import patch_args
from worker.amqp.dead_letters.plan import Plan, Ports, ReplayReport
from worker.amqp.dead_letters.refusals import object_to, refuse_for
from worker.amqp.dead_letters.search import put_back, until_back
from worker.amqp.dead_letters.source import Source, depth_of, locked
from worker.amqp.dead_letters.survey import Survey, Tally, Verdict, find_again, survey
from worker.amqp.errors import ReplayStoppedError
from worker.amqp.incoming import read
from worker.amqp.topology import Topology
from worker.errors import WorkerError
from worker.message import HEADER_DEADLINE, HEADER_RERUN, HEADER_TIMEOUT, Delivery, Lane, Trail, remember, rerun_of

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

    Letters that come in meanwhile, its own copies that fail again among them, are left alone.
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


class _Replay:
    """One run over a dead-letter queue, on a channel with confirms."""

    def __init__(self, channel: Channel, *, source: Source, plan: Plan, ports: Ports) -> None:
        self._channel = channel
        self._source = source
        self._plan = plan
        self._ports = ports
        self._id = uuid.uuid4().hex

    async def run(self, depth: int) -> ReplayReport:
        """Look at everything, then move what was chosen if it may be moved."""
        found = await survey(self._channel, self._source, depth, plan=self._plan, ports=self._ports, judge=self._judge)
        await put_back(self._channel)
        if self._plan.is_dry_run:
            await until_back(self._channel, self._source.queue, count=found.seen)
            return self._report(found, Tally.of(found))
        if self._ports.stop.is_set() or self._is_held_up_by(found):
            return self._report(found, Tally(unchecked=Tally.of(found).unchecked))
        return self._report(found, await self._move(found))

    def _is_held_up_by(self, found: Survey) -> bool:
        return self._plan.on_refusal == "stop" and any(not refusal.is_final for refusal in found.refusals)

    async def _judge(self, message: DeliveredMessage, letter: DeadLetterView) -> Verdict:
        """Return why a letter would not be replayed, if it would not, and what was looked at for that."""
        refusal = object_to(message, letter, trusted_users=self._source.trusted_users)
        body, is_checked = message.body, True
        try:
            body = self._body(message)
            is_checked = await self._check(message, body, self._trail(message, letter))
        except WorkerError as error:
            refusal = refusal or refuse_for(letter, error)
        if refusal is not None and self._plan.on_refusal == "force" and not refusal.is_final:
            refusal = None
        return Verdict(refusal, is_checked=is_checked, is_patched=body is not message.body)

    def _body(self, message: DeliveredMessage) -> bytes:
        return message.body if self._plan.patch is None else patch_args(message.body, self._plan.patch)

    def _trail(self, message: DeliveredMessage, letter: DeadLetterView) -> Trail:
        """Return the trail of the job to come: the next generation, which remembers how this one ended."""
        old = read_trail(message, trusted_users=self._source.trusted_users)
        history = old.history if letter.death is None else remember(old.history, letter.death)
        # A rerun that the broker itself has dead-lettered, not a worker, tells its generation in no other way.
        last = max(old.generation, rerun_of(message.header.properties.headers or {}) or 0)
        return Trail(
            generation=last + 1,
            original_routing_key=old.original_routing_key,
            tenant=old.tenant,
            history=history,
        )

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

    async def _move(self, found: Survey) -> Tally:
        """Copy, confirm, note and ack, message by message."""
        moved, goal = Tally(is_second_pass=True), len(found.passed)
        pace = _Pace(self._plan.rate, stop=self._ports.stop)
        again = find_again(self._channel, self._source, found, rate=self._plan.rate)
        async with aclosing(again) as messages:
            async for message, chosen in messages:
                if await pace.is_stopped():
                    moved.is_cut = True
                    break
                await self._move_one(message, is_patched=chosen.verdict.is_patched)
                moved.note(chosen)
                self._ports.on_progress(moved.total, goal)
        return moved

    async def _move_one(self, message: DeliveredMessage, *, is_patched: bool) -> None:
        letter = self._source.view(message)
        trail, user_id = self._trail(message, letter), self._source.user_id
        properties = replay_copy(message, trail=trail, replay_id=self._id, user_id=user_id)
        await self._publish(self._replayed_body(message), properties)
        self._ports.audit(AuditLine.of_replay(letter, source=self._source, run_id=self._id, is_patched=is_patched))
        with losses():
            await self._channel.basic_ack(message.delivery_tag or 0)

    def _replayed_body(self, message: DeliveredMessage) -> bytes:
        """Return the body to send; one that is forced through and cannot be patched goes as it is."""
        try:
            return self._body(message)
        except WorkerError:
            return message.body

    async def _publish(self, body: bytes, properties: Basic.Properties) -> None:
        work_queue = self._source.work_queue
        try:
            with losses():
                answer = await self._channel.basic_publish(
                    body,
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

    def _report(self, found: Survey, done: Tally) -> ReplayReport:
        return ReplayReport(
            queue=self._source.queue,
            is_dry_run=self._plan.is_dry_run,
            is_interrupted=self._ports.stop.is_set(),
            total=found.meant,
            wanted=len(found.passed),
            replayed=done.total,
            left=found.meant - done.total,
            expired=found.expired,
            unseen=found.unseen_by(done),
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
