"""Values that are made to hurt: refused after work that is bounded, with words that are bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.errors import InvalidInputsError, OutputInvalidError, Problem
from worker.signatures import Signature, check_inputs, parse, read_json_outputs, read_outputs
from worker.signatures.names import normal_name
from worker.signatures.nodes import identity, pointer_step
from worker.signatures.patterns import count_positions
from worker.signatures.problems import MAX_PROBLEM_BYTES, MAX_PROBLEMS, bounded
from worker.signatures.values import Faults, check_value
from worker.signatures.work import MAX_WORK, TOO_LARGE, Work, WorkSpentError

SLOW = r"(\w{1,30}\s){1,2}\w+!$"


def input_of(type_: Any) -> Signature:
    return parse({"inputs": [{"name": "a", "type": type_}], "outputs": [{"name": "y"}]})


def output_of(type_: Any) -> Signature:
    return parse({"inputs": [{"name": "q"}], "outputs": [{"name": "y", "type": type_}]})


def refusal(type_: Any, value: Any) -> InvalidInputsError:
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(input_of(type_), {"a": value})
    return caught.value


def alike(count: int) -> dict[str, Any]:
    return {"anyOf": [{"properties": {"k": {"enum": [f"a{n}"]}, "v": "integer"}} for n in range(count)]}


def apart(count: int) -> dict[str, Any]:
    return {"anyOf": [{"properties": {f"k{n}": "integer"}} for n in range(count)]}


HEAVY: dict[str, tuple[Any, Any]] = {
    "objects of a wide union": ({"list": apart(60)}, [{"k59": 1}] * 60_000),
    "objects of a wide union of alike ones": ({"list": alike(60)}, [{"k": "a59", "v": 1}] * 60_000),
    "a slow pattern over a long text": ({"type": "string", "pattern": SLOW}, "ab cd " * 1_300_000),
    "a slow pattern over many texts": ({"list": {"type": "string", "pattern": SLOW}}, ["ab cd " * 30 + "e!"] * 20_000),
    "many multiples of 0.1": ({"list": {"type": "float", "multiple_of": 0.1}}, [1.5] * 190_000),
    "many multiples of 1e-100": ({"list": {"type": "float", "multiple_of": 1e-100}}, [1.5] * 190_000),
    "long integers": ({"list": {"type": "integer", "multiple_of": 3}}, [3 * 10**4_000] * 1_900),
    "a long list for many lists": (
        {"anyOf": [{"type": "array", "items": {"type": "integer", "max": n}} for n in range(100)]},
        [0] * 190_000 + [1_000],
    ),
    "a large value of any kind": ("any", [[0] * 100] * 10_000),
    "large defaults": ({"list": {"properties": {"a": {"type": "list", "default": [0] * 40_000}}}}, [{}] * 10_000),
    "a long text for many strings": ({"anyOf": [{"type": "string", "max": n} for n in range(1, 99)]}, "é" * 4_000_000),
    "unique items": ({"type": "list", "unique_items": True}, [[n] for n in range(190_000)]),
    "formats": ({"list": {"type": "string", "format": "ipv6"}}, ["::1"] * 190_000),
}


@pytest.mark.parametrize("what", HEAVY)
def test_a_value_that_takes_too_much_work_is_refused_as_such(what: str) -> None:
    """With the usual code and its field, however it would have ended."""
    error = refusal(*HEAVY[what])

    assert (error.code, error.field) == ("invalid_inputs", "a")
    assert error.problems == (Problem("/inputs/a", TOO_LARGE),)


LARGE: dict[str, tuple[Any, Any]] = {
    "integers": ("list<integer>", [1] * 200_000),
    "entries": ("dict<string, integer>", {str(n): n for n in range(90_000)}),
    "objects": ({"list": {"properties": {"a": "integer", "b": "string"}}}, [{"a": 1, "b": "x"}] * 40_000),
    "a wide union": ({"list": apart(60)}, [{"k59": 1}] * 10_000),
    "a text under an anchored class": ({"type": "string", "pattern": "^[a-z ]+$"}, "ab cd " * 500_000),
    "a page under a slow pattern": ({"type": "string", "pattern": SLOW}, "ab cd " * 10_000 + "e!"),
    "a long text": ("string", "é" * 8_000_000),
    "multiples": ({"list": {"type": "float", "multiple_of": 0.1}}, [0.3] * 60_000),
}


@pytest.mark.parametrize("what", LARGE)
def test_a_large_value_that_is_plain_to_check_is_taken(what: str) -> None:
    """The budget refuses what is slow, not what is long."""
    type_, value = LARGE[what]
    taken, _ = check_inputs(input_of(type_), {"a": value})

    assert value == taken["a"]


def test_the_fields_of_a_record_share_one_budget() -> None:
    """A hundred fields must not take a hundred times as long."""
    fields = [{"name": f"a{n}", "type": "list<integer>"} for n in range(20)]
    signature = parse({"inputs": fields, "outputs": [{"name": "y"}]})
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(signature, {f"a{n}": [1] * 30_000 for n in range(20)})

    assert [Problem("/inputs/a13", TOO_LARGE)] == list(caught.value.problems)


def test_members_of_a_union_are_dismissed_by_their_names_before_they_are_checked() -> None:
    """One look for each, and one check."""
    member = {"type": "object", "properties": {"k59": "integer"}}
    node, alone = input_of(apart(60)).inputs[0].type, input_of(member).inputs[0].type
    in_union, by_itself = Work(), Work()
    check_value({"k59": 1}, node, faults=[], work=in_union)
    check_value({"k59": 1}, alone, faults=[], work=by_itself)

    assert in_union.left >= by_itself.left - 70


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 1}, {"a": 1, "b": None}),
        ({"a": 1, "b": 2.0}, {"a": 1, "b": 2}),
        ({"é": 1}, {"é": 1}),
        ({"e\u0301": 1}, {"é": 1}),
    ],
)
def test_dismissing_members_never_dismisses_one_that_fits(value: Any, expected: Any) -> None:
    """Optional members may be away, and names may be spelled in another normal form."""
    members = [
        {"properties": {"a": "integer", "b": {"type": "integer", "optional": True}}},
        {"properties": {"é": "integer"}},
    ]
    faults: Faults = []
    taken = check_value(value, input_of({"anyOf": [*members, "string"]}).inputs[0].type, faults=faults)

    assert faults == []
    assert expected == taken


@pytest.mark.parametrize("type_", ["list<integer> | string", "list<integer>", {"anyOf": ["list<integer>", "any"]}])
def test_an_answer_that_is_too_large_is_no_text_either(type_: Any) -> None:
    """What one member of a union had no time for must not become a value of another."""
    with pytest.raises(OutputInvalidError, match=TOO_LARGE):
        read_outputs(output_of(type_), {"y": json.dumps([1] * 900_000)})


@pytest.mark.parametrize(
    ("pattern", "positions"),
    [
        ("^[a-z]{1,5000}$", 1),
        (r"^\w+$", 1),
        (r"\d{4}-\d{2}", 7),
        (r"[ab]{1,900}c", 901),
        (r"(\w{1,30}\s){1,2}!", 63),
        ("", 1),
    ],
)
def test_the_positions_of_a_pattern_are_counted(pattern: str, positions: int) -> None:
    """They are what a character may cost."""
    assert positions == count_positions(pattern)


def test_a_text_over_its_length_is_not_searched() -> None:
    """So `max_length` makes room for a slow pattern."""
    error = refusal({"type": "string", "pattern": SLOW, "max": 100}, "ab cd " * 1_000_000)

    assert [problem.problem for problem in error.problems] == ["must have at most 100 characters, has 6000000"]


def test_large_numbers_do_not_share_a_hash() -> None:
    """Numbers chosen so would make a check for doubles take the square of their count."""
    assert len({hash(identity((2**61 - 1) * n)) for n in range(1, 1_000)}) > 990
    assert identity(10**20) == identity(1e20)
    assert identity(-(2**61)) == identity(-(2.0**61))
    assert identity(2**61) != identity(2**61 + 1)


def test_a_name_that_is_too_long_is_not_composed() -> None:
    """Composing takes the square of the marks on one letter."""
    name = "e" + "\u0301\u0316" * 100_000

    assert name is normal_name(name)


def test_work_that_is_not_left_is_not_done() -> None:
    """And what is spent stays spent."""
    work = Work(10)
    work.pay(10)
    with pytest.raises(WorkSpentError):
        work.pay(1)

    assert work.is_spent


def test_a_budget_is_enough_for_the_longest_list_of_a_job() -> None:
    """The door takes no list of more than 200,000 items."""
    assert MAX_WORK > 2 * 200_000


LONG = "k" * 100_000


def test_the_problems_of_inputs_do_not_grow_with_the_keys() -> None:
    """A key is cut in each pointer, and all of them together are bounded."""
    error = refusal("dict<string, dict<string, integer>>", {f"{n}{LONG}": {LONG: "x"} for n in range(200)})

    assert len(error.problems) == MAX_PROBLEMS
    assert all(len(problem.path) < 250 for problem in error.problems)
    assert len(str(error)) < 500


def test_the_problems_of_an_answer_do_not_grow_with_its_keys() -> None:
    """Neither the problems, nor the sentence, nor the field."""
    with pytest.raises(OutputInvalidError) as caught:
        read_json_outputs(output_of("string"), json.dumps({"y": "a"} | {f"{n}{LONG}": 1 for n in range(200)}))
    error = caught.value

    assert len(error.problems) == MAX_PROBLEMS
    assert max(len(problem.path) for problem in error.problems) < 120
    assert len(error.field or "") <= 65
    assert len(str(error)) < 500


def test_long_problems_are_as_many_as_fit() -> None:
    """All of a record's together have 64 KiB."""
    kept = bounded(Problem("/" + "é" * 10_000, "x" * 10_000) for _ in range(90))

    assert 5 < len(kept) < 90
    assert sum(len(f"{one.path}{one.problem}".encode()) for one in kept) <= MAX_PROBLEM_BYTES


