"""Connect to the broker, and notice when it is gone.

Plain connections, not aio-pika's robust ones: consuming here must be paused, watched and resumed, and a copy must be
published again under our own rules, so a second recovery in the background would only be in the way. A `Link`
connects again when it is asked for a connection and the last one is lost; who asks also restores what stood on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import aio_pika
import aiormq
import structlog
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from pamqp.common import FieldTable
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential
from yarl import URL

from worker.amqp import shortstr
from worker.amqp.errors import ConnectionLostError
from worker.amqp.tls import tls_trouble

HEARTBEAT_SECONDS = 10
CONNECT_SECONDS = 15.0
RPC_SECONDS = 10.0
# A broker that hangs never says goodbye.
CLOSE_SECONDS = 1.0
# aiormq looks each half heartbeat how long the broker has been silent, so this finds a black hole within two.
_SILENT_HEARTBEATS = 1.5
_LOGGED_EVERY = 16
# What aiormq raises when the other side is gone or does not answer.
LOSSES = (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, EOFError)

_log = structlog.get_logger(__name__)


class _Connection(aio_pika.Connection):
    async def connect(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aio-pika's own signature
        try:
            await super().connect(timeout)
        except BaseException:
            # Else the garbage collector closes it, in whatever thread it runs, and warns on stderr.
            await self.close()
            raise


async def connect(url: str, *, name: str) -> AbstractConnection:
    """Open one connection that reads any property a publisher may send.

    ``amqps`` verifies the broker's certificate, with the files that the URL names (`Settings.broker_url`); they are
    read at each call. The heartbeat is 10 seconds unless the URL names another one.

    Args:
        url: ``amqp://`` or ``amqps://`` URL.
        name: Shown in RabbitMQ's management page.

    Raises:
        OSError, aiormq.exceptions.AMQPError: The broker cannot be reached, or refuses.
    """
    shortstr.install()
    aiormq.Connection.HEARTBEAT_GRACE_MULTIPLIER = property(_silence_factor)  # type: ignore[assignment]
    # Unbounded: a full queue would drop a channel's last word, or let frames follow it (`worker.amqp.channels`). Few wait
    # in it all the same, since a publish waits until it is written.
    aiormq.Connection.FRAME_BUFFER_SIZE = 0
    # Each failed attempt is reported here or by the caller; aiormq would add a line of its own.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    address = URL(url)
    if "heartbeat" not in address.query:
        address = address.update_query(heartbeat=str(HEARTBEAT_SECONDS))
    properties: FieldTable = {"connection_name": name, "product": "dspex-worker"}
    with tls_trouble(address):
        return await aio_pika.connect(
            address, client_properties=properties, timeout=CONNECT_SECONDS, connection_class=_Connection
        )


def _silence_factor(connection: aiormq.Connection) -> float:
    """Return what aiormq multiplies with heartbeat + 1: its own 3 finds a black hole after 38 seconds instead of 20."""
    heartbeat = connection.heartbeat_timeout
    return _SILENT_HEARTBEATS * heartbeat / (heartbeat + 1) if heartbeat else 3.0


def user_of(url: str) -> str:
    """Return the broker user that a URL logs in as."""
    return URL(url).user or "guest"


def mask_url(url: str) -> str:
    """Return a URL that may be logged: without its password, wherever it stands."""
    address = URL(url)
    hidden = {name: "***" for name in address.query if "password" in name.lower()}
    address = address.update_query(hidden) if hidden else address
    return str(address.with_password("***") if address.password else address)


def is_worth_a_line(attempt: int) -> bool:
    """Tell whether a failed attempt to connect is logged: 1, 2, 4, 8, 16, then every 16th, about twice a minute."""
    if attempt < _LOGGED_EVERY:
        return attempt & (attempt - 1) == 0
    return attempt % _LOGGED_EVERY == 0


def is_open(connection: AbstractConnection) -> bool:
    """Tell whether a connection can be used now."""
    transport = connection.transport
    return transport is not None and not transport.connection.is_closed


async def ready(connection: AbstractConnection) -> None:
    """Wait until the broker takes publishes: it blocks publishers during a memory or disk alarm."""
    if connection.transport is not None:
        await connection.transport.ready()


def is_blocked(connection: AbstractConnection) -> bool:
    """Tell whether the broker has blocked this connection by a memory or disk alarm."""
    if connection.transport is None:
        return False
    waiting = connection.transport.connection.ready()
    try:
        waiting.send(None)
    except StopIteration:
        return False
    waiting.close()
    return True


@contextmanager
def losses(*passing: type[Exception]) -> Iterator[None]:
    """Turn every way in which aiormq tells of a loss into one error.

    aiormq ends whoever waits on a closed channel with the error of the closing, and that may be a CancelledError
    which nobody asked for; a true cancellation of the caller stays one.

    Args:
        passing: Errors that are an answer here, not a loss. A nack of a publish always is.

    Raises:
        ConnectionLostError: Connection, channel or answer was lost.
    """
    task = asyncio.current_task()
    cancelled_before = task.cancelling() if task else 0
    try:
        yield
    except asyncio.CancelledError as error:
        if task is None or task.cancelling() > cancelled_before:
            raise
        raise ConnectionLostError("The broker closed the channel") from error
    except LOSSES as error:
        if isinstance(error, (DeliveryError, *passing)):
            raise
        raise ConnectionLostError(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        # A channel that closes without a reason ends its waiters with a bare Exception.
        if type(error) is Exception:
            raise ConnectionLostError("The connection was closed") from error
        raise


class Link:
    """A connection that is opened again whenever it is needed and lost.

    Attempt *n* waits U(0, min(4, 0.25 · 2**n)) seconds, for ever: a broker that is away is no reason for a worker to
    end, and many workers must not come back at the same moment. What the log says of it: the attempts of
    `is_worth_a_line`, and once that the broker is back.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: AbstractConnection | None = None
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether there is a live connection."""
        return self._connection is not None and is_open(self._connection)

    @property
    def is_blocked(self) -> bool:
        """Whether the broker holds back what is published here."""
        return self._connection is not None and is_blocked(self._connection)

    async def connection(self) -> AbstractConnection:
        """Return a live connection, however long it takes to get one."""
        async with self._lock:
            if self._connection is None or not is_open(self._connection):
                await self._discard()
                self._connection = await self._connect()
            return self._connection

    async def close(self) -> None:
        """Close the connection, within a second; the broker takes back what is not settled on it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS), self._lock:
                await self._discard()

    async def _connect(self) -> AbstractConnection:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(ConnectionLostError),
            wait=wait_random_exponential(multiplier=0.25, max=4),
            before_sleep=self._report,
        )
        connection: AbstractConnection = await retrying(self._connect_once)
        attempts = retrying.statistics["attempt_number"]
        if attempts > 1:
            _log.info("broker.back", broker=mask_url(self._url), attempts=attempts)
        return connection

    async def _connect_once(self) -> AbstractConnection:
        with losses():
            return await connect(self._url, name=self._name)

    async def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(ConnectionLostError), losses():
                await connection.close()

    def _report(self, state: RetryCallState) -> None:
        if not is_worth_a_line(state.attempt_number):
            return
        error = state.outcome.exception() if state.outcome else None
        _log.warning(
            "broker.unreachable",
            broker=mask_url(self._url),
            attempt=state.attempt_number,
            reason=str(error),
        )
