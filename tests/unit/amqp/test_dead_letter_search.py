"""Letters are chosen and found again whatever a broker does with the order of what was looked at."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiormq.channel import Channel
from pamqp.commands import Basic

from worker.amqp.dead_letters import Plan, Ports, Selection
from worker.amqp.dead_letters.search import WINDOW, Oldest, look, mark_of, put_back
from worker.amqp.dead_letters.source import Source
from worker.amqp.dead_letters.survey import Survey, find_again, pass_all, survey

SOURCE = Source("q.dead", "execute", "q", "x", "lock", "worker", frozenset({"worker"}))
Push = Callable[[Any], Awaitable[None]]


class FakeBroker:
    """One queue and one channel of a broker that returns messages in any order, and anywhere.

    Attributes:
        ready: What is in the queue.
        held: Delivery tag → message that is not acked.
    """

    def __init__(self, messages: list[Any], *, seed: int) -> None:
        self.ready = list(messages)
        self.held: dict[int, Any] = {}
        self._random = random.Random(seed)
        self._tags = 0
        self._credit = 0
        self._push: Push | None = None

    async def basic_qos(self, *, prefetch_count: int, **_: Any) -> None:
        self._credit = prefetch_count

    async def basic_consume(self, _: str, push: Push, **__: Any) -> Any:
        self._push = push
        await self._send()
        return SimpleNamespace(consumer_tag="c")

    async def basic_cancel(self, _: str, **__: Any) -> None:
        self._push = None

    async def basic_get(self, _: str, **__: Any) -> Any:
        return self._take() if self.ready else SimpleNamespace(delivery_tag=None)

    async def basic_ack(self, tag: int) -> None:
        del self.held[tag]
        self._credit += 1
        await self._send()

    async def basic_nack(self, *_: Any, **__: Any) -> None:
        back = list(self.held.values())
        self._random.shuffle(back)
        self.held.clear()
        self.ready = back + self.ready if self._random.random() < 0.5 else self.ready + back

    async def _send(self) -> None:
        while self._push is not None and self._credit and self.ready:
            self._credit -= 1
            await self._push(self._take())

    def _take(self) -> Any:
        self._tags += 1
        message = self.ready.pop(0)
        self.held[self._tags] = message
        return SimpleNamespace(delivery_tag=self._tags, header=message.header, body=message.body)


def letter(message_id: str, *, failed_ms: int = 1_000, code: str = "timeout", body: bytes = b"{}") -> Any:
    """A worker's letter, as far as it is looked at."""
    headers = {"x-dspex-generation": 0, "x-dspex-code": code, "x-dspex-first-failed": failed_ms}
    properties = Basic.Properties(user_id="worker", headers=cast("Any", headers), message_id=message_id)
    return SimpleNamespace(header=SimpleNamespace(properties=properties), body=body)


async def examine(broker: FakeBroker, plan: Plan) -> Survey:
    """Look at all that is there."""
    channel = cast("Channel", broker)
    return await survey(channel, SOURCE, len(broker.ready), plan=plan, ports=Ports(), judge=pass_all)


async def run(broker: FakeBroker, plan: Plan, *, on_found: Callable[[], None] = lambda: None) -> list[str]:
    """Choose, put back, find again and ack; return the ids of what left."""
    channel = cast("Channel", broker)
    found = await examine(broker, plan)
    await put_back(channel)
    left = []
    async for message, _ in find_again(channel, SOURCE, found):
        left.append(str(message.header.properties.message_id))
        await broker.basic_ack(message.delivery_tag or 0)
        on_found()
    await put_back(channel)
    return left


@pytest.mark.parametrize("seed", range(20))
async def test_the_oldest_leave_whatever_order_the_broker_keeps(seed: int) -> None:
    """Each once; the others stay."""
    rng = random.Random(seed)
    times = {f"m{number:03}": 1 + rng.randrange(50) for number in range(3 * WINDOW)}
    codes = {message_id: rng.choice(["timeout", "internal"]) for message_id in times}
    letters = [letter(message_id, failed_ms=ms, code=codes[message_id]) for message_id, ms in times.items()]
    broker = FakeBroker(letters, seed=seed)
    meant = sorted((ms, message_id) for message_id, ms in times.items() if codes[message_id] == "timeout")
    expected = {message_id for _, message_id in meant[:7]}
    left = await run(broker, Plan(Selection(codes=["timeout"]), limit=7))
    stay = {str(each.header.properties.message_id) for each in broker.ready}

    assert (len(left), set(left)) == (7, expected)
    assert stay == set(times) - expected


@pytest.mark.parametrize("seed", range(5))
async def test_what_comes_meanwhile_is_not_taken(seed: int) -> None:
    """Not even the same job, failed again; and the run ends."""
    broker = FakeBroker([letter(f"m{number}") for number in range(150)], seed=seed)
    again = [letter(f"m{number}", failed_ms=2_000 + number) for number in range(150)]

    left = await run(broker, Plan(), on_found=lambda: broker.ready.append(again.pop()))

    assert Counter(left) == Counter(f"m{number}" for number in range(150))
    assert len(broker.ready) == 150


async def test_two_letters_of_one_job_are_two() -> None:
    """A duplicate under the same id leaves by itself, and the same letter twice leaves twice."""
    letters = [letter("m0"), letter("m0"), letter("m0", failed_ms=2_000), letter("m0", body=b"{} ")]

    assert await run(FakeBroker(letters, seed=1), Plan()) == ["m0"] * 4
    assert len({mark_of(each) for each in letters}) == 3


async def test_what_somebody_else_has_taken_is_not_waited_for() -> None:
    """The search ends where the queue has no more."""
    broker = FakeBroker([letter("m0"), letter("m1")], seed=1)
    channel = cast("Channel", broker)
    found = await examine(broker, Plan())
    await put_back(channel)
    broker.ready = [each for each in broker.ready if each.header.properties.message_id == "m1"]

    assert [each.header.properties.message_id async for each, _ in find_again(channel, SOURCE, found)] == ["m1"]


async def test_a_look_sends_no_more_ahead_than_its_window() -> None:
    """A queue of a gigabyte is never in memory."""
    broker = FakeBroker([letter(f"m{number}") for number in range(1_000)], seed=1)
    messages = look(cast("Channel", broker), "q.dead", 1_000)
    most = 0
    seen = 0
    async for _ in messages:
        seen += 1
        most = max(most, len(broker.held) - seen)

    assert (seen, most < WINDOW) == (1_000, True)


@pytest.mark.parametrize("limit", [1, 3, None])
def test_the_oldest_are_kept_in_order(limit: int | None) -> None:
    """However they come."""
    kept: Oldest[int] = Oldest(limit)
    for number in (5, 3, 9, 1, 7):
        kept.add((False, number, "", b""), number)

    assert kept.sorted() == [1, 3, 5, 7, 9][:limit]


async def test_a_stop_ends_a_survey() -> None:
    """With what was seen."""
    stop = asyncio.Event()
    stop.set()
    broker = FakeBroker([letter("m0")], seed=1)
    found = await survey(cast("Channel", broker), SOURCE, 1, plan=Plan(), ports=Ports(stop=stop), judge=pass_all)

    assert (found.is_cut, found.seen, found.chosen) == (True, 0, [])
