"""The suite's own ``dspex-worker``: kills itself, hangs, blocks or fails at a named await edge of the job path.

``python -m tests.faults.failpoints serve`` is ``dspex-worker serve`` with the ports wrapped from outside, so that
``worker/`` holds no test hooks. ``python -m tests.faults.failpoints nursery`` imports everything once and forks a
worker for each line on its standard input: a life costs about 0.1 s instead of 2 s of CPU.

``DSPEX_TEST_FAILPOINT`` names what happens where, comma-separated: ``<edge>@<n>=<action>``, for instance
``store.finish:after@3=kill``. An edge is a port's method and ``:before`` or ``:after``; *n* is the pass at which it
happens, 1 at first. Actions:

=================  ===================================================================================================
action             what happens
=================  ===================================================================================================
``kill``           SIGKILL to the own process
``hang``           this await never ends; everything else goes on
``block:<s>``      the whole event loop stands still for so many seconds
``raise``          the port fails as it would: the store is unavailable, the connection is lost; once
``fail``           the same, at this pass and at every later one
=================  ===================================================================================================

A kill spares jobs that crashed twice before (a third crash makes a job ``worker_lost``, which is another promise): it
then happens at the first pass after those have left the process. What the process holds is read in the store (SQLite),
under its write lock, for a claim may be stored and its answer still on the way.
``DSPEX_TEST_FAILPOINT_SPARE=false`` switches that off.

``DSPEX_TEST_POISON`` is the number of a job whose every LM call kills the process that makes it; nothing is spared.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

VARIABLE = "DSPEX_TEST_FAILPOINT"
SPARE_VARIABLE = "DSPEX_TEST_FAILPOINT_SPARE"
POISON_VARIABLE = "DSPEX_TEST_POISON"
SPARED_CRASHES = 2
_SQLITE = "sqlite:///"
_FRAGILE = "SELECT count(*) FROM jobs WHERE namespace = ? AND state = 'running' AND crashes >= ? AND owner LIKE ?"

# Name → module, class and method.
PORTS = {
    "publisher.unblocked": ("worker.amqp.publisher", "Publisher", "unblocked"),
    "store.claim": ("worker.store", "Store", "claim"),
    "lm.acall": ("worker.lm", "CountedLM", "acall"),
    "store.finish": ("worker.store", "Store", "finish"),
    "store.release": ("worker.store", "Store", "release"),
    "store.forget": ("worker.store", "Store", "forget"),
    "publisher.reply": ("worker.amqp.publisher", "Publisher", "reply"),
    "publisher.delay": ("worker.amqp.publisher", "Publisher", "delay"),
    "publisher.dead_letter": ("worker.amqp.publisher", "Publisher", "dead_letter"),
    "store.mark_settled": ("worker.store", "Store", "mark_settled"),
    "ack": ("worker.amqp.incoming", "Incoming", "ack"),
    "reject": ("worker.amqp.incoming", "Incoming", "reject"),
    "requeue": ("worker.amqp.incoming", "Incoming", "requeue"),
    "callers.is_gone": ("worker.amqp.callers", "Callers", "is_gone"),
    "store.create_program": ("worker.store", "Store", "create_program"),
    "store.get_program": ("worker.store", "Store", "get_program"),
    "store.get_result": ("worker.store", "Store", "get_result"),
    "store.set_flag": ("worker.store", "Store", "set_flag"),
    "store.cancel": ("worker.store", "Store", "cancel"),
    "store.delete_program": ("worker.store", "Store", "delete_program"),
    "store.get_flags": ("worker.store", "Store", "get_flags"),
    "store.delete_programs": ("worker.store", "Store", "delete_programs"),
}
# What else these classes await, and why a kill there shows nothing that the edges above do not.
NO_PORTS = {
    "Store.open": "before the first job",
    "Store.close": "after the last job",
    "Store.ping": "readiness; no job waits for it",
    "Store.sweep": "deletes what has expired, beside all jobs",
    "Store.find_cancelled": "looks for cancels of what runs, beside the jobs",
    "Store.note_stop": "beside the drain; no job waits for it",
    "Store.add_executions": "counts runs in batches, beside the jobs",
    "Store.get_state": "a question; nothing changes by it, like store.get_result",
    "Store.list_programs": "a question, like store.get_program",
    "Store.count_programs": "a question, like store.get_program",
    "Store.count_kinds": "a question, like store.get_program",
    "Store.list_workers": "a question, like store.get_program",
    "Publisher.start": "before the first job",
    "Publisher.close": "after the last job",
}
_FAILPOINT = re.compile(r"(?P<edge>[a-z._]+:(?:before|after))@(?P<n>\d+)=(?P<action>kill|hang|raise|fail|block:[\d.]+)")


def edges() -> tuple[str, ...]:
    """Return every await edge: those of a job's path in their order, then those of commands and special ways out."""
    return tuple(f"{port}:{side}" for port in PORTS for side in ("before", "after"))


