"""A request before it is a message: what is known before it is published."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

import aio_pika

from worker.message import HEADER_DEADLINE, HEADER_RERUN, HEADER_TIMEOUT

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.

    Attributes:
        queue: The queue that is meant.
        exchange: Empty for the default one, which a user of least rights may not publish to.
        routing_key: The key that leads there.
    """

    queue: str
    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request; published again after a lost connection, it is the same request.

    Attributes:
        body: The JSON.
        message_id: The idempotency key.
        correlation_id: What its reply carries.
        bound_seconds: How long after its first publish it may still be started; None for any time.
        reply_to: The reply's queue; None where the result is only kept.
        rerun_of: Generation of the failed run that another one is asked of; None for no such wish.
    """

    body: bytes
    message_id: str
    correlation_id: str
    bound_seconds: float | None
    reply_to: str | None = DIRECT_REPLY_TO
    rerun_of: int | None = None

    @property
    def is_answered_here(self) -> bool:
        """Whether its reply comes back over the connection that it is sent on."""
        return self.reply_to == DIRECT_REPLY_TO

    def message(self, *, now_seconds: float, left_seconds: float | None) -> aio_pika.Message:
        """Return the message of one publish.

        Three values tell when its caller stops to wait: the absolute deadline, and for workers whose clock differs from
        the caller's the time of sending and what was left of the bound then.

        Args:
            now_seconds: Unix seconds.
            left_seconds: What is left of the bound; None where there is none.
        """
        headers: dict[str, Any] = {} if self.rerun_of is None else {HEADER_RERUN: self.rerun_of}
        if left_seconds is not None:
            headers[HEADER_DEADLINE] = round((now_seconds + left_seconds) * 1_000)
            headers[HEADER_TIMEOUT] = round(left_seconds * 1_000)
        return aio_pika.Message(
            self.body,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=self.message_id,
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            timestamp=dt.datetime.fromtimestamp(now_seconds, tz=dt.UTC),
            headers=headers,
        )


def fresh_id() -> str:
    """Return an id that no other job has."""
    return str(uuid.uuid4())
