"""Rights of the broker user, found out with requests that the broker refuses for another reason after the right.

==========  ====================================================================================================
right       what is asked
==========  ====================================================================================================
configure   a declaration: of what exists as it is, of what is missing with an argument that no queue may have
write       a publish with an expiration that is no number; the removal of a binding that nobody has
read        a consumer with a priority that is no number; the same removal
==========  ====================================================================================================

So nothing is declared, published or consumed.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence

from aio_pika.abc import AbstractConnection
from aiormq.channel import Channel
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.commands import Basic

from worker.amqp.channels import scratch_channel
from worker.amqp.connection import RPC_SECONDS, is_blocked, losses
from worker.amqp.topology import Binding, Topology
from worker.doctor.check import Check, error, ok, skipped
from worker.doctor.comparison import Finding, State
from worker.message import LANES

_ANSWERS = (ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed)


async def check_rights(
    connection: AbstractConnection, topology: Topology, *, findings: Sequence[Finding], user: str
) -> list[Check]:
    """Check what a worker needs: to declare everything, to publish, to bind, to consume its lanes."""
    existing = {
        finding.item.name for finding in findings if finding.state in (State.SAME, State.DIFFERS, State.REFUSED)
    }
    lanes = [topology.work_queue(lane) for lane in LANES]
    refused_reads = await asyncio.gather(*(_refused_consume(connection, queue) for queue in lanes if queue in existing))
    bound = [each for each in topology.bindings if {each.queue, each.exchange} <= existing]
    refused_binds = await asyncio.gather(*(_refused_unbind(connection, binding) for binding in bound))
    return [
        _judge("configure", user, (each.reason for each in findings if each.may_configure is False)),
        _judge("read and bind", user, (*refused_reads, *refused_binds)),
    ]


async def check_publishing(connection: AbstractConnection, topology: Topology, *, user: str) -> list[Check]:
    """Check what a worker publishes to: replies, copies for the delay ladder, dead letters."""
    names = ["", topology.dead_exchange, *(topology.delay_name(delay) for delay in topology.delays_ms)]
    refused = []
    for name in names:
        if is_blocked(connection):
            return [skipped("permission to publish", "The broker holds publishes back", "See the check `alarm`")]
        refused.append(await may_publish(connection, name))
    return [_judge("publish", user, refused)]


async def may_publish(connection: AbstractConnection, exchange: str) -> str:
    """Ask for the right to publish to an exchange, and return the broker's refusal, or nothing.

    No queue ever gets the message: its expiration is none, which the broker finds after it has looked at the right.
    """

    async def publish(channel: Channel) -> None:
        await channel.basic_publish(
            b"",
            exchange=exchange,
            routing_key=_nobody(),
            properties=Basic.Properties(expiration="doctor"),
            timeout=RPC_SECONDS,
        )

    return await _refusal(connection, publish, has_confirms=True)


async def _refused_consume(connection: AbstractConnection, queue: str) -> str:
    async def consume(channel: Channel) -> None:
        await channel.basic_consume(queue, _ignore, arguments={"x-priority": "doctor"}, timeout=RPC_SECONDS)

    return await _refusal(connection, consume)


async def _refused_unbind(connection: AbstractConnection, binding: Binding) -> str:
    async def unbind(channel: Channel) -> None:
        await channel.queue_unbind(binding.queue, binding.exchange, routing_key=_nobody(), timeout=RPC_SECONDS)

    return await _refusal(connection, unbind)


async def _refusal(
    connection: AbstractConnection, ask: Callable[[Channel], Awaitable[None]], *, has_confirms: bool = False
) -> str:
    """Ask on a channel of its own, which the broker closes as an answer; return its refusal of the right, or nothing."""
    try:
        async with scratch_channel(connection, has_confirms=has_confirms) as channel:
            with losses(*_ANSWERS):
                await ask(channel)
    except ChannelAccessRefused as fault:
        return str(fault)
    except _ANSWERS:
        return ""
    return ""


async def _ignore(_message: object) -> None:
    """Take what never comes."""


def _judge(right: str, user: str, refusals: Iterable[str]) -> Check:
    name = f"permission to {right}"
    reasons = sorted({_short(refusal) for refusal in refusals if refusal})
    if not reasons:
        return ok(name, f"User {user} has the rights")
    mend = f"Give user {user} the rights of a worker: deploy/rabbitmq has them, and a script that sets them"
    return error(name, f"User {user} is refused {', '.join(reasons)}", mend)


def _short(refusal: str) -> str:
    """Return what a refusal is about: a queue or an exchange."""
    found = re.search(r"(?:queue|exchange) '[^']*'", refusal)
    return found[0] if found else refusal


def _nobody() -> str:
    return f"dspex-doctor-{secrets.token_hex(8)}"
