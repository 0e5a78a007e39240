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
=================  ===================================================================================================

A kill spares jobs that crashed twice before (a third crash makes a job ``worker_lost``, which is another promise): it
then happens at the first pass after those have left the process. ``DSPEX_TEST_FAILPOINT_SPARE=false`` switches that off.

``DSPEX_TEST_POISON`` is the number of a job whose every LM call kills the process that makes it; nothing is spared.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

VARIABLE = "DSPEX_TEST_FAILPOINT"
SPARE_VARIABLE = "DSPEX_TEST_FAILPOINT_SPARE"
POISON_VARIABLE = "DSPEX_TEST_POISON"
SPARED_CRASHES = 2

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
}
_FAILPOINT = re.compile(r"(?P<edge>[a-z._]+:(?:before|after))@(?P<n>\d+)=(?P<action>kill|hang|raise|block:[\d.]+)")


def edges() -> tuple[str, ...]:
    """Return every await edge of the job path, in the order in which a job passes them."""
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
        fragile: Tokens of claims in hand whose job crashed twice before.
    """

    points: list[Failpoint]
    is_sparing: bool = True
    passes: Counter[str] = field(default_factory=Counter)
    fragile: set[str] = field(default_factory=set)

    async def passed(self, edge: str, port: str) -> None:
        """Do what is asked for at this pass."""
        self.passes[edge] += 1
        for point in self.points:
            if point.edge == edge and not point.is_spent and self.passes[edge] >= point.number:
                await self._act(point, port)

    async def _act(self, point: Failpoint, port: str) -> None:
        if point.action == "kill" and self.is_sparing and self.fragile:
            return
        point.is_spent = True
        if point.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if point.action == "hang":
            await asyncio.Event().wait()
        if point.action.startswith("block:"):
            time.sleep(float(point.action.partition(":")[2]))  # noqa: ASYNC251 - a blocked loop is the fault
        if point.action == "raise":
            raise _trouble_of(port)

    def note(self, port: str, result: Any, token: str | None) -> None:
        """Keep the books of jobs that crashed before."""
        if port == "store.claim" and getattr(result, "crashes", 0) >= SPARED_CRASHES:
            self.fragile.add(result.token)
        if token is not None:
            self.fragile.discard(token)


def install(failpoints: Failpoints) -> None:
    """Wrap the ports of this process."""
    for port, (module, owner, method) in PORTS.items():
        cls = getattr(__import__(module, fromlist=[owner]), owner)
        setattr(cls, method, _wrap(getattr(cls, method), port=port, failpoints=failpoints))


def installed() -> Failpoints:
    """Wrap the ports as the environment asks and return what was set."""
    points = [Failpoint.parse(part) for part in os.environ.get(VARIABLE, "").split(",") if part.strip()]
    failpoints = Failpoints(points, is_sparing=os.environ.get(SPARE_VARIABLE) != "false")
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
        failpoints.note(port, result, kwargs.get("token"))
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
