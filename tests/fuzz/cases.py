"""Cases by number: the same seed and number give the same case, in every process."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz import harm, jobs
from worker.message import Delivery

_GARBLED, _SPOILT, _ANY = 0.12, 0.75, 0.80
_NOISE = 0.02
_ODD_PROPERTIES = 0.1


@dataclass(frozen=True, slots=True)
class Case:
    """One delivery to come.

    Attributes:
        number: Within its seed.
        body: As a sender would publish it.
        properties: Those of the delivery that are not the ordinary ones.
    """

    number: int
    body: bytes
    properties: dict[str, Any] = field(default_factory=dict)

    def delivery(self) -> Delivery:
        """Return it as the broker would give it."""
        ordinary = {"reply_to": "replies", "correlation_id": f"c{self.number}", "message_id": f"f{self.number}"}
        return Delivery(body=self.body, **{"lane": "execute", **ordinary, **self.properties})


def make_case(seed: int, number: int) -> Case:
    """Return a case: noise, a garbled job, a spoilt one, any JSON, or a whole one."""
    source = random.Random(f"{seed}:{number}")
    properties = harm.properties(source) if source.random() < _ODD_PROPERTIES else {}
    return Case(number, _body(source), properties)


def _body(source: random.Random) -> bytes:
    draw = source.random()
    if draw < _NOISE:
        return source.randbytes(source.choice([0, 1, 10, 1_000]))
    if draw < _GARBLED:
        return harm.garble(harm.write(jobs.make_job(source), source), source)
    if draw < _SPOILT:
        return harm.write(harm.spoil(jobs.make_job(source), source), source)
    if draw < _ANY:
        return harm.write(harm.any_json(source, 5), source)
    return harm.write(jobs.make_job(source), source)
