"""Remove a namespace from a broker: ``python deploy/remove_namespace.py NAMESPACE``, with ``DSPEX_AMQP_URL`` set.

Everything that a worker declares under the namespace goes, with the messages in it: this is for namespaces that were
made for one run. AMQP cannot list queues, so the names are those of the wire contract; names that do not exist count
as removed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError

_LANES = ("create", "execute", "control")
DEFAULT_DELAYS_MS = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)


async def remove_namespace(url: str, namespace: str, *, delays_ms: Sequence[int] = DEFAULT_DELAYS_MS) -> None:
    """Delete a namespace's queues and exchanges.

    Args:
        url: The broker's ``amqp://`` URL.
        namespace: What ``DSPEX_NAMESPACE`` was.
        delays_ms: Steps of the delay ladder that may have been declared, in milliseconds.

    Raises:
        aio_pika.exceptions.AMQPError: The broker refused; the rest of the namespace is gone all the same.
        OSError: No broker at the URL.
    """
    delays = [f"{namespace}.delay.{step}" for step in delays_ms]
    lanes = [f"{namespace}.{lane}" for lane in _LANES]
    queues = [*lanes, *(f"{lane}.dead" for lane in lanes), *delays]
    exchanges = [namespace, f"{namespace}.dead", *delays]
    connection = await aio_pika.connect(url)
    async with connection:
        # Exchanges last: a queue that is being deleted may still send its dead letters through one.
        outcomes = await _delete_all(connection, queues=queues, exchanges=())
        outcomes += await _delete_all(connection, queues=(), exchanges=exchanges)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _delete_all(
    connection: AbstractConnection, *, queues: Sequence[str], exchanges: Sequence[str]
) -> list[object | BaseException]:
    async with connection.channel() as channel:
        deletions: list[Coroutine[Any, Any, object]] = [channel.queue_delete(name) for name in queues]
        deletions += [channel.exchange_delete(name) for name in exchanges]
        return await asyncio.gather(*deletions, return_exceptions=True)


def main() -> int:
    """Remove the namespace named on the command line; return the exit code."""
    # What goes wrong is told here, in one line; aiormq would add its own.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        asyncio.run(remove_namespace(os.environ["DSPEX_AMQP_URL"], sys.argv[1]))
    except (AMQPError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
