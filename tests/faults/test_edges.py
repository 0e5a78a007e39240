"""A worker that is killed at any await edge of a job: the next one ends the job, and nothing stored is paid again."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.failpoints import edges
from tests.faults.jobs import SIGNATURE, message_id_of, text_of
from tests.faults.ledger import Ledger
from tests.faults.lm_stub import Trouble
from tests.faults.load import Answer, Load
from tests.faults.oracle import Expected, depths, judge, peek
from tests.faults.rooms import emptied, room, send, until
from tests.faults.stage import Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(120)]

FLAG = "dynamic_signatures_rollout"
_ROOMS = 8
_SETTINGS = {
    "delays_seconds": "0.3,1",
    "max_repairs": "0",
    "when_caller_gone": "skip",
    "store_hold_seconds": "0.5",
    "allow_reset": "true",
}


@dataclass(frozen=True)
class Command:
    """A command beside the jobs.

    Attributes:
        lane: Where it goes.
        name: As the contract names it.
        args: Number → its arguments.
        result: Of these some members.
    """

    lane: str
    name: str
    args: Callable[[int], dict[str, Any]]
    result: dict[str, Any]

    def is_right(self, answer: Answer) -> bool:
        """Whether the first life's work, or nothing, was there before the second life's."""
        return answer.code == "ok" and answer.document["result"].items() >= self.result.items()


@dataclass(frozen=True)
class Kind:
    """A job that passes certain edges.

    Attributes:
        code: Of its reply; None where there is none.
        trouble: What the LM does to it.
        inputs: Whether it has its input.
        has_huge_headers: Whether its message cannot be copied.
        is_dead: Whether it ends in the dead-letter queue.
        beside: A failpoint that brings it to its edge.
        command: What it is instead of a job.
    """

    code: str | None = "ok"
    trouble: Trouble = field(default_factory=Trouble)
    has_input: bool = True
    has_huge_headers: bool = False
    is_dead: bool = False
    beside: str = ""
    command: Command | None = None


def command(lane: str, name: str, args: Callable[[int], dict[str, Any]], **result: Any) -> Kind:
    """Return what is a command."""
    return Kind(command=Command(lane, name, args, result))


PLAIN = Kind()
DELAYED = Kind(trouble=Trouble({"429": 1.0}, is_first_only=True))
REFUSED = Kind("invalid_inputs", has_input=False)
INVALID = Kind("output_invalid", trouble=Trouble({"garbage": 1.0}), is_dead=True)
HUGE = Kind(None, has_huge_headers=True, is_dead=True)
UNCLAIMED = Kind(beside="store.claim:before@1=fail")
CREATE = command("create", "create_program", lambda n: {"id": f"new-{n}", "signature": SIGNATURE}, program_version=1)
DESCRIBE = command("control", "get_program_info", lambda n: {"program_id": old(n)}, program_version=1)
LOOK_UP = command("control", "get_result", lambda n: {"message_id": "call-0"}, status="done")
SET_FLAG = command("control", "set_flag", lambda n: {"name": FLAG, "value": n}, previous=100)
CANCEL = command("control", "cancel", lambda n: {"message_id": f"unborn-{n}"}, status="cancelled")
DELETE = command("control", "delete_program", lambda n: {"program_id": old(n)}, status="deleted")
FLAGS = command("control", "get_flags", lambda n: {})
# The last of all, since the others want their programs.
CLEAN = command("control", "cleanup", lambda n: {}, status="cleaned")

# Port → the job that passes it, and its LM calls where it is killed before and after.
PORTS: dict[str, tuple[Kind, int, int]] = {
    "publisher.unblocked": (PLAIN, 1, 1),
    "store.claim": (PLAIN, 1, 1),
    "lm.acall": (PLAIN, 1, 2),
    "store.finish": (PLAIN, 2, 1),
    "store.release": (DELAYED, 2, 2),
    "store.forget": (REFUSED, 0, 0),
    "publisher.reply": (PLAIN, 1, 1),
    "publisher.delay": (DELAYED, 2, 2),
    "publisher.dead_letter": (INVALID, 1, 1),
    "store.mark_settled": (INVALID, 1, 1),
    "ack": (PLAIN, 1, 1),
    "reject": (HUGE, 0, 0),
    "requeue": (UNCLAIMED, 1, 1),
    "callers.is_gone": (PLAIN, 1, 1),
    "store.create_program": (CREATE, 0, 0),
    "store.get_program": (DESCRIBE, 0, 0),
    "store.get_result": (LOOK_UP, 0, 0),
    "store.set_flag": (SET_FLAG, 0, 0),
    "store.cancel": (CANCEL, 0, 0),
    "store.delete_program": (DELETE, 0, 0),
    "store.get_flags": (FLAGS, 0, 0),
    "store.delete_programs": (CLEAN, 0, 0),
}


@dataclass(frozen=True)
class Death:
    """One kill and what is expected of its job."""

    edge: str
    number: int

    @property
    def failpoint(self) -> str:
        """What the first life is told."""
        return ",".join(filter(None, [self.kind.beside, f"{self.edge}@1=kill"]))

    @property
    def kind(self) -> Kind:
        return PORTS[self.edge.partition(":")[0]][0]

    @property
    def calls(self) -> int:
        """LM calls of both lives together."""
        _, before, after = PORTS[self.edge.partition(":")[0]]
        return before if self.edge.endswith(":before") else after


async def test_a_worker_killed_at_any_edge_costs_at_most_the_call_in_flight(stage: Stage) -> None:
    """Answered once and rightly; two LM calls at most, and no second one where the first was stored."""
    deaths = [Death(edge, number) for number, edge in enumerate(edges())]
    problems = await asyncio.gather(*(_die(stage, deaths[first::_ROOMS]) for first in range(_ROOMS)))

    assert [problem for some in problems for problem in some] == []


async def _die(stage: Stage, deaths: list[Death]) -> list[str]:
    """Have a worker killed at one edge after the other, in a room of its own; return what is wrong."""
    problems = []
    ledger = Ledger()
    async with room(stage, **_SETTINGS) as own, own_load(own) as load:
        await _prepare(own, load, deaths)
        for death in deaths:
            answer = await _die_once(own, load, death, ledger)
            letters = await peek(own, own.dead_queues)
            problems += _problems(own, load, death, letters)
            if death.kind.command is not None and not (answer and death.kind.command.is_right(answer)):
                problems.append(f"{death.edge}: {answer}")
        numbers = frozenset(death.number for death in deaths if death.kind.is_dead)
        await judge(own, load, ledger=ledger, expected=Expected(dead_letters=numbers, is_right=False))
    return problems


def own_load(stage: Stage) -> Load:
    return Load(stage.node.url, stage.namespace)


def old(number: int) -> str:
    """Return the name of a program that was there before."""
    return f"old-{number}"


async def _prepare(stage: Stage, load: Load, deaths: list[Death]) -> None:
    """Make what commands are about."""
    if not (commands := [death for death in deaths if death.kind.command is not None]):
        return
    life = await stage.workers.start()
    for death in commands:
        await load.create(old(death.number))
    assert await life.stop() == 0


async def _die_once(stage: Stage, load: Load, death: Death, ledger: Ledger) -> Answer | None:
    """Have a job or a command killed at its edge, and ended by the next life; return a command's reply."""
    stage.lm.trouble = death.kind.trouble
    first = await stage.workers.start(failpoint=death.failpoint)
    called = asyncio.create_task(_call(load, death))
    if death.kind.command is None:
        await _publish(stage, load, death)
    assert await asyncio.wait_for(first.exit_code(), 20) == -signal.SIGKILL
    await ledger.note(stage, first)
    second = await stage.workers.start()
    answer = await called
    if death.kind.code is None:
        await until(lambda: _is_dead(stage))
    elif death.kind.command is None:
        await load.replied([death.number], stall_seconds=20)
    await emptied(stage)
    assert await second.stop() == 0
    return answer


