"""What a type checker tells users of the client; mypy reads this file with all others."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, assert_type

import pytest

import worker.client
from worker.client import CancelStatus, Client, Result, ResultStatus, RowResult


async def rows_of_a_file() -> AsyncIterator[tuple[int, dict[str, str]]]:
    yield 17, {"text": "x"}


def test_rows_keep_the_type_of_their_keys() -> None:
    """A mapping's, that of pairs, or the index."""
    client = Client("amqp://127.0.0.1:1/")
    assert_type(client.execute_many("p", {"a": {"text": "x"}}), AsyncGenerator[RowResult[str], None])
    assert_type(client.execute_many("p", [(1.5, {"text": "x"})]), AsyncGenerator[RowResult[float], None])
    assert_type(client.execute_many("p", rows_of_a_file()), AsyncGenerator[RowResult[int], None])
    many = assert_type(client.execute_many("p", [{"text": "x"}]), AsyncGenerator[RowResult[int], None])

    assert inspect.isasyncgen(many)


async def test_what_calls_return_has_a_type() -> None:
    """Statuses are literals, results are results."""
    client = Client("amqp://127.0.0.1:1/")
    calls = (
        assert_type(client.execute("p", {}), Coroutine[Any, Any, Result]),
        assert_type(client.get_result("m"), Coroutine[Any, Any, Result | None]),
        assert_type(client.await_result("m"), Coroutine[Any, Any, Result]),
        assert_type(client.get_status("m"), Coroutine[Any, Any, ResultStatus]),
        assert_type(client.cancel("m"), Coroutine[Any, Any, CancelStatus]),
        assert_type(client.enqueue("p", {}), Coroutine[Any, Any, str]),
    )
    for call in calls:
        call.close()

    assert len(calls) == 6


@pytest.mark.parametrize("name", worker.client.__all__)
def test_every_name_can_be_imported(name: str) -> None:
    """As the page does."""
    assert getattr(worker.client, name) is not None
