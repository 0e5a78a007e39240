"""What all tests share: the real broker, the real PostgreSQL, and a namespace per test.

``make test`` provides the services; with one missing, the tests that need it fail and say so, and none is skipped.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from aio_pika.abc import AbstractConnection
from remove_namespace import DEFAULT_DELAYS_MS, remove_namespace

from worker.amqp.connection import connect

# Steps of the shorter ladders that tests give their workers; a step that no test declared costs one round trip.
_TEST_DELAYS_MS = (10, 20, 50, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1_500, 2_000, 3_000, 4_000, 10_000)


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f'{name} is not set: run `make test ARGS="..."`, which starts what the tests need.', pytrace=False)
    return value


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """The ``amqp://`` URL of a real broker."""
    return _from_environment("DSPEX_AMQP_URL")


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """The ``postgresql://`` URL of a real server, as a user who may create databases."""
    return _from_environment("DSPEX_TEST_POSTGRES_URL")


@pytest.fixture
async def namespace(amqp_url: str) -> AsyncIterator[str]:
    """A namespace of the test's own; its queues and exchanges are removed afterwards."""
    name = f"{os.environ.get('DSPEX_NAMESPACE', 'dspex')}-{secrets.token_hex(4)}"
    yield name
    await remove_namespace(amqp_url, name, delays_ms=(*_TEST_DELAYS_MS, *DEFAULT_DELAYS_MS))


@pytest.fixture
async def connection(amqp_url: str) -> AsyncIterator[AbstractConnection]:
    """A connection as a worker opens one."""
    connection = await connect(amqp_url, name="test")
    yield connection
    await connection.close()


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Undo what a test's command line configured: it logs to a stream that is closed by now."""
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    structlog.reset_defaults()
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
