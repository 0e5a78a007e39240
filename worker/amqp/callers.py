"""Tell whether a caller is still there, before its job is paid for.

A passive declare of the reply queue costs one round trip and changes nothing. RabbitMQ answers

======================= ==============================================================================================
ok                      the queue exists, or the channel of a direct reply-to address is open
405 RESOURCE_LOCKED     it is another connection's exclusive queue: its caller is there
404 NOT_FOUND           nobody can get the reply any more
======================= ==============================================================================================

405 and 404 close the channel, so a scratch channel is kept while the answers are good and opened again when one was
not. Whatever else happens counts as "still there": a call that is paid for in vain is better than a lost one.

See Also:
    docs/RELIABILITY.md, "Connections".
"""

from __future__ import annotations

import asyncio

import structlog
from aiormq.channel import Channel
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity
from cachetools import LRUCache
from pamqp.commands import Queue

from worker.amqp.channels import open_channel
from worker.amqp.connection import RPC_SECONDS, Link, losses
from worker.amqp.errors import ConnectionLostError
from worker.message import DIRECT_REPLY_TO

CHECK_SECONDS = 2.0
_REMEMBERED = 10_000

_log = structlog.get_logger(__name__)


class _Look(Queue.Declare):
    """A passive declare of any name: pamqp refuses the ``=`` that direct reply-to addresses may hold."""

    def validate(self) -> None:
        """Leave the name to the broker."""


class Callers:
    """Looks after callers on a scratch channel of the publishing connection.

    Jobs of one caller that begin at the same time share a question: each waits for one that is asked after it came.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: Channel | None = None
        self._looking = asyncio.Lock()
        # Address → the question that is not asked yet.
        self._next: dict[str, asyncio.Task[bool]] = {}
        # A direct reply-to address is made for one channel of one connection and never comes back.
        self._gone: LRUCache[str, bool] = LRUCache(_REMEMBERED)

    async def is_gone(self, reply_to: str) -> bool:
        """Tell whether the broker knows for sure that nobody can receive at an address.

        Args:
            reply_to: A queue's name, or a direct reply-to address as the broker has rewritten it.

        Returns:
            False too while the broker is away, blocks publishers or does not answer within two seconds.
        """
        if reply_to in self._gone:
            return True
        if not self._link.is_open or self._link.is_blocked:
            return False
        look = self._next.get(reply_to)
        if look is None:
            look = self._next[reply_to] = asyncio.create_task(self._look(reply_to))
        return await asyncio.shield(look)

    async def _look(self, reply_to: str) -> bool:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                is_gone = await self._ask(reply_to)
        except (ConnectionLostError, ChannelAccessRefused, TimeoutError) as error:
            _log.info("caller.unknown", reply_to=reply_to, reason=str(error))
            return False
        finally:
            self._close(reply_to)
        if is_gone and reply_to.startswith(DIRECT_REPLY_TO):
            self._gone[reply_to] = True
        return is_gone

    async def _ask(self, reply_to: str) -> bool:
        # One at a time: the answer for one closes the channel under all others.
        async with self._looking:
            if self._channel is None or self._channel.is_closed:
                self._channel = await open_channel(await self._link.connection())
            self._close(reply_to)
            try:
                with losses(ChannelNotFoundEntity, ChannelLockedResource, ChannelAccessRefused):
                    await self._channel.rpc(_Look(queue=reply_to, passive=True), timeout=RPC_SECONDS)
            except ChannelNotFoundEntity:
                return True
            except ChannelLockedResource:
                return False
            return False

    def _close(self, reply_to: str) -> None:
        """Let nobody join this question any more."""
        if self._next.get(reply_to) is asyncio.current_task():
            del self._next[reply_to]
