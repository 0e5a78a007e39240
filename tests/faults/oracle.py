"""What must hold after every run: nothing lost, every reply right and always the same, nothing left behind.

``confirmed − (replied ∪ dead-lettered ∪ queued) = ∅``, with dead letters and queued jobs named by their message ids.
Ask it when the workers have ended: only then is everything that is not settled back in its queue.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import aio_pika

from tests.faults.jobs import message_id_of
from tests.faults.ledger import Ledger
from tests.faults.load import Job, Load
from tests.faults.measured import MissedError
from tests.faults.rows import read_rows
from tests.faults.stage import Stage
from worker.amqp.connection import connect

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run came to, in plain numbers.

    Attributes:
        jobs: Published.
        confirmed: Taken by the broker.
        replied: With a reply.
        duplicate_replies: Replies beyond the first of each job.
        dead_lettered: In a dead-letter queue.
        queued: Still in a work queue or on the ladder.
        lost: Confirmed, and none of these.
        wrong: Whose reply is not their result.
        differing: With replies that differ in body or message id.
        codes: Reply code → jobs.
        paid_calls: LM calls that a provider would bill.
        extra_calls: Those beyond the first of each job.
        in_flight_at_kills: Jobs that a killed process had called the LM for and not stored.
        unexplained_calls: Extra calls of jobs that were not in flight at so many kills.
    """

    jobs: int
    confirmed: int
    replied: int
    duplicate_replies: int
    dead_lettered: int
    queued: int
    lost: int
    wrong: int
    differing: int
    codes: dict[str, int] = field(default_factory=dict)
    paid_calls: int = 0
    extra_calls: int = 0
    in_flight_at_kills: int = 0
    unexplained_calls: int = 0

    @property
    def figures(self) -> dict[str, int | float | str]:
        """What a goal that was missed tells of it."""
        return {
            "jobs": self.jobs,
            "lost": self.lost,
            "wrong replies": self.wrong,
            "dead-lettered": self.dead_lettered,
            "left in queues": self.queued,
            "LM calls in flight at kills": self.in_flight_at_kills,
            "extra LM calls": self.extra_calls,
        }


@dataclass(frozen=True, slots=True)
class Expected:
    """What may be so.

    Attributes:
        dead_letters: Jobs that must be dead-lettered, by number; no others may.
        is_right: Whether each reply must be the job's result, but for those dead-lettered.
        is_empty: Whether work queues and ladder must be empty.
        is_paid_once: Whether each extra LM call must be that of a job in flight at a kill.
    """

    dead_letters: frozenset[int] = frozenset()
    is_right: bool = True
    is_empty: bool = True
    is_paid_once: bool = True


