"""docs/PYTHON.md, run from top to bottom on a worker with the offline LM."""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from tests.support.pages import all_blocks, quoted, table
from tests.support.processes import WorkerProcess, clean_environment
from worker import client as package
from worker.client import Client, ClientError

PAGE = "docs/PYTHON.md"
URL = "amqp://guest:guest@127.0.0.1:5672/"
QUEUE = "dspex.reply.tickets"


@pytest.fixture
async def names(
    amqp_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Any]]:
    """The names of the reader's session; its client talks to the test's worker."""

    class OurClient(Client):
        """The client of the page, in the namespace of the test."""

        def __init__(self, url: str, **more: Any) -> None:
            super().__init__(url, namespace=namespace, **more)

    monkeypatch.setattr(package, "Client", OurClient)
    process = WorkerProcess(
        clean_environment(amqp_url=amqp_url, namespace=namespace, store_url=f"sqlite:///{tmp_path}/store.db")
    )
    await process.start()
    yield {}
    await process.kill()
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await channel.queue_delete(f"{namespace}.reply.tickets")


async def run(text: str, names: dict[str, Any]) -> str:
    """Run Python in which ``await`` may stand alone, and whose names stay. Return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        waiting = eval(compile(text, PAGE, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if waiting is not None:
            await waiting
    return printed.getvalue()


async def test_the_page_says_what_happens(names: dict[str, Any], amqp_url: str, namespace: str) -> None:
    """Each example prints what stands below it."""
    told, expected = [], []
    for block, after in itertools.pairwise([*all_blocks(PAGE), None]):
        if block is not None and block.language == "python":
            text = block.text.replace(URL, amqp_url).replace(QUEUE, f"{namespace}.reply.tickets")
            told.append(await run(text, names))
            expected.append(after.text if after is not None and after.language == "text" else "")

    assert expected == told


def test_the_tables_name_each_call_and_each_error() -> None:
    """None too many, none missing."""
    calls = {quoted(row[0])[0].partition("(")[0] for row in table(PAGE, "Call", "Returns")}
    errors = {quoted(row[0])[0] for row in table(PAGE, "Error", "When")}
    kinds = [value for value in vars(package).values() if isinstance(value, type) and issubclass(value, ClientError)]

    assert {name for name in dir(Client) if callable(getattr(Client, name)) and not name.startswith("_")} == calls
    assert {kind.__name__ for kind in kinds} - {"ClientError"} == errors
