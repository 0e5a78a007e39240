"""Where a fault is tried: a private broker, an LM stub, a store, workers and a load; nothing of it is left at the end.

::

    async with Stage.open(settings={"concurrency": "16"}) as stage:
        async with stage.crew(4) as crew, stage.load() as load:
            ...

A stage has a RabbitMQ node of its own, which may be killed. Goals that leave the node alone may share one to be quick:
`lend` names the node that stages use inside its block, each in a namespace of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from local_services import PostgresServer, RabbitNode, temporary_folder

from tests.faults.lm_stub import LMStub
from tests.faults.load import Load
from tests.faults.proxy import Proxy
from tests.faults.workers import Crew, Nursery, Workers, crew
from tests.support.processes import clean_environment

StoreKind = Literal["sqlite", "postgresql"]

# Short clocks: a job of a killed worker is taken over after two seconds.
SETTINGS = {
    "concurrency": "16",
    "lm_model": "openai/gpt-4o-mini",
    "lm_structured_outputs": "false",
    "lm_timeout_seconds": "10",
    "job_timeout_seconds": "20",
    "drain_seconds": "30",
    "lease_seconds": "2",
    "delays_seconds": "0.5,1,2",
    "log_format": "json",
    "log_level": "info",
}
_lent: list[RabbitNode] = []


@contextlib.contextmanager
def lend(node: RabbitNode) -> Iterator[None]:
    """Let the stages inside the block use this node, where they do not ask for one of their own."""
    _lent.append(node)
    try:
        yield
    finally:
        _lent.pop()


@contextlib.contextmanager
def broker_node() -> Iterator[RabbitNode]:
    """Run a private node inside the block."""
    with temporary_folder() as folder, RabbitNode(folder / "rabbitmq") as node:
        yield node


@dataclass(slots=True)
class Stage:
    """One set of services; `Stage.open` makes it.

    Attributes:
        folder: Removed at the end.
        node: The broker.
        proxy: Between the workers and the broker, where the stage was opened with one.
        lm: The LM.
        postgres: The database server, or None with SQLite.
        store_url: The workers' store.
        namespace: Prefix of every queue.
        workers: Starts workers.
    """

    folder: Path
    node: RabbitNode
    proxy: Proxy | None
    lm: LMStub
    postgres: PostgresServer | None
    store_url: str
    namespace: str
    workers: Workers
    seed: int = 0
    delays_ms: tuple[int, ...] = ()

    @staticmethod
    def open(
        *,
        seed: int = 0,
        settings: Mapping[str, str] | None = None,
        store: StoreKind = "sqlite",
        has_own_node: bool = True,
        has_proxy: bool = False,
        is_installed: bool = False,
    ) -> AbstractAsyncContextManager[Stage]:
        """Set a stage inside the block.

        Args:
            seed: For everything on the stage that is left to chance.
            settings: Settings of every worker without the prefix, on top of `SETTINGS`.
            store: Which engine.
            has_own_node: Whether the node may be killed; False takes the one that was lent, if there is one.
            has_proxy: Whether workers reach the broker through a `Proxy`; the load never does.
            is_installed: Whether workers are the installed ``dspex-worker``, at 2 s of CPU a start; else forks.
        """
        needs = _Needs(seed, dict(settings or {}), store, has_own_node, has_proxy, is_installed)
        return _opened(needs)

    def crew(self, size: int, *, failpoint: Callable[[], str] = str) -> AbstractAsyncContextManager[Crew]:
        """Keep so many workers at work inside the block; one that ends is started again."""
        return crew(self.workers, size, failpoint=failpoint)

    def load(self) -> Load:
        """Return a publisher of jobs, as a context manager; it speaks to the node directly."""
        return Load(self.node.url, self.namespace)

    @property
    def queues(self) -> list[str]:
        """The work queues and the steps of the ladder."""
        lanes = [f"{self.namespace}.{lane}" for lane in ("create", "execute", "control")]
        return [*lanes, *(f"{self.namespace}.delay.{step}" for step in self.delays_ms)]

    @property
    def dead_queues(self) -> list[str]:
        """The dead-letter queues."""
        return [f"{self.namespace}.{lane}.dead" for lane in ("create", "execute", "control")]

    # The node; each call blocks, so it runs in a thread.

    async def kill_node(self) -> None:
        """Kill the broker with -9."""
        await asyncio.to_thread(self.node.kill)

    async def start_node(self) -> None:
        """Start the broker and wait until it speaks AMQP."""
        await asyncio.to_thread(self.node.start)
        await asyncio.to_thread(self.node.wait_ready)

    async def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl``; takes about a second."""
        return await asyncio.to_thread(self.node.ctl, *arguments)


@dataclass(frozen=True, slots=True)
class _Needs:
    seed: int
    settings: dict[str, str]
    store: StoreKind
    has_own_node: bool
    has_proxy: bool
    is_installed: bool


@contextlib.asynccontextmanager
async def _opened(needs: _Needs) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        # Made in parallel with the boot of the broker.
        nursery = None if needs.is_installed else await stack.enter_async_context(Nursery())
        node = await _node(stack, has_own=needs.has_own_node)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dspex-faults-")))
        postgres = await _postgres(stack) if needs.store == "postgresql" else None
        lm = await stack.enter_async_context(LMStub(seed=needs.seed))
        proxy = await stack.enter_async_context(Proxy(node.port)) if needs.has_proxy else None
        store_url = postgres.url if postgres is not None else f"sqlite:///{folder}/store.db"
        settings = SETTINGS | needs.settings
        environment = clean_environment(**settings) | {
            "DSPEX_AMQP_URL": proxy.url(node.url) if proxy else node.url,
            "DSPEX_NAMESPACE": (namespace := f"faults-{secrets.token_hex(4)}"),
            "DSPEX_STORE_URL": store_url,
            "DSPEX_LM_API_BASE": lm.url,
            "DSPY_CACHEDIR": str(folder / "dspy"),
            "LITELLM_LOCAL_MODEL_COST_MAP": "true",
        }
        workers = Workers(folder, environment=environment, nursery=nursery)
        stack.push_async_callback(workers.end_all)
        delays_ms = tuple(round(float(step) * 1_000) for step in settings["delays_seconds"].split(","))
        yield Stage(folder, node, proxy, lm, postgres, store_url, namespace, workers, needs.seed, delays_ms)


async def _node(stack: contextlib.AsyncExitStack, *, has_own: bool) -> RabbitNode:
    if _lent and not has_own:
        return _lent[-1]
    folder = stack.enter_context(temporary_folder())
    node = RabbitNode(folder / "rabbitmq")
    stack.push_async_callback(asyncio.to_thread, node.close)
    await asyncio.to_thread(node.start)
    await asyncio.to_thread(node.wait_ready)
    return node


async def _postgres(stack: contextlib.AsyncExitStack) -> PostgresServer:
    folder = stack.enter_context(temporary_folder())
    server = PostgresServer(folder / "postgres")
    stack.push_async_callback(asyncio.to_thread, server.close)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.wait_ready)
    return server


__all__ = ["SETTINGS", "Stage", "StoreKind", "broker_node", "lend"]
