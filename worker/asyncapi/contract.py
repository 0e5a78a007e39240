"""What a document is written from: a version, a broker, a namespace's topology and the programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.asyncapi.programs import ProgramSchemas
from worker.message import Lane


class QueueNames(Protocol):
    """A durable queue: its name and its arguments."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def arguments(self) -> Mapping[str, str | int]:
        """Argument → value."""
        ...


class TopologyNames(Protocol):
    """What the document needs to know of a namespace's topology."""

    @property
    def namespace(self) -> str:
        """First part of every name."""
        ...

    @property
    def exchange(self) -> str:
        """The exchange that senders may use."""
        ...

    @property
    def dead_exchange(self) -> str:
        """Where work queues dead-letter to."""
        ...

    @property
    def delays_ms(self) -> Sequence[int]:
        """Steps of the delay ladder in milliseconds."""
        ...

    @property
    def queues(self) -> Sequence[QueueNames]:
        """Every queue."""
        ...

    def work_queue(self, lane: Lane) -> str:
        """Return the name of a lane's work queue."""
        ...

    def dead_queue(self, lane: Lane) -> str:
        """Return the name of a lane's dead-letter queue."""
        ...

    def delay_name(self, delay_ms: int) -> str:
        """Return the name of a ladder step."""
        ...


@dataclass(frozen=True, slots=True)
class Server:
    """The broker.

    Attributes:
        host: Name and port.
        vhost: Its virtual host.
        is_encrypted: Whether it is ``amqps``.
    """

    host: str
    vhost: str = "/"
    is_encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Contract:
    """All that a document is written from.

    Attributes:
        version: Of the workers.
        server: Their broker.
        topology: Names and arguments of their namespace.
        programs: Those to write typed messages for, in any order.
    """

    version: str
    server: Server
    topology: TopologyNames
    programs: Sequence[ProgramSchemas] = ()
