"""Where measurements take place: a folder, an LM stub, a namespace on a broker, and workers on demand.

All of it is on loopback and all of it is gone at the end, also after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.errors import MeasurementError
from benchmarks.load import Load, MakeArgs
from benchmarks.processes import Child, child
from benchmarks.programs import DEFINITIONS, LM_MODEL, execute_args, lm_profiles
from benchmarks.progress import Progress

_READY_SECONDS = 60.0
# The reply comes before the ack; without it the last jobs would not be whole.
_SETTLE_SECONDS = 0.3
_WARM_UP_JOBS = 150


@dataclass(frozen=True, slots=True)
class Run:
    """What a number of jobs took.

    Attributes:
        jobs: How many.
        cpu_seconds: CPU of the measured processes together.
        wall_seconds: From the first publish to the last reply.
    """

    jobs: int
    cpu_seconds: float
    wall_seconds: float

    @property
    def cpu_ms(self) -> float:
        """CPU per job in milliseconds."""
        return self.cpu_seconds * 1_000 / self.jobs

    @property
    def per_second(self) -> float:
        """Jobs per second of wall time."""
        return self.jobs / self.wall_seconds


class Stage:
    """Starts what a measurement needs, and measures it under load.

    Attributes:
        is_full: Whether the budget's own numbers of jobs are to be run, however long it takes.
        earlier: A checkout of an earlier version to measure against, or None.
        progress: Shows how far a measurement is.
        load: Publishes jobs to the workers.
        folder: For stores and logs; removed at the end.
    """

    def __init__(self, url: str, *, folder: Path, stub_port: str, load: Load, progress: Progress) -> None:
        self.is_full = False
        self.earlier: Path | None = None
        self.progress = progress
        self.load = load
        self.folder = folder
        self._url = url
        self._stub_url = f"http://127.0.0.1:{stub_port}"
        self._names = itertools.count(1)

    @asynccontextmanager
    async def worker(self, *, concurrency: int = 32, is_ready: bool = True) -> AsyncIterator[Child]:
        """Run the installed ``dspex-worker serve`` inside the block.

        Args:
            concurrency: Jobs in flight.
            is_ready: Whether to wait until it consumes.
        """
        program = str(Path(sys.executable).parent / "dspex-worker")
        environment = self._worker_environment(concurrency)
        name = f"worker-{next(self._names)}"
        async with child(name, "serve", environment=environment, folder=self.folder, program=program) as started:
            if is_ready:
                await self._wait_until_ready(started)
            yield started

    @asynccontextmanager
    async def workers(self, count: int, *, concurrency: int) -> AsyncIterator[list[Child]]:
        """Run several workers inside the block, all of them warm."""
        async with AsyncExitStack() as stack:
            started = [await stack.enter_async_context(self.worker(concurrency=concurrency)) for _ in range(count)]
            await self.warm_up(jobs=_WARM_UP_JOBS * count)
            yield started

    @asynccontextmanager
    async def direct_load(self) -> AsyncIterator[Load]:
        """Have a second load generator inside the block, whose replies come by direct reply-to."""
        async with Load(self._url, namespace(), is_direct=True) as load:
            yield load

    @asynccontextmanager
    async def earlier_worker(self, checkout: Path) -> AsyncIterator[tuple[Child, Load]]:
        """Run a warm worker of another version inside the block, with a load generator of its own.

        Args:
            checkout: Where that version is; it runs on this one's dependencies.
        """
        own = {"DSPEX_NAMESPACE": f"{namespace()}-earlier", "DSPEX_STORE_URL": f"sqlite:///{self.folder}/earlier.db"}
        environment = self._worker_environment(32) | own
        async with (
            child(
                "earlier", "-m", "worker", "serve", environment=environment, folder=self.folder, cwd=checkout
            ) as started,
            Load(self._url, own["DSPEX_NAMESPACE"]) as load,
        ):
            await self._wait_until_ready(started)
            for program, definition in DEFINITIONS.items():
                await load.call("create", {"id": program, "signature": definition})
            await load.execute(partial(execute_args, "label"), jobs=_WARM_UP_JOBS, on_reply=lambda: None)
            yield started, load

    def module(self, name: str, *arguments: str) -> Any:
        """Run a module of this package in a process of its own, inside the block of the context that is returned."""
        environment = self._environment() | self._worker_environment(32)
        return child(name, "-m", f"benchmarks.{name}", *arguments, environment=environment, folder=self.folder)

    @asynccontextmanager
    async def bare(self) -> AsyncIterator[Child]:
        """Run bare DSPy, warm, inside the block."""
        async with self.module("bare", f"{self._stub_url}/label/0/v1") as started:
            await started.ask(str(_WARM_UP_JOBS))
            yield started

    async def prepare_programs(self) -> None:
        """Declare the queues and create all programs, with a worker that lives no longer than that."""
        async with self.worker():
            for program, definition in DEFINITIONS.items():
                await self.load.call("create", {"id": program, "signature": definition})

    async def warm_up(self, *, jobs: int = _WARM_UP_JOBS) -> None:
        """Run jobs of all programs, so that nothing is built for the first time while it is measured."""
        for program in DEFINITIONS:
            make_args = partial(execute_args, program)
            await self.load.execute(make_args, jobs=jobs // len(DEFINITIONS), on_reply=lambda: None)

    async def execute(
        self, title: str, make_args: MakeArgs, *, jobs: int, measured: Sequence[Child], load: Load | None = None
    ) -> Run:
        """Have jobs run and measure what they cost.

        Args:
            title: For the progress bar.
            make_args: Number of a job → its arguments.
            jobs: How many.
            measured: The processes whose CPU counts.
            load: Who sends them; the stage's own by default.
        """
        with self.progress.bar(title, total=jobs) as advance:
            cpu = sum(one.cpu_seconds() for one in measured)
            began = time.perf_counter()
            await (load or self.load).execute(make_args, jobs=jobs, on_reply=advance)
            wall_seconds = time.perf_counter() - began
            await asyncio.sleep(_SETTLE_SECONDS)
            cpu_seconds = sum(one.cpu_seconds() for one in measured) - cpu
        return Run(jobs, cpu_seconds, wall_seconds)

    async def call_bare(self, title: str, bare: Child, *, calls: int) -> Run:
        """Have bare DSPy make calls and measure what they cost."""
        with self.progress.bar(title, total=calls) as advance:
            cpu, began = bare.cpu_seconds(), time.perf_counter()
            await bare.ask(str(calls))
            run = Run(calls, bare.cpu_seconds() - cpu, time.perf_counter() - began)
            for _ in range(calls):
                advance()
        return run

    async def take_lm_peak(self) -> int:
        """Return how many LM calls were in flight together, at most, since the last time."""

        def fetch() -> int:
            with urllib.request.urlopen(f"{self._stub_url}/peak", timeout=10) as response:
                return int(json.load(response)["peak"])

        return await asyncio.to_thread(fetch)

    async def _wait_until_ready(self, started: Child) -> None:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while "worker.ready" not in await asyncio.to_thread(started.log.read_text):
                    started.check()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise MeasurementError(f"{started.name} was not ready within a minute") from None

    def _worker_environment(self, concurrency: int) -> dict[str, str]:
        return self._environment() | {
            "DSPEX_AMQP_URL": self._url,
            "DSPEX_NAMESPACE": namespace(),
            "DSPEX_STORE_URL": f"sqlite:///{self.folder}/store.db",
            "DSPEX_CONCURRENCY": str(concurrency),
            "DSPEX_LM_MODEL": LM_MODEL,
            "DSPEX_LM_API_KEY": "sk-bench",
            # Bare DSPy uses the chat format, so the worker does too.
            "DSPEX_LM_STRUCTURED_OUTPUTS": "false",
            "DSPEX_LM_API_BASE": f"{self._stub_url}/label/0/v1",
            "DSPEX_LMS": json.dumps(lm_profiles(self._stub_url)),
            "DSPEX_LOG_FORMAT": "json",
        }

    def _environment(self) -> dict[str, str]:
        return _plain_environment() | {"DSPY_CACHEDIR": str(self.folder / "dspy")}


@asynccontextmanager
async def staged(url: str, progress: Progress) -> AsyncIterator[Stage]:
    """Set the stage inside the block: folder, LM stub and load generator."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dspex-bench-")))
        stub = await stack.enter_async_context(
            child("lm_server", "-m", "benchmarks.lm_server", environment=_plain_environment(), folder=folder)
        )
        load = await stack.enter_async_context(Load(url, namespace()))
        yield Stage(url, folder=folder, stub_port=await stub.read_line(), load=load, progress=progress)


def namespace() -> str:
    """Return the prefix of all queues: what the environment says, so that whoever set it can tidy up."""
    return os.environ.get("DSPEX_NAMESPACE", "dspex")


def _plain_environment() -> dict[str, str]:
    """Return the environment without settings of ours, and without DSPy's download of a price list."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("DSPEX_")}
    return kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "true"}
