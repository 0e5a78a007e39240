"""JSON at the door: what is refused, and that what is accepted survives to the digit."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from worker.errors import BodyTooLargeError, InvalidJSONError
from worker.message import canonical, dump, parse

MAX_BYTES = 8 * 1024 * 1024

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b'{"a":1} x', id="something after it"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="byte order mark"),
        pytest.param('{"a":"größe"}'.encode("latin-1"), id="Latin-1"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":Infinity}', id="infinity"),
        pytest.param(b'{"a":-Infinity}', id="minus infinity"),
        pytest.param(b'{"a":1e400}', id="a float out of range"),
        pytest.param(b'{"a":-1e400}', id="a negative float out of range"),
        pytest.param(b'{"a":1,"a":1}', id="duplicate keys"),
        pytest.param(b'{"x":[{"a":1,"\\u0061":2}]}', id="duplicate keys, one escaped, deep inside"),
        pytest.param(b'{"a":"\\ud800"}', id="lone high surrogate"),
        pytest.param(b'{"a":["\\uDfff"]}', id="lone low surrogate"),
        pytest.param(b'{"\\ud800":1}', id="lone surrogate in a key"),
        pytest.param(b"[" * 200_000 + b"]" * 200_000, id="200,000 brackets"),
        pytest.param(b'{"a":' * 101 + b"1" + b"}" * 101, id="101 levels"),
        pytest.param(b"[" + b"1," * 200_000 + b"1]", id="200,001 items"),
        pytest.param(b"[" + b"[{},{},{}]," * 70_000 + b"1]", id="210,000 objects"),
        pytest.param(b'{"a":' + b"9" * 5_000 + b"}", id="an integer of 5,000 digits"),
    ],
)
def test_what_another_language_would_read_differently_is_refused(body: bytes) -> None:
    """One code for all of it, and a sentence that is short."""
    with pytest.raises(InvalidJSONError) as refused:
        parse(body, max_bytes=MAX_BYTES)

    assert len(str(refused.value)) < 300


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    """17 MiB of anything, valid JSON or not."""
    with pytest.raises(BodyTooLargeError, match="8388608"):
        parse(b"\xff" * (17 * 1024 * 1024), max_bytes=MAX_BYTES)


def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    """The limit is the largest body accepted."""
    assert parse(b"[1]", max_bytes=3) == [1]


def test_a_hundred_levels_are_accepted() -> None:
    """The limit on depth is the depth that still passes."""
    parsed = parse(b"[" * 100 + b"]" * 100, max_bytes=MAX_BYTES)

    assert parse(dump(parsed), max_bytes=MAX_BYTES) == parsed


def test_many_brackets_inside_a_text_are_no_depth() -> None:
    """A text may hold what it likes."""
    assert parse(b'{"a":"' + b"[" * 1_000 + b'"}', max_bytes=MAX_BYTES) == {"a": "[" * 1_000}


def test_surrogate_pairs_are_one_character() -> None:
    """Only lone surrogates are refused."""
    assert parse(b'"\\ud83d\\ude00"', max_bytes=MAX_BYTES) == "😀"


def test_integers_keep_every_digit() -> None:
    """No integer passes through a float."""
    assert parse(b"[12345678901234567890123]", max_bytes=MAX_BYTES) == [12345678901234567890123]


@pytest.mark.parametrize(("value", "expected"), [(1.0, b"1.0"), (1e30, b"1e+30"), (-0.0, b"-0.0"), (1, b"1")])
def test_a_float_keeps_a_fraction_or_an_exponent(value: float, expected: bytes) -> None:
    """Elixir tells 1 from 1.0."""
    assert dump(value) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_could_not_be_parsed_is_not_written(value: object) -> None:
    """Nothing leaves that would be refused at the door."""
    with pytest.raises(ValueError, match=r"."):
        dump(value)


def test_canonical_json_has_sorted_keys_and_no_spaces() -> None:
    """The form that hashes are taken of."""
    assert canonical({"b": [1, 2.0], "a": "ö"}) == '{"a":"ö","b":[1,2.0]}'.encode()


@given(JSON)
def test_all_json_round_trips(value: object) -> None:
    """What is accepted is repeated as it came."""
    written = dump(value)

    assert dump(parse(written, max_bytes=MAX_BYTES)) == written


def test_a_doubled_key_in_a_large_object_is_found_in_one_pass() -> None:
    """The search for it must not grow with the square of the keys: it runs before anything else is checked."""
    members = ",".join(f'"key {number}":0' for number in range(100_000))

    with pytest.raises(InvalidJSONError, match="stands twice"):
        parse(f'{{{members},"key 99999":1}}'.encode(), max_bytes=8 * 1024 * 1024)
