"""Many rows through one program: results with their keys, back-pressure, and a time-out for each row."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub
from tests.support.stand import Stand, echo, success
from worker.client import Client, ClientError, NoWorkerError, ReplyError


@pytest.fixture
async def client(amqp_url: str, namespace: str) -> AsyncIterator[Client]:
    async with Client(amqp_url, namespace=namespace, timeout=20) as opened:
        yield opened


def inputs_of(message: AbstractIncomingMessage) -> Any:
    return json.loads(message.body)["args"]["inputs"]


async def later(rows: list[Any]) -> AsyncIterator[Any]:
    """Yield rows asynchronously."""
    for row in rows:
        await asyncio.sleep(0)
        yield row


@pytest.mark.parametrize(
    ("rows", "keys"),
    [
        ({"a": {"n": 0}, "b": {"n": 1}}, ["a", "b"]),
        ([{"n": 0}, {"n": 1}], [0, 1]),
        ([("a", {"n": 0}), ("b", {"n": 1})], ["a", "b"]),
        (iter([{"n": 0}, {"n": 1}]), [0, 1]),
        (later([("a", {"n": 0}), ("b", {"n": 1})]), ["a", "b"]),
    ],
    ids=["mapping", "list", "pairs", "iterator", "asynchronous"],
)
async def test_each_row_comes_back_with_its_place_and_its_own_key(client, amqp_url, namespace, rows, keys):
    """Whatever the rows come from."""
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        results = [row async for row in client.execute_many("p", rows)]
    results.sort(key=lambda row: row.index)

    assert [(row.index, row.key, row.unwrap()["n"], row.error) for row in results] == [
        (0, keys[0], 0, None),
        (1, keys[1], 1, None),
    ]


async def test_a_row_that_fails_does_not_end_the_others(client, amqp_url, namespace):
    """A refusal by the worker, a value that cannot be sent, and a row that is none."""

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        failed = {"success": False, "error": "no", "error_detail": {"code": "invalid_inputs"}}
        await stand.reply(message, failed if inputs_of(message)["n"] == 1 else success(message))

    rows: Any = {"ok": {"n": 0}, "refused": {"n": 1}, "unsendable": {"n": {1, 2}}, "none": 7, "last": {"n": 4}}
    async with Stand(amqp_url, f"{namespace}.execute", answer):
        errors = {row.key: row.error async for row in client.execute_many("p", rows)}

    assert {key: type(error).__name__ for key, error in errors.items()} == {
        "ok": "NoneType",
        "refused": "ReplyError",
        "unsendable": "ArgumentError",
        "none": "ArgumentError",
        "last": "NoneType",
    }
    with pytest.raises(ReplyError, match="invalid_inputs"):
        raise errors["refused"] or AssertionError


async def test_rows_that_take_longer_than_the_time_out_in_all_lose_nothing(amqp_url, namespace):
    """Each has its own, from its publish: the last row of many has as long as the first."""
    timeout, count, busy = 2.0, 40, asyncio.Lock()
    arrivals: list[float] = []
    answering: set[asyncio.Task[None]] = set()

    # An LM that is slow in comparison with the time-out, one call at a time.
    async def work(stand: Stand, message: AbstractIncomingMessage) -> None:
        async with busy:
            await asyncio.sleep(timeout * 1.5 / count)
        await stand.reply(message, success(message))

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        arrivals.append(asyncio.get_running_loop().time())
        answering.add(asyncio.create_task(work(stand, message)))

    async with (
        Stand(amqp_url, f"{namespace}.execute", answer) as stand,
        Client(amqp_url, namespace=namespace, timeout=timeout) as client,
    ):
        rows = ({"n": number} for number in range(count))
        results = [row async for row in client.execute_many("p", rows, max_in_flight=4)]

    assert arrivals[-1] - arrivals[0] + timeout / count > timeout
    assert {message.headers["x-dspex-timeout"] for message in stand.got} == {2_000}
    assert [row.error for row in results if row.error] == []
    assert sorted(row.unwrap()["n"] for row in results) == list(range(count))


async def test_a_slow_reader_stops_what_is_published(client, amqp_url, namespace):
    """An endless generator of rows works, and is asked for no more rows than can be under way."""
    taken = itertools.count()
    rows = ({"n": number} for number in taken)
    async with (
        Stand(amqp_url, f"{namespace}.execute", echo) as stand,
        contextlib.aclosing(client.execute_many("p", rows, max_in_flight=3)) as results,
    ):
        first = await anext(results)
        # The broker answers this last: all that was published before has been delivered.
        await client.execute("p", {"n": -1})
        published = [inputs_of(message)["n"] for message in stand.got]
    seen = next(taken)

    assert first.error is None
    assert seen <= 4
    assert max(published) < 4


async def test_leaving_early_waits_for_nothing_and_takes_no_more_rows(client, amqp_url, namespace):
    """What was published may run; here nobody waits for it."""
    finished = asyncio.Event()

    async def rows() -> AsyncIterator[dict[str, int]]:
        try:
            yield {"n": 0}
            yield {"n": 1}
            await asyncio.Event().wait()
        finally:
            finished.set()

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        if inputs_of(message)["n"] == 0:
            await stand.reply(message, success(message))

    async with Stand(amqp_url, f"{namespace}.execute", answer):
        async with contextlib.aclosing(client.execute_many("p", rows())) as results:
            first = await anext(results)
        await finished.wait()

    assert first.index == 0
    assert client._link._calls == {}


@pytest.mark.parametrize("is_sized", [True, False])
async def test_progress_is_told_for_each_row(client, amqp_url, namespace, is_sized):
    """The total where it is known."""
    told: list[tuple[int, int | None]] = []
    rows = [{"n": 0}, {"n": 1}]
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        given = rows if is_sized else iter(rows)
        many = client.execute_many("p", given, on_progress=lambda done, total: told.append((done, total)))
        _ = [row async for row in many]
    total = 2 if is_sized else None

    assert told == [(1, total), (2, total)]


async def test_an_error_of_the_rows_comes_after_what_was_under_way(client, amqp_url, namespace):
    """No result that was paid for is lost with it."""

    def rows() -> Iterator[dict[str, int]]:
        yield {"n": 0}
        yield {"n": 1}
        raise LookupError("the file ends here")

    async with Stand(amqp_url, f"{namespace}.execute", echo):
        results = client.execute_many("p", rows())
        got = {(await anext(results)).index, (await anext(results)).index}
        with pytest.raises(LookupError, match="the file ends here"):
            await anext(results)

    assert got == {0, 1}


async def test_rows_without_a_worker_are_errors_of_their_own(client, namespace):
    """Each can be sent again."""
    errors = [row.error async for row in client.execute_many("p", [{}, {}])]

    assert [type(error) for error in errors] == [NoWorkerError, NoWorkerError]


async def test_a_client_that_is_closed_ends_an_endless_loop(amqp_url, namespace):
    """Every further row would fail."""
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        async with Client(amqp_url, namespace=namespace) as client:
            results = client.execute_many("p", ({} for _ in itertools.count()))
            await anext(results)
        with pytest.raises(ClientError, match="not open"):
            async for _ in results:
                pass


async def test_a_worker_runs_many_rows(
    start_worker: StartWorker, caller: Caller, amqp_url: str, lm_stub: LMStub
) -> None:
    """More than are in flight at once, by a signature that is sent along."""
    async with start_worker(), Client(amqp_url, namespace=caller.namespace) as client:
        rows = {f"row {number}": {"question": f"job-{number}"} for number in range(20)}
        found = {row.key: row.unwrap()["answer"] async for row in client.execute_many("question -> answer", rows)}

    assert found == dict.fromkeys(rows, "42")
    assert lm_stub.calls == 20
