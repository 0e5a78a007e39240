"""All checks of a deployment, the sides at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPError

from worker.amqp.connection import user_of
from worker.amqp.errors import ConnectionLostError
from worker.amqp.topology import Topology
from worker.doctor import broker, lm, management, permissions, store, topology, traffic, workers
from worker.doctor.check import Check, Verdict, bounded, error, ok, skipped
from worker.doctor.comparison import Finding, compare
from worker.doctor.workers import Workforce
from worker.settings import Settings

# Its parts have their own times; this one is for what falls between them.
_QUEUES_SECONDS = 25.0
_NEEDS_BROKER = (
    "alarm",
    "topology",
    "permission to configure",
    "permission to read and bind",
    "permission to publish",
    "consumers",
    "dead letters",
    "delays",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What an examination may do besides looking.

    Attributes:
        is_declaring: Declare queues and exchanges that are missing.
        is_calling_lm: Make one call to each LM alias.
        management_url: Of RabbitMQ's management API, with user and password; None to do without.
    """

    is_declaring: bool = False
    is_calling_lm: bool = False
    management_url: str | None = None


async def examine(settings: Settings, options: Options) -> list[Check]:
    """Make all checks; each has its own time, and none stops another."""
    workforce = await workers.look(settings)
    sides = await asyncio.gather(
        _broker_side(settings, options, workforce), _store_side(settings), _lm_side(settings, options, workforce)
    )
    told = [check for side in sides for check in side]
    return [check_settings(settings), *told, *workers.check_workers(workforce)]


def check_settings(settings: Settings) -> Check:
    """Say what the settings promise: they could be read, so their times nest."""
    times = (
        f"LM call {settings.lm_timeout_seconds:g} s < job {settings.job_timeout_seconds:g} s < drain "
        f"{settings.drain:g} s < ack time-out {settings.ack_timeout_seconds:g} s"
    )
    return ok("settings", times)


def unreadable_settings(reason: str) -> Check:
    """Say that there is nothing to examine."""
    return error("settings", reason, "Correct the environment; `dspex-worker serve -h` lists every setting")


def has_errors(checks: Sequence[Check], *, is_strict: bool) -> bool:
    """Tell whether a deployment failed its examination; with ``is_strict`` by a warning, too."""
    bad = {Verdict.ERROR, Verdict.WARNING} if is_strict else {Verdict.ERROR}
    return any(check.verdict in bad for check in checks)


async def _broker_side(settings: Settings, options: Options, workforce: Workforce) -> list[Check]:
    wanted = Topology.of(namespace=settings.namespace, delays_ms=settings.delays_ms)
    told, beside = await asyncio.gather(
        _amqp_side(settings, wanted, options, workforce),
        bounded("management", lambda: management.check_management(settings, wanted, url=options.management_url)),
    )
    return [*told, *beside]


async def _amqp_side(settings: Settings, wanted: Topology, options: Options, workforce: Workforce) -> list[Check]:
    try:
        async with broker.connected(settings) as connection:
            return [
                *broker.check_connection(connection, settings),
                *await bounded("alarm", lambda: broker.check_alarm(settings)),
                *await bounded(
                    "queues",
                    lambda: _check_queues(connection, settings, wanted, options, lms_down=workforce.lms_down),
                    seconds=_QUEUES_SECONDS,
                ),
                *await bounded("permission to publish", lambda: _check_publishing(settings, wanted)),
            ]
    except (AMQPError, OSError, ConnectionLostError) as fault:
        rest = (skipped(name, "The broker cannot be reached") for name in _NEEDS_BROKER)
        return [broker.unreachable(settings, fault), *rest]


async def _check_publishing(settings: Settings, wanted: Topology) -> list[Check]:
    """Publish on a connection of its own: an alarm would stop all else that is asked on it."""
    user = user_of(settings.amqp_url.get_secret_value())
    async with broker.connected(settings) as connection:
        return await permissions.check_publishing(connection, wanted, user=user)


async def _check_queues(
    connection: AbstractConnection, settings: Settings, wanted: Topology, options: Options, *, lms_down: Sequence[str]
) -> list[Check]:
    findings = await compare(connection, wanted)
    declared: list[Check] = []
    if options.is_declaring:
        before = findings
        declared = await bounded("declare", lambda: _declare(connection, wanted, before))
        findings = await compare(connection, wanted)
    user = user_of(settings.amqp_url.get_secret_value())
    queues = {finding.item.name: finding for finding in findings if finding.kind == "queue"}
    return [
        *declared,
        *topology.judge_topology(findings),
        *await bounded(
            "permissions", lambda: permissions.check_rights(connection, wanted, findings=findings, user=user)
        ),
        *traffic.check_consumers(wanted, queues),
        *await bounded(
            "dead letters",
            lambda: traffic.check_dead_letters(connection, wanted, queues, trusted_users=settings.trusted_users),
        ),
        *traffic.check_delays(wanted, queues, lms_down=lms_down),
    ]


async def _declare(connection: AbstractConnection, wanted: Topology, findings: list[Finding]) -> list[Check]:
    return [await topology.declare_missing(connection, wanted, findings)]


async def _store_side(settings: Settings) -> list[Check]:
    return await bounded("store", lambda: store.check_store(settings))


async def _lm_side(settings: Settings, options: Options, workforce: Workforce) -> list[Check]:
    aliases = workers.judge_circuits(lm.check_aliases(settings), workforce)
    if not options.is_calling_lm:
        return [*aliases, *lm.not_called(settings)]
    # Loading DSPy takes seconds, and is no part of what the call may take.
    seconds = lm.call_seconds(settings) + 30
    return [*aliases, *await bounded("lm call", lambda: lm.call_aliases(settings), seconds=seconds)]
