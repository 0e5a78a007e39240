"""The connection: what the broker is, what was agreed with it, and whether it takes publishes."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractConnection as WireConnection
from aiormq.exceptions import AMQPError, AuthenticationError, ConnectionClosed, ProbableAuthenticationError

from worker.amqp.channels import open_channel
from worker.amqp.connection import connect, is_blocked, mask_url
from worker.amqp.errors import ConnectionLostError
from worker.amqp.tls import explain
from worker.doctor.check import CHECK_SECONDS, Check, error, ok, warning
from worker.doctor.permissions import may_publish
from worker.settings import Settings
from worker.urls import is_loopback

OLDEST_VERSION = (3, 10)
# Two connections, a channel for each lane, each outlet and each question whether a caller is still there.
MIN_CHANNELS = 64
MAX_HEARTBEAT_SECONDS = 60
_CLOSE_SECONDS = 2.0
_ALARM_SECONDS = 1.5


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[AbstractConnection]:
    """Connect for one side of the examination, within the time of a check.

    Raises:
        OSError, aiormq.exceptions.AMQPError: The broker cannot be reached, or refuses.
    """
    async with asyncio.timeout(CHECK_SECONDS):
        connection = await connect(settings.broker_url, name="dspex-worker doctor")
    try:
        yield connection
    finally:
        # A queue that does not answer holds its channel back, and with it an orderly end.
        with contextlib.suppress(TimeoutError, AMQPError, OSError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.close()


def unreachable(settings: Settings, fault: Exception) -> Check:
    """Say why there is no connection."""
    url = settings.amqp_url.get_secret_value()
    reason = str(fault.__cause__ or fault).strip().rstrip(".") or f"no answer within {CHECK_SECONDS:g} seconds"
    if isinstance(fault, (AuthenticationError, ProbableAuthenticationError, ConnectionClosed)):
        mend = "Correct user, password and vhost in DSPEX_AMQP_URL, or make the user on the broker"
        return error("broker", f"{mask_url(url)} refuses the login: {reason}", mend)
    if (trouble := explain(fault)) is not None:
        return error("broker", f"{mask_url(url)} cannot be reached: {trouble}", "Correct what the sentence names")
    mend = "Start the broker, or correct DSPEX_AMQP_URL; look for a firewall between here and there"
    return error("broker", f"{mask_url(url)} cannot be reached: {reason}", mend)


def check_connection(connection: AbstractConnection, settings: Settings) -> list[Check]:
    """Judge what the broker said of itself when the connection was made."""
    wire = _wire(connection)
    tuned = wire.connection_tune
    product, version = (_text(wire.server_properties.get(name)) for name in ("product", "version"))
    url = settings.amqp_url.get_secret_value()
    return [
        ok("broker", f"{mask_url(url)} is reached and the login works"),
        _judge_version(product, version),
        _judge_encryption(url),
        _judge_limits(tuned.frame_max, tuned.channel_max, int(tuned.heartbeat or 0)),
    ]


async def check_alarm(settings: Settings) -> list[Check]:
    """Find out whether publishes are held back.

    The broker tells a connection of an alarm when it first publishes, so one message is published that it refuses.
    """
    async with connected(settings) as connection:
        await may_publish(connection, "")
        if not await _is_held_back(connection):
            return [ok("alarm", "The broker takes publishes")]
    return [
        error(
            "alarm",
            "The broker holds publishes back: memory or disk alarm. No job is started until it ends",
            "`rabbitmq-diagnostics alarms` names the alarm; free memory or disk on the broker's host",
        )
    ]


async def _is_held_back(connection: AbstractConnection) -> bool:
    """Tell whether the broker stopped reading: then even a channel cannot be opened."""
    try:
        async with asyncio.timeout(_ALARM_SECONDS):
            await open_channel(connection)
    except (TimeoutError, ConnectionLostError):
        return is_blocked(connection)
    return is_blocked(connection)


def _judge_version(product: str, version: str) -> Check:
    found = _read_version(version)
    if product != "RabbitMQ" or found is None:
        mend = "Queues of this worker need RabbitMQ's quorum queues: use RabbitMQ"
        return warning("broker version", f"The broker calls itself {product} {version}", mend)
    if found < OLDEST_VERSION:
        return error(
            "broker version",
            f"RabbitMQ {version} has no at-least-once dead-lettering",
            "Upgrade RabbitMQ to 3.10 or later",
        )
    return ok("broker version", f"RabbitMQ {version}")


def _judge_encryption(url: str) -> Check:
    address = urlsplit(url)
    if address.scheme == "amqps":
        return ok("tls", "The connection is encrypted and the broker's certificate was verified")
    if is_loopback(address.hostname or ""):
        return ok("tls", "The connection is not encrypted and stays on this machine")
    mend = "Use amqps:// in DSPEX_AMQP_URL, or make sure that nobody else reads this network"
    return warning("tls", f"The connection to {address.hostname} is not encrypted", mend)


def _judge_limits(frame_max: int, channel_max: int, heartbeat_seconds: int) -> Check:
    sentence = f"frame_max {frame_max} bytes, channel_max {channel_max}, heartbeat {heartbeat_seconds} s"
    # 0 stands for no limit.
    if 0 < channel_max < MIN_CHANNELS:
        return warning("limits", sentence, f"Raise channel_max on the broker to {MIN_CHANNELS} or more")
    if not 0 < heartbeat_seconds <= MAX_HEARTBEAT_SECONDS:
        mend = f"Use a heartbeat of 1 to {MAX_HEARTBEAT_SECONDS} seconds (?heartbeat=10 in DSPEX_AMQP_URL)"
        return warning("limits", f"{sentence}: a dead connection is found late", mend)
    return ok("limits", sentence)


def _wire(connection: AbstractConnection) -> WireConnection:
    if connection.transport is None:
        raise ConnectionLostError("The connection was closed")
    return connection.transport.connection


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _read_version(text: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None
