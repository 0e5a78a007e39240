"""``dspex-worker doctor``, the installed command, on deployments that are well and on such as are not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aio_pika.abc import AbstractConnection
from child_processes import free_port
from local_services import temporary_folder
from rabbit_node import RabbitNode
from yarl import URL

from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing
from tests.support.processes import COMMAND, WorkerProcess, worker_environment
from worker.amqp.channels import open_channel, scratch_channel
from worker.amqp.connection import connect
from worker.amqp.topology import DEFAULT_DELAYS_MS, Topology, declare, measure

PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Report:
    """What the command printed with ``--json``, and its exit code."""

    code: int
    checks: list[dict[str, Any]]

    def __getitem__(self, name: str) -> dict[str, Any]:
        (found,) = [check for check in self.checks if check["name"] == name]
        return found

    def verdict(self, name: str) -> str:
        return str(self[name]["verdict"])

    def names(self, *verdicts: str) -> list[str]:
        return [check["name"] for check in self.checks if check["verdict"] in verdicts]


async def examine(environment: dict[str, str], *arguments: str) -> Report:
    process = await asyncio.create_subprocess_exec(
        COMMAND, "doctor", "--json", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    document = json.loads(output)
    assert sum(document["counts"].values()) == len(document["checks"])
    return Report(process.returncode, document["checks"])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A SQLite file that no worker has made yet."""
    return tmp_path / "store.db"


@pytest.fixture
def environment(amqp_url: str, namespace: str, lm_stub: LMStub, store: Path) -> dict[str, str]:
    return worker_environment(lm_stub.url, amqp_url=amqp_url, namespace=namespace, store_url=f"sqlite:///{store}")


@pytest.fixture
async def worker(environment: dict[str, str]) -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess(environment)
    await process.start()
    yield process
    await process.kill()


@pytest.fixture
def topology(namespace: str) -> Topology:
    return Topology.of(namespace=namespace)


@dataclass(frozen=True)
class PrivateBroker:
    """A node of this module's own, with the management API."""

    node: RabbitNode
    management_url: str


@pytest.fixture(scope="module")
def private_broker() -> Iterator[PrivateBroker]:
    with temporary_folder() as folder:
        port = free_port()
        config = f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n"
        node = RabbitNode(folder / "rabbitmq", config=config)
        (node.folder / "enabled_plugins").write_text("[rabbitmq_management].\n", encoding="utf-8")
        address = URL(node.url)
        with node:
            yield PrivateBroker(node, f"http://{address.user}:{address.password}@127.0.0.1:{port}")


@pytest.fixture
def private_environment(environment: dict[str, str], private_broker: PrivateBroker) -> dict[str, str]:
    return environment | {"DSPEX_AMQP_URL": private_broker.node.url}


@pytest.fixture
async def private_connection(private_broker: PrivateBroker) -> AsyncIterator[AbstractConnection]:
    connection = await connect(private_broker.node.url, name="test")
    yield connection
    await connection.close()


async def test_a_healthy_deployment_is_well(
    environment: dict[str, str], worker: WorkerProcess, lm_stub: LMStub
) -> None:
    """Nothing but what AMQP cannot tell is left open, and one call is made."""
    report = await examine(environment, "--strict", "--call-lm")

    assert report.names("warning", "error") == []
    assert report.names("skipped") == ["ack time-out", "bindings", "clock of the broker"]
    assert report.code == 0
    assert lm_stub.calls == 1


async def test_the_management_api_tells_what_amqp_does_not(
    private_environment: dict[str, str],
    private_broker: PrivateBroker,
    private_connection: AbstractConnection,
    topology: Topology,
) -> None:
    """Bindings and clock are checked; the ack time-out of a RabbitMQ without a policy is none of what it tells."""
    await declare(topology, private_connection)
    async with scratch_channel(private_connection) as channel:
        await channel.queue_unbind(topology.work_queue("execute"), topology.exchange, routing_key="execute")
    url = f"--management-url={private_broker.management_url}"
    report = await examine(private_environment, url)
    assert report["bindings"]["sentence"] == f"Missing: {topology.exchange} → {topology.work_queue('execute')}"
    assert report.verdict("clock of the broker") == "ok"
    assert report.verdict("ack time-out") == "skipped"


