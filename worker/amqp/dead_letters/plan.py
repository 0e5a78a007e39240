"""What a run over a dead-letter queue is asked to do, what it may call, and what it reports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from worker.amqp.dead_letters.audit import AuditLine
from worker.amqp.dead_letters.refusals import Refusal
from worker.amqp.dead_letters.selection import EVERYTHING_THAT_FAILED, Selection
from worker.message import Delivery

OnProgress = Callable[[int, int], None]
Check = Callable[[Delivery], Awaitable[bool]]
OnRefusal = Literal["stop", "skip", "force"]
Counts = Mapping[tuple[str | None, str | None], int]


def _no_progress(_done: int, _total: int) -> None:
    pass


def _no_audit(_line: AuditLine) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay or a purge is asked to do.

    Attributes:
        selection: Which letters.
        limit: At most so many messages, the oldest of those that are meant; None for all.
        is_dry_run: Only look and count.
        trusted_users: Broker users whose headers count, beside the connection's own.
        rate: Replay: at most so many messages a second; None for no bound.
        patch: Replay: a JSON merge patch for the ``args`` of each job, or None.
        on_refusal: Replay, where a letter would fail again: ``stop`` before anything moves, ``skip`` it, or ``force``
            it through.
    """

    selection: Selection = EVERYTHING_THAT_FAILED
    limit: int | None = None
    is_dry_run: bool = False
    trusted_users: frozenset[str] = frozenset()
    rate: float | None = None
    patch: Mapping[str, Any] | None = None
    on_refusal: OnRefusal = "stop"


@dataclass(frozen=True, slots=True)
class Ports:
    """What a run calls outside.

    Attributes:
        on_progress: Gets messages done and messages in all.
        on_look: Gets messages looked at and messages in all, before anything is done.
        audit: Gets a line for each message, just before it is removed. What it raises ends the run.
        check: Gets each job as a worker would get it; raises a `WorkerError` if it would be refused, and tells whether
            it could be compared with the program that it names. None: nothing is checked.
        stop: Set to end the run after the message in hand.
    """

    on_progress: OnProgress = _no_progress
    on_look: OnProgress = _no_progress
    audit: Callable[[AuditLine], None] = _no_audit
    check: Check | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did, or would do.

    Attributes:
        queue: The dead-letter queue.
        is_dry_run: Whether nothing was changed on purpose.
        is_interrupted: Whether it was ended before it was through.
        total: Letters that were meant, when the run began.
        wanted: How many of them it was to replay: all, or as many as the limit lets, without those that it skips.
        replayed: Messages that are back in their work queue; in a dry run, that would be.
        left: Letters that were meant and stay: refused, beyond the limit, or not come to before the end.
        expired: Letters that only expired, would be meant, and were not asked for.
        unseen: Letters that were there and were not looked at, or not found again: somebody else holds or took them.
        unchecked: Jobs that name a program and could not be compared with it: there is no store to read.
        patched: Messages that the patch has changed, of those replayed.
        counts: (program id or None, code or None) → messages replayed.
        refusals: Why letters stay, or made the replay stop.
    """

    queue: str
    is_dry_run: bool
    is_interrupted: bool = False
    total: int = 0
    wanted: int = 0
    replayed: int = 0
    left: int = 0
    expired: int = 0
    unseen: int = 0
    unchecked: int = 0
    patched: int = 0
    counts: Counts = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What a purge did, or would do.

    Attributes:
        queue: The dead-letter queue.
        is_dry_run: Whether nothing was changed on purpose.
        is_interrupted: Whether it was ended before it was through.
        total: Letters that were meant, when the run began.
        wanted: How many of them it was to purge: all, or as many as the limit lets.
        purged: Messages that are gone for good; in a dry run, that would be.
        expired: Letters that only expired, would be meant, and were not asked for.
        unseen: As of a replay.
        counts: (program id or None, code or None) → messages purged.
    """

    queue: str
    is_dry_run: bool
    is_interrupted: bool = False
    total: int = 0
    wanted: int = 0
    purged: int = 0
    expired: int = 0
    unseen: int = 0
    counts: Counts = field(default_factory=dict)
