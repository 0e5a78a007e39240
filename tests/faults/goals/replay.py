"""``dead replay`` is killed with -9 again and again, then replays what always fails: each one once, and it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from tests.faults.lm_stub import Trouble
from tests.faults.load import Job, Load
from tests.faults.measured import Goal, Measured
from tests.faults.oracle import Expected, depths, judge
from tests.faults.stage import Stage
from tests.support.processes import COMMAND

_POLL_SECONDS = 0.005
_FINISH_SECONDS = 300.0
_LADEN_SECONDS = 30.0
# So that a kill comes anywhere between two lines of the audit trail.
_LATEST_SECONDS = 0.01
_REFUSED = Trouble({"400": 1.0})


@dataclass(frozen=True, slots=True)
class Size:
    """How much.

    Attributes:
        letters: Dead letters that succeed when they are replayed.
        kills: Of the command that replays them.
        failing: Dead letters that fail once more.
        workers: At work all the time.
    """

    letters: int
    kills: int
    failing: int
    workers: int


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    began = time.monotonic()
    rng = random.Random(seed)
    async with Stage.open(seed=seed, has_own_node=False) as stage, stage.load() as load:
        command = _Command(stage)
        async with stage.crew(size.workers):
            await load.create()
            await _bury(stage, load, range(size.letters))
            await _kill(command, size, rng)
            last = await command.finish()
            await load.replied()
            moved = command.lines
            failing = range(size.letters, size.letters + size.failing)
            await _bury(stage, load, failing)
            again = await command.finish()
            await load.replied(failing)
            await _laden(stage, size.failing)
        verdict = await judge(stage, load, expected=Expected(dead_letters=frozenset(failing)))
        # Each copy is answered, and all queues are empty now.
        copies = sum(load.jobs[number].replies - 1 for number in range(size.letters))
        runs = Counter(stage.lm.by_job[number] for number in failing)
    figures = {
        "dead letters": size.letters,
        "kills": size.kills,
        "not replayed": size.letters - len(moved),
        "copies too many": copies,
        "audit lines too many": moved.total() - len(moved),
        "left to the last run": last["replayed"],
        "lost": verdict.lost,
        "wrong replies": verdict.wrong,
        "extra LM calls": verdict.extra_calls,
        "that always fail": size.failing,
        "of these replayed": again["replayed"],
        "seconds": time.monotonic() - began,
    }
    return Measured(figures, _problem(figures, size, runs))


def _problem(figures: dict[str, Any], size: Size, runs: Counter[int]) -> str | None:
    if figures["not replayed"]:
        return "some letters were never replayed"
    if max(figures["copies too many"], figures["audit lines too many"]) > size.kills:
        return "more duplicates than kills"
    if figures["of these replayed"] != size.failing or set(runs) != {2}:
        return f"the letters that always fail ran {dict(runs)} times, not twice each"
    return None


async def _bury(stage: Stage, load: Load, numbers: range) -> None:
    """Let the LM refuse these jobs, so that each is answered and dead-lettered, and begin their books anew."""
    stage.lm.trouble = _REFUSED
    before = await _dead(stage)
    await load.publish(numbers)
    await load.replied(numbers)
    await _laden(stage, before + len(numbers))
    for number in numbers:
        job = load.jobs[number]
        codes = [answer.code for answer in job.answers]
        assert codes == ["lm_invalid_request"], f"job {number} was answered with {codes}"
        load.jobs[number] = Job(number, publishes=job.publishes, confirmed_at=job.confirmed_at)
    load.answered -= len(numbers)
    if not numbers.start:
        stage.lm.trouble = Trouble()


async def _kill(command: _Command, size: Size, rng: random.Random) -> None:
    """Kill one run after the other, each when it has moved a share of all letters, or while it still looks."""
    share = size.letters // (size.kills + 1)
    for kill in range(size.kills):
        while not await _kill_one(command, rng, share=share, is_early=kill % 5 == 4):
            pass


async def _kill_one(command: _Command, rng: random.Random, *, share: int, is_early: bool) -> bool:
    """Start a run and kill it; return False where the lock of the last one was still there."""
    async with command.running() as process:
        told = asyncio.ensure_future(process.communicate())
        if is_early:
            await asyncio.sleep(rng.uniform(0.2, 2.0))
        else:
            await command.moved(process, more=rng.randint(1, share))
            await asyncio.sleep(rng.uniform(0, _LATEST_SECONDS))
        if process.returncode is None:
            process.kill()
        _, err = await told
    if process.returncode == -signal.SIGKILL:
        return True
    assert b"is running" in err, f"a replay ended with {process.returncode} before it could be killed: {err.decode()}"
    return False


class _Command:
    """``dspex-worker dead replay execute`` of one deployment."""

    def __init__(self, stage: Stage) -> None:
        self._audit = stage.folder / "audit.jsonl"
        self._environment = stage.workers.environment
        self._folder = stage.folder

    @property
    def lines(self) -> Counter[int]:
        """Job → lines in the audit trail."""
        text = self._audit.read_text() if self._audit.exists() else ""
        return Counter(int(json.loads(line)["message_id"][1:]) for line in text.splitlines())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start it; it has ended when the block has."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, "dead", "replay", "execute", "--json", "--audit", str(self._audit)),
            env=self._environment,
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def moved(self, process: asyncio.subprocess.Process, *, more: int) -> None:
        """Wait until it has moved so many more letters, or has ended."""
        before = self._count()
        while process.returncode is None and self._count() < before + more:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(_POLL_SECONDS)

    async def finish(self) -> dict[str, Any]:
        """Run it to its end and return its report.

        Raises:
            AssertionError: It failed, for another reason than the lock of one that was just killed.
        """
        async with asyncio.timeout(_FINISH_SECONDS):
            while True:
                async with self.running() as process:
                    out, err = await process.communicate()
                if process.returncode == 0:
                    return dict(json.loads(out))
                told = (err or out).decode()
                assert "is running" in told, f"the replay ended with {process.returncode}: {told}"

    def _count(self) -> int:
        return self._audit.read_bytes().count(b"\n") if self._audit.exists() else 0


async def _laden(stage: Stage, letters: int) -> None:
    """Wait until so many letters are dead: a job's reply comes before its letter."""
    async with asyncio.timeout(_LADEN_SECONDS):
        while await _dead(stage) < letters:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)


async def _dead(stage: Stage) -> int:
    return sum((await depths(stage, stage.dead_queues)).values())


GOAL = Goal(
    name="replay",
    load=lambda size: (
        f"{size.letters:,} dead letters, {size.kills} × kill -9 of the replay; then {size.failing:,} that always fail"
    ),
    passes="each one replayed, ≤ one duplicate a kill; ends after exactly as many as there were",
    short=Size(letters=200, kills=3, failing=50, workers=2),
    long=Size(letters=5_000, kills=20, failing=1_000, workers=2),
    run=run,
)