async def _call(load: Load, death: Death) -> Answer | None:
    command = death.kind.command
    if command is None:
        return None
    return await load.call(command.lane, {"command": command.name, "args": command.args(death.number)})


async def _is_dead(stage: Stage) -> bool:
    name = f"{stage.namespace}.execute.dead"
    return bool((await depths(stage, [name]))[name])


async def _publish(stage: Stage, load: Load, death: Death) -> None:
    def body_of(number: int) -> dict[str, Any]:
        inputs = {"text": text_of(number)} if death.kind.has_input else {}
        return {"id": number, "args": {"signature": SIGNATURE, "fallback": "never", "inputs": inputs}}

    if not death.kind.has_huge_headers:
        await load.publish([death.number], make_body=body_of)
        return
    headers = {f"h{number}": "x" * 1_000 for number in range(100)}
    body = json.dumps(body_of(death.number)).encode()
    await send(stage, "execute", body, message_id=message_id_of(death.number), headers=headers)


def _problems(stage: Stage, load: Load, death: Death, letters: Counter[str]) -> list[str]:
    """Return what is not as it should be after a kill."""
    number, kind = death.number, death.kind
    answers = load.jobs[number].answers if number in load.jobs else []
    found = {
        "codes": [answer.code for answer in answers],
        "is right": kind.code != "ok" or all(answer.is_right(number) for answer in answers),
        "LM calls": stage.lm.by_job[number],
        "is dead": letters[message_id_of(number)] > 0,
    }
    wanted = {
        "codes": [kind.code] if kind.code and kind.command is None else [],
        "is right": True,
        "LM calls": death.calls,
        "is dead": kind.is_dead,
    }
    return [] if found == wanted else [f"{death.edge}: {found}, not {wanted}"]
