"""The proxy breaks connections the way it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy in front of an echo server."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                writer.write(data)
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    streams[1].write(b"x")
    return await streams[0].read(1)


async def test_bytes_pass_both_ways(proxy: Proxy) -> None:
    """Untroubled, it is not there."""
    streams = await asyncio.open_connection("127.0.0.1", proxy.port)

    assert await ask(streams) == b"x"

    streams[1].close()


async def test_a_latency_delays_each_direction(proxy: Proxy) -> None:
    """There and back: twice."""
    proxy.latency_seconds = 0.05
    streams = await asyncio.open_connection("127.0.0.1", proxy.port)
    began = time.monotonic()
    await ask(streams)
    streams[1].close()

    assert time.monotonic() - began >= 0.1


async def test_a_reset_is_seen_as_one(proxy: Proxy) -> None:
    """RST, not an orderly end."""
    streams = await asyncio.open_connection("127.0.0.1", proxy.port)
    await ask(streams)

    assert proxy.reset() == 1

    with pytest.raises(ConnectionResetError):
        await ask(streams)
    streams[1].close()


async def test_a_black_hole_says_nothing_and_goes_on_afterwards(proxy: Proxy) -> None:
    """Nothing flows, nothing closes, nothing is lost."""
    streams = await asyncio.open_connection("127.0.0.1", proxy.port)
    await ask(streams)
    proxy.swallow()
    asking = asyncio.create_task(ask(streams))
    done, _ = await asyncio.wait({asking}, timeout=0.1)
    proxy.flow()

    assert not done
    assert await asking == b"x"

    streams[1].close()


async def test_a_black_hole_knows_who_has_given_up(proxy: Proxy) -> None:
    """Of the connections whose handshake was over when it began; the far side hears nothing of it."""
    patient = await asyncio.open_connection("127.0.0.1", proxy.port)
    impatient = await asyncio.open_connection("127.0.0.1", proxy.port)
    young = await asyncio.open_connection("127.0.0.1", proxy.port)
    for streams in (patient, impatient, young):
        for _ in range(1 if streams is young else 3):
            await ask(streams)
    proxy.swallow()
    kept = proxy.kept
    impatient[1].transport.abort()
    async with asyncio.timeout(5):
        while proxy.kept == kept:  # noqa: ASYNC110 - a proxy tells nobody
            await asyncio.sleep(0.01)

    assert (kept, proxy.kept) == (2, 1)

    proxy.flow()

    assert await ask(patient) == b"x"

    for streams in (patient, young):
        streams[1].close()


async def test_a_refusing_proxy_comes_back_on_the_same_port(proxy: Proxy) -> None:
    """What was told its address can wait for it."""
    port = proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await proxy.accept()
    streams = await asyncio.open_connection("127.0.0.1", port)

    assert await ask(streams) == b"x"

    streams[1].close()


async def test_a_muffled_connection_sends_and_hears_nothing(proxy: Proxy) -> None:
    """What was sent has arrived, and a new connection hears."""
    streams = await asyncio.open_connection("127.0.0.1", proxy.port)
    await ask(streams)
    proxy.muffle(1)
    asking = asyncio.create_task(ask(streams))
    fresh = await asyncio.open_connection("127.0.0.1", proxy.port)
    answer = await ask(fresh)
    done, _ = await asyncio.wait({asking}, timeout=0.1)
    asking.cancel()

    assert not done
    assert answer == b"x"

    for _, writer in (streams, fresh):
        writer.close()
