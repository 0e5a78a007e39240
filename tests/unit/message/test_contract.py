"""The arguments of create and execute."""

from __future__ import annotations

from typing import Any

import pytest

from worker.errors import InvalidRequestError
from worker.message import CREATE_KEYS, EXECUTE_KEYS, CreateArgs, ExecuteArgs, read_args


def test_defaults_are_those_of_the_contract() -> None:
    """Absent means: a predict program, no replacement, the model asked anew."""
    create, _ = read_args(CreateArgs, {})
    execute, _ = read_args(ExecuteArgs, {})

    assert (create.program_type, create.replace, create.fallback, create.id) == ("predict", False, None, None)
    assert (execute.options.cache, execute.options.include_reasoning, execute.inputs) == (False, False, {})


@pytest.mark.parametrize("key", ["config", "options"])
@pytest.mark.parametrize("empty", [[], {}, None])
def test_empty_options_in_every_spelling_are_an_empty_object(key: str, empty: object) -> None:
    """DSPex sends ``"options": []``."""
    read, warnings = read_args(ExecuteArgs, {key: empty})

    assert (getattr(read, key).temperature, warnings) == (None, [])


@pytest.mark.parametrize("options", [{"temperature": 0.5, "max_tokens": 7}, [["temperature", 0.5], ["max_tokens", 7]]])
def test_options_may_be_an_object_or_a_keyword_list(options: object) -> None:
    """Both spellings mean the same."""
    read, _ = read_args(ExecuteArgs, {"options": options, "config": options})

    assert (read.options.temperature, read.options.max_tokens) == (0.5, 7)
    assert (read.config.temperature, read.config.max_tokens) == (0.5, 7)


def test_unknown_keys_are_ignored_with_a_warning_each() -> None:
    """At the first level and inside options and config."""
    _, warnings = read_args(ExecuteArgs, {"zeta": 1, "alpha": 2, "options": {"top_q": 1}, "config": [["topp", 1]]})

    assert warnings == [
        "Unknown argument ignored: alpha",
        "Unknown argument ignored: zeta",
        "Unknown key in config ignored: topp",
        "Unknown key in options ignored: top_q",
    ]


def test_the_warning_of_a_misspelt_key_names_the_key_that_was_meant() -> None:
    """Only one that is not given as well."""
    args = {"inputz": {}, "options": {"tmperature": 0.5, "max_token": 3, "max_tokens": 4}}
    _, warnings = read_args(ExecuteArgs, args)

    assert warnings == [
        "Unknown argument ignored: inputz; did you mean `inputs`?",
        "Unknown key in options ignored: max_token",
        "Unknown key in options ignored: tmperature; did you mean `temperature`?",
    ]


def test_what_dspex_always_sends_is_ignored_without_a_warning() -> None:
    """``session_id`` and ``program_data`` are no mistake of the caller."""
    assert read_args(ExecuteArgs, {"session_id": "s", "program_data": {"a": 1}})[1] == []


@pytest.mark.parametrize(
    ("args", "path"),
    [
        ({"options": {"temperature": "hot"}}, "/options/temperature"),
        ({"options": {"temperature": 2.1}}, "/options/temperature"),
        ({"options": {"temperature": True}}, "/options/temperature"),
        ({"options": {"max_tokens": 0}}, "/options/max_tokens"),
        ({"options": {"max_tokens": 1.5}}, "/options/max_tokens"),
        ({"options": {"timeout_ms": 0}}, "/options/timeout_ms"),
        ({"options": {"max_lm_calls": 0}}, "/options/max_lm_calls"),
        ({"options": {"max_cost_usd": 0}}, "/options/max_cost_usd"),
        ({"options": {"fallback": "always"}}, "/options/fallback"),
        ({"options": {"cache": "yes"}}, "/options/cache"),
        ({"options": "none"}, "/options"),
        ({"fallback": "Never"}, "/fallback"),
        ({"lm": {"model": "openai/gpt-4o", "api_base": "http://evil"}}, "/lm"),
        ({"use_dynamic_signature": 1}, "/use_dynamic_signature"),
        ({"demos": [1]}, "/demos/0"),
        ({"program_id": "x" * 1_025}, "/program_id"),
        ({"program_id": 7}, "/program_id"),
    ],
)
def test_a_wrong_argument_is_refused_with_its_pointer(args: dict[str, Any], path: str) -> None:
    """Nothing is coerced and nothing is guessed."""
    with pytest.raises(InvalidRequestError) as refused:
        read_args(ExecuteArgs, args)

    assert [problem.path for problem in refused.value.problems] == [path]


def test_all_problems_are_named_at_once() -> None:
    """One round trip mends them all."""
    with pytest.raises(InvalidRequestError) as refused:
        read_args(CreateArgs, {"id": "", "replace": "yes", "config": {"temperature": -1}})

    assert {problem.path for problem in refused.value.problems} == {"/id", "/replace", "/config/temperature"}


def test_a_refusal_does_not_repeat_the_value() -> None:
    """Payloads are not echoed: a value may be a secret."""
    with pytest.raises(InvalidRequestError) as refused:
        read_args(ExecuteArgs, {"options": {"temperature": "sk-secret"}})

    assert "sk-secret" not in str(refused.value) + repr(refused.value.problems)


@pytest.mark.parametrize("program_id", ["", "a b", "größe", "x" * 256, "a\n"])
def test_an_id_that_no_program_can_have_may_be_asked_for_and_not_be_given(program_id: str) -> None:
    """It is not found, as the contract says; it cannot be created."""
    assert read_args(ExecuteArgs, {"program_id": program_id})[0].program_id == program_id
    with pytest.raises(InvalidRequestError):
        read_args(CreateArgs, {"id": program_id})


@pytest.mark.parametrize("program_id", ["a", "sig-0123", "A~!@#$%^&*()", "x" * 255])
def test_an_id_is_visible_ascii(program_id: str) -> None:
    """One to 255 characters."""
    assert read_args(CreateArgs, {"id": program_id})[0].id == program_id


def test_the_lists_of_keys_are_those_of_the_models() -> None:
    """The documentation is generated from them."""
    assert {"id", "signature", "replace"} <= CREATE_KEYS
    assert {"program_id", "signature", "inputs", "options"} <= EXECUTE_KEYS
