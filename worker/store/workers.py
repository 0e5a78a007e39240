"""The workers of a deployment, as their heartbeats tell: who lives, which version it is, and what it says of itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from worker.store.schema import NowMs, workers

MAX_LISTED_WORKERS = 1_000
"""How many workers are listed, those that were seen last first."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker says of itself with each heartbeat.

    Attributes:
        version: The package's version; empty for a worker that was made before there was one in its row.
        status: JSON text of an object, opaque to the heartbeat.
    """

    version: str = ""
    status: str = "{}"


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker's row.

    Attributes:
        worker_id: As in its log and in ``ping``.
        host: Where it runs.
        version: The package's version, or None where it is not known.
        uptime_seconds: From its first heartbeat to its last one.
        silent_seconds: Since its last heartbeat.
        is_living: Whether that is less than the lease.
        in_flight: Lane → jobs in hand; None where it is not known.
        paused: Why lanes are not consumed: ``reason`` and ``lanes``.
        circuits: LM alias → ``code`` and ``open_seconds`` of a circuit that is open.
        settings: Hash of the settings that should agree; None where it is not known.
    """

    worker_id: str
    host: str
    version: str | None
    uptime_seconds: float
    silent_seconds: float
    is_living: bool
    in_flight: Mapping[str, int] | None = None
    paused: Sequence[Mapping[str, Any]] = ()
    circuits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: str | None = None

    def to_json(self, *, differs: Sequence[str]) -> dict[str, Any]:
        """Return the worker as ``list_workers`` spells it.

        Args:
            differs: What most of the other living workers have otherwise; see `differences`.
        """
        return {
            "worker_id": self.worker_id,
            "host": self.host,
            "version": self.version,
            "state": "living" if self.is_living else "lost",
            "uptime": self.uptime_seconds,
            "silent_seconds": self.silent_seconds,
            "in_flight": None if self.in_flight is None else dict(self.in_flight),
            "paused": [dict(pause) for pause in self.paused],
            "circuits": {alias: dict(circuit) for alias, circuit in self.circuits.items()},
            "settings": self.settings,
            "differs": list(differs),
        }


def read_workers(connection: Connection, *, namespace: str, lease_ms: int) -> list[WorkerRecord]:
    """Return the workers that live and those that were lost and not swept yet, by their ids.

    Args:
        connection: To the store.
        namespace: The deployment.
        lease_ms: How old a heartbeat may be before its worker counts as lost.
    """
    columns = (*workers.c[1:], NowMs().label("now_ms"))
    newest = select(*columns).where(workers.c.namespace == namespace).order_by(workers.c.seen_ms.desc())
    rows = connection.execute(newest.limit(MAX_LISTED_WORKERS)).all()
    return sorted((_read(row, lease_ms=lease_ms) for row in rows), key=lambda record: record.worker_id)


def differences(records: Sequence[WorkerRecord]) -> dict[str, list[str]]:
    """Return worker id → ``version`` or ``settings``, where a living worker differs from most of the others.

    Where no value has a majority, all that have one of the most frequent differ: nobody can tell which is right.
    """
    differing: dict[str, list[str]] = {record.worker_id: [] for record in records}
    living = [record for record in records if record.is_living]
    for name in ("version", "settings"):
        counts = Counter(getattr(record, name) for record in living)
        ranked = counts.most_common(2)
        if len(ranked) < 2:
            continue
        right = ranked[0][0] if ranked[0][1] > ranked[1][1] else ()
        for record in living:
            if getattr(record, name) != right:
                differing[record.worker_id].append(name)
    return differing


def describe_workers(records: Sequence[WorkerRecord]) -> list[dict[str, Any]]:
    """Return all workers as ``list_workers`` spells them."""
    differing = differences(records)
    return [record.to_json(differs=differing[record.worker_id]) for record in records]


def _read(row: Any, *, lease_ms: int) -> WorkerRecord:
    silent_ms = max(row.now_ms - row.seen_ms, 0)
    status = _object(_parse(row.status))
    settings = status.get("settings")
    return WorkerRecord(
        # The part after the slash makes a row's owner unique, and is shown nowhere else.
        worker_id=row.worker_id.rpartition("/")[0] or row.worker_id,
        host=row.host,
        version=row.version or None,
        uptime_seconds=max(row.seen_ms - row.started_ms, 0) / 1_000,
        silent_seconds=silent_ms / 1_000,
        is_living=silent_ms < lease_ms,
        in_flight=_counts(status.get("in_flight")),
        paused=_pauses(status.get("paused")),
        circuits=_circuits(status.get("circuits")),
        settings=settings if isinstance(settings, str) else None,
    )


# A worker of another version may say it otherwise: what cannot be read is not known, and hides no other worker.


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _counts(value: object) -> dict[str, int] | None:
    counts = {lane: count for lane, count in _object(value).items() if isinstance(count, int)}
    return counts or None


def _pauses(value: object) -> list[dict[str, Any]]:
    pauses = [_object(pause) for pause in value] if isinstance(value, list) else []
    return [
        {"reason": pause["reason"], "lanes": [lane for lane in pause["lanes"] if isinstance(lane, str)]}
        for pause in pauses
        if isinstance(pause.get("reason"), str) and isinstance(pause.get("lanes"), list)
    ]


def _circuits(value: object) -> dict[str, dict[str, Any]]:
    circuits = {alias: _object(circuit) for alias, circuit in _object(value).items()}
    return {
        alias: {"code": circuit["code"], "open_seconds": circuit["open_seconds"]}
        for alias, circuit in circuits.items()
        if isinstance(circuit.get("code"), str) and isinstance(circuit.get("open_seconds"), int | float)
    }
