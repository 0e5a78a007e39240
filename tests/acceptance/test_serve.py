"""``dspex-worker serve`` as an operator meets it: start, health, drain, and what stops it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl
from child_processes import free_port

from tests.faults.proxy import Proxy
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub
from tests.support.processes import COMMAND, WorkerProcess, worker_environment


@pytest.fixture
async def lm_stub() -> AsyncIterator[LMStub]:
    stub = LMStub()
    stub.behaviour = stub.hang
    stub.outputs = {"answer": "42"}
    await stub.start()
    yield stub
    await stub.stop()


@pytest.fixture
def environment(amqp_url: str, namespace: str, lm_stub: LMStub, tmp_path: Path) -> dict[str, str]:
    return worker_environment(
        lm_stub.url,
        amqp_url=amqp_url,
        namespace=namespace,
        store_url=f"sqlite:///{tmp_path}/store.db",
        http_port=str(free_port()),
    )


@pytest.fixture
async def worker(environment: dict[str, str]) -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess(environment)
    await process.start()
    yield process
    await process.kill()


@contextlib.asynccontextmanager
async def forwarding(port: int, *, to: yarl.URL) -> AsyncIterator[None]:
    """Forward a port of this machine to a broker."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(to.host, to.port)
        await asyncio.gather(copy(reader, broker_writer), copy(broker_reader, writer))

    server = await asyncio.start_server(forward, "127.0.0.1", port)
    yield
    server.close()
    await server.wait_closed()


def ask(text: str) -> dict[str, Any]:
    return {"args": {"signature": "text -> answer", "fallback": "never", "inputs": {"text": text}}}


