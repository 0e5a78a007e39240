"""Failpoints do what they are told, at ports that exist."""

from __future__ import annotations

import asyncio
import importlib
import inspect

import pytest

from tests.faults.failpoints import NO_PORTS, PORTS, Failpoint, Failpoints, _wrap, edges
from worker.store import StoreUnavailableError


@pytest.mark.parametrize("port", PORTS)
def test_every_port_is_a_coroutine_of_the_worker(port: str) -> None:
    """A method that is renamed must not leave a failpoint that never fires."""
    module, owner, method = PORTS[port]

    assert inspect.iscoroutinefunction(getattr(getattr(importlib.import_module(module), owner), method))


def test_every_await_of_a_port_is_an_edge_or_is_excused() -> None:
    """A new call to the store or the broker must not go without a kill; the LM's other methods are DSPy's."""
    ports = [(module, owner, method) for module, owner, method in PORTS.values() if owner != "CountedLM"]
    awaited = {
        f"{owner}.{name}"
        for module, owner in {(module, owner) for module, owner, _ in ports}
        for name, _ in inspect.getmembers(getattr(importlib.import_module(module), owner), inspect.iscoroutinefunction)
        if not name.startswith("_")
    }

    assert sorted(awaited) == sorted([*(f"{owner}.{method}" for _, owner, method in ports), *NO_PORTS])


@pytest.mark.parametrize("text", ["store.claim:before@1", "store.claim@1=kill", "store.take:before@1=kill", "x"])
def test_what_is_no_failpoint_is_refused(text: str) -> None:
    """A wrong name would be a test that tests nothing."""
    with pytest.raises(ValueError, match="is no failpoint"):
        Failpoint.parse(text)


def test_every_edge_can_be_named() -> None:
    """Two edges a port."""
    assert [Failpoint.parse(f"{edge}@2=kill").edge for edge in edges()] == list(edges())
    assert len(edges()) == 2 * len(PORTS)


async def test_a_port_fails_once_at_the_pass_that_was_named() -> None:
    """Before the call: what fails was not done."""
    done: list[int] = []

    async def claim(number: int) -> None:
        done.append(number)

    failpoints = Failpoints([Failpoint.parse("store.claim:before@2=raise")])
    wrapped = _wrap(claim, port="store.claim", failpoints=failpoints)
    await wrapped(1)
    with pytest.raises(StoreUnavailableError):
        await wrapped(2)
    await wrapped(3)

    assert done == [1, 3]


async def test_a_hang_holds_one_call_only() -> None:
    """The others go on."""

    async def ack() -> str:
        return "done"

    wrapped = _wrap(ack, port="ack", failpoints=Failpoints([Failpoint.parse("ack:after@1=hang")]))
    hanging = asyncio.ensure_future(wrapped())
    await asyncio.sleep(0)

    assert await wrapped() == "done"
    assert not hanging.done()

    hanging.cancel()
