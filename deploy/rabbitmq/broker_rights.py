"""What each broker user of a namespace may do, as RabbitMQ's three regular expressions.

=============  ======================================  ==============================================================
role           may                                     may not
=============  ======================================  ==============================================================
``publisher``  send jobs through the exchange          publish anywhere else, read jobs, dead letters or the replies
               ``<ns>``; have reply queues of its own  of another publisher, delete what is not its own
``worker``     declare the topology, take jobs,        read dead letters, touch queues of other applications
               publish replies, retries, dead letters
``operator``   read dead letters, send them back to    read jobs that wait, publish anywhere else, declare or delete
               work through the exchange ``<ns>``      queues
=============  ======================================  ==============================================================

RabbitMQ asks for: *configure* to declare and delete; *write* to publish (on the exchange), to bind (on the queue) and
to dead-letter (on the exchange that a queue names); *read* to consume, get and purge, to bind (on the exchange) and
to name a dead-letter exchange (on the queue). Direct reply-to needs no right at all, and passive declares need none before
4.3, which wants any of the three. So those who send jobs have *write* on the work queues: they may ask whether a worker
is there, and do nothing else with it, having no exchange to bind such a queue to; workers likewise on reply queues, to ask
whether a caller is still there. The default exchange reaches every queue of the vhost, so only workers have it: callers
name the queue that their reply goes to.

See Also:
    docs/SECURITY.md; https://www.rabbitmq.com/docs/access-control#authorisation
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

LANES = "(create|execute|control)"
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# No dot: else the reply queues of `a` would take in those of `a.b`.
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_@-]{0,63}")

# Exclusive queues: those that RabbitMQ names, and those that aio-pika names.
_EXCLUSIVE = r"amq\.gen-.*|amq_[0-9a-f]{32}"


@dataclass(frozen=True)
class Rights:
    """Regular expressions over the names of queues and exchanges; each is anchored at both ends."""

    configure: str
    write: str
    read: str


def publisher(namespace: str, user: str) -> Rights:
    """Return what one publisher may do; its durable reply queues begin with ``<ns>.reply.<user>``."""
    own = rf"{_EXCLUSIVE}|{namespace}\.reply\.{user}(\..*)?"
    return Rights(configure=_whole(own), write=_to_work(namespace), read=_whole(own))


def worker(namespace: str, _user: str) -> Rights:
    """Return what the workers may do; they declare what is missing, so they may also delete it."""
    work, dead, delay = rf"{namespace}\.{LANES}", rf"{namespace}\.{LANES}\.dead", rf"{namespace}\.delay\.[0-9]+"
    dead_exchange, replies = rf"{namespace}\.dead", rf"{_EXCLUSIVE}|{namespace}\.reply\..*"
    return Rights(
        configure=_whole(f"{namespace}|{work}|{dead}|{dead_exchange}|{delay}"),
        write=_whole(rf"amq\.default|{work}|{dead}|{dead_exchange}|{delay}|{replies}"),
        read=_whole(f"{namespace}|{work}|{dead_exchange}|{delay}"),
    )


def operator(namespace: str, _user: str) -> Rights:
    """Return what operators may do: replay and purge dead letters, and send control commands as a caller would."""
    return Rights(
        configure=_whole(rf"{namespace}\.replay-lock\..*"),
        write=_to_work(namespace),
        read=_whole(rf"{namespace}\.{LANES}\.dead"),
    )


ROLES: dict[str, Callable[[str, str], Rights]] = {"publisher": publisher, "worker": worker, "operator": operator}


def rights_of(role: str, *, namespace: str, user: str) -> Rights:
    """Return the rights of a user in a role.

    Raises:
        ValueError: There is no such role, or a name that would not stand for itself in a regular expression.
    """
    if role not in ROLES:
        raise ValueError(f"there is no role {role!r}: it is one of {', '.join(ROLES)}")
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(f"{namespace!r} cannot be a namespace: letters, digits, _ and - only")
    if not _USER.fullmatch(user):
        raise ValueError(f"{user!r} cannot be a user: letters, digits, _ @ and - only")
    return ROLES[role](namespace, user)


def definitions(namespace: str, *, vhost: str = "/") -> dict[str, Any]:
    """Return the rights of users called as their roles, for ``rabbitmqctl import_definitions``.

    There are no users in it: an import would overwrite their passwords.
    """
    permissions = [
        {"user": role, "vhost": vhost, **asdict(rights_of(role, namespace=namespace, user=role))} for role in ROLES
    ]
    return {"permissions": permissions, "topic_permissions": []}


def ack_timeout_policy(namespace: str, *, seconds: int) -> tuple[str, str, str]:
    """Return name, pattern and JSON of the policy that sets the ack time-out of the work queues.

    RabbitMQ knows it from 3.12 on; before, only ``consumer_timeout`` in ``rabbitmq.conf`` does.
    """
    return f"{namespace}-ack-timeout", rf"^{namespace}\.{LANES}$", f'{{"consumer-timeout": {seconds * 1_000}}}'


def _to_work(namespace: str) -> str:
    return _whole(rf"{namespace}|{namespace}\.{LANES}")


def _whole(pattern: str) -> str:
    return f"^({pattern})$"
