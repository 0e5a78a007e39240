"""Remove dead letters for good, one by one, each with a line in the audit trail."""

from __future__ import annotations

import uuid
from contextlib import aclosing

from aio_pika.abc import AbstractConnection
from aiormq.channel import Channel

from worker.amqp.channels import scratch_channel
from worker.amqp.connection import losses
from worker.amqp.dead_letters.audit import AuditLine
from worker.amqp.dead_letters.plan import Plan, Ports, PurgeReport
from worker.amqp.dead_letters.search import put_back, until_back
from worker.amqp.dead_letters.source import Source, depth_of, locked
from worker.amqp.dead_letters.survey import Survey, Tally, find_again, pass_all, survey
from worker.amqp.topology import Topology
from worker.message import Lane


async def purge(
    connection: AbstractConnection,
    topology: Topology,
    lane: Lane,
    *,
    plan: Plan = Plan(),  # noqa: B008 - frozen
    ports: Ports | None = None,
) -> PurgeReport:
    """Remove the dead letters of a lane that are meant; the others stay where they are.

    Letters that come in meanwhile are left alone. The results of the jobs, where any are kept, stay kept.

    Raises:
        ReplayLockedError: A replay or another purge of this queue is running.
        AuditError: The audit trail takes no more; what was purged is in it.
        ConnectionLostError: The connection was lost; what was purged stays purged.
    """
    source = Source.of(connection, topology, lane=lane, trusted_users=plan.trusted_users)
    async with locked(connection, source), scratch_channel(connection) as channel:
        run = _Purge(channel, source=source, plan=plan, ports=ports or Ports())
        return await run.run(await depth_of(connection, source))


class _Purge:
    """One run over a dead-letter queue."""

    def __init__(self, channel: Channel, *, source: Source, plan: Plan, ports: Ports) -> None:
        self._channel = channel
        self._source = source
        self._plan = plan
        self._ports = ports
        self._id = uuid.uuid4().hex

    async def run(self, depth: int) -> PurgeReport:
        """Look at every letter, and remove those that were chosen."""
        found = await survey(self._channel, self._source, depth, plan=self._plan, ports=self._ports, judge=pass_all)
        await put_back(self._channel)
        if self._plan.is_dry_run:
            await until_back(self._channel, self._source.queue, count=found.seen)
            return self._report(found, Tally.of(found))
        return self._report(found, await self._remove(found))

    async def _remove(self, found: Survey) -> Tally:
        removed, goal = Tally(is_second_pass=True), len(found.passed)
        async with aclosing(find_again(self._channel, self._source, found)) as messages:
            async for message, chosen in messages:
                if self._ports.stop.is_set():
                    removed.is_cut = True
                    break
                letter = self._source.view(message)
                self._ports.audit(AuditLine.of_purge(letter, source=self._source, run_id=self._id))
                with losses():
                    await self._channel.basic_ack(message.delivery_tag or 0)
                removed.note(chosen)
                self._ports.on_progress(removed.total, goal)
        return removed

    def _report(self, found: Survey, done: Tally) -> PurgeReport:
        return PurgeReport(
            queue=self._source.queue,
            is_dry_run=self._plan.is_dry_run,
            is_interrupted=self._ports.stop.is_set(),
            total=found.meant,
            wanted=len(found.passed),
            purged=done.total,
            expired=found.expired,
            unseen=found.unseen_by(done),
            counts=dict(done.counts),
        )
