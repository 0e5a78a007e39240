"""Workers and the broker are killed, and workers kill themselves at every await edge: nothing stored is paid again."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.chaos import SETTLED_SECONDS, NodeKills, kill_node, kill_workers, spread, too_few_in_flight
from tests.faults.failpoints import edges
from tests.faults.ledger import Ledger
from tests.faults.lm_stub import Trouble
from tests.faults.load import Load
from tests.faults.measured import Goal, Measured, keeping
from tests.faults.oracle import Verdict, judge
from tests.faults.rooms import settled
from tests.faults.stage import Stage
from tests.faults.workers import READY, Life

_WINDOW = 40
_LATEST_PASS = 4
_EDGE_SECONDS = 15.0
# So many workers may miss their edge: it is not passed by every job, and jobs that crashed twice are spared.
_LATE, _LATE_SHARE = 2, 0.02


@dataclass(frozen=True, slots=True)
class Size:
    """How much."""

    jobs: int
    workers: int
    worker_kills: int
    node_kills: int
    failpoint_kills: int
    processes: int = 2


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    began = time.monotonic()
    figures: dict[str, int | float | str] = {}
    problem = None
    if size.node_kills:
        ledger, nodes, verdict = await _kill_both(size, seed)
        figures |= {
            "jobs": verdict.jobs,
            "worker kills": len(ledger.kills),
            "broker kills": nodes.kills,
            "LM calls in flight at kills": verdict.in_flight_at_kills,
            "extra LM calls": verdict.extra_calls,
        }
        problem = too_few_in_flight(ledger)
    with keeping(figures):
        deaths, verdict = await _kill_at_edges(size, seed)
    figures |= {
        "failpoint kills": deaths.kills,
        "edges": len(deaths.by_edge),
        "edges not reached in time": deaths.late,
        "jobs under failpoints": verdict.jobs,
        "LM calls in flight at them": verdict.in_flight_at_kills,
        "extra LM calls at them": verdict.extra_calls,
        "extra LM calls after storing": verdict.unexplained_calls,
        "lost": verdict.lost,
        "seconds": time.monotonic() - began,
    }
    return Measured(figures, problem or _problem(size, deaths))


def _problem(size: Size, deaths: _Deaths) -> str | None:
    """Say what was not tried: a kill that never came proves nothing."""
    if missing := [edge for edge in _PASSED if not deaths.by_edge[edge]]:
        return f"no kill at {', '.join(missing)}"
    if deaths.late > max(_LATE, _LATE_SHARE * size.failpoint_kills):
        return f"{deaths.late} workers did not come to their edge within {_EDGE_SECONDS:g} s"
    if not deaths.ledger.in_flight:
        return "no LM call was in flight at a failpoint"
    return None


async def _kill_both(size: Size, seed: int) -> tuple[Ledger, NodeKills, Verdict]:
    """Kill workers and the broker side by side."""
    async with Stage.open(seed=seed) as stage, stage.load() as load:
        stage.lm.delay_seconds = 0.1
        stage.lm.trouble = Trouble({"429": 0.3}, is_first_only=True)
        async with stage.crew(size.workers) as crew:
            await load.create()
            await asyncio.sleep(SETTLED_SECONDS)
            publishing = asyncio.create_task(load.publish(range(size.jobs)))
            ledger, nodes = await asyncio.gather(
                kill_workers(stage, crew, load, at=spread(size.jobs, size.worker_kills), rng=random.Random(seed)),
                kill_node(stage, load, at=spread(size.jobs, size.node_kills)),
            )
            await publishing
            await settled(stage, load)
        return ledger, nodes, await judge(stage, load, ledger=ledger)


@dataclass(slots=True)
class _Deaths:
    """The kills at edges so far.

    Attributes:
        wanted: How many are asked for.
        late: Workers that did not come to their edge in time, and were stopped.
        ledger: What the killed ones held.
        by_edge: Edge → kills at it.
    """

    wanted: int
    late: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    by_edge: Counter[str] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        return self.by_edge.total()

    @property
    def is_enough(self) -> bool:
        return self.kills >= self.wanted


# Passed by jobs that succeed, and by those that the LM refuses at first; `tests.faults.test_edges` tries the others.
_PORTS = (
    "publisher.unblocked",
    "store.claim",
    "lm.acall",
    "store.finish",
    "store.release",
    "publisher.reply",
    "publisher.delay",
    "ack",
)
_PASSED = [edge for edge in edges() if edge.rpartition(":")[0] in _PORTS]


async def _kill_at_edges(size: Size, seed: int) -> tuple[_Deaths, Verdict]:
    """Let one life after the other kill itself at the next edge, while jobs keep coming."""
    rng = random.Random(seed)
    turns = itertools.cycle(rng.sample(_PASSED, len(_PASSED)))
    deaths = _Deaths(size.failpoint_kills)
    settings = {"concurrency": "8", "delays_seconds": "0.3,1"}
    async with Stage.open(seed=seed, has_own_node=False, settings=settings) as stage, stage.load() as load:
        stage.lm.delay_seconds = 0.01
        stage.lm.trouble = Trouble({"429": 0.2}, is_first_only=True)
        async with stage.crew(1):
            await load.create()
        feeding = asyncio.create_task(_feed(load, deaths))
        await asyncio.gather(*(_live_and_die(stage, deaths, turns, rng) for _ in range(size.processes)))
        await feeding
        async with stage.crew(size.processes):
            await settled(stage, load)
        return deaths, await judge(stage, load, ledger=deaths.ledger)


async def _feed(load: Load, deaths: _Deaths) -> None:
    """Publish as long as workers die, never many more than are answered."""
    numbers = itertools.count()
    while not deaths.is_enough:
        if len(load.jobs) - load.answered < _WINDOW:
            await load.publish(itertools.islice(numbers, _WINDOW // 2))
        await asyncio.sleep(0.02)


async def _live_and_die(stage: Stage, deaths: _Deaths, turns: itertools.cycle[str], rng: random.Random) -> None:
    while not deaths.is_enough:
        edge = next(turns)
        life = await stage.workers.start(until=None, failpoint=f"{edge}@{rng.randint(1, _LATEST_PASS)}=kill")
        if await _kills_itself(life):
            deaths.by_edge[edge] += 1
        else:
            deaths.late += 1
        await deaths.ledger.note(stage, life)


async def _kills_itself(life: Life) -> bool:
    """Wait until a life has ended itself; one that does not come to its edge in time is stopped in order."""
    try:
        code = await asyncio.wait_for(life.exit_code(), _EDGE_SECONDS)
    except TimeoutError:
        assert READY in life.text(), life.text()[-2_000:]
        await life.stop()
        return False
    assert code == -signal.SIGKILL, f"a worker ended with {code}: {life.text()[-2_000:]}"
    return True


GOAL = Goal(
    name="not paid twice",
    load=lambda size: (
        f"{size.jobs:,} jobs, {size.worker_kills} × kill -9 of workers and {size.node_kills} of the broker; "
        f"{size.failpoint_kills:,} kills at failpoints; never a job's third"
    ),
    passes="extra LM calls ≤ calls in flight at kills; 0 after the result was stored",
    short=Size(jobs=0, workers=0, worker_kills=0, node_kills=0, failpoint_kills=24),
    long=Size(jobs=10_000, workers=4, worker_kills=50, node_kills=10, failpoint_kills=1_000),
    run=run,
)