@dataclass(slots=True)
class Failpoint:
    """What happens at which pass of an edge."""

    edge: str
    number: int
    action: str
    is_spent: bool = False

    @classmethod
    def parse(cls, text: str) -> Failpoint:
        """Read ``<edge>@<n>=<action>``.

        Raises:
            ValueError: It is none, or there is no such edge.
        """
        found = _FAILPOINT.fullmatch(text.strip())
        if found is None or found["edge"] not in edges():
            raise ValueError(f"{text!r} is no failpoint; edges: {', '.join(edges())}")
        return cls(found["edge"], int(found["n"]), found["action"])


@dataclass(slots=True)
class Failpoints:
    """The failpoints of this process.

    Attributes:
        points: What happens where.
        is_sparing: Whether a kill waits while a job is in hand that crashed twice before.
        passes: Edge → how often it was passed.
    """

    points: list[Failpoint]
    is_sparing: bool = True
    passes: Counter[str] = field(default_factory=Counter)

    async def passed(self, edge: str, port: str) -> None:
        """Do what is asked for at this pass."""
        self.passes[edge] += 1
        for point in self.points:
            if point.edge == edge and not point.is_spent and self.passes[edge] >= point.number:
                await self._act(point, port)

    async def _act(self, point: Failpoint, port: str) -> None:
        if point.action == "kill":
            await self._die()
            return
        point.is_spent = point.action != "fail"
        if point.action == "hang":
            await asyncio.Event().wait()
        if point.action.startswith("block:"):
            time.sleep(float(point.action.partition(":")[2]))  # noqa: ASYNC251 - a blocked loop is the fault
        if point.action in ("raise", "fail"):
            raise _trouble_of(port)

    async def _die(self) -> None:
        if self.is_sparing:
            # In a thread: a transaction of this process that is under way may need the loop to end.
            await asyncio.to_thread(_die_unless_fragile)
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def _die_unless_fragile() -> None:
    """End this process, unless it holds a job that a third crash would end."""
    path = os.environ["DSPEX_STORE_URL"].removeprefix(_SQLITE)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        # Nothing is claimed between this look and the end: whoever claims needs the lock.
        connection.execute("BEGIN IMMEDIATE")
        values = (os.environ["DSPEX_NAMESPACE"], SPARED_CRASHES, f"%-{os.getpid()}-%")
        [fragile] = connection.execute(_FRAGILE, values).fetchone()
        if not fragile:
            os.kill(os.getpid(), signal.SIGKILL)
        connection.execute("ROLLBACK")


def install(failpoints: Failpoints) -> None:
    """Wrap the ports of this process."""
    for port, (module, owner, method) in PORTS.items():
        cls = getattr(__import__(module, fromlist=[owner]), owner)
        setattr(cls, method, _wrap(getattr(cls, method), port=port, failpoints=failpoints))


def installed() -> Failpoints:
    """Wrap the ports as the environment asks and return what was set."""
    points = [Failpoint.parse(part) for part in os.environ.get(VARIABLE, "").split(",") if part.strip()]
    failpoints = Failpoints(points, is_sparing=os.environ.get(SPARE_VARIABLE) != "false")
    is_readable = os.environ.get("DSPEX_STORE_URL", "").startswith(_SQLITE)
    if failpoints.is_sparing and not is_readable and any(point.action == "kill" for point in points):
        raise ValueError("a kill that spares jobs reads the store, and can do so with SQLite only")
    if points:
        install(failpoints)
    if poison := os.environ.get(POISON_VARIABLE):
        _install_poison(int(poison))
    return failpoints


def _install_poison(number: int) -> None:
    """Let the LM calls of one job kill the process."""
    from tests.faults.jobs import number_in
    from worker.lm import CountedLM

    call = CountedLM.acall

    @functools.wraps(call)
    async def acall(self: CountedLM, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        if messages and number_in(str(messages[-1]["content"])) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return await call(self, prompt, messages=messages, **kwargs)

    setattr(CountedLM, "acall", acall)  # noqa: B010 - a method that mypy lets nobody assign


def _wrap(call: Callable[..., Awaitable[Any]], *, port: str, failpoints: Failpoints) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(call)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        await failpoints.passed(f"{port}:before", port)
        result = await call(*args, **kwargs)
        await failpoints.passed(f"{port}:after", port)
        return result

    return wrapped


def _trouble_of(port: str) -> Exception:
    """Return what a port raises when its other side is gone."""
    if port.startswith("store."):
        from worker.store import StoreUnavailableError

        return StoreUnavailableError("a failpoint of the fault suite")
    if port == "lm.acall":
        from worker.errors import LMUnavailableError

        return LMUnavailableError("a failpoint of the fault suite")
    from worker.amqp.errors import ConnectionLostError

    return ConnectionLostError("a failpoint of the fault suite")


def main() -> None:
    """Be a worker, or a nursery of workers."""
    if sys.argv[1:] == ["nursery"]:
        from tests.faults.nursery import keep_nursery

        keep_nursery()
        return
    from worker.cli import main as run_command_line

    installed()
    run_command_line()


if __name__ == "__main__":
    main()
