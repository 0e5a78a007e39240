"""What the broker gave: body, properties, and the trail that our own copies carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from worker.message.history import Death, read_history, write_history

Lane = Literal["create", "execute", "control"]
LANES: tuple[Lane, ...] = ("create", "execute", "control")

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to."
"""How a direct reply-to address begins, as the broker rewrites it: it lives as long as its caller's channel."""

HEADER_DEADLINE = "x-dspex-deadline"
HEADER_TIMEOUT = "x-dspex-timeout"
HEADER_RERUN = "x-dspex-rerun"
HEADER_STORED = "x-dspex-stored"
HEADER_ATTEMPTS = "x-dspex-attempts"
HEADER_WAITS = "x-dspex-waits"
HEADER_FIRST_DELIVERED = "x-dspex-first-delivered"
HEADER_GENERATION = "x-dspex-generation"
HEADER_ORIGINAL_ROUTING_KEY = "x-dspex-original-routing-key"
HEADER_TENANT = "x-dspex-tenant"
HEADER_DELIVERIES = "x-dspex-deliveries"
HEADER_HISTORY = "x-dspex-history"
MAX_RERUN = 1_000_000
"""The highest generation that may be run again: a number that is sent must not use up all that the store can count."""

INTERNAL_HEADERS = (
    HEADER_ATTEMPTS,
    HEADER_WAITS,
    HEADER_FIRST_DELIVERED,
    HEADER_GENERATION,
    HEADER_ORIGINAL_ROUTING_KEY,
    HEADER_TENANT,
    HEADER_DELIVERIES,
    HEADER_HISTORY,
)


@dataclass(frozen=True, slots=True)
class Trail:
    """What earlier deliveries of the same job left behind.

    Attributes:
        attempts: Runs that reached the LM.
        waits: Hops on the delay ladder that were no attempt.
        first_delivered_ms: Unix milliseconds of the first delivery, or None on the first one.
        generation: 0 at first; one more with every replay from a dead-letter queue, and with every rerun.
        original_routing_key: The publisher's routing key, kept over copies; None on the first delivery.
        tenant: Whose job a copy is, for the copy's own ``user_id`` is the worker's; None on the first delivery.
        deliveries: How often the original of a copy had been delivered that may have killed its worker and was not
            handed in: the broker begins to count anew.
        history: How each generation before this one ended.
        deadline_ms: Unix milliseconds: the deadline that a copy carries, where it is not the one that was sent.
    """

    attempts: int = 0
    waits: int = 0
    first_delivered_ms: int | None = None
    generation: int = 0
    original_routing_key: str | None = None
    tenant: str | None = None
    deliveries: int = 0
    history: tuple[Death, ...] = ()
    deadline_ms: int | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, object]) -> Trail:
        """Read the internal headers; one of the wrong type counts as absent."""
        key, tenant = headers.get(HEADER_ORIGINAL_ROUTING_KEY), headers.get(HEADER_TENANT)
        return cls(
            attempts=_count(headers, HEADER_ATTEMPTS) or 0,
            waits=_count(headers, HEADER_WAITS) or 0,
            first_delivered_ms=_count(headers, HEADER_FIRST_DELIVERED),
            generation=_count(headers, HEADER_GENERATION) or 0,
            original_routing_key=key if isinstance(key, str) else None,
            tenant=tenant if isinstance(tenant, str) else None,
            deliveries=_count(headers, HEADER_DELIVERIES) or 0,
            history=read_history(headers.get(HEADER_HISTORY)),
        )

    def waited(self, *, first_ms: int) -> Trail:
        """Return the trail of a copy that waits for something else than the job: it is no attempt.

        Args:
            first_ms: Unix milliseconds of this delivery, which counts where there was none before.
        """
        return replace(self.since(first_ms), waits=self.waits + 1)

    def since(self, first_ms: int) -> Trail:
        """Return the same trail with a first delivery: the clocks count from it, never from the end of a run."""
        return self if self.first_delivered_ms is not None else replace(self, first_delivered_ms=first_ms)

    def to_headers(self) -> dict[str, Any]:
        """Return the internal headers that a copy carries."""
        headers: dict[str, Any] = {
            HEADER_ATTEMPTS: self.attempts,
            HEADER_WAITS: self.waits,
            HEADER_GENERATION: self.generation,
        }
        if self.first_delivered_ms is not None:
            headers[HEADER_FIRST_DELIVERED] = self.first_delivered_ms
        if self.original_routing_key is not None:
            headers[HEADER_ORIGINAL_ROUTING_KEY] = self.original_routing_key
        if self.tenant is not None:
            headers[HEADER_TENANT] = self.tenant
        if self.deliveries:
            headers[HEADER_DELIVERIES] = self.deliveries
        if self.history:
            headers[HEADER_HISTORY] = write_history(self.history)
        return headers


def _stays() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery from a work queue.

    Attributes:
        lane: Which work queue it came from.
        body: As published.
        reply_to: Queue for the reply, or None.
        correlation_id: Copied to the reply, or None.
        message_id: The idempotency key, or None.
        content_type: As published, or None.
        content_encoding: As published, or None.
        headers: Header → value, as published; internal ones count only through ``trail``.
        trail: From the internal headers, if their sender is trusted; else empty.
        delivery_count: The broker's own count of earlier deliveries of this very message.
        user_id: The publisher, as the broker has checked it; that of the tenant for our own copies. None where the
            publisher did not say.
        is_alone: Whether nothing else is in hand in this process: how a job is run that may have killed its worker.
        expires_in_ms: The publisher's ``expiration``, or None.
        unreadable: Names of properties or headers that are not UTF-8; their values are escaped.
        is_oversized: Whether properties and headers leave no room for ours in one frame.
        is_rerun: Whether the sender asks for another run of a job that failed, as the generation of ``trail``.
        is_redelivered: Whether the broker has given it to somebody before.
        sent_ms: Unix milliseconds of the sender's clock when it was sent, to the second, or None.
        empty_ms: Unix milliseconds at which the queue was last known to be empty, or None: it was published after that.
        is_gone: Tells whether the broker has taken the delivery back, because its channel was lost; it comes again.
    """

    lane: Lane
    body: bytes
    reply_to: str | None = None
    correlation_id: str | None = None
    message_id: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    trail: Trail = field(default_factory=Trail)
    delivery_count: int = 0
    user_id: str | None = None
    is_alone: bool = False
    expires_in_ms: int | None = None
    unreadable: tuple[str, ...] = ()
    is_oversized: bool = False
    is_rerun: bool = False
    is_redelivered: bool = False
    sent_ms: int | None = None
    empty_ms: int | None = None
    is_gone: Callable[[], bool] = field(default=_stays, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether no worker has had the job before, as far as the broker and earlier workers have told."""
        return not (self.is_redelivered or self.delivery_count or self.trail.first_delivered_ms)


def rerun_of(headers: Mapping[str, object]) -> int | None:
    """Return the generation that a request wants to be run again; None without one, or with what is none."""
    generation = _count(headers, HEADER_RERUN)
    return generation if generation is not None and generation <= MAX_RERUN else None


def _count(headers: Mapping[str, object], name: str) -> int | None:
    value = headers.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
