"""docs/DYNAMIC_SIGNATURES.md, run from top to bottom on a worker with the offline LM, as its reader would run it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.caller import Caller
from tests.support.pages import Block, all_blocks, still
from tests.support.processes import WorkerProcess, clean_environment
from worker.client import Client

PAGE = "docs/DYNAMIC_SIGNATURES.md"


@pytest.fixture
def environment(amqp_url: str, namespace: str, tmp_path: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return clean_environment(amqp_url=amqp_url, namespace=namespace) | {
        "PATH": path,
        "DSPEX_STORE_URL": f"sqlite:///{tmp_path}/store.db",
    }


@pytest.fixture
async def reader(
    environment: dict[str, str], amqp_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Reader]:
    class OurClient(Client):
        """The client of the page, on the broker of the test whatever URL it is given."""

        def __init__(self, url: str) -> None:
            super().__init__(amqp_url, namespace=namespace)

    monkeypatch.setattr("worker.client.Client", OurClient)
    process = WorkerProcess(environment)
    await process.start()
    async with Caller(amqp_url, namespace) as caller:
        yield Reader(caller, environment)
    await process.kill()


class Reader:
    """Does what the blocks of a page say."""

    def __init__(self, caller: Caller, environment: dict[str, str]) -> None:
        self._caller = caller
        self._environment = environment
        self._names: dict[str, Any] = {}

    async def run(self, block: Block) -> str:
        """Run a block and return what it prints; of a message, the reply."""
        match block.language:
            case "python":
                return await self._type(block.text)
            case "sh":
                return await self._enter(block.text)
            case "json":
                return json.dumps(await self._caller.call("execute", block.text.encode()))
            case _:
                raise AssertionError(f"nobody can run {block}")

    async def _type(self, text: str) -> str:
        """Run Python as ``python -m asyncio`` does: ``await`` may stand alone, bare values are echoed, names stay."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            for statement in ast.parse(text).body:
                typed = ast.Interactive([statement])
                waiting = eval(compile(typed, PAGE, "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), self._names)
                if waiting is not None:
                    await waiting
        return printed.getvalue()

    async def _enter(self, text: str) -> str:
        shell = await asyncio.create_subprocess_exec(
            "sh", "-e", "-c", text, env=self._environment, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await shell.communicate()
        assert shell.returncode == 0, text
        return "".join(f"{line.rstrip()}\n" for line in printed.decode().splitlines())


def is_reply(block: Block) -> bool:
    return block.language == "json" and "success" in json.loads(block.text)


def examples() -> list[tuple[Block, Block | None]]:
    """Return each block that can be run, with the one that shows what comes of it."""
    shown = all_blocks(PAGE)
    return [
        (block, after if after is not None and (after.language == "text" or is_reply(after)) else None)
        for block, after in zip(shown, [*shown[1:], None], strict=True)
        if block.language not in ("text", "elixir") and not is_reply(block)
    ]


async def test_the_page_says_what_happens(reader: Reader) -> None:
    """Each example does what stands below it; without anything below it, it succeeds."""
    for block, after in examples():
        told = await reader.run(block)
        if block.language != "json":
            assert after is None or told == after.text, block.text
        elif after is None:
            assert json.loads(told)["success"], told
        else:
            assert still(json.loads(after.text)) == still(json.loads(told))


def test_the_page_has_examples_of_each_kind() -> None:
    """None is passed over because it is fenced in another way."""
    kinds = {block.language for block in all_blocks(PAGE)}

    assert kinds == {"python", "sh", "json", "text", "elixir"}
