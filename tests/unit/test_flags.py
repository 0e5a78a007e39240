"""Flags: what may be set, and what holds where nothing was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.left_hand import make_settings
from worker.errors import InvalidRequestError
from worker.flags import Flags, read_flag


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("dynamic_signatures", "on", "on"),
        ("dynamic_signatures", "off", "off"),
        ("dynamic_signatures", "force_off", "force_off"),
        ("dynamic_signatures_rollout", 0, "0"),
        ("dynamic_signatures_rollout", 100, "100"),
        ("dynamic_signatures_rollout", "007", "7"),
    ],
)
def test_a_flag_is_read_as_it_is_stored(name: str, value: object, stored: str) -> None:
    """A command line sends text, a program a number."""
    assert read_flag(name, value) == (name, stored)


@pytest.mark.parametrize("name", ["dynamic", "", None, 7, [], "DYNAMIC_SIGNATURES"])
def test_an_unknown_flag_is_refused_with_those_that_there_are(name: object) -> None:
    """By name."""
    with pytest.raises(InvalidRequestError, match="dynamic_signatures and dynamic_signatures_rollout") as refused:
        read_flag(name, "on")

    assert refused.value.field == "name"


@pytest.mark.parametrize("value", ["ON", "", None, True, 1, "false", [], {}])
def test_an_unknown_mode_is_refused_with_those_that_there_are(value: object) -> None:
    """Never guessed."""
    with pytest.raises(InvalidRequestError, match="on, off or force_off") as refused:
        read_flag("dynamic_signatures", value)

    assert refused.value.field == "value"


@pytest.mark.parametrize("value", [-1, 101, "101", "-1", 1.5, "1.5", "1e1", "²", "", None, True, "9" * 5_000, 10**20])
def test_a_wrong_percentage_is_refused(value: object) -> None:
    """Whole numbers from 0 to 100."""
    with pytest.raises(InvalidRequestError, match="a percentage from 0 to 100"):
        read_flag("dynamic_signatures_rollout", value)


@pytest.mark.parametrize(
    ("settings", "stored", "flags"),
    [
        ({}, {}, Flags("on", 100)),
        ({"dynamic_signatures": "false"}, {}, Flags("off", 100)),
        ({"dynamic_signatures_rollout": 7}, {}, Flags("on", 7)),
        ({"dynamic_signatures": "false"}, {"dynamic_signatures": "on"}, Flags("on", 100)),
        ({}, {"dynamic_signatures": "force_off", "dynamic_signatures_rollout": "0"}, Flags("force_off", 0)),
    ],
)
def test_the_environment_is_only_the_start_value(
    settings: dict[str, Any], stored: dict[str, str], flags: Flags
) -> None:
    """What was set wins over it."""
    assert Flags.of(make_settings(**settings), stored) == flags


def test_flags_are_written_as_they_are_set() -> None:
    """A value shown can be sent back."""
    shown = Flags("force_off", 7).to_json()

    assert shown == {name: type(value)(read_flag(name, value)[1]) for name, value in shown.items()}


def test_a_flag_that_a_newer_version_set_does_not_stop_this_one() -> None:
    """The start value holds."""
    flags = Flags.of(make_settings(), {"dynamic_signatures": "sometimes", "dynamic_signatures_rollout": "half"})

    assert flags == Flags.of(make_settings(), {})