async def test_it_changes_nothing_and_declares_when_it_is_told(
    environment: dict[str, str], connection: AbstractConnection, topology: Topology, store: Path
) -> None:
    """A fresh deployment is only a warning, and no store is made."""
    before = await examine(environment)
    untouched = [await measure(connection, queue.name) for queue in topology.queues]
    declared = await examine(environment, "--declare")
    is_there = await asyncio.to_thread(store.exists)

    assert before.code == 0
    assert before.verdict("topology") == before.verdict("store") == "warning"
    assert untouched == [None] * len(topology.queues)
    assert not is_there
    assert declared.verdict("topology") == "ok"
    assert [await measure(connection, queue.name) for queue in topology.queues] == [(0, 0)] * len(topology.queues)


async def test_every_argument_that_differs_is_named(
    environment: dict[str, str], connection: AbstractConnection, topology: Topology
) -> None:
    """Have and want of each, for a queue and for an exchange, with what to do; the rest is compared all the same."""
    queue = topology.work_queue("execute")
    async with scratch_channel(connection) as channel:
        await channel.queue_declare(
            queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 5, "x-overflow": "drop-head"}
        )
        await channel.exchange_declare(topology.dead_exchange, exchange_type="fanout", durable=True)
    report = await examine(environment, "--declare")

    assert report.code == 1
    assert report.names("error") == [f"exchange {topology.dead_exchange}", f"queue {queue}"]
    assert report[f"exchange {topology.dead_exchange}"]["sentence"] == "type is fanout, this worker wants direct"
    differences = report[f"queue {queue}"]["sentence"].split("; ")
    assert sorted(differences) == [
        "x-dead-letter-exchange is none, this worker wants " + topology.dead_exchange,
        "x-dead-letter-routing-key is none, this worker wants " + queue,
        "x-dead-letter-strategy is none, this worker wants at-least-once",
        "x-delivery-limit is 5, this worker wants 100",
        "x-overflow is drop-head, this worker wants reject-publish",
    ]
    assert report[f"queue {queue}"]["mend"].startswith("Empty the queue, delete it and start a worker")


async def test_a_right_that_is_missing_is_named(
    private_environment: dict[str, str],
    private_broker: PrivateBroker,
    private_connection: AbstractConnection,
    topology: Topology,
) -> None:
    """With what the broker says, for each kind of right, and without anything being published or consumed."""
    await declare(topology, private_connection)
    ctl, namespace = private_broker.node.ctl, topology.namespace
    await asyncio.to_thread(ctl, "add_user", namespace, "secret")
    patterns = (rf"^{namespace}\.(create|control)", f"^{namespace}", rf"^{namespace}\.(control|create)|^{namespace}$")
    await asyncio.to_thread(ctl, "set_permissions", namespace, *patterns)
    url = URL(private_broker.node.url).with_user(namespace).with_password("secret")
    report = await examine(private_environment | {"DSPEX_AMQP_URL": str(url)})
    await asyncio.to_thread(ctl, "delete_user", namespace)

    assert report.code == 1
    assert {name for name in report.names("error") if name.startswith("permission")} == {
        "permission to configure",
        "permission to read and bind",
        "permission to publish",
    }
    assert f"queue '{namespace}.execute'" in report["permission to configure"]["sentence"]
    assert f"queue '{namespace}.create'" not in report["permission to configure"]["sentence"]
    assert f"queue '{namespace}.execute'" in report["permission to read and bind"]["sentence"]
    assert "exchange 'amq.default'" in report["permission to publish"]["sentence"]
    assert {await measure(private_connection, queue.name) for queue in topology.queues} == {(0, 0)}


async def test_an_alarm_is_told(
    private_environment: dict[str, str],
    private_broker: PrivateBroker,
    private_connection: AbstractConnection,
    topology: Topology,
) -> None:
    """Publishing is held back; all else is checked as ever."""
    await declare(topology, private_connection)
    await asyncio.to_thread(private_broker.node.ctl, "set_vm_memory_high_watermark", "0.00001")
    report = await examine(private_environment)
    await asyncio.to_thread(private_broker.node.ctl, "set_vm_memory_high_watermark", "0.4")

    assert report.verdict("alarm") == "error"
    assert report.verdict("topology") == report.verdict("permission to configure") == "ok"


