"""How a job ended before its replays: bounded, and read from whatever a header holds."""

from __future__ import annotations

import pytest

from worker.message import MAX_DEATHS, Death, Trail, remember


def death(number: int, *, code: str | None = "timeout", worker: str | None = "w") -> Death:
    return Death(code, number, number, worker)


def test_a_full_history_keeps_the_first_end_and_the_newest() -> None:
    """So that what went wrong at first is never lost."""
    history: tuple[Death, ...] = ()
    for number in range(MAX_DEATHS + 5):
        history = remember(history, death(number))

    assert [one.generation for one in history] == [0, *range(6, MAX_DEATHS + 5)]


def test_a_trail_carries_its_history_through_headers() -> None:
    """With what is not known left out, and long words cut."""
    known = (death(1), Death(None, None, 2, None))
    long = Trail(history=(death(1, code="c" * 5_000, worker="é" * 5_000),))
    [cut] = Trail.from_headers(long.to_headers()).history

    assert Trail.from_headers(Trail(history=known).to_headers()).history == known
    assert len(str(cut.code)) == 128
    assert str(cut.worker) == "é" * 64


@pytest.mark.parametrize(
    "value", ["x", 7, None, [1, "x", None], {"code": "x"}, [{"code": 5, "time": True, "generation": -1}]]
)
def test_what_is_no_history_is_read_as_little(value: object) -> None:
    """A header of the wrong type counts as absent."""
    history = Trail.from_headers({"x-dspex-history": value}).history

    assert history in ((), (Death(None, None, 0, None),))


def test_a_header_of_many_ends_is_cut() -> None:
    """Somebody may have made it by hand."""
    assert len(Trail.from_headers({"x-dspex-history": [{}] * 1_000}).history) == MAX_DEATHS
