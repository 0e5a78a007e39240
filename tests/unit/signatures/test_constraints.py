"""Patterns, formats, multiples and unique items: what they take and what they cost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from worker.errors import InvalidInputsError
from worker.signatures import check_inputs, describe_type, parse, sample_outputs
from worker.signatures.pattern_samples import read_pattern
from worker.signatures.patterns import compile_pattern, cost_of, is_found
from worker.signatures.places import MAX_PATTERN_COST


def one(type_: Any, **constraints: Any) -> Any:
    field = {"name": "x", "type": type_, "constraints": constraints}
    return parse({"inputs": [field], "outputs": [{**field, "name": "y"}]})


FORMATS: list[tuple[str, list[str], list[str]]] = [
    ("date", ["2026-02-28", "2024-02-29"], ["2026-02-29", "2026-2-1", "20260201", "2026-02-01 ", "٢٠٢٦-٠٢-٠١", ""]),
    (
        "date-time",
        ["2026-02-28T12:30:00Z", "2026-02-28t12:30:00.123456789+05:30"],
        ["2026-02-28 12:30:00Z", "2026-02-28T12:30:00", "2026-02-30T12:30:00Z", "2026-02-28T25:00:00Z", "2026-02-28"],
    ),
    ("time", ["12:30:00Z", "23:59:59.5-08:00"], ["12:30:00", "12:30Z", "24:00:00Z", "12:60:00Z", "12:30:00+24:00"]),
    (
        "uuid",
        ["123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000"],
        [
            "123e4567e89b12d3a456426614174000",
            "{123e4567-e89b-12d3-a456-426614174000}",
            "g23e4567-e89b-12d3-a456-426614174000",
        ],
    ),
    (
        "email",
        ["a@b.example", "first.last+tag@mail.example.com", "a@localhost"],
        ["a", "@b.example", "a@", "a@b..example", "a b@c.example", "a@-b.example", "a@b.example\n", f"a@{'b.' * 130}c"],
    ),
    (
        "uri",
        ["https://example.com/a?b=c#d", "urn:isbn:0451450523", "mailto:a@b.example", "http://[::1]:80/%20"],
        ["example.com", "//example.com", "https://", "https:", "http://a b", "http://a#b#c", "http://[::1", "a:%zz"],
    ),
    ("ipv4", ["192.0.2.1"], ["192.0.2", "192.0.2.256", "192.0.02.1", "::1", ""]),
    ("ipv6", ["2001:db8::1", "::", "::ffff:192.0.2.1"], ["fe80::1%eth0", "2001:db8", "192.0.2.1", "1::2::3"]),
]
ACCEPTED = [(name, text) for name, good, _ in FORMATS for text in good]
WRONG = [(name, text) for name, _, bad in FORMATS for text in bad if (name, text) != ("uri", "https://")]


@pytest.mark.parametrize(("name", "text"), ACCEPTED)
def test_a_text_with_the_format_is_taken(name: str, text: str) -> None:
    """As the RFCs spell it."""
    assert check_inputs(one("string", format=name), {"x": text}) == ({"x": text}, [])


@pytest.mark.parametrize(("name", "text"), [*WRONG, *((name, "1" * 100_000) for name, _, _ in FORMATS)])
def test_a_text_without_the_format_is_refused(name: str, text: str) -> None:
    """Near misses are misses, and length is no attack."""
    with pytest.raises(InvalidInputsError, match=f"^Field x: must have the format {name}$"):
        check_inputs(one("string", format=name), {"x": text})


@pytest.mark.parametrize("name", [name for name, _, _ in FORMATS])
def test_every_format_has_a_phrase_and_a_sample(name: str) -> None:
    """For prompts and for the offline model."""
    signature = one("string", format=name)
    sample = sample_outputs(signature, seed="1")

    assert describe_type(signature.outputs[0].type).startswith("string, as a")
    assert check_inputs(signature, {"x": sample["y"]})[0] == {"x": sample["y"]}


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("b", "abc", True),
        ("^b", "abc", False),
        (r"^\d+$", "12", True),
        (r"^\d+$", "12a", False),
        (r"^\p{Lu}", "Ärger", True),
        ("(?i)ABC", "xabcx", True),
        ("^$", "", True),
    ],
)
def test_a_pattern_is_searched_and_not_anchored(pattern: str, text: str, expected: bool) -> None:
    """As in JSON Schema."""
    assert expected == is_found(pattern, text)


def test_a_text_that_does_not_match_is_refused_with_the_pattern() -> None:
    """Also with the pattern of a format between slashes; a long one is cut."""
    with pytest.raises(InvalidInputsError, match=r"^Field x: must match the pattern `\^a\+\$`$"):
        check_inputs(one("string", format="/^a+$/"), {"x": "b"})
    with pytest.raises(InvalidInputsError, match=r"b…`$"):
        check_inputs(one("string", pattern="b" * 500), {"x": "b"})


def test_all_constraints_of_a_text_are_reported_at_once() -> None:
    """One round trip is enough."""
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(one("string", pattern="a", format="date", min=5), {"x": "b"})

    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", 0),
        ("abc", 3),
        ("^a|b$", 2),
        ("a{5}", 5),
        ("a{2,7}", 7),
        ("a{2,}", 2),
        ("(ab){3}{2}", 12),
        (r"\w\p{L}\pL\W", 1600),
        (r"\w{3}", 1200),
        (r"(\w+\w*)+{50}?{2}", 80_000),
        (r"[\w.-]{2}", 818),
        ("[]a]{3}", 3),
        ("[^a]", 9),
        (r"\d\s.", 43),
        (r"\x{41}\.", 2),
        ("a{99999999999999}", 10**9),
        ("((a{1000}){1000}){1000}{1000}", 10**9),
        ("(?x)a", 10**9),
        ("[[:alpha:]-[a]]{2}", 702),
        ("a)", 2),
        ("(a", 3 - 2),
        ("[a", 1),
        ("\\", 1),
    ],
)
def test_the_cost_of_a_pattern_is_known_before_it_is_compiled(pattern: str, expected: int) -> None:
    """Compiling is the one step whose time a sender could choose."""
    assert expected == cost_of(pattern)


def test_many_costly_patterns_in_one_definition_are_refused() -> None:
    """Each is small enough; together they are not. The same one twice is paid for once."""
    costly = [{"name": f"f{index}", "constraints": {"pattern": rf"\w{{60}}{index}"}} for index in range(3)]
    same = [{"name": f"f{index}", "constraints": {"pattern": r"\w{60}"}} for index in range(3)]
    with pytest.raises(Exception, match="too large: use fewer repetitions") as caught:
        parse({"inputs": costly, "outputs": [{"name": "y"}]})

    assert cost_of(r"\w{60}") < MAX_PATTERN_COST < 2 * cost_of(r"\w{60}")
    assert caught.value.breaks_limit  # type: ignore[attr-defined]
    assert len(parse({"inputs": same, "outputs": [{"name": "y"}]}).inputs) == 3


def test_a_pattern_is_compiled_once() -> None:
    """Programs share it, and it is made again after it was dropped."""
    assert compile_pattern("^once$") is compile_pattern("^once$")


def test_the_engines_own_words_are_in_the_refusal() -> None:
    """They say what to mend."""
    with pytest.raises(ValueError, match=r"^look-around"):
        compile_pattern("(?=a)")
    with pytest.raises(ValueError, match=r"^Compiled regex exceeds size limit"):
        compile_pattern("(a{1000}){1000}")


@pytest.mark.parametrize(
    ("type_", "step", "value", "is_taken"),
    [
        ("float", 0.1, 0.3, True),
        ("float", 0.1, 0.35, False),
        ("float", 0.01, 19.99, True),
        ("float", 0.1, 1e300, True),
        ("float", 3, 1e22, False),
        ("float", 0.1, -0.7, True),
        ("float", 0.1, 0, True),
        ("integer", 3, 9, True),
        ("integer", 3, 10, False),
        ("integer", 3, -9.0, True),
        ("integer", 0.3, 6, True),
        ("integer", 0.3, 7, False),
        ("integer", 7, 7 * 10**40, True),
    ],
)
def test_multiples_are_counted_in_decimals(type_: str, step: float, value: float, is_taken: bool) -> None:
    """0.3 is a multiple of 0.1, whatever binary floats say."""
    signature = one(type_, multiple_of=step)
    if is_taken:
        assert check_inputs(signature, {"x": value})[0] == {"x": value}
        return
    with pytest.raises(InvalidInputsError, match="must be a multiple of"):
        check_inputs(signature, {"x": value})


@pytest.mark.parametrize(
    ("items", "is_taken"),
    [
        ([1, "1", True, None], True),
        ([[1], [2]], True),
        ([1, 1.0], False),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
    ],
)
def test_unique_items_are_compared_by_json_type_and_value(items: list[Any], is_taken: bool) -> None:
    """1 is neither "1" nor true, and the order of keys is no difference."""
    signature = one("list", unique_items=True)
    if is_taken:
        assert check_inputs(signature, {"x": items})[0] == {"x": items}
        return
    with pytest.raises(InvalidInputsError, match="must have no item twice: 1 is the same as 0"):
        check_inputs(signature, {"x": items})


@pytest.mark.parametrize(("count", "is_taken"), [(0, False), (1, True), (2, True), (3, False)])
def test_the_entries_of_a_map_are_counted(count: int, is_taken: bool) -> None:
    """By min_properties and max_properties, or min and max."""
    signature = one("map", min_properties=1, max=2)
    value = {str(index): index for index in range(count)}
    if is_taken:
        assert check_inputs(signature, {"x": value})[0] == {"x": value}
        return
    with pytest.raises(InvalidInputsError, match=f"must have 1 to 2 entries, has {count}"):
        check_inputs(signature, {"x": value})


PHRASES: list[tuple[Any, str]] = [
    ({"type": "string", "pattern": "^a"}, "string, matching `^a`"),
    ({"type": "string", "max": 9, "format": "date"}, "string of at most 9 characters, as a date like 2026-01-31"),
    ({"type": "integer", "multipleOf": 5}, "integer, a multiple of 5"),
    ({"type": "float", "min": 0, "multipleOf": 0.5}, "number of at least 0, a multiple of 0.5"),
    ({"type": "list<string>", "uniqueItems": True}, "list of different strings"),
    ({"type": "list<string>", "uniqueItems": True, "max": 3}, "list of at most 3 different strings"),
    ({"list": "probability", "uniqueItems": True}, "list of different items; each item: number from 0 to 1"),
    ({"type": "map", "max": 3}, "object of at most 3 entries with string keys; each value: any JSON value"),
]


@pytest.mark.parametrize(("spelling", "expected"), PHRASES)
def test_constraints_are_said_in_the_phrase(spelling: Any, expected: str) -> None:
    """A model that is not told cannot obey."""
    assert expected == describe_type(one(spelling).inputs[0].type)


SAMPLED = [
    r"^\d{3}-[A-Z]{2}$",
    r"^[\w.+-]+@[\w-]+\.[a-z]{2,}$",
    r"(foo|bar)+\s?baz",
    r"^\p{Lu}\p{L}{2,5}$",
    r"^\pL\PN$",
    r"^[^a-z]{3}$",
    "(?i)hello",
    r"^#[0-9a-fA-F]{6}$",
    r"^\w{3,64}$",
    r"^(?:\+\d{1,3})?\d{6,14}$",
    r"^(?P<year>\d{4})\b",
    r"^[]a]{2}$",
    r"^[\d\-]+?$",
    r"\x41\u{42}\t\.",
    r"\A.\z",
    r"^[a-]$",
    r"^(?i:a)\D\S\W?x*$",
    "^$",
    r"^\p{Greek}?[\x30-\x39]$",
]


@pytest.mark.parametrize("pattern", SAMPLED)
def test_a_sample_matches_its_pattern(pattern: str) -> None:
    """The usual parts of the syntax are read, and what was made is checked by the engine."""
    signature = one("string", pattern=pattern)
    samples = [str(sample_outputs(signature, seed=str(seed))["y"]) for seed in range(20)]

    assert all(is_found(pattern, sample) for sample in samples)


def test_a_sample_is_filled_up_to_its_length() -> None:
    """Where the pattern leaves room."""
    sample = str(sample_outputs(one("string", pattern="^[a-z]+", length=40), seed="")["y"])

    assert len(sample) == 40


NO_SAMPLE: list[tuple[Any, str]] = [
    ({"type": "string", "pattern": "[[:alpha:]]"}, "no example is made for"),
    ({"type": "string", "pattern": "[a[b]]"}, "no example is made for"),
    ({"type": "string", "pattern": r"\b{start}a"}, "no example"),
    ({"type": "string", "pattern": "^a$", "min": 2}, "no example was found"),
    ({"type": "string", "pattern": "^ $"}, "no example was found"),
    ({"type": "string", "pattern": "a", "format": "ipv4"}, "no example was found"),
    ({"type": "string", "pattern": "a" * 500}, "too long"),
    ({"list": {"type": "integer", "min": 1, "max": 9}, "uniqueItems": True, "min": 12}, "no example was found"),
    ({"type": "array", "items": {"list": {"type": "string", "pattern": "^ $"}}, "min": 1}, "no example was found"),
    ({"anyOf": [{"type": "string", "pattern": "^ $"}, {"type": "string", "pattern": "^  $"}]}, "no example was found"),
    ({"type": "float", "multiple_of": 0.30000000000000004, "min": 0.5, "max": 0.7}, "no example was found"),
    ({"type": "string", "pattern": r"^\p{Script=Greek}$"}, "no example is made for"),
]


@pytest.mark.parametrize(("spelling", "reason"), NO_SAMPLE)
def test_where_no_sample_is_found_the_field_is_named(spelling: Any, reason: str) -> None:
    """The offline model must say so and never answer with an invalid value."""
    with pytest.raises(ValueError, match=f"^Field y: .*{reason}"):
        sample_outputs(one(spelling), seed="")


@pytest.mark.parametrize(
    "spelling",
    [
        {"type": "list<string>", "uniqueItems": True, "min": 50},
        {"type": "list<integer>", "uniqueItems": True, "min": 500},
        {"type": "list<float>", "uniqueItems": True, "min": 50},
        {"list": {"type": "string", "max": 3}, "uniqueItems": True, "min": 50},
        {"list": {"type": "string", "enum": ["a", "b", "c"]}, "uniqueItems": True, "min": 3},
        {"type": "map", "min": 50},
        {"type": "dict<integer, any>", "min": 50},
        {"type": "map", "max": 0},
    ],
)
def test_many_distinct_values_are_found(spelling: Any) -> None:
    """Also where there are more of them than words."""
    signature = one(spelling)
    sample = sample_outputs(signature, seed="")["y"]

    assert check_inputs(signature, {"x": sample}) == ({"x": sample}, [])


def test_a_union_is_sampled_from_a_member_that_can_be() -> None:
    """One member without a sample is no reason to give up."""
    signature = one({"anyOf": [{"type": "string", "pattern": "^ $"}, "integer"]})
    samples = [sample_outputs(signature, seed=str(seed))["y"] for seed in range(10)]

    assert all(isinstance(sample, int) for sample in samples)


@pytest.mark.parametrize("pattern", ["a)", "(a", "[a", "[", "*", "a{", "\\", r"\x", r"(?=a)", r"\q", "[^ -~]", "(?<a"])
def test_a_pattern_that_is_not_read_raises(pattern: str) -> None:
    """Whatever the engine thinks of it."""
    with pytest.raises(ValueError, match="no example is made for"):
        read_pattern(pattern)(random.Random(0))