async def test_a_broker_that_is_away_leaves_the_rest_checked(environment: dict[str, str]) -> None:
    """One error, everything that needs the broker skipped, store and LMs checked; a wrong password is told apart."""
    away = await examine(environment | {"DSPEX_AMQP_URL": f"amqp://dspex:secret@127.0.0.1:{free_port()}/"})
    refused_url = URL(environment["DSPEX_AMQP_URL"]).with_password("wrong")
    refused = await examine(environment | {"DSPEX_AMQP_URL": str(refused_url)})

    assert away.names("error") == refused.names("error") == ["broker"]
    assert away.verdict("topology") == "skipped"
    assert away.verdict("lm default") == "ok"
    assert "cannot be reached" in away["broker"]["sentence"]
    assert "refuses the login" in refused["broker"]["sentence"]
    assert "secret" not in json.dumps(away.checks)


async def test_a_store_that_is_down_is_told(environment: dict[str, str], store: Path) -> None:
    """A server that is away, and a file that is none of ours."""
    url = f"postgresql://nobody:secret@127.0.0.1:{free_port()}/dspex"
    away = await examine(environment | {"DSPEX_STORE_URL": url})
    await asyncio.to_thread(store.write_bytes, b"this is no database" * 100)
    broken = await examine(environment)

    assert away.code == broken.code == 1
    assert away.names("error") == broken.names("error") == ["store"]
    assert away.verdict("store writes") == "skipped"
    assert "secret" not in json.dumps(away.checks)


async def test_a_postgres_store_is_checked_without_leaving_a_trace(
    environment: dict[str, str], postgres_url: str
) -> None:
    """An empty or a used database, reached and timed."""
    report = await examine(environment | {"DSPEX_STORE_URL": postgres_url})

    assert report.verdict("store") == report.verdict("clock of the store") == "ok"
    assert report.verdict("store schema") in ("ok", "warning")
    assert report.verdict("store file") == "skipped"


async def test_a_wrong_lm_key_is_told_when_a_call_is_asked_for(environment: dict[str, str], lm_stub: LMStub) -> None:
    """By the code that a job would end in; without --call-lm nobody is called."""
    lm_stub.behaviour = failing(401)
    silent = await examine(environment)
    calls_before = lm_stub.calls
    report = await examine(environment, "--call-lm")

    assert silent.verdict("lm call default") == "skipped"
    assert calls_before == 0
    assert report.code == 1
    assert report["lm call default"]["sentence"].startswith("lm_auth: ")
    assert "sk-test" not in json.dumps(report.checks)


async def test_jobs_that_wait_for_nobody_are_an_error(
    environment: dict[str, str], connection: AbstractConnection, topology: Topology, caller: Caller
) -> None:
    """A queue without consumers is a warning until something waits in it; looking takes nothing out."""
    await declare(topology, connection)
    await caller.publish("execute", {"args": {}}, reply_to=None)
    await waiting(connection, topology.work_queue("execute"))
    report = await examine(environment)
    strict = await examine(environment, "--strict")

    assert report.names("error") == ["consumers execute"]
    assert report["consumers execute"]["sentence"] == "1 jobs wait and nobody consumes"
    assert report.verdict("consumers create") == "warning"
    assert (report.code, strict.code) == (1, 1)
    assert await measure(connection, topology.work_queue("execute")) == (1, 0)


async def test_dead_letters_are_counted_with_the_age_of_the_oldest(
    environment: dict[str, str], worker: WorkerProcess, connection: AbstractConnection, caller: Caller
) -> None:
    """A warning that says how to look at them; with --strict it fails the examination."""
    await caller.publish("execute", b"not json", reply_to=f"{caller.namespace}.control")
    await waiting(connection, f"{caller.namespace}.execute.dead")
    report = await examine(environment)
    strict = await examine(environment, "--strict")

    assert report["dead letters execute"]["verdict"] == "warning"
    assert report["dead letters execute"]["sentence"].startswith("1 dead letters, the oldest ")
    assert report["dead letters execute"]["mend"].startswith("`dspex-worker dead show execute`")
    assert (report.code, strict.code) == (0, 1)


async def examine_until(environment: dict[str, str], name: str, verdict: str) -> Report:
    """Examine until a check has a verdict: what workers tell lags by their heartbeats."""
    async with asyncio.timeout(50):
        while (report := await examine(environment)).verdict(name) != verdict:
            pass
    return report