async def get(environment: dict[str, str], path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{environment['DSPEX_HTTP_PORT']}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def run(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        COMMAND, *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_running_worker_is_alive_ready_and_measured(worker: WorkerProcess, environment: dict[str, str]) -> None:
    """The three paths of the HTTP port answer."""
    health = await get(environment, "/healthz")
    ready = await get(environment, "/readyz")
    status, metrics = await get(environment, "/metrics")

    assert health == (200, '{"status": "ok"}')
    assert ready == (200, '{"status": "ok", "missing": []}')
    assert status == 200
    assert "dspex_deliveries_total" in metrics


async def test_the_start_tells_where_the_store_is_and_no_password(
    worker: WorkerProcess, environment: dict[str, str], amqp_url: str
) -> None:
    """An operator sees what the worker uses; secrets stay out of the log."""
    password = yarl.URL(amqp_url).password

    assert environment["DSPEX_STORE_URL"] in worker.log
    assert f":{password}@" not in worker.log
    assert "sk-test" not in worker.log


async def test_sigterm_lets_running_jobs_end(
    worker: WorkerProcess, amqp_url: str, namespace: str, lm_stub: LMStub
) -> None:
    """The job in hand is answered, none is started any more, and the exit code is 0."""
    async with Caller(amqp_url, namespace) as caller:
        first = await caller.publish("execute", ask("one"), message_id="m1")
        await lm_stub.called.wait()
        worker.send(signal.SIGTERM)
        await worker.logged("worker.draining")
        lm_stub.released.set()
        reply = json.loads((await caller.reply(first)).body)
        code = await worker.exit_code()

    assert reply["result"]["outputs"] == {"answer": "42"}
    assert lm_stub.calls == 1

    assert code == 0


async def test_a_second_signal_stops_at_once_and_the_job_is_delivered_again(
    worker: WorkerProcess, environment: dict[str, str], amqp_url: str, namespace: str, lm_stub: LMStub
) -> None:
    """The exit code tells, and the broker has the job back."""
    async with Caller(amqp_url, namespace) as caller:
        job = await caller.publish("execute", ask("one"), message_id="m1")
        await lm_stub.called.wait()
        worker.send(signal.SIGTERM)
        await worker.logged("worker.draining")
        worker.send(signal.SIGTERM)
        code = await worker.exit_code()
        lm_stub.released.set()
        second = WorkerProcess(environment | {"DSPEX_HTTP_PORT": "0", "DSPEX_LEASE_SECONDS": "2"})
        await second.start()
        reply = json.loads((await caller.reply(job)).body)
        await second.stop()

    assert reply["success"], reply

    assert code != 0


async def test_a_wrong_setting_stops_the_start_with_its_name(environment: dict[str, str]) -> None:
    """The nearest right name is part of the sentence."""
    code, output = await run(environment | {"DSPEX_CONCURENCY": "3"}, "serve")

    assert code == 2
    assert "DSPEX_CONCURENCY is not a setting; did you mean DSPEX_CONCURRENCY?" in output


async def test_call_prints_the_reply(worker: WorkerProcess, environment: dict[str, str]) -> None:
    """0 for a result, 1 for an error reply; JSON either way."""
    shared = {name: text for name, text in environment.items() if name != "DSPEX_HTTP_PORT"}
    good, printed = await run(shared, "call", "ping")
    bad, refused = await run(shared, "call", "fly")

    assert (good, bad) == (0, 1)
    assert json.loads(printed)["result"]["status"] == "ok"
    assert json.loads(refused)["error_detail"]["code"] == "unknown_command"


async def test_call_says_at_once_that_nobody_listens(environment: dict[str, str]) -> None:
    """No consumer: exit 2, long before the time-out."""
    code, output = await run(environment, "call", "ping", "--timeout", "600")

    assert code == 2
    assert "worker" in output


async def test_a_signal_ends_a_start_that_waits_for_its_broker(environment: dict[str, str]) -> None:
    """A worker without a broker waits, and still stops when it is told to."""
    worker = WorkerProcess(environment | {"DSPEX_AMQP_URL": f"amqp://127.0.0.1:{free_port()}/"})
    await worker.start(until="broker.unreachable")
    code = await worker.stop()

    assert code == 0


async def test_a_worker_that_waits_for_its_broker_is_alive_and_not_ready(environment: dict[str, str]) -> None:
    """A probe must not start it again and again for what is no fault of its own."""
    worker = WorkerProcess(environment | {"DSPEX_AMQP_URL": f"amqp://127.0.0.1:{free_port()}/"})
    await worker.start(until="broker.unreachable")
    health, readiness = await get(environment, "/healthz"), await get(environment, "/readyz")
    await worker.stop()

    assert health == (200, '{"status": "ok"}')
    assert readiness[0] == 503
    assert json.loads(readiness[1])["missing"][-1] == "not publishing"


async def test_an_idle_worker_whose_connections_were_cut_becomes_ready_again(
    environment: dict[str, str], amqp_url: str
) -> None:
    """It has nothing to publish, and connects for it all the same."""
    async with Proxy(yarl.URL(amqp_url).port or 5672) as proxy:
        worker = WorkerProcess(environment | {"DSPEX_AMQP_URL": proxy.url(amqp_url)})
        await worker.start()
        try:
            proxy.reset()
            async with asyncio.timeout(20):
                while (await get(environment, "/readyz"))[0] != 200 or proxy.taken < 4:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.1)
        finally:
            await worker.kill()

    assert proxy.taken == 4


async def test_a_draining_worker_is_alive_and_not_ready(
    worker: WorkerProcess, environment: dict[str, str], amqp_url: str, namespace: str, lm_stub: LMStub
) -> None:
    """It says that it is stopping, and ends its job in peace."""
    async with Caller(amqp_url, namespace) as caller:
        await caller.publish("execute", ask("one"), message_id="m1")
        await lm_stub.called.wait()
        worker.send(signal.SIGTERM)
        await worker.logged("worker.draining")
        health, readiness = await get(environment, "/healthz"), await get(environment, "/readyz")
        lm_stub.released.set()
        code = await worker.exit_code()

    assert health[0] == 200
    assert (readiness[0], json.loads(readiness[1])["missing"]) == (503, ["stopping"])

    assert code == 0


async def test_a_broker_that_comes_back_is_said_once(environment: dict[str, str], amqp_url: str) -> None:
    """The log ends on what holds now, not on a warning."""
    port = free_port()
    broker = yarl.URL(amqp_url)
    worker = WorkerProcess(environment | {"DSPEX_AMQP_URL": str(broker.with_host("127.0.0.1").with_port(port))})
    await worker.start(until="broker.unreachable")
    async with forwarding(port, to=broker):
        await worker.logged("worker.ready")
        code = await worker.stop()

    assert worker.log.count("broker.back") == 1

    assert code == 0


@pytest.mark.parametrize(
    ("name", "text"), [("DSPEX_AMQP_URL", "localhost"), ("DSPEX_STORE_URL", "mysql://127.0.0.1/x")]
)
async def test_a_wrong_url_is_refused_by_name(environment: dict[str, str], name: str, text: str) -> None:
    """One sentence, no traceback."""
    code, output = await run(environment | {name: text}, "serve")

    assert code == 2
    assert output.startswith(f"{name}: must begin with ")


async def test_a_port_that_is_taken_is_said_in_one_line(environment: dict[str, str]) -> None:
    """The worker does not start without the port it was told to have."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, output = await run(environment | {"DSPEX_HTTP_PORT": str(taken.getsockname()[1])}, "serve")

    assert code == 1
    assert "Traceback" not in output
