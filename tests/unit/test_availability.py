"""One probe for all, and who is told what."""

from __future__ import annotations

import asyncio

import pytest

from worker.store import Availability, StoreUnavailableError, briefly, steadily
from worker.telemetry import STORE_UP


class Shop:
    """A store that is open or closed."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.is_open = is_open
        self.pings = 0
        self.calls = 0
        self.pinged = asyncio.Event()
        self.availability = Availability(self.ping)

    async def ping(self) -> None:
        """Answer the probe."""
        self.pings += 1
        self.pinged.set()
        self._answer()

    async def visit(self) -> str:
        """Make a call as `worker.store.Store` does."""
        return await self.availability.call(self.serve)

    async def serve(self) -> str:
        """Make the call itself."""
        self.calls += 1
        self._answer()
        return "served"

    async def shut(self) -> None:
        """Be down, found out by a call and by the probe after it."""
        self.is_open = False
        with pytest.raises(StoreUnavailableError):
            await self.visit()
        await self.pinged.wait()

    def _answer(self) -> None:
        if not self.is_open:
            raise StoreUnavailableError("closed")


async def test_a_call_that_fails_alone_does_not_take_the_store_down() -> None:
    """The probe is answered: the others go on as before."""
    shop = Shop(is_open=True)

    async def fail() -> None:
        raise StoreUnavailableError("slow")

    with pytest.raises(StoreUnavailableError, match="slow"):
        await shop.availability.call(fail)
    await shop.availability.wait_until_up()

    assert shop.availability.is_up
    assert (shop.pings, shop.availability.down_seconds) == (1, 0.0)


async def test_while_it_is_down_calls_fail_at_once_and_one_probe_asks() -> None:
    """No call waits for its own time-out, and the reason is the same."""
    shop = Shop()
    await shop.shut()

    with pytest.raises(StoreUnavailableError, match="closed") as caught:
        await shop.visit()
    await shop.availability.close()

    assert caught.value.availability is shop.availability
    assert not shop.availability.is_up
    assert (shop.calls, shop.pings, STORE_UP._value.get()) == (1, 1, 0)


async def test_all_that_wait_go_on_when_the_probe_is_answered() -> None:
    """Twenty that wait cost one probe, and each of them one more call."""
    shop = Shop()
    await shop.shut()
    waiting = [asyncio.create_task(steadily(shop.visit)) for _ in range(20)]
    shop.is_open = True

    results = await asyncio.gather(*waiting)

    assert (results, shop.pings, shop.calls) == (["served"] * 20, 2, 21)
    assert STORE_UP._value.get() == 1


async def test_a_brief_call_gives_up_when_the_store_has_been_down_for_so_long() -> None:
    """Counted from when it went down, so a later one gives up with the earlier ones."""
    shop = Shop()
    await shop.shut()
    waiting = [asyncio.create_task(briefly(shop.visit, hold_seconds=0.05)) for _ in range(3)]

    results = await asyncio.gather(*waiting, return_exceptions=True)
    with pytest.raises(StoreUnavailableError, match="closed"):
        await briefly(shop.visit, hold_seconds=0.05)
    await shop.availability.close()

    assert all(isinstance(result, StoreUnavailableError) for result in results)
    assert shop.calls == 1


async def test_a_brief_call_that_alone_fails_gives_up_too() -> None:
    """A store that answers the probe and never the call holds nobody for ever."""
    shop = Shop(is_open=True)

    async def fail() -> None:
        raise StoreUnavailableError("this table only")

    with pytest.raises(StoreUnavailableError, match="this table only"):
        await briefly(lambda: shop.availability.call(fail), hold_seconds=0.05)

    assert shop.availability.is_up


async def test_given_up_is_told_once_it_has_been_down_for_so_long() -> None:
    """And not while it is up."""
    shop = Shop()
    given_up = asyncio.create_task(shop.availability.wait_until_given_up(0.05))
    await asyncio.sleep(0)
    was_told_early = given_up.done()
    await shop.shut()

    await given_up
    down_seconds = shop.availability.down_seconds
    shop.is_open = True
    await shop.availability.wait_until_up()

    assert not was_told_early
    assert down_seconds >= 0.05
    assert shop.availability.is_up


async def test_a_probe_that_breaks_in_another_way_goes_on() -> None:
    """All the others wait for it."""
    faults: list[Exception] = [LookupError("a bug"), StoreUnavailableError("closed")]

    async def ping() -> None:
        if faults:
            raise faults.pop(0)

    async def fail() -> None:
        raise StoreUnavailableError("closed")

    availability = Availability(ping)
    with pytest.raises(StoreUnavailableError):
        await availability.call(fail)

    await availability.wait_until_up()

    assert not faults


async def test_after_the_close_nothing_is_probed() -> None:
    """The last calls of a worker that ends leave no task behind."""
    shop = Shop()
    await shop.availability.close()

    with pytest.raises(StoreUnavailableError):
        await shop.visit()

    assert shop.pings == 0