@pytest.mark.timeout(180)
async def test_an_lm_that_the_workers_take_for_down_is_told_with_the_jobs_that_wait_for_it(
    environment: dict[str, str], caller: Caller, lm_stub: LMStub
) -> None:
    """Its key and model are in place, so nothing else shows it; one of two workers has met it."""
    lm_stub.behaviour = failing(401)
    lms = {"down": {"model": "openai/gpt-4o-mini", "api_base": lm_stub.url, "api_key": "sk-test"}}
    environment |= {"DSPEX_LMS": json.dumps(lms)}
    workers = [WorkerProcess(environment), WorkerProcess(environment | {"DSPEX_MAX_LM_CALLS": "9"})]
    await workers[0].start()
    for number in range(5):
        args = {"signature": "text -> answer", "inputs": {"text": "x"}, "options": {"lm": "down"}}
        await caller.publish("execute", {"args": args}, message_id=f"m{number}")
    await workers[0].logged("circuit.opened")
    await workers[1].start()
    report = await examine_until(environment, "lm down", "warning")
    differing = await examine_until(environment, "agreement", "warning")
    await asyncio.gather(*(worker.kill() for worker in workers))

    assert " workers take it for down (lm_auth), for " in report["lm down"]["sentence"]
    assert report.verdict("lm default") == "ok"
    assert report.verdict("delays") == "warning"
    assert "jobs wait while down is down" in report["delays"]["sentence"]
    assert differing["agreement"]["sentence"].startswith("The workers differ by settings: ")


@pytest.mark.timeout(120)
async def test_a_lane_that_workers_have_paused_is_told_with_the_reason(
    environment: dict[str, str], worker: WorkerProcess, caller: Caller, lm_stub: LMStub
) -> None:
    """The only LM refuses the key, so execute is not consumed."""
    well = await examine(environment)
    lm_stub.behaviour = failing(401)
    await caller.publish("execute", {"args": {"signature": "a -> b", "inputs": {"a": "x"}}}, message_id="m")
    await worker.logged("consuming.paused")
    report = await examine_until(environment, "pauses", "warning")

    assert (well.verdict("workers"), well.verdict("pauses"), well.verdict("agreement")) == ("ok", "ok", "ok")
    assert report["pauses"]["sentence"] == "execute in 1 of 1 workers: every LM is down"
    assert report.verdict("lm default") == "warning"


async def test_settings_that_cannot_be_read_are_the_only_finding(environment: dict[str, str]) -> None:
    """Exit code 2, in the same shape."""
    report = await examine(environment | {"DSPEX_JOB_TIMEOUT_SECONDS": "1"})

    assert report.names("error") == ["settings"]
    assert len(report.checks) == 1
    assert report.code == 2


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_queue_that_came_back_dead_is_named(environment: dict[str, str]) -> None:
    """A node killed right after a declaration brings it back, saying that it is empty; up to RabbitMQ 4.0 it answers nobody."""
    topology = Topology.of(namespace="dspex", delays_ms=DEFAULT_DELAYS_MS)
    with temporary_folder() as folder, RabbitNode(folder / "rabbitmq") as node:
        await asyncio.to_thread(node.ctl, "await_startup")
        connection = await connect(node.url, name="test")
        await declare(topology, connection)
        await asyncio.to_thread(node.kill)
        await asyncio.to_thread(node.restart)
        dead = await unanswered(node.url, topology)
        report = await examine(environment | {"DSPEX_AMQP_URL": node.url, "DSPEX_NAMESPACE": "dspex"})
        major, minor, *_ = map(int, node.ctl("version").strip().split("."))
    silent = {check["name"]: check for check in report.checks if "a get has no answer" in check["sentence"]}

    assert dead or (major, minor) > (4, 0)
    assert all("delete the queue" in check["mend"] for check in silent.values())

    assert set(silent) == {f"queue {name}" for name in dead}


async def unanswered(url: str, topology: Topology) -> list[str]:
    """Return the queues that do not answer a get."""
    connection = await connect(url, name="test")

    async def is_dead(queue: str) -> bool:
        channel = await open_channel(connection)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                await channel.basic_get(queue)
                return False
        return True

    names = [queue.name for queue in topology.queues]
    answers = await asyncio.gather(*map(is_dead, names))
    await connection.close()
    return [name for name, no_answer in zip(names, answers, strict=True) if no_answer]


async def waiting(connection: AbstractConnection, queue: str) -> None:
    """Wait until a message is in a queue."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await measure(connection, queue) or (0, 0))[0] == 0:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.02)
