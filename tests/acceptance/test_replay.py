"""``dspex-worker dead replay`` and ``dead purge`` as an operator runs them: killed, interrupted, refused."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aio_pika.abc import AbstractConnection

from tests.integration.amqp.raw import peek, publish
from tests.support.processes import COMMAND, clean_environment
from worker.amqp.channels import scratch_channel
from worker.amqp.connection import user_of
from worker.amqp.topology import Topology, declare, measure
from worker.blueprints import Blueprints
from worker.message import CreateArgs
from worker.settings import load
from worker.store import NewProgram, Store, StoredOutcome

LETTERS = 120
KILLS = 3
RATE = 100


@pytest.fixture
async def topology(connection: AbstractConnection, namespace: str) -> Topology:
    topology = Topology.of(namespace=namespace, delays_ms=(200,))
    await declare(topology, connection)
    return topology


@pytest.fixture
def environment(amqp_url: str, namespace: str, tmp_path: Path) -> dict[str, str]:
    settings = clean_environment(amqp_url=amqp_url, namespace=namespace, store_url=f"sqlite:///{tmp_path}/store.db")
    return settings | {"XDG_STATE_HOME": str(tmp_path / "state")}


async def bury(
    connection: AbstractConnection, topology: Topology, message_id: str, *, inputs: dict[str, Any] | None = None
) -> None:
    body = {"args": {"program_id": "sentiment", "inputs": {"text": "a"} if inputs is None else inputs}}
    await publish(
        connection,
        topology.dead_queue("execute"),
        json.dumps(body).encode(),
        message_id=message_id,
        user_id=user_of(str(connection.url)),  # type: ignore[attr-defined]
        headers={"x-dspex-generation": 0, "x-dspex-code": "lm_unavailable"},
    )


async def start(environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        COMMAND, "dead", *arguments, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )


async def run(environment: dict[str, str], *arguments: str) -> tuple[int | None, str, str]:
    process = await start(environment, *arguments)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def reach(connection: AbstractConnection, queue: str, count: int) -> None:
    """Wait until so many messages are in a queue."""
    async with asyncio.timeout(30):
        while ((await measure(connection, queue)) or (0, 0))[0] < count:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.02)


def audit_lines(tmp_path: Path, namespace: str) -> list[dict[str, Any]]:
    path = tmp_path / "state" / "dspex-worker" / f"audit-{namespace}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


async def take(connection: AbstractConnection, queue: str) -> list[str]:
    async with scratch_channel(connection) as channel:
        return [str(one.header.properties.message_id) async for one in peek(channel, queue, 2 * LETTERS)]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_replay_that_is_killed_three_times_replays_each_letter(
    connection: AbstractConnection, topology: Topology, environment: dict[str, str], tmp_path: Path
) -> None:
    """Run again it goes on: at most one duplicate a kill, and a line for each letter that is gone."""
    for number in range(LETTERS):
        await bury(connection, topology, f"m{number}")
    work_queue, dead_queue = topology.work_queue("execute"), topology.dead_queue("execute")
    for kill in range(KILLS):
        process = await start(environment, "replay", "execute", "--rate", str(RATE))
        await reach(connection, work_queue, (kill + 1) * LETTERS // (KILLS + 2))
        process.kill()
        await process.wait()
    async with asyncio.timeout(10):
        while (done := await run(environment, "replay", "execute", "--json"))[0] != 0:
            # The broker has not seen yet that the last one is dead.
            assert "is running" in done[2]
    counts = Counter(await take(connection, work_queue))
    lines = Counter(line["message_id"] for line in audit_lines(tmp_path, topology.namespace))

    assert set(counts) == set(lines) == {f"m{number}" for number in range(LETTERS)}
    assert counts.total() - LETTERS <= KILLS
    assert lines.total() - LETTERS <= KILLS
    assert await measure(connection, dead_queue) == (0, 0)


async def test_ctrl_c_ends_with_a_report(
    connection: AbstractConnection, topology: Topology, environment: dict[str, str]
) -> None:
    """After the message in hand; exit code 130; what is left is left."""
    for number in range(50):
        await bury(connection, topology, f"m{number}")
    process = await start(environment, "replay", "execute", "--rate", "20", "--json")
    await reach(connection, topology.work_queue("execute"), 3)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    report = json.loads(out)

    assert (process.returncode, err, report["is_interrupted"]) == (130, b"", True)
    assert 3 <= report["replayed"] < 50
    assert len(await take(connection, topology.work_queue("execute"))) == report["replayed"]


@pytest.mark.timeout(120)
async def test_what_would_fail_again_is_found_before_anything_moves(
    connection: AbstractConnection, topology: Topology, environment: dict[str, str], tmp_path: Path
) -> None:
    """Against the program as it is in the store today; a patch mends it."""
    await _create_sentiment(tmp_path, namespace=topology.namespace)
    await bury(connection, topology, "good")
    await bury(connection, topology, "bad", inputs={})
    dry = await run(environment, "replay", "execute", "--dry-run")
    dry_patched = await run(environment, "replay", "execute", "--dry-run", "--patch", '{"inputs": {"text": 5}}')
    dry_forced = await run(environment, "replay", "execute", "--dry-run", "--force")
    stopped = await run(environment, "replay", "execute")
    skipped = await run(environment, "replay", "execute", "--skip-invalid")
    patched = await run(environment, "replay", "execute", "--patch", '{"inputs": {"text": "b"}}')

    assert (dry[0], stopped[0], skipped[0], patched[0]) == (1, 1, 0, 0)
    assert (dry_patched[0], dry_forced[0]) == (1, 0)
    assert "bad: invalid_inputs: Missing required field: text" in stopped[2]
    assert "0 of 2 replayed" in stopped[1]
    assert "1 of 2 replayed" in skipped[1]
    assert "1 patched" in patched[1]
    assert await take(connection, topology.work_queue("execute")) == ["good", "bad"]


@pytest.mark.timeout(120)
async def test_a_job_that_no_lm_could_run_is_found_before_anything_moves(
    connection: AbstractConnection, topology: Topology, environment: dict[str, str], tmp_path: Path
) -> None:
    """An unknown alias, or a bound in money without a price; an alias that is set in this shell is known."""
    await _create_sentiment(tmp_path, namespace=topology.namespace)
    await bury(connection, topology, "m0")
    known = environment | {"DSPEX_LMS": '{"nope": {"model": "offline"}}'}
    patch = '{"options": {"lm": "nope"}}'
    unknown = await run(environment, "replay", "execute", "--patch", patch)
    unpriced = await run(known, "replay", "execute", "--patch", '{"options": {"lm": "nope", "max_cost_usd": 1}}')
    stayed = await measure(connection, topology.dead_queue("execute"))
    moved = await run(known, "replay", "execute", "--patch", patch)

    assert (unknown[0], unpriced[0], stayed, moved[0]) == (1, 1, (1, 0), 0)
    assert "m0: lm_not_configured: No LM is loaded: there is no alias 'nope'; available aliases: default" in unknown[2]
    assert "DSPEX_LMS as they are set in this shell" in unknown[2]
    assert "m0: invalid_request: max_cost_usd cannot be kept: the price of LM 'nope' is not known" in unpriced[2]
    assert await take(connection, topology.work_queue("execute")) == ["m0"]


async def test_a_limit_that_cannot_be_reached_is_told_by_the_exit_code(
    connection: AbstractConnection, topology: Topology, environment: dict[str, str]
) -> None:
    """As many as match is all that can be asked for; six runs in a row move one each."""
    for number in range(7):
        await bury(connection, topology, f"m{number}")
    runs = [
        await run(environment, "replay", "execute", "--code", "lm_unavailable", "--limit", "1", "--force")
        for _ in range(6)
    ]
    last = await run(environment, "replay", "execute", "--limit", "5", "--force", "--json")
    report = json.loads(last[1])

    assert [code for code, _, _ in runs] == [0] * 6
    assert [out.splitlines()[-1].split(" replayed")[0] for _, out, _ in runs] == [f"1 of {7 - n}" for n in range(6)]
    assert (last[0], report["total"], report["wanted"], report["replayed"]) == (0, 1, 1, 1)


async def test_one_letter_is_shown_with_everything_and_its_body_only_on_demand(
    connection: AbstractConnection, topology: Topology, environment: dict[str, str]
) -> None:
    """Inputs are payload."""
    await bury(connection, topology, "m0", inputs={"text": "a secret"})
    plain = await run(environment, "show", "execute", "m0")
    whole = await run(environment, "show", "execute", "m0", "--body", "--json")
    none = await run(environment, "show", "execute", "m1")
    anywhere = await run(environment, "show", "m0")
    nowhere = await run(environment, "show", "m1")
    listed = await run(environment, "list")
    [shown] = json.loads(whole[1])

    assert (plain[0], whole[0], none[0], listed[0]) == (0, 0, 1, 0)
    assert "lm_unavailable" in plain[1]
    assert "a secret" not in plain[1]
    assert shown["body"]["args"]["inputs"] == {"text": "a secret"}
    assert "m1" in none[2]
    assert (anywhere[0], anywhere[1], nowhere[0]) == (0, plain[1], 1)
    assert "no queue is called so" in nowhere[2]
    assert any("lm_unavailable" in line and "sentiment" in line for line in listed[1].splitlines())


async def test_a_purge_asks_and_without_a_terminal_needs_a_yes(
    connection: AbstractConnection, topology: Topology, environment: dict[str, str], tmp_path: Path
) -> None:
    """What is gone is in the audit file."""
    for name in ("m0", "m1"):
        await bury(connection, topology, name)
    refused = await run(environment, "purge", "execute", "--message-id", "m1")
    dry = await run(environment, "purge", "execute", "--dry-run", "--json")
    done = await run(environment, "purge", "execute", "--message-id", "m1", "--yes")
    [line] = audit_lines(tmp_path, topology.namespace)

    assert (refused[0], dry[0], done[0]) == (1, 0, 0)
    assert "--yes" in refused[2]
    assert json.loads(dry[1])["purged"] == 2
    assert (line["action"], line["message_id"]) == ("purge", "m1")
    assert await take(connection, topology.dead_queue("execute")) == ["m0"]


async def _create_sentiment(folder: Path, *, namespace: str) -> None:
    definition = {"inputs": [{"name": "text"}], "outputs": [{"name": "sentiment"}]}
    blueprint = Blueprints(load({})).draw(CreateArgs(signature=definition, fallback="never"))
    new = NewProgram(
        program_id="sentiment",
        fingerprint="f",
        definition=blueprint.to_text(),
        kind=blueprint.kind,
        replace=False,
        ttl_ms=60_000,
    )
    store = await Store.open(f"sqlite:///{folder}/store.db", namespace=namespace, worker_id="test", lease_seconds=10)
    outcome = StoredOutcome(is_success=True, code=None, reply=b"{}", settlement="ack")
    await store.create_program(new, ticket=None, token="", answer=lambda record: outcome)
    await store.close()