def test_unknown_inputs_are_warned_about_up_to_a_hundred() -> None:
    """And counted after that."""
    _, warnings = check_inputs(input_of("string"), {"a": "x"} | {f"{n}{LONG[:99]}": 1 for n in range(250)})

    assert len(warnings) == 101
    assert max(map(len, warnings)) < 150
    assert warnings[-1] == "and 150 more"


def test_warnings_of_a_definition_are_told_up_to_a_hundred() -> None:
    """And counted after that."""
    fields = [{"name": f"a{n}", "constraints": {f"x{i}": 1 for i in range(50)}} for n in range(4)]
    signature = parse({"inputs": fields, "outputs": [{"name": "y"}]})

    assert len(signature.warnings) == 101
    assert signature.warnings[-1] == "and 100 more"


def test_a_step_of_a_pointer_is_escaped_after_it_is_cut() -> None:
    """So no escape is cut in two."""
    assert pointer_step("/" * 101) == "/" + "~1" * 100 + "…"


@pytest.mark.parametrize("fence", ["```json\n{}\n```", "```\n{}\n```", " ```JSON {}``` \n"])
@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        ("integer", "7", 7),
        ("list<string>", '["a"]', ["a"]),
        ("boolean", "True", True),
        ("any", "[1]", [1]),
        ("float?", "null", None),
    ],
)
def test_a_code_fence_around_a_value_is_taken_off(type_: str, text: str, expected: Any, fence: str) -> None:
    """Models write one however they are asked not to."""
    taken = read_outputs(output_of(type_), {"y": fence.replace("{}", text)})

    assert expected == taken["y"]


@pytest.mark.parametrize("type_", ["string", "any", "string | boolean"])
def test_a_code_fence_around_a_text_stays(type_: str) -> None:
    """Where text is asked for, it may be code."""
    text = "```\nx = 1\n```"
    taken = read_outputs(output_of(type_), {"y": text})

    assert text == taken["y"]


def test_a_code_fence_around_a_json_answer_is_taken_off() -> None:
    """The whole answer, not the texts in it."""
    answer = {"y": "```\ncode\n```"}
    taken = read_json_outputs(output_of("string"), f"\n```json\n{json.dumps(answer)}\n```\n")

    assert answer == taken


def test_two_code_fences_are_no_json() -> None:
    """Which of them is meant is not guessed."""
    with pytest.raises(OutputInvalidError):
        read_json_outputs(output_of("string"), '```json\n{"y": "a"}\n```\nor\n```json\n{"y": "b"}\n```')
