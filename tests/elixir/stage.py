"""What ExUnit breaks: workers, their LM and a broker, steered by lines of JSON: ``python -m tests.elixir.stage``.

The first line of stdout says where everything is. Each line of stdin is ``{"do": name, …arguments}``, answered by one
line, ``{"ok": …}`` or ``{"error": "…"}``. When stdin is closed, all that was started is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from local_services import temporary_folder
from rabbit_node import RabbitNode
from remove_namespace import DEFAULT_DELAYS_MS, remove_namespace

from tests.support.lm_stub import LMStub, failing
from tests.support.processes import COMMAND, WorkerProcess, clean_environment
from worker.amqp.connection import connect
from worker.amqp.topology import measure

ROOT = Path(__file__).parents[2]
REMOTE_LM = "remote"
_DELAYS = "0.2,0.5"
_DELAYS_MS = (200, 500)
_LOOK_SECONDS = 0.05


class Stage:
    """Everything that a line can ask for; the methods without an underscore are the words of ``do``."""

    def __init__(self, *, url: str, namespace: str, folder: Path, lm: LMStub, node: RabbitNode | None) -> None:
        self._url = url
        self._namespace = namespace
        self._lm = lm
        self._node = node
        self._workers: dict[str, WorkerProcess] = {}
        remote = {
            "model": "openai/gpt-4o-mini",
            "api_base": lm.url,
            "api_key": "sk-test",
            "structured_outputs": "false",
        }
        self._environment = clean_environment(
            amqp_url=url,
            namespace=namespace,
            store_url=f"sqlite:///{folder}/store.db",
            lms=json.dumps({REMOTE_LM: remote}),
            lease_seconds="2",
            delays_seconds=_DELAYS,
            max_attempts="2",
            # Longer than a broker takes to come back.
            lm_timeout_seconds="60",
            log_format="json",
        ) | {"XDG_STATE_HOME": str(folder), "DSPY_CACHEDIR": str(folder / "dspy")}

    async def have_workers(self, count: int) -> None:
        """See to it that ``worker-1`` to ``worker-<count>`` consume; those that do are left alone."""
        names = [f"worker-{number}" for number in range(1, count + 1)]
        missing = {name: WorkerProcess(self._environment) for name in names if name not in self._workers}
        self._workers |= missing
        await asyncio.gather(*(worker.start() for worker in missing.values()))

    async def kill_worker(self, name: str) -> None:
        """End a worker with -9."""
        await self._workers.pop(name).kill()

    async def kill_workers(self) -> None:
        """End all workers with -9."""
        workers, self._workers = self._workers, {}
        await asyncio.gather(*(worker.kill() for worker in workers.values()))

    async def break_lm(self, status: int = 503) -> None:
        """Have the LM ``remote`` refuse every call."""
        self._lm.behaviour = failing(status)

    async def mend_lm(self, outputs: dict[str, str]) -> None:
        """Have the LM ``remote`` answer with these fields, or hold on to calls until then."""
        self._lm.outputs = outputs
        self._lm.behaviour = self._lm.answer
        self._lm.released.set()

    async def hold_lm(self) -> None:
        """Have the LM ``remote`` keep every call waiting until it is mended."""
        self._lm.released.clear()
        self._lm.behaviour = self._lm.hang

    async def slow_lm(self, outputs: dict[str, str], seconds: float) -> None:
        """Have the LM ``remote`` answer after a while."""
        self._lm.outputs = outputs

        async def answer(prompt: str, call: int) -> Any:
            await asyncio.sleep(seconds)
            return await self._lm.answer(prompt, call)

        self._lm.behaviour = answer

    async def reach_lm(self, calls: int) -> None:
        """Wait until the LM ``remote`` has had so many calls."""
        async with asyncio.timeout(60):
            await self._lm.reach(calls)

    async def lm_calls(self) -> int:
        """Return how many calls the LM ``remote`` has had."""
        return self._lm.calls

    async def reach_depth(self, queue: str, messages: int) -> None:
        """Wait until a queue, named without the namespace, has so many messages."""
        async with asyncio.timeout(30):
            while await self.depth(queue) != messages:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(_LOOK_SECONDS)

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue, named without the namespace."""
        async with await connect(self._url, name="elixir stage") as connection:
            return ((await measure(connection, f"{self._namespace}.{queue}")) or (0, 0))[0]

    async def command(self, *arguments: str) -> str:
        """Run ``dspex-worker`` and return what it prints."""
        return await _run(COMMAND, *arguments, environment=self._environment)

    async def stop_broker(self) -> None:
        """Shut the stage's own node down."""
        await asyncio.to_thread(self._own_node.stop)

    async def kill_broker(self) -> None:
        """Kill the stage's own node with -9."""
        await asyncio.to_thread(self._own_node.kill)

    async def start_broker(self) -> None:
        """Start the stage's own node again."""
        await asyncio.to_thread(self._own_node.start)
        await asyncio.to_thread(self._own_node.wait_ready)

    async def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` for the stage's own node."""
        return await asyncio.to_thread(self._own_node.ctl, *arguments)

    async def make_user(self, role: str, name: str) -> str:
        """Make a broker user of least rights, as operators do, and return the URL with its password."""
        password = secrets.token_hex(8)
        ctl = shlex.join(self._own_node.ctl_command)
        script = [str(ROOT / "deploy/rabbitmq/make_users.py"), "--namespace", self._namespace, "--rabbitmqctl", ctl]
        line = f"{role} {name} {password}\n"
        await _run(sys.executable, *script, environment=self._environment, text=line)
        return f"amqp://{name}:{password}@127.0.0.1:{self._own_node.port}"

    @property
    def _own_node(self) -> RabbitNode:
        if self._node is None:
            raise ValueError("this stage has no broker of its own: start it with --own-broker")
        return self._node


async def serve(*, has_own_broker: bool, url: str | None) -> None:
    """Do what stdin says until it is closed."""
    async with _opened(has_own_broker=has_own_broker, url=url) as (stage, place):
        _write(place)
        while line := await asyncio.to_thread(sys.stdin.readline):
            _write(await _answer(stage, json.loads(line)))


async def _answer(stage: Stage, request: dict[str, Any]) -> dict[str, Any]:
    name, listed = request.pop("do"), request.pop("arguments", [])
    try:
        return {"ok": await getattr(stage, name)(*listed, **request)}
    except Exception as error:  # noqa: BLE001 - the test fails with it
        return {"error": f"{name}: {type(error).__name__}: {error}"}


@contextlib.asynccontextmanager
async def _opened(*, has_own_broker: bool, url: str | None) -> AsyncIterator[tuple[Stage, dict[str, str]]]:
    namespace = f"elixir-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        node = _own_broker(stack) if has_own_broker else None
        address = node.url if node is not None else url or ""
        if node is None:
            stack.push_async_callback(remove_namespace, address, namespace, delays_ms=(*_DELAYS_MS, *DEFAULT_DELAYS_MS))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dspex-elixir-")))
        lm = LMStub()
        await lm.start()
        stack.push_async_callback(lm.stop)
        stage = Stage(url=address, namespace=namespace, folder=folder, lm=lm, node=node)
        stack.push_async_callback(stage.kill_workers)
        yield stage, {"url": address, "namespace": namespace}


def _own_broker(stack: AsyncExitStack) -> RabbitNode:
    return stack.enter_context(RabbitNode(stack.enter_context(temporary_folder()) / "rabbitmq"))


async def _run(*command: str, environment: dict[str, str], text: str = "") -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
    printed, complaints = await process.communicate(text.encode())
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {printed.decode()}{complaints.decode()}")
    return printed.decode()


def _write(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="stage", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--own-broker", action="store_true", help="start a broker that may be killed")
    parser.add_argument("--url", help="otherwise, the broker to use")
    options = parser.parse_args()
    asyncio.run(serve(has_own_broker=options.own_broker, url=options.url))


if __name__ == "__main__":
    main()
