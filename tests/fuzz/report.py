"""How each hostile body is answered, by name."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.progress import Progress
from tests.fuzz.cases import Case
from tests.fuzz.run import Run, count_lm_calls, forget_definitions, opened_hand

if TYPE_CHECKING:
    from tests.fuzz.hostile import Hostile

ROUNDS = 3


async def answer_all(progress: Progress) -> bool:
    """Print the code and the time of each hostile body, and tell whether all are as promised."""
    # They fill the memory with what they are made of, which would hide a growth that is looked for before.
    from tests.fuzz.hostile import MAX_SECONDS, hostile_bodies

    bodies = hostile_bodies()
    # And the collector would look through all of it in the midst of a body.
    gc.collect()
    gc.freeze()
    calls = count_lm_calls()
    rounds = [await _answer_once(bodies) for _ in range(ROUNDS)]
    calls = count_lm_calls() - calls
    verdicts = []
    for index, one in enumerate(bodies):
        codes = {answers[index].code for answers in rounds}
        seconds = [answers[index].seconds for answers in rounds]
        is_soon, is_right = min(seconds) <= MAX_SECONDS, codes <= one.codes
        mark = "FAULT" if not is_right else "ok" if is_soon else "LATE"
        times = " ".join(f"{one * 1e3:6.1f}" for one in seconds)
        progress.say(f"    {mark:<5} {one.name:<42} {' '.join(codes):<20} {times} ms")
        verdicts.append(is_soon and is_right)
    limit = f"within {MAX_SECONDS * 1e3:.0f} ms (best of {ROUNDS}, each seen for the first time)"
    progress.say(f"  {sum(verdicts)} of {len(verdicts)} hostile bodies as promised: {limit}; {calls:.0f} LM calls")
    return all(verdicts) and calls == 0


@dataclass(frozen=True, slots=True)
class _Answer:
    code: str
    seconds: float


async def _answer_once(bodies: list[Hostile]) -> list[_Answer]:
    """Send each body to a handler that has not seen it."""
    answers = []
    async with opened_hand() as hand:
        await Run().take(hand, Case(-1, b'{"args": {"signature": "a -> b: integr", "fallback": "never"}}'))
        for number, one in enumerate(bodies):
            run = Run()
            forget_definitions(hand)
            await run.take(hand, Case(number, one.body))
            [code] = [*run.codes] or ["raised"]
            answers.append(_Answer(run.faults[0][1] if run.faults else code, run.slowest[0][0]))
    return answers
