"""A TCP proxy between a worker and its broker that is slow, resets, swallows or refuses, as told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

from yarl import URL

_CHUNK_BYTES = 1 << 16
_NO_LINGER = struct.pack("ii", 1, 0)
# Connection.Start, Connection.Tune, Connection.OpenOk: none is sent before the one before is replied to.
_HANDSHAKE = 3


class Proxy:
    """Passes a loopback port on to another one.

    Args:
        port: Where to.

    Attributes:
        port: Its own port; it stays the same while the proxy refuses.
        latency_seconds: Added to each direction; may be changed at any time.
        connections: How many are open now.
        taken: How many came so far, those in a black hole included.
    """

    def __init__(self, port: int) -> None:
        self._target_port = port
        self.port = 0
        self.latency_seconds = 0.0
        self.taken = 0
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._links: set[_Link] = set()
        self._swallowed: set[_Link] = set()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    @property
    def kept(self) -> int:
        """AMQP connections that stood when the last black hole began, and that the near side has not given up since.

        One that was just being made has no heartbeat yet, but the connect's own time-out.
        """
        return sum(not link.is_given_up for link in self._swallowed)

    def url(self, url: str) -> str:
        """Return a URL of the target as one that goes through here."""
        return str(URL(url).with_port(self.port))

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        self.reset()
        await asyncio.gather(*(link.done for link in list(self._links)), return_exceptions=True)

    def reset(self) -> int:
        """Cut every connection with RST on both sides, and return how many there were."""
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    def swallow(self) -> None:
        """Be a black hole from now on: nothing flows, nothing closes, new connections are taken and say nothing."""
        self._swallowed = {link for link in self._links if link.answers >= _HANDSHAKE}
        self._flows.clear()

    def flow(self) -> None:
        """End the black hole; what waited goes on."""
        self._flows.set()

    def muffle(self, number: int) -> None:
        """Let the connection that came as this one, 1 at first, send and never hear anything again."""
        for link in self._links:
            link.is_muffled = link.is_muffled or link.number == number

    async def refuse(self) -> None:
        """Take no new connections; those that are open stay."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def accept(self) -> None:
        """Take connections, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        number = self.taken
        await self._flows.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, (reader, writer), (far_reader, far_writer), number=number)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


_End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection through the proxy: two directions that end together."""

    def __init__(self, proxy: Proxy, near: _End, far: _End, *, number: int) -> None:
        self._proxy = proxy
        self.number = number
        self._near, self._far = near, far
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pumps: list[asyncio.Task[None]] = []
        self.is_muffled = False
        self.is_given_up = False
        self.answers = 0

    async def run(self) -> None:
        near, far = self._near, self._far
        self._pumps = [
            asyncio.create_task(self._pump(near[0], far[1])),
            asyncio.create_task(self._pump(far[0], near[1])),
        ]
        try:
            await asyncio.wait(self._pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)
            for _, writer in (near, far):
                writer.transport.abort()
            self.done.set_result(None)

    def reset(self) -> None:
        for _, writer in (self._near, self._far):
            connection: socket.socket | None = writer.get_extra_info("socket")
            if connection is not None and not writer.transport.is_closing():
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    def _is_heard(self, writer: asyncio.StreamWriter) -> bool:
        """Count what the far side answers, and tell whether it may be passed on."""
        if writer is not self._near[1]:
            return True
        self.answers += 1
        return not self.is_muffled

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on, each chunk so much later than it came; a latency does not slow the stream down."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._proxy._flows.wait()
                if not data:
                    return
                if self._is_heard(writer):
                    writer.write(data)
                    await writer.drain()

        writing = asyncio.create_task(write())
        try:
            while True:
                try:
                    data = await reader.read(_CHUNK_BYTES)
                except OSError:
                    data = b""
                waiting.put_nowait((loop.time() + self._proxy.latency_seconds, data))
                if not data:
                    self.is_given_up = self.is_given_up or reader is self._near[0]
                    break
            with contextlib.suppress(OSError):
                await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
