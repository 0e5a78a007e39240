"""The first pass of a run: which letters are meant, and which of them shall leave.

It looks at as many messages as there were at the start and changes none. What it keeps of a chosen letter is a few
hundred bytes: the mark by which the second pass knows it again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from worker.amqp.dead_letters.letters import DeadLetterView
from worker.amqp.dead_letters.plan import Plan, Ports
from worker.amqp.dead_letters.refusals import Refusal
from worker.amqp.dead_letters.search import WINDOW, Oldest, Rank, look, mark_of, rank_of
from worker.amqp.dead_letters.source import Source

# Waiting for the next letter of a slow run must not make the broker take its messages back.
_HELD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run has to say of a letter that is meant.

    Attributes:
        refusal: Why it would not leave, or None.
        is_checked: Whether its job was compared with the program that it names.
        is_patched: Whether the patch makes a difference.
    """

    refusal: Refusal | None = None
    is_checked: bool = True
    is_patched: bool = False


PASSED = Verdict()
Judge = Callable[[DeliveredMessage, DeadLetterView], Awaitable[Verdict]]


async def pass_all(_: DeliveredMessage, __: DeadLetterView) -> Verdict:
    """Have nothing to say against any letter."""
    return PASSED


@dataclass(frozen=True, slots=True)
class Chosen:
    """A letter that shall leave, as far as it is kept in mind."""

    rank: Rank
    mark: bytes
    program_id: str | None
    code: str | None
    verdict: Verdict


@dataclass(slots=True)
class Survey:
    """What the first pass has found.

    Attributes:
        depth: Letters that were there.
        seen: Letters that were looked at.
        is_cut: Whether it was stopped before it was through.
        meant: Letters that are meant.
        expired: Letters that only expired, would be meant, and were not asked for.
        chosen: What shall leave, the oldest first.
        refusals: Why letters stay that would leave otherwise.
    """

    depth: int
    seen: int = 0
    is_cut: bool = False
    meant: int = 0
    expired: int = 0
    chosen: list[Chosen] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def passed(self) -> list[Chosen]:
        """What shall leave and may."""
        return [each for each in self.chosen if each.verdict.refusal is None]

    def unseen_by(self, done: Tally) -> int:
        """Return how many letters were not looked at, or not found again, although nothing stopped the run."""
        if self.is_cut or done.is_cut:
            return 0
        return max(0, self.depth - self.seen) + (len(self.passed) - done.total if done.is_second_pass else 0)


async def survey(channel: Channel, source: Source, depth: int, *, plan: Plan, ports: Ports, judge: Judge) -> Survey:
    """Look at every letter, and choose: all that are meant, or the oldest of them up to the plan's limit.

    A letter that is refused takes a place among the oldest where refusals stop the run, for an operator shall hear of
    it; where they are skipped, or no force helps, the next one takes its place.
    """
    found = Survey(depth)
    oldest: Oldest[Chosen] = Oldest(plan.limit)
    refused: list[tuple[Rank, Refusal]] = []
    async with aclosing(look(channel, source.queue, depth)) as messages:
        async for message in messages:
            if ports.stop.is_set():
                found.is_cut = True
                break
            found.seen += 1
            ports.on_look(found.seen, depth)
            one = await _weigh(message, found, source=source, plan=plan, judge=judge, last=oldest.last)
            if one is None:
                continue
            refusal = one.verdict.refusal
            if refusal is not None:
                refused.append((one.rank, refusal))
            if refusal is None or (plan.on_refusal == "stop" and not refusal.is_final):
                oldest.add(one.rank, one)
    found.chosen = oldest.sorted()
    last = oldest.last
    found.refusals = [refusal for rank, refusal in sorted(refused, key=_by_rank) if last is None or rank <= last]
    return found


async def _weigh(
    message: DeliveredMessage,
    found: Survey,
    *,
    source: Source,
    plan: Plan,
    judge: Judge,
    last: Rank | None,
) -> Chosen | None:
    """Return a letter that may be chosen, with the verdict on it; one that is younger than all that are is not judged."""
    letter = source.view(message)
    if not plan.selection.takes(letter):
        found.expired += plan.selection.matches(letter)
        return None
    found.meant += 1
    mark = mark_of(message)
    rank = rank_of(letter, mark)
    if last is not None and rank > last:
        return None
    return Chosen(rank, mark, letter.program_id, letter.code, await judge(message, letter))


async def find_again(
    channel: Channel, source: Source, found: Survey, *, rate: float | None = None
) -> AsyncGenerator[tuple[DeliveredMessage, Chosen]]:
    """Yield each letter that was chosen, as the broker sends it once more, in the broker's order.

    It ends when all were yielded, when the queue has no more, or when it has sent more than the letters of the survey
    and those that this run can have made. All other letters are held until the channel closes, so that none comes
    twice.
    """
    wanted: defaultdict[bytes, list[Chosen]] = defaultdict(list)
    for chosen in reversed(found.passed):
        wanted[chosen.mark].append(chosen)
    left = len(found.passed)
    most = 2 * found.seen + WINDOW
    window = WINDOW if rate is None else min(WINDOW, max(1, int(rate * _HELD_SECONDS)))
    async with aclosing(look(channel, source.queue, most if left else 0, window=window)) as messages:
        async for message in messages:
            same = wanted.get(mark_of(message))
            if not same:
                continue
            yield message, same.pop()
            left -= 1
            if not left:
                return


@dataclass(slots=True)
class Tally:
    """What a run has done.

    Attributes:
        is_second_pass: Whether it went to the queue for what was chosen; else this is only what it would do.
        is_cut: Whether it was stopped before it had come to all that it was to do.
        unchecked: Jobs among them that were not compared with the program that they name.
        patched: Letters among them that the patch has changed.
        counts: (program id or None, code or None) → letters.
    """

    is_second_pass: bool = False
    is_cut: bool = False
    unchecked: int = 0
    patched: int = 0
    counts: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many letters were done."""
        return self.counts.total()

    def note(self, chosen: Chosen) -> None:
        """Count a letter that is, or would be, done."""
        self.counts[chosen.program_id, chosen.code] += 1
        self.patched += chosen.verdict.is_patched
        self.unchecked += not chosen.verdict.is_checked

    @classmethod
    def of(cls, found: Survey) -> Tally:
        """Return what a run would do."""
        tally = cls()
        for chosen in found.passed:
            tally.note(chosen)
        return tally


def _by_rank(pair: tuple[Rank, Refusal]) -> Rank:
    return pair[0]
