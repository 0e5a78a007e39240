"""The left hand without a broker: settings, deliveries, and a handler on a real SQLite store."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import update

from worker.commands import Commands
from worker.execution import Runner
from worker.handler import Handler
from worker.inbox import Inbox
from worker.lm import LMs
from worker.message import Delivery, Job, Lane, Outcome, decode, parse
from worker.programs import Programs
from worker.questions import Questions
from worker.settings import Settings, load
from worker.store import Store
from worker.store.schema import jobs

KNOWN_MODEL = "openai/gpt-4o-mini"
SECRET = "sk-very-secret-0123456789"
SENTIMENT: dict[str, Any] = {
    "name": "Elixir.MyApp.Sentiment",
    "description": "Detects the sentiment of a text",
    "inputs": [{"name": "text", "type": "string", "description": "Text to analyse"}],
    "outputs": [
        {"name": "sentiment", "type": "string", "constraints": {"enum": ["positive", "negative", "neutral"]}},
        {"name": "confidence", "type": "probability"},
    ],
}

_ids = itertools.count(1)


def make_settings(**given: object) -> Settings:
    """Return settings from an environment of ``DSPEX_<NAME>`` variables, named in lower case and without the prefix."""
    return load({f"DSPEX_{name.upper()}": str(value) for name, value in given.items()})


def stub_settings(url: str, **given: object) -> Settings:
    """Return settings whose default alias is a stub."""
    return make_settings(
        **{"lm_model": KNOWN_MODEL, "lm_api_base": url, "lm_api_key": SECRET, "lm_structured_outputs": "false", **given}
    )


def make_delivery(body: object = None, *, lane: Lane = "execute", **properties: Any) -> Delivery:
    """Return a delivery; a body that is no bytes is written as JSON, and ids are fresh unless given."""
    number = next(_ids)
    raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    defaults = {"reply_to": "replies", "correlation_id": f"correlation-{number}", "message_id": f"message-{number}"}
    return Delivery(lane=lane, body=raw, **{**defaults, **properties})


def make_job(body: object = None, *, lane: Lane = "execute", tenant: str = "", **properties: Any) -> Job:
    """Return a decoded job."""
    delivery = make_delivery(body, lane=lane, **properties)
    return decode(parse(delivery.body, max_bytes=8 * 1024 * 1024), delivery, tenant=tenant)


async def let_time_come(store: Store) -> None:
    """Let the time come of every job that waits for its next try."""
    await store._write(lambda connection: connection.execute(update(jobs).values(not_before_ms=0)))


def reply_of(outcome: Outcome) -> dict[str, Any]:
    """Return the body of an outcome's reply."""
    assert outcome.reply is not None
    return dict(json.loads(outcome.reply.body))


@dataclass
class Clock:
    """A clock that moves when it is told to; it starts at the store's time, which nobody can set."""

    now_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class LeftHand:
    """Everything from the delivery to the outcome, put together as the server does.

    Attributes:
        gone: Callers that are gone.
        asked: Callers that were looked after.
    """

    settings: Settings
    store: Store
    lms: LMs
    clock: Clock = field(default_factory=Clock)
    gone: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.programs = Programs(self.settings)
        self.inbox = Inbox(self.store, self.settings, clock_ms=self.clock)
        self.commands = Commands(
            self.store,
            self.settings,
            programs=self.programs,
            runner=Runner(self.lms, self.programs, max_repairs=self.settings.max_repairs),
            inbox=self.inbox,
            callers=self.is_gone,
        )
        self.questions = Questions(
            self.store, self.programs, lms=self.lms, commands=self.commands, worker_id="worker-1"
        )
        self.handler = Handler(
            self.settings, inbox=self.inbox, commands=self.commands, questions=self.questions, clock_ms=self.clock
        )

    async def is_gone(self, reply_to: str) -> bool:
        """Tell whether a caller is gone, as the broker does for a real worker."""
        self.asked.append(reply_to)
        return reply_to in self.gone

    async def handle(self, body: object = None, *, lane: Lane = "execute", **properties: Any) -> Outcome:
        """Handle a fresh delivery."""
        return await self.handler.handle(make_delivery(body, lane=lane, **properties))

    async def call(self, command: str, args: object = None, **properties: Any) -> dict[str, Any]:
        """Handle a command and return the reply's body."""
        body = {"command": command, "args": {} if args is None else args}
        return reply_of(await self.handle(body, lane="control", **properties))

    async def create(self, signature: object, **args: Any) -> dict[str, Any]:
        """Create a program and return the result."""
        reply = await self.call("create_program", {"signature": signature, **args})
        assert reply["success"], reply
        return dict(reply["result"])


@contextlib.asynccontextmanager
async def open_store(folder: Path, **given: Any) -> AsyncIterator[Store]:
    """Open a real SQLite store in a folder; several of them share its file."""
    options = {"namespace": "dspex", "worker_id": "worker-1", "lease_seconds": 10, **given}
    store = await Store.open(f"sqlite:///{folder / 'store.db'}", **options)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def open_left_hand(folder: Path, settings: Settings | None = None) -> AsyncIterator[LeftHand]:
    """Open a left hand; with the offline LM unless the settings name another."""
    settings = settings or make_settings()
    async with open_store(folder) as store:
        lms = LMs(settings.profiles, timeout_seconds=settings.lm_timeout_seconds)
        try:
            yield LeftHand(settings, store, lms)
        finally:
            await lms.aclose()
