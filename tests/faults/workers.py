"""Worker processes that may be killed, and crews of them that come back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from child_processes import free_port

from tests.support.processes import COMMAND

READY = "worker.ready"
_START_SECONDS = 60.0
# Longer than any drain of the suite.
_STOP_SECONDS = 90.0
_POLL_SECONDS = 0.02
_PAUSE_SECONDS = 0.1
_BACKOFF_SECONDS = 1.0
_FAILED_STARTS = 5
ROOT = Path(__file__).resolve().parents[2]


class Life:
    """One process of a worker, from its start to its end.

    Attributes:
        pid: Its process id; part of the owner of its rows in the store.
        port: Of its metrics; 0 where it shows none.
        key: The API key it calls the LM with; names it in the stub's books.
        log: File with its log, JSON lines.
    """

    def __init__(self, pid: int, *, key: str, log: Path, ended: asyncio.Future[int], port: int = 0) -> None:
        self.pid = pid
        self.port = port
        self.key = key
        self.log = log
        self._ended = ended

    @property
    def is_over(self) -> bool:
        """Whether the process has ended."""
        return self._ended.done()

    async def exit_code(self) -> int:
        """Wait for the end and return the exit code; negative where a signal ended it."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended gets none."""
        if not self.is_over:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def freeze(self) -> None:
        """Stop every thread of it (SIGSTOP) and return when they stand still; SIGCONT lets it go on."""
        self.send(signal.SIGSTOP)
        while not self.is_over and not _stands_still(self.pid):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(_POLL_SECONDS / 10)

    async def kill(self) -> None:
        """End it with -9 and wait for it."""
        self.send(signal.SIGKILL)
        await self.exit_code()

    async def stop(self) -> int:
        """End it with SIGTERM and return its exit code.

        Raises:
            AssertionError: It did not end by that, and was killed; with the end of its log.
        """
        self.send(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.exit_code(), _STOP_SECONDS)
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"A worker did not end on SIGTERM: {self.text()[-2_000:]}") from None

    async def logged(self, word: str, *, timeout_seconds: float = _START_SECONDS) -> None:
        """Wait until a word stands in its log.

        Raises:
            AssertionError: It ended before, or the time ran out; with the end of its log.
        """
        end = asyncio.get_running_loop().time() + timeout_seconds
        while word not in self.text():
            if self.is_over and word not in self.text():
                raise AssertionError(f"A worker ended before it logged {word!r}: {self.text()[-2_000:]}")
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(f"A worker did not log {word!r} in time: {self.text()[-2_000:]}")
            await asyncio.sleep(_POLL_SECONDS)

    async def metric(self, name: str) -> float:
        """Return a metric, summed over its labels."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/metrics") as response:
            text = await response.text()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}[{{ ]", line))

    def text(self) -> str:
        """Return its log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Nursery:
    """Forks workers from one process that has imported everything (`tests.faults.nursery`)."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._ready = asyncio.Event()
        self._is_gone = False
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("DSPEX_")}
        command = (sys.executable, "-m", "tests.faults.failpoints", "nursery")
        self._process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "true"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read(self._process))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reading is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def bear(self, environment: Mapping[str, str], *, log: Path) -> tuple[int, asyncio.Future[int]]:
        """Fork a worker; return its process id and the future of its exit code."""
        assert self._process is not None
        assert self._process.stdin is not None
        await self._ready.wait()
        self._check()
        order = {"log": str(log), "environment": dict(environment)}
        async with self._asking:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            pid = await self._born.get()
        return pid, self._ends[pid]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._take(json.loads(line))
        self._is_gone = True
        self._ready.set()
        for end in self._ends.values():
            if not end.done():
                end.set_result(-signal.SIGKILL)

    def _check(self) -> None:
        assert not self._is_gone, "The nursery has ended; its standard error says why."

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("ready"):
            self._ready.set()
        elif "code" in message:
            self._ends[message["pid"]].set_result(message["code"])
        else:
            self._ends[message["pid"]] = asyncio.get_running_loop().create_future()
            self._born.put_nowait(message["pid"])


class Workers:
    """Starts workers and ends all of them when the block ends.

    Args:
        folder: Gets a log file for each life.
        environment: Settings of each worker, whole.
        nursery: Forks them; None for the installed ``dspex-worker serve``.

    Attributes:
        lives: Every process started so far.
        has_metrics: Whether each worker from now on shows its metrics at a port of its own.
    """

    def __init__(self, folder: Path, *, environment: Mapping[str, str], nursery: Nursery | None) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._nursery = nursery
        self._numbers = itertools.count()
        self.lives: list[Life] = []
        self.has_metrics = False

    async def start(self, *, until: str | None = READY, failpoint: str = "", **settings: str) -> Life:
        """Start a worker and wait for a word in its log.

        Args:
            until: The word; None not to wait.
            failpoint: ``DSPEX_TEST_FAILPOINT``; see `tests.faults.failpoints`.
            settings: Settings without the prefix that differ for this worker.
        """
        number = next(self._numbers)
        key = f"sk-{number}"
        environment = self._environment | {f"DSPEX_{name.upper()}": text for name, text in settings.items()}
        port = free_port() if self.has_metrics else 0
        environment |= {"DSPEX_LM_API_KEY": key, "DSPEX_TEST_FAILPOINT": failpoint, "DSPEX_HTTP_PORT": str(port)}
        log = self._folder / f"worker-{number}.log"
        pid, ended = await self._spawn(environment, log=log, is_wrapped=bool(failpoint))
        life = Life(pid, key=key, log=log, ended=ended, port=port)
        self.lives.append(life)
        if until is not None:
            await life.logged(until)
        return life

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the next worker, for other commands of the deployment."""
        return dict(self._environment)

    def change(self, **settings: str) -> None:
        """Give workers that start from now on these settings, named without the prefix."""
        self._environment |= {f"DSPEX_{name.upper()}": text for name, text in settings.items()}

    def apart(self, folder: Path, *, environment: Mapping[str, str]) -> Workers:
        """Return workers of the same nursery with a folder of their own and this on top of the environment."""
        return Workers(folder, environment=self._environment | dict(environment), nursery=self._nursery)

    async def end_all(self) -> None:
        """Kill whatever still runs."""
        await asyncio.gather(*(life.kill() for life in self.lives if not life.is_over))

    async def _spawn(
        self, environment: dict[str, str], *, log: Path, is_wrapped: bool
    ) -> tuple[int, asyncio.Future[int]]:
        if self._nursery is not None:
            return await self._nursery.bear(environment, log=log)
        command = (sys.executable, "-m", "tests.faults.failpoints", "serve") if is_wrapped else (COMMAND, "serve")
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return process.pid, asyncio.ensure_future(process.wait())


