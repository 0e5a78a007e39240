"""A lane that does not come up holds up nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from worker.amqp import intake as module
from worker.amqp.connection import Link
from worker.amqp.errors import ConnectionLostError
from worker.amqp.intake import Intake
from worker.amqp.lane import LaneConsumer
from worker.amqp.topology import Topology
from worker.message import Lane
from worker.settings import load


class FakeLink:
    is_open = True

    async def connection(self) -> object:
        return self

    async def close(self) -> None:
        pass


class FakeLane:
    """Consumes at once, unless it is dead."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.queue = f"shop.{lane}"
        self.is_live = False
        self.is_dead = False

    async def consume(self, connection: object) -> None:
        if self.is_dead:
            raise ConnectionLostError(f"{self.queue} does not answer")
        self.is_live = True

    async def cancel(self) -> None:
        self.is_live = False


@pytest.fixture
def lanes() -> dict[Lane, FakeLane]:
    return {lane: FakeLane(lane) for lane in ("create", "execute", "control")}


@pytest.fixture
async def intake(lanes: dict[Lane, FakeLane], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Intake]:
    async def declare(topology: Topology, connection: object) -> None:
        pass

    monkeypatch.setattr(module, "declare", declare)
    monkeypatch.setattr(module, "MEND_PAUSE_SECONDS", 0.1)
    link = cast("Link", FakeLink())

    def ignore(*_: Any) -> None:
        pass

    intake = Intake(link, settings=load({}), topology=Topology.of(namespace="shop"), on_message=ignore)
    intake.lanes = cast("dict[Lane, LaneConsumer]", lanes)
    yield intake
    await intake.stop()


async def noticed(intake: Intake, fault: str) -> None:
    async with asyncio.timeout(5):
        while fault not in intake.faults:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_start_with_a_dead_lane_ends_and_shows_it(intake: Intake, lanes: dict[Lane, FakeLane]) -> None:
    """The worker takes what the other lanes bring, and says what it does not."""
    lanes["control"].is_dead = True
    async with asyncio.timeout(5):
        await intake.start()
    await noticed(intake, "not consuming shop.control: shop.control does not answer")

    assert [lane.is_live for lane in lanes.values()] == [True, True, False]


async def test_a_pause_while_a_lane_is_dead_leaves_the_loop_alive(intake: Intake, lanes: dict[Lane, FakeLane]) -> None:
    """A start that looped on a lane it may not consume would never let go of the event loop."""
    lanes["control"].is_dead = True
    async with asyncio.timeout(5):
        await intake.start()
        await noticed(intake, "not consuming shop.control: shop.control does not answer")
        async with intake.paused("a job runs alone"):
            faults = intake.faults
        lanes["control"].is_dead = False
        await intake.begun()

    assert faults == ["paused: a job runs alone"]
    assert intake.is_consuming


async def test_a_start_takes_no_message_before_it_has_ended(intake: Intake, lanes: dict[Lane, FakeLane]) -> None:
    """Until then, a signal ends the worker at once; from then on it drains."""
    await intake.start()
    taken = [lane.is_live for lane in lanes.values()]
    await intake.begun()

    assert taken == [False, False, False]
    assert intake.is_consuming
