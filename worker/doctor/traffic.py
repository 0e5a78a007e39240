"""What waits in the queues, and whether somebody takes it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPError

from worker.amqp.dead_letters import show
from worker.amqp.errors import BrokerError
from worker.amqp.topology import Topology
from worker.doctor.check import Check, error, ok, skipped, span, warning
from worker.doctor.comparison import Finding, State
from worker.message import LANES, Lane

_EXISTING = (State.SAME, State.DIFFERS, State.REFUSED)


def check_consumers(topology: Topology, findings: Mapping[str, Finding]) -> list[Check]:
    """Look for lanes that nobody works on; jobs that wait there wait for ever."""
    return [_judge_lane(lane, findings.get(topology.work_queue(lane))) for lane in LANES]


async def check_dead_letters(
    connection: AbstractConnection,
    topology: Topology,
    findings: Mapping[str, Finding],
    *,
    trusted_users: Collection[str] = (),
) -> list[Check]:
    """Count the dead letters of each lane, with the age of the oldest, as a trusted user tells it."""

    async def age_in(lane: Lane) -> str:
        return await _oldest_age(connection, topology, lane, trusted_users=trusted_users)

    return [await _judge_dead(lane, findings.get(topology.dead_queue(lane)), age_in=age_in) for lane in LANES]


def check_delays(topology: Topology, findings: Mapping[str, Finding], *, lms_down: Sequence[str]) -> list[Check]:
    """Count the jobs that wait for another attempt: a warning where an LM is down, for they circle until it answers."""
    found = {delay: findings.get(topology.delay_name(delay)) for delay in topology.delays_ms}
    waiting = {delay: each.messages for delay, each in found.items() if each is not None and each.messages}
    if not waiting:
        return [ok("delays", "No job waits for another attempt")]
    steps = ", ".join(f"{messages} for {span(delay / 1_000)}" for delay, messages in waiting.items())
    sentence = f"Jobs wait for another attempt: {steps}"
    if lms_down:
        mend = "They run again by themselves once the LM answers, unless they grow too old; see the check of the alias"
        return [
            warning(
                "delays", f"{sum(waiting.values())} jobs wait while {', '.join(lms_down)} is down; {sentence}", mend
            )
        ]
    return [ok("delays", sentence)]


def _judge_lane(lane: Lane, finding: Finding | None) -> Check:
    name = f"consumers {lane}"
    if finding is None or finding.state not in _EXISTING:
        return skipped(name, "The queue is missing or does not answer")
    if finding.consumers:
        return ok(name, f"{finding.consumers} consumers, {finding.messages} jobs wait")
    mend = "Start a worker: `dspex-worker serve`; if one runs, its /readyz says why it does not consume"
    if finding.messages:
        return error(name, f"{finding.messages} jobs wait and nobody consumes", mend)
    return warning(name, "Nobody consumes", mend)


async def _judge_dead(lane: Lane, finding: Finding | None, *, age_in: Callable[[Lane], Awaitable[str]]) -> Check:
    name = f"dead letters {lane}"
    if finding is None or finding.state not in _EXISTING:
        return skipped(name, "The queue is missing or does not answer")
    if not finding.messages:
        return ok(name, "None")
    age = await age_in(lane)
    mend = f"`dspex-worker dead show {lane}` says why; `dspex-worker dead replay {lane}` sends them back to work"
    return warning(name, f"{finding.messages} dead letters{age}", mend)


async def _oldest_age(
    connection: AbstractConnection, topology: Topology, lane: Lane, *, trusted_users: Collection[str]
) -> str:
    try:
        letters = await show(connection, topology, lane, limit=1, trusted_users=trusted_users)
    except (BrokerError, AMQPError):
        # Who may not read them may still know that they are there.
        return ""
    failed_ms = letters[0].first_failed_ms if letters else None
    return "" if failed_ms is None else f", the oldest {span(max(0.0, time.time() - failed_ms / 1_000))} old"
