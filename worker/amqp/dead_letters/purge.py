"""Remove dead letters for good, one by one, each with a line in the audit trail."""

from __future__ import annotations

import uuid
from collections import Counter

from aio_pika.abc import AbstractConnection

from worker.amqp.connection import losses, scratch_channel
from worker.amqp.dead_letters.audit import AuditLine
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
    ports = ports or Ports()
    run_id = uuid.uuid4().hex
    counts: Counter[tuple[str | None, str | None]] = Counter()
    expired = 0
    async with locked(connection, source), scratch_channel(connection) as channel:
        depth = await depth_of(connection, source)
        async for message in peek(channel, source.queue, depth):
            if ports.stop.is_set() or counts.total() == plan.limit:
                break
            letter = source.view(message)
            if not plan.selection.takes(letter):
                expired += plan.selection.matches(letter)
                continue
            if not plan.is_dry_run:
                ports.audit(AuditLine.of_purge(letter, source=source, run_id=run_id))
                with losses():
                    await channel.basic_ack(message.delivery_tag or 0)
            counts[letter.program_id, letter.code] += 1
            ports.on_progress(counts.total(), min(depth, plan.limit or depth))
    return PurgeReport(
        queue=source.queue,
        is_dry_run=plan.is_dry_run,
        is_interrupted=ports.stop.is_set(),
        purged=counts.total(),
        expired=expired,
        counts=dict(counts),
    )