@dataclass(slots=True)
class Crew:
    """Workers that are started again whenever they end, as an orchestrator would.

    Attributes:
        exits: Exit code → how often a worker ended so by itself or by our kill, while the crew was at work.
        stops: Exit codes after the crew's own SIGTERM at its end.
    """

    workers: Workers
    size: int
    failpoint: Callable[[], str] = str
    at_work: dict[int, Life] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    _is_stopped: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Start all of them and wait until they are ready."""
        self._tasks = [asyncio.create_task(self._keep(slot)) for slot in range(self.size)]
        await self.full()

    async def full(self) -> None:
        """Wait until every worker is ready again.

        Raises:
            AssertionError: One cannot be started.
        """
        while len(self.living) < self.size:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(_POLL_SECONDS)

    @property
    def living(self) -> list[Life]:
        """The workers that are ready now."""
        return [life for life in self.at_work.values() if not life.is_over]

    async def stop(self) -> list[int]:
        """End all of them with SIGTERM and return their exit codes."""
        self._is_stopped = True
        lives = [life for life in self.workers.lives if not life.is_over]
        try:
            self.stops = list(await asyncio.gather(*(life.stop() for life in lives)))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        return self.stops

    async def _keep(self, slot: int) -> None:
        failed = 0
        while not self._is_stopped:
            life = await self.workers.start(until=None, failpoint=self.failpoint())
            failed = 0 if await self._is_ready(life, is_last=failed + 1 == _FAILED_STARTS) else failed + 1
            self.at_work[slot] = life
            code = await life.exit_code()
            del self.at_work[slot]
            if not self._is_stopped:
                self.exits.append(code)
                await asyncio.sleep(_BACKOFF_SECONDS if failed else _PAUSE_SECONDS)

    async def _is_ready(self, life: Life, *, is_last: bool) -> bool:
        """Wait until a worker is ready; one that ends before may be tried again a few times."""
        try:
            await life.logged(READY)
        except AssertionError:
            if self._is_stopped:
                return False
            if is_last or not life.is_over:
                raise
            return False
        return True


@contextlib.asynccontextmanager
async def crew(workers: Workers, size: int, *, failpoint: Callable[[], str] = str) -> AsyncIterator[Crew]:
    """Keep so many workers at work inside the block.

    Args:
        workers: Starts them.
        size: How many.
        failpoint: Called for each life: its ``DSPEX_TEST_FAILPOINT``.
    """
    made = Crew(workers, size, failpoint)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def _stands_still(pid: int) -> bool:
    """Tell whether no thread of a process runs any more; one that is writing to the disk is not yet stopped."""
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return not Path(f"/proc/{pid}").exists()
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)


def pick(rng: random.Random, lives: list[Life]) -> Life | None:
    """Return one of them, or None where there is none."""
    return rng.choice(lives) if lives else None
