"""A worker in this process, on the real broker, with an LM that does as it is told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support.caller import Caller
from tests.support.lm_stub import LMStub
from worker.amqp.consumer import Consumer
from worker.server import running
from worker.settings import Settings, load

StartWorker = Callable[..., AbstractAsyncContextManager[Consumer]]

# For `StartWorker`, where a time-out of the LM or the job would be another story than the test's.
PATIENT = {"lm_timeout_seconds": "30", "job_timeout_seconds": "60", "drain_seconds": "70"}


@pytest.fixture
async def lm_stub() -> AsyncIterator[LMStub]:
    stub = LMStub()
    await stub.start()
    yield stub
    await stub.stop()


@pytest.fixture
async def caller(amqp_url: str, namespace: str) -> AsyncIterator[Caller]:
    async with Caller(amqp_url, namespace) as caller:
        yield caller


@pytest.fixture
def environment(amqp_url: str, namespace: str, lm_stub: LMStub, tmp_path: Path) -> dict[str, str]:
    """Settings of a worker with short clocks and the LM stub as its default LM."""
    return {
        "DSPEX_AMQP_URL": amqp_url,
        "DSPEX_NAMESPACE": namespace,
        "DSPEX_STORE_URL": f"sqlite:///{tmp_path}/store.db",
        "DSPEX_LM_MODEL": "openai/gpt-4o-mini",
        "DSPEX_LM_API_BASE": lm_stub.url,
        "DSPEX_LM_API_KEY": "sk-test",
        "DSPEX_LM_STRUCTURED_OUTPUTS": "false",
        "DSPEX_LM_TIMEOUT_SECONDS": "1",
        "DSPEX_JOB_TIMEOUT_SECONDS": "5",
        "DSPEX_DRAIN_SECONDS": "10",
        "DSPEX_DELAYS_SECONDS": "0.2,0.5",
        "DSPEX_MAX_ATTEMPTS": "2",
        "DSPEX_LEASE_SECONDS": "2",
    }


@pytest.fixture
def start_worker(environment: dict[str, str]) -> StartWorker:
    """Return a context manager that runs a worker; keyword arguments are settings without the prefix."""

    @contextlib.asynccontextmanager
    async def start(**changes: str) -> AsyncIterator[Consumer]:
        given = {f"DSPEX_{name.upper()}": text for name, text in changes.items()}
        settings: Settings = load(environment | given)
        async with running(settings, worker_id="worker-1") as consumer:
            await consumer.begun()
            yield consumer
            await consumer.drain(settings.drain)

    return start
