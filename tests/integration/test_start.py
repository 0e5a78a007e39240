"""A store that is absent when a worker starts is waited for, as a broker is; a mistake ends the start."""

from __future__ import annotations

import signal
from pathlib import Path

import aiohttp
import pytest
from child_processes import free_port
from sqlalchemy import make_url

from tests.faults.proxy import Proxy
from tests.support.processes import WorkerProcess, clean_environment

_AWAY = "store.unreachable"


async def status(port: int, path: str) -> tuple[int, str]:
    """Ask a worker's HTTP port."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_a_store_that_is_absent_is_waited_for(environment: dict[str, str], postgres_url: str) -> None:
    """The worker lives and is not ready; it starts by itself when the server is there."""
    port = free_port()
    async with Proxy(make_url(postgres_url).port or 0) as proxy:
        await proxy.refuse()
        settings = {"DSPEX_STORE_URL": proxy.url(postgres_url), "DSPEX_HTTP_PORT": str(port)}
        worker = WorkerProcess(clean_environment() | environment | settings)
        await worker.start(until=_AWAY)
        alive, ready = await status(port, "/healthz"), await status(port, "/readyz")
        await proxy.accept()
        await worker.logged("worker.ready")
        code = await worker.stop()

    assert (alive[0], ready[0]) == (200, 503)
    assert "store" in ready[1]
    assert "store.back" in worker.log
    assert str(make_url(postgres_url).password) not in worker.log

    assert code == 0


async def test_a_worker_that_waits_for_its_store_can_be_stopped(environment: dict[str, str]) -> None:
    """Nothing is in hand yet."""
    settings = {"DSPEX_STORE_URL": f"postgresql://u:p@127.0.0.1:{free_port()}/d"}
    worker = WorkerProcess(clean_environment() | environment | settings)
    await worker.start(until=_AWAY)

    worker.send(signal.SIGTERM)

    assert await worker.exit_code() == 0


@pytest.mark.parametrize("mistake", ["no database", "no folder"])
async def test_a_file_that_cannot_be_the_store_ends_the_start(
    environment: dict[str, str], tmp_path: Path, mistake: str
) -> None:
    """Nobody mends that by waiting; the sentence says what to do."""
    path = tmp_path / "other.db"
    path.write_text("a letter to my aunt, long enough to be read as a header that it is not" * 20)
    url = f"sqlite:///{path}" if mistake == "no database" else f"sqlite:///{path}/x.db"
    worker = WorkerProcess(clean_environment() | environment | {"DSPEX_STORE_URL": url})
    await worker.start(until="cannot be used")

    assert await worker.exit_code() == 1
    assert "DSPEX_STORE_URL" in worker.log
