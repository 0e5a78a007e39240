"""When a call's bound begins, and how its messages tell of it."""

from __future__ import annotations

import asyncio
import datetime as dt

from worker.client.link import Call
from worker.client.request import Request, Route

NOW_SECONDS = 1_800_000_000.25


async def call_of(bound_seconds: float | None) -> Call:
    request = Request(b"{}", "m", "c", bound_seconds)
    return Call(Route("q", "", "q"), request, asyncio.get_running_loop().create_future(), asyncio.Event())


async def test_the_bound_runs_from_the_publish_and_is_told_in_three_ways():
    """Absolute, and for workers with another clock relative to the time of sending."""
    call = await call_of(2.0)
    message = call.stamped(now_seconds=NOW_SECONDS, loop_seconds=100.0)

    assert (call.until, message.timestamp) == (102.0, dt.datetime.fromtimestamp(NOW_SECONDS, tz=dt.UTC))
    assert message.headers == {"x-dspex-deadline": 1_800_000_002_250, "x-dspex-timeout": 2_000}


async def test_what_is_published_again_keeps_its_deadline_and_has_less_time():
    """Its caller does not wait longer because a connection was lost."""
    call = await call_of(2.0)
    call.stamped(now_seconds=NOW_SECONDS, loop_seconds=100.0)
    message = call.stamped(now_seconds=NOW_SECONDS + 1.5, loop_seconds=101.5)

    assert message.headers == {"x-dspex-deadline": 1_800_000_002_250, "x-dspex-timeout": 500}


async def test_a_job_without_a_bound_has_no_deadline():
    """It may start at any time."""
    call = await call_of(None)
    message = call.stamped(now_seconds=NOW_SECONDS, loop_seconds=100.0)

    assert (call.until, message.headers) == (None, {})
