"""Connect to the broker of ``DSPEX_AMQP_URL`` once: ``python deploy/probe_broker.py``.

Exits with 0 where the broker lets us in; else with 1, and one sentence on stdout that says why not. The password is in
no line of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import aio_pika
from aio_pika.exceptions import AMQPError, AuthenticationError, ProbableAuthenticationError
from aiormq.exceptions import ConnectionClosed
from yarl import URL

_CONNECT_SECONDS = 10.0
_SCHEMES = ("amqp", "amqps")
_REFUSALS = (AuthenticationError, ProbableAuthenticationError, ConnectionClosed)


def main() -> int:
    """Probe the broker and return the exit code."""
    # What goes wrong is told here, in one line; aiormq would add its own.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    fault = asyncio.run(find_fault(os.environ["DSPEX_AMQP_URL"]))
    if fault is None:
        return 0
    print(fault)
    return 1


async def find_fault(url: str) -> str | None:
    """Say why a broker cannot be used, in one sentence; None where it can."""
    try:
        address = URL(url)
    except ValueError as error:
        return f"DSPEX_AMQP_URL is not a URL: {error}."
    if address.scheme not in _SCHEMES or not address.host:
        return "DSPEX_AMQP_URL is not a broker's URL: it must look like amqp://user:password@host:5672/."
    broker = f"The broker {address.with_password('***') if address.password else address} (DSPEX_AMQP_URL)"
    try:
        connection = await aio_pika.connect(address, timeout=_CONNECT_SECONDS)
    except _REFUSALS as error:
        return f"{broker} refuses the connection: {error}."
    except (AMQPError, OSError) as error:
        return f"{broker} cannot be reached: {str(error) or 'no answer in time'}."
    await connection.close()
    return None


if __name__ == "__main__":
    sys.exit(main())
