"""Tell losses of the connection, and what the broker refuses, from each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from worker.client.errors import ClientError, NoWorkerError
from worker.client.request import Route


@contextlib.contextmanager
def as_connection_error() -> Iterator[None]:
    """Turn every way in which aiormq tells of a loss into a `ConnectionError`, and lose no cancellation.

    It ends who waits on a connection that goes away with the connection's own error, with a bare Exception, or with a
    CancelledError that nobody asked for; and it may swallow one that the caller did ask for while a channel closes,
    which would leave a call without its time-out.
    """
    task = asyncio.current_task()
    cancelled_before = task.cancelling() if task else 0
    loss: BaseException | None = None
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - what it means is decided below
        loss = error
    if task is not None and task.cancelling() > cancelled_before:
        raise asyncio.CancelledError from loss
    if isinstance(loss, ConnectionError):
        raise loss
    if loss is not None:
        raise ConnectionError(f"The connection to the broker failed: {loss}") from loss


def refusal(error: Exception, route: Route, *, size: int) -> ClientError | None:
    """Return what a failed publish means for its request; None where the request only lost its channel by another's.

    The broker closes the whole channel for an exchange that it does not have or refuses, and for a body that is too
    large, and names which; the keeper publishes the others again.

    Args:
        error: What the publish raised.
        route: Where the request was to go.
        size: The body's bytes.
    """
    match error:
        case PublishError():
            return NoWorkerError(f"There is no queue {route.queue} on the broker")
        case DeliveryError():
            return ClientError(f"The broker refused the request: the queue {route.queue} is full")
        case ChannelNotFoundEntity() if _names(error, route):
            return NoWorkerError(f"There is no exchange {route.exchange}: has a worker run in this namespace?")
        case ChannelAccessRefused() if _names(error, route):
            return ClientError(f"The broker refuses the request: {error}")
        case ChannelPreconditionFailed() if f"message size {size} is larger" in str(error):
            return ClientError(f"The broker refuses the request: {error}")
        case _:
            return None


def _names(error: Exception, route: Route) -> bool:
    return f"'{route.exchange or 'amq.default'}'" in str(error)