async def judge(stage: Stage, load: Load, *, ledger: Ledger | None = None, expected: Expected | None = None) -> Verdict:
    """Look at everything and say what came of it.

    Args:
        stage: Its workers have ended.
        load: What was published and what came back.
        ledger: The kills; without it no extra call is explained.
        expected: What may be so; by default nothing is dead-lettered and all is right.

    Raises:
        MissedError: A promise is broken; one line for each, with the first few jobs, and the verdict's figures.
    """
    expected = expected or Expected()
    # The ladder, the work queues, the dead letters: what moves on meanwhile is met again, and slips through nowhere.
    queued = await peek(stage, stage.queues[::-1])
    dead = await peek(stage, stage.dead_queues)
    # Without a ledger somebody else counts the kills.
    crashed = await _crashed(stage, ledger) if ledger is not None else []
    jobs = load.jobs.values()
    lost = [
        job for job in jobs if job.is_confirmed and not job.replies and not (_id(job) in dead or _id(job) in queued)
    ]
    wrong = [job for job in jobs if job.number not in expected.dead_letters and _is_wrong(job)]
    differing = [job for job in jobs if len(job.answers) > 1]
    extra = {number: calls - 1 for number, calls in stage.lm.paid.items() if calls > 1}
    kills = ledger or Ledger()
    unexplained = {number: calls - kills.kills_of(number) for number, calls in extra.items()}
    unexplained = {number: calls for number, calls in unexplained.items() if calls > 0}
    wanted_dead = {message_id_of(number) for number in expected.dead_letters}
    problems = [
        _problem("lost", [job.number for job in lost]),
        _problem("strays: replies to no job", [stray.correlation_id for stray in load.strays]),
        _problem("with replies that differ", [job.number for job in differing]),
        _problem("answered wrongly", [_wrong(job) for job in wrong]) if expected.is_right else None,
        _problem("dead-lettered, but should not be", sorted(set(dead) - wanted_dead)),
        _problem("not dead-lettered, but should be", sorted(wanted_dead - set(dead))),
        _problem("left in a queue", list(queued)) if expected.is_empty else None,
        _problem("with extra LM calls not explained by a kill", list(unexplained)) if expected.is_paid_once else None,
        _problem("with more crashes counted than kills that met them", crashed),
    ]
    verdict = Verdict(
        jobs=len(jobs),
        confirmed=sum(job.is_confirmed for job in jobs),
        replied=sum(job.replies > 0 for job in jobs),
        duplicate_replies=sum(max(0, job.replies - 1) for job in jobs),
        dead_lettered=len(dead),
        queued=sum(queued.values()),
        lost=len(lost),
        wrong=len(wrong),
        differing=len(differing),
        codes=dict(Counter(job.answers[0].code for job in jobs if job.answers)),
        paid_calls=sum(stage.lm.paid.values()),
        extra_calls=sum(extra.values()),
        in_flight_at_kills=kills.in_flight,
        unexplained_calls=sum(unexplained.values()),
    )
    if found := [problem for problem in problems if problem]:
        stories = _stories(stage, load, kills, [*unexplained][:_SHOWN])
        raise MissedError("\n".join([*found, *stories]), figures=verdict.figures)
    return verdict


async def _crashed(stage: Stage, ledger: Ledger) -> list[int]:
    """Return the jobs whose rows count more crashes than there were kills: a living worker was taken for dead."""
    rows = await read_rows(stage.store_url, stage.namespace)
    return [row.number for row in rows if row.number is not None and row.crashes > ledger.crashes_of(row.number)]


async def peek(stage: Stage, queues: list[str]) -> Counter[str]:
    """Return message id → messages in these queues; all of them go back."""
    found: Counter[str] = Counter()
    connection = await aio_pika.connect(stage.node.url)
    async with connection:
        for name in queues:
            # Closing the channel gives everything back.
            async with connection.channel() as channel:
                queue = await channel.get_queue(name, ensure=False)
                while (message := await queue.get(fail=False)) is not None:
                    found[message.message_id or ""] += 1
    return found


async def depths(stage: Stage, queues: list[str]) -> dict[str, int]:
    """Return queue → messages that are ready in it."""
    async with asyncio.timeout(5):
        connection = await connect(stage.node.url, name="oracle")
    async with connection, connection.channel() as channel:
        declared = [await channel.declare_queue(name, passive=True, timeout=5) for name in queues]
        return {queue.name: int(queue.declaration_result.message_count or 0) for queue in declared}


def _id(job: Job) -> str:
    return message_id_of(job.number)


def _is_wrong(job: Job) -> bool:
    return bool(job.answers) and not all(answer.is_right(job.number) for answer in job.answers)


def _wrong(job: Job) -> str:
    return f"{job.number} ({job.answers[0].body.decode(errors='replace')[:200]})"


def _problem(what: str, who: list[object] | list[int] | list[str] | list[str | None]) -> str | None:
    if not who:
        return None
    shown = ", ".join(str(one) for one in who[:_SHOWN])
    return f"{len(who)} {what}: {shown}{', …' if len(who) > _SHOWN else ''}"


def _stories(stage: Stage, load: Load, ledger: Ledger, numbers: list[int]) -> list[str]:
    """Say what happened to the jobs that were paid for twice."""
    lines = []
    for number in numbers:
        calls = [call for call in stage.lm.calls if call.job == number]
        told = "; ".join(f"{call.caller} at {call.began:.3f} to {call.ended or 0:.3f}" for call in calls)
        lines.append(
            f"  job {number}: {told}; kills {ledger.story_of(number)}; answered {load.jobs[number].answered_at}"
        )
    return lines
