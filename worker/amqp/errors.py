"""What can go wrong with the broker.

::

    BrokerError
    ├─ ConnectionLostError       the broker did not answer, or is gone; the same step may be tried again
    ├─ TopologyError             a queue or exchange is not as this worker needs it
    ├─ RefusedByBrokerError      the broker answered a publish with a nack
    │  └─ DeadLetterRefusedError the dead-letter queue is full
    ├─ ReplyTooLargeError        a reply is larger than the broker takes
    ├─ ReplayLockedError         another replay or purge of the same queue is running
    ├─ ReplayStoppedError        a replay cannot go on; what it has done stays done
    └─ AuditError                the audit trail cannot be written, so nothing more is moved or removed
"""

from __future__ import annotations


class BrokerError(Exception):
    """The root of every error of this package; ``str(error)`` is a sentence for an operator."""


class ConnectionLostError(BrokerError):
    """Connection, channel or confirm was lost. Whether the broker acted is unknown."""


class TopologyError(BrokerError):
    """The broker's queues or exchanges contradict the topology; one sentence for each, each on its own line."""


class RefusedByBrokerError(BrokerError):
    """The broker did not take a message (nack)."""


class DeadLetterRefusedError(RefusedByBrokerError):
    """The dead-letter queue did not take a message, most likely because it is full."""


class ReplyTooLargeError(BrokerError):
    """A reply is larger than the broker takes, at any repetition; the sentence names size and limit."""


class ReplayLockedError(BrokerError):
    """Another replay or purge holds the lock of this dead-letter queue."""


class ReplayStoppedError(BrokerError):
    """A copy found no work queue; its dead letter was left in place."""


class AuditError(BrokerError):
    """The audit file takes no line; without one no dead letter leaves its queue."""
