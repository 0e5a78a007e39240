"""Remove dead letters for good, one by one, each with a line in the audit trail."""

from __future__ import annotations

import uuid
from collections import Counter

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from worker.amqp.channels import scratch_channel
from worker.amqp.connection import losses
from worker.amqp.dead_letters.audit import AuditLine
from worker.amqp.dead_letters.letters import DeadLetterView
from worker.amqp.dead_letters.plan import Plan, Ports, PurgeReport
from worker.amqp.dead_letters.source import Source, depth_of, locked, peek
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

    It looks at as many messages as there were at the start. The results of the jobs, where any are kept, stay kept.

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
        self._counts: Counter[tuple[str | None, str | None]] = Counter()
        self._expired = 0

    async def run(self, depth: int) -> PurgeReport:
        """Look at every letter, and remove those that are meant."""
        unseen = depth
        async for message in peek(self._channel, self._source.queue, depth):
            if self._is_over:
                break
            unseen -= 1
            letter = self._source.view(message)
            if not self._plan.selection.takes(letter):
                self._expired += self._plan.selection.matches(letter)
                continue
            await self._remove(message, letter)
            self._ports.on_progress(self._counts.total(), min(depth, self._plan.limit or depth))
        return self._report(unseen=0 if self._is_over else unseen)

    @property
    def _is_over(self) -> bool:
        return self._ports.stop.is_set() or self._counts.total() == self._plan.limit

    async def _remove(self, message: DeliveredMessage, letter: DeadLetterView) -> None:
        if not self._plan.is_dry_run:
            self._ports.audit(AuditLine.of_purge(letter, source=self._source, run_id=self._id))
            with losses():
                await self._channel.basic_ack(message.delivery_tag or 0)
        self._counts[letter.program_id, letter.code] += 1

    def _report(self, *, unseen: int) -> PurgeReport:
        return PurgeReport(
            queue=self._source.queue,
            is_dry_run=self._plan.is_dry_run,
            is_interrupted=self._ports.stop.is_set(),
            purged=self._counts.total(),
            expired=self._expired,
            unseen=unseen,
            counts=dict(self._counts),
        )
