"""A retry whose worker is killed before it was acked is delivered again at once, and keeps its time all the same."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from tests.faults.jobs import SIGNATURE, text_of
from tests.faults.ledger import Ledger
from tests.faults.lm_stub import Trouble
from tests.faults.oracle import judge
from tests.faults.rooms import emptied, room
from tests.faults.stage import Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(120)]

_RETRY_AFTER_SECONDS = 2
# A job may be claimed so much earlier, because the clocks of the broker and the store are not one.
_UNEVEN_SECONDS = 0.1
_SETTINGS = {
    "delays_seconds": f"0.5,{_RETRY_AFTER_SECONDS}",
    "max_repairs": "0",
    # The LM is held while a second worker starts.
    "lm_timeout_seconds": "30",
    "job_timeout_seconds": "60",
    "drain_seconds": "70",
}
# Where no copy of the message is on the ladder yet, and where one is: then two of them go round.
_EDGES = ("store.release:after", "publisher.delay:after")


async def test_a_retry_keeps_its_time_where_its_worker_is_killed(stage: Stage) -> None:
    """A neighbour with empty hands gets the message at once, and calls the LM when the provider has said, once."""
    gaps = await asyncio.gather(*(_gap(stage, edge, number=number) for number, edge in enumerate(_EDGES)))

    due = _RETRY_AFTER_SECONDS - _UNEVEN_SECONDS

    assert {edge: gap for edge, gap in zip(_EDGES, gaps, strict=True) if gap < due} == {}


async def _gap(stage: Stage, edge: str, *, number: int) -> float:
    """Have a worker killed at an edge; return the seconds from the LM's refusal to its next call."""
    ledger = Ledger()
    async with room(stage, **_SETTINGS) as own, own.load() as load:
        own.lm.trouble = Trouble({"429-retry-after": 1.0}, is_first_only=True, retry_after_seconds=_RETRY_AFTER_SECONDS)
        own.lm.hold()
        first = await own.workers.start(failpoint=f"{edge}@1=kill")
        await load.publish([number], make_body=_body_of)
        await own.lm.reach(1)
        second = await own.workers.start()
        own.lm.let_go()
        assert await asyncio.wait_for(first.exit_code(), 20) == -signal.SIGKILL
        await ledger.note(own, first)
        await load.replied()
        await emptied(own)
        assert await second.stop() == 0
        await judge(own, load, ledger=ledger)
        refused, again = own.lm.calls
    assert refused.ended is not None
    return again.began - refused.ended


def _body_of(number: int) -> dict[str, Any]:
    inputs = {"text": text_of(number)}
    return {"id": number, "args": {"signature": SIGNATURE, "fallback": "never", "inputs": inputs}}
