"""A broker that is away: what is logged of it, and what a failed attempt leaves behind."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest
from child_processes import free_port

from worker.amqp.connection import connect, is_worth_a_line


def test_the_first_attempt_is_logged_and_then_ever_fewer():
    """A night without a broker does not fill the log, and does not fall silent."""
    logged = [attempt for attempt in range(1, 65) if is_worth_a_line(attempt)]

    assert logged == [1, 2, 4, 8, 16, 32, 48, 64]


async def test_a_failed_attempt_leaves_nothing_to_close():
    """Collected in another thread, as it may happen in a worker, it puts no warning of a library into the log."""
    gc.disable()
    try:
        with pytest.raises(ConnectionError) as caught:
            await connect(f"amqp://127.0.0.1:{free_port()}/", name="test")
        held: list[object] = [caught]
        held.append(held)
        del caught, held
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            await asyncio.to_thread(gc.collect)
    finally:
        gc.enable()

    assert [str(warning.message) for warning in warned] == []
