"""Programs: what a definition becomes, when two are the same, and what the caches save."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.support.left_hand import SENTIMENT, make_settings
from worker import programs as programs_module
from worker.blueprints import Blueprint, Blueprints, field_mapping, program_fingerprint, signature_class_name
from worker.errors import (
    DefinitionError,
    DynamicSignaturesOffError,
    InvalidInputsError,
    InvalidSignatureError,
    UnsupportedProgramTypeError,
)
from worker.flags import Flags
from worker.message import CreateArgs, ExecuteArgs, canonical
from worker.programs import Programs, as_question
from worker.signatures import LEGACY, parse
from worker.signatures.classes import make_signature_class
from worker.store import ProgramRecord

REFUSED: dict[str, Any] = {
    "description": "Do it",
    "inputs": [{"name": "a", "type": "strnig"}],
    "outputs": [{"name": "b"}],
}


def draw(signature: Any, settings: dict[str, Any] | None = None, **args: Any) -> Blueprint:
    return Blueprints(make_settings(**(settings or {}))).draw(CreateArgs(signature=signature, **args))


def fingerprint(signature: Any, settings: dict[str, Any] | None = None, **args: Any) -> str:
    sent = CreateArgs(signature=signature, **args)
    return program_fingerprint(Blueprints(make_settings(**(settings or {}))).draw(sent), sent)


def record(blueprint: Blueprint, *, revision: str = "r1") -> ProgramRecord:
    return ProgramRecord("p", revision, 1, "fp", blueprint.to_text(), 0, 0, None)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the signature classes that were built."""
    made: list[str] = []

    def counting(signature: Any, **given: Any) -> Any:
        made.append(signature.name)
        return make_signature_class(signature, **given)

    monkeypatch.setattr(programs_module, "make_signature_class", counting)
    return made


# What a definition becomes


def test_a_definition_is_dynamic_by_default() -> None:
    """As in DSPex's bridge."""
    blueprint = draw(SENTIMENT)

    assert (blueprint.kind, blueprint.reason, blueprint.fingerprint) == ("dynamic", None, parse(SENTIMENT).fingerprint)


@pytest.mark.parametrize("definition", [None, {}, {"inputs": [], "outputs": []}, "question -> answer"])
@pytest.mark.parametrize("policy", ["never", "create", "execute"])
def test_no_definition_is_the_legacy_program_under_every_policy(definition: object, policy: str) -> None:
    """It is no fallback, and says that it is deprecated."""
    blueprint = draw(definition, fallback=policy)

    assert (blueprint.kind, blueprint.reason) == ("legacy", None)
    assert "deprecated" in blueprint.warnings[0]


@pytest.mark.parametrize("policy", ["create", "execute"])
def test_a_refused_definition_becomes_question_and_answer_and_says_so(policy: str) -> None:
    """With the reason and the whole error in the warnings."""
    blueprint = draw(REFUSED, fallback=policy)

    assert blueprint.kind == "fallback"
    assert blueprint.reason is not None
    assert blueprint.reason.startswith("unknown_type: Failed to create program: ")
    assert (blueprint.warnings[0]["code"], blueprint.warnings[0]["field"]) == ("unknown_type", "a")


def test_a_refused_definition_is_an_error_under_never() -> None:
    """With its own code."""
    with pytest.raises(DefinitionError) as refused:
        draw(REFUSED, fallback="never")

    assert (refused.value.code, refused.value.field) == ("unknown_type", "a")


@pytest.mark.parametrize("policy", ["never", "create", "execute"])
@pytest.mark.parametrize(
    "definition",
    [
        pytest.param(7, id="a number"),
        pytest.param([1], id="a list"),
        pytest.param({"inputs": [{"name": f"i{n}"} for n in range(101)], "outputs": [{"name": "o"}]}, id="101 fields"),
        pytest.param(
            {"inputs": [{"name": "a", "type": "list<" * 9 + "string" + ">" * 9}], "outputs": [{"name": "o"}]},
            id="nine levels",
        ),
        pytest.param(
            {"inputs": [{"name": "a", "constraints": {"pattern": "(?=x)"}}], "outputs": [{"name": "o"}]},
            id="a pattern that the engine refuses",
        ),
    ],
)
def test_what_breaks_a_limit_is_an_error_under_every_policy(definition: object, policy: str) -> None:
    """No policy hides it."""
    with pytest.raises(DefinitionError):
        draw(definition, fallback=policy)


def test_the_setting_decides_where_the_job_does_not() -> None:
    """Options, then arguments, then the setting."""
    assert draw(REFUSED).kind == "fallback"
    with pytest.raises(DefinitionError):
        draw(REFUSED, {"fallback": "never"})
    strict = Blueprints(make_settings(fallback="never"))
    args = ExecuteArgs(signature=REFUSED, fallback="never", options={"fallback": "create"})  # type: ignore[arg-type]
    assert strict.draw(args).kind == "fallback"


@pytest.mark.parametrize("program_type", ["react", "Predict", None, 7, ["predict"]])
def test_an_unknown_program_type_is_refused_by_name(program_type: object) -> None:
    """And the known ones are named."""
    with pytest.raises(UnsupportedProgramTypeError, match="predict and chain_of_thought"):
        draw(SENTIMENT, fallback="never", program_type=program_type)


def test_an_unknown_program_type_falls_back_where_that_is_allowed() -> None:
    """It is a refused definition like any other."""
    blueprint = draw(SENTIMENT, fallback="create", program_type="react")

    assert (blueprint.kind, blueprint.program_type) == ("fallback", "predict")
    assert str(blueprint.reason).startswith("unsupported_program_type: ")


def test_demos_that_are_not_used_are_said_so() -> None:
    """Question and answer has no place for them."""
    blueprint = draw("question -> answer", demos=[{"question": "a", "answer": "b"}])

    assert "The demos are not used: the program runs as question and answer" in blueprint.warnings


def test_a_chain_of_thought_puts_its_chain_before_the_outputs() -> None:
    """In a field of our own."""
    settings = make_settings()
    programs = Programs(settings)
    program = programs.load(
        record(programs.blueprints.draw(CreateArgs(signature=SENTIMENT, program_type="chain_of_thought")))
    )

    assert list(program.compiled.signature_class.output_fields) == ["f3", "f1", "f2"]


# Flags and rollout


def test_switched_off_a_definition_runs_as_question_and_answer_and_says_so() -> None:
    """It is legacy, not a fallback."""
    blueprint = draw(SENTIMENT, {"dynamic_signatures": "false"})

    assert (blueprint.kind, blueprint.reason, len(blueprint.warnings)) == ("legacy", None, 1)


def test_switched_off_who_insists_is_refused() -> None:
    """Who declares must not get something else in silence."""
    with pytest.raises(DynamicSignaturesOffError):
        draw(SENTIMENT, {"dynamic_signatures": "false"}, fallback="never")


def test_who_insists_is_dynamic_whatever_the_percentage() -> None:
    """Rollout is for those who take what they get."""
    assert draw(SENTIMENT, {"dynamic_signatures_rollout": 0}, fallback="never").kind == "dynamic"
    assert draw(SENTIMENT, {"dynamic_signatures_rollout": 0}).kind == "legacy"


def test_the_rollout_is_decided_by_the_fingerprint() -> None:
    """The same signature is always on the same side: int(fp[:8], 16) % 100 < percent."""
    bucket = int(parse(SENTIMENT).fingerprint[:8], 16) % 100
    kinds = [draw(SENTIMENT, {"dynamic_signatures_rollout": percent}).kind for percent in (bucket, bucket + 1)]

    assert kinds == ["legacy", "dynamic"]


@pytest.mark.parametrize(("explicit", "kind"), [(True, "dynamic"), (False, "legacy")])
@pytest.mark.parametrize("settings", [{"dynamic_signatures": "false"}, {"dynamic_signatures_rollout": 0}, {}])
def test_an_explicit_choice_wins_over_flag_and_rollout(explicit: bool, kind: str, settings: dict[str, Any]) -> None:
    """``use_dynamic_signature`` is the caller's own."""
    assert draw(SENTIMENT, settings, use_dynamic_signature=explicit).kind == kind


FORCED = Flags("force_off", 100)


def test_flags_of_the_claim_win_over_the_start_values() -> None:
    """An operator's flag holds at once."""
    blueprints = Blueprints(make_settings())
    drawn = [blueprints.draw(CreateArgs(signature=SENTIMENT), flags=flags).kind for flags in (Flags("off"), Flags())]

    assert drawn == ["legacy", "dynamic"]


@pytest.mark.parametrize("explicit", [None, True])
def test_forced_off_an_existing_program_runs_as_question_and_answer_and_says_so(explicit: bool | None) -> None:
    """Explicit choices included; when it is over, the program is what it was."""
    programs = Programs(make_settings())
    stored = record(draw(SENTIMENT, use_dynamic_signature=explicit))
    before, forced, after = (programs.load(stored, flags=flags) for flags in (Flags(), FORCED, Flags("off")))

    assert (before.is_dynamic, forced.is_dynamic, after.is_dynamic) == (True, False, True)
    assert forced.compiled.signature is LEGACY
    assert "every run" in forced.blueprint.warnings[0]
    assert forced.blueprint.reason is None
    assert after is before


def test_forced_off_a_program_created_now_is_decided_as_ever() -> None:
    """The emergency leaves no trace in what is stored."""
    blueprints = Blueprints(make_settings())
    blueprint = blueprints.draw(CreateArgs(signature=SENTIMENT), flags=FORCED)

    assert blueprint.kind == "dynamic"
    assert blueprints.in_force(blueprint, flags=FORCED).kind == "legacy"


@pytest.mark.parametrize(
    ("program", "job", "setting", "is_refused"),
    [
        (None, None, "create", False),
        ("create", None, "never", False),
        ("never", None, "create", True),
        ("never", "create", "create", False),
        ("create", "never", "create", True),
        (None, None, "never", True),
    ],
)
def test_forced_off_who_insists_is_refused(
    program: str | None, job: str | None, setting: str, is_refused: bool
) -> None:
    """The policy is the job's, else the program's, else the setting; never is never something else."""
    programs = Programs(make_settings(fallback=setting))
    stored = record(draw(SENTIMENT, fallback=program))
    one_off = ExecuteArgs.model_validate({"signature": SENTIMENT, "fallback": program, "options": {"fallback": job}})
    for _ in range(2):
        refused = 0
        for load in (
            lambda: programs.load(stored, flags=FORCED, policy=job),
            lambda: programs.one_off(one_off, flags=FORCED),
        ):
            try:
                assert not load().is_dynamic
            except DynamicSignaturesOffError:
                refused += 1

        assert refused == (2 if is_refused else 0)


@pytest.mark.parametrize("definition", [None, "question -> answer", REFUSED])
def test_forced_off_what_is_question_and_answer_anyway_stays_what_it_is(definition: object) -> None:
    """Legacy and fallback programs are not touched."""
    programs = Programs(make_settings())
    stored = record(draw(definition))

    assert programs.load(stored, flags=FORCED).blueprint == programs.load(stored, flags=Flags()).blueprint


def test_a_one_off_definition_is_decided_anew_when_a_flag_changes() -> None:
    """No cache keeps an older decision."""
    programs = Programs(make_settings())
    args = ExecuteArgs(signature=SENTIMENT)
    kinds = [
        programs.one_off(args, flags=flags).blueprint.kind
        for flags in (Flags(), Flags("on", 0), Flags("off"), FORCED, Flags())
    ]

    assert kinds == ["dynamic", "legacy", "legacy", "legacy", "dynamic"]


# When two programs are the same


def test_the_program_fingerprint_is_the_documented_one() -> None:
    """SHA-256 of canonical JSON: any client can compute it."""
    parts: dict[str, Any] = {
        "signature": parse(SENTIMENT).fingerprint,
        "program_type": "predict",
        "lm": "fast",
        "config": {"temperature": 0.5},
        "demos": [],
        "fallback": "never",
        "use_dynamic_signature": None,
    }

    assert (
        fingerprint(SENTIMENT, lm="fast", config={"temperature": 0.5}, fallback="never")
        == hashlib.sha256(canonical(parts)).hexdigest()
    )


@pytest.mark.parametrize("definition", [SENTIMENT, REFUSED])
def test_metadata_does_not_make_another_program(definition: dict[str, Any]) -> None:
    """It holds a time stamp."""
    dated = {**definition, "metadata": {"created_at": "2026-07-15T12:00:00Z"}}

    assert fingerprint(dated) == fingerprint(definition)


def test_the_name_does_not_make_another_program() -> None:
    """DSPex sends it two ways."""
    assert fingerprint({**SENTIMENT, "name": "Sentiment"}) == fingerprint(SENTIMENT)


@pytest.mark.parametrize(
    "args",
    [
        {"program_type": "chain_of_thought"},
        {"lm": "fast"},
        {"config": {"temperature": 0.1}},
        {"config": {"max_tokens": 5}},
        {"demos": [{"text": "x", "sentiment": "positive", "confidence": 1}]},
        {"fallback": "create"},
        {"use_dynamic_signature": True},
        {"use_dynamic_signature": False},
    ],
)
def test_everything_that_changes_the_program_changes_the_fingerprint(args: dict[str, Any]) -> None:
    """Each argument on its own."""
    assert fingerprint(SENTIMENT, **args) != fingerprint(SENTIMENT)


@pytest.mark.parametrize(
    "settings", [{"dynamic_signatures": "false"}, {"dynamic_signatures_rollout": 0}, {"fallback": "execute"}]
)
@pytest.mark.parametrize("args", [{}, {"demos": [{"text": "x", "sentiment": "positive", "confidence": 1}]}])
def test_an_operators_flag_never_makes_another_program(settings: dict[str, Any], args: dict[str, Any]) -> None:
    """Otherwise the caller's next create would answer ``program_exists``."""
    assert fingerprint(SENTIMENT, settings, **args) == fingerprint(SENTIMENT, **args)


def test_two_definitions_that_are_not_rolled_out_stay_two_programs() -> None:
    """Under one id the second is ``program_exists``, and without an id each has its own."""
    other = {**SENTIMENT, "description": "Something else"}
    off = {"dynamic_signatures": "false"}

    assert fingerprint(other, off) != fingerprint(SENTIMENT, off)


def test_two_refused_definitions_are_two_programs() -> None:
    """A refused definition counts with the hash of its JSON."""
    assert fingerprint({**REFUSED, "description": "Else"}) != fingerprint(REFUSED)


# Demos


def test_demos_are_checked_and_read_as_their_types() -> None:
    """An integer for a float is a float."""
    blueprint = draw(SENTIMENT, demos=[{"text": "x", "sentiment": "positive", "confidence": 1}])

    assert json.dumps(blueprint.demos) == '[{"text": "x", "sentiment": "positive", "confidence": 1.0}]'


@pytest.mark.parametrize("policy", ["never", "create", "execute"])
@pytest.mark.parametrize(
    ("demo", "path"),
    [
        ({"sentiment": "positive", "confidence": 1}, "/demos/1/text"),
        ({"text": "x", "sentiment": "happy", "confidence": 1}, "/demos/1/sentiment"),
        ({"text": "x", "sentiment": "positive", "confidence": 7.3}, "/demos/1/confidence"),
        ({"text": 7, "sentiment": "positive", "confidence": 1}, "/demos/1/text"),
    ],
)
def test_a_demo_that_does_not_match_is_refused_with_its_pointer(demo: dict[str, Any], path: str, policy: str) -> None:
    """Under every policy: the signature itself is fine."""
    good = {"text": "x", "sentiment": "positive", "confidence": 1}
    with pytest.raises(InvalidSignatureError) as refused:
        draw(SENTIMENT, demos=[good, demo], fallback=policy)

    assert [problem.path for problem in refused.value.problems] == [path]


def test_demos_reach_the_predictor_by_internal_name() -> None:
    """DSPy hands them to the adapter as they are."""
    programs = Programs(make_settings())
    demo = {"text": "x", "sentiment": "positive", "confidence": 1}
    program = programs.load(record(programs.blueprints.draw(CreateArgs(signature=SENTIMENT, demos=[demo]))))

    assert program.predictor.demos == [{"f0": "x", "f1": "positive", "f2": 1.0}]


# Storing and caching


@pytest.mark.parametrize("definition", [SENTIMENT, REFUSED, None, "a, b: int -> c: list<string>"])
def test_a_blueprint_survives_the_store(definition: object) -> None:
    """What is written is what is read."""
    blueprint = draw(definition, config={"temperature": 0.5}, lm="fast")

    assert Blueprint.from_text(blueprint.to_text()) == blueprint


def test_a_cache_hit_builds_nothing(built: list[str]) -> None:
    """One class for one signature, however many programs and jobs share it."""
    programs = Programs(make_settings())
    blueprint = programs.blueprints.draw(CreateArgs(signature=SENTIMENT))
    first = programs.load(record(blueprint))
    again = programs.load(record(blueprint))
    other = programs.load(record(draw(SENTIMENT, lm="fast"), revision="r2"))
    for number in range(3):
        dated = {**SENTIMENT, "metadata": {"created_at": number}, "name": f"N{number}"}
        programs.one_off(ExecuteArgs(signature=dated))

    assert again is first
    assert other.compiled is first.compiled
    assert len(built) == 1


def test_a_new_revision_is_a_new_program(built: list[str]) -> None:
    """The revision is the only cache key of a stored program."""
    programs = Programs(make_settings())
    first = programs.load(record(programs.blueprints.draw(CreateArgs(signature=SENTIMENT)), revision="r1"))
    second = programs.load(record(programs.blueprints.draw(CreateArgs(signature="a -> b")), revision="r2"))

    assert (first.signature.name, second.signature.input_names) == ("Elixir.MyApp.Sentiment", frozenset("a"))
    assert len(built) == 2


def test_a_one_off_definition_is_built_once(built: list[str]) -> None:
    """The seed sends its definition with every job, with a fresh time stamp."""
    programs = Programs(make_settings())
    found = {
        id(programs.one_off(ExecuteArgs(signature={**SENTIMENT, "metadata": {"created_at": number}})))
        for number in range(5)
    }

    assert (len(found), len(built)) == (1, 1)
    assert programs.stats()["program"] == {"hits": 4, "misses": 1, "entries": 1}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"fallback": "execute", "options": {"fallback": "never"}}, {"fallback": "never"}),
        ({"lm": "a"}, {"lm": "b"}),
        ({"config": {"temperature": 0.1}}, {"config": {"temperature": 0.2}}),
        ({"program_type": "predict"}, {"program_type": "chain_of_thought"}),
        ({"use_dynamic_signature": True}, {"use_dynamic_signature": False}),
    ],
)
def test_jobs_that_ask_for_different_things_share_no_program(one: dict[str, Any], other: dict[str, Any]) -> None:
    """What one job sent must not be what another one runs."""
    programs = Programs(make_settings())
    first = programs.one_off(ExecuteArgs.model_validate({"signature": SENTIMENT, **one}))
    second = programs.one_off(ExecuteArgs.model_validate({"signature": SENTIMENT, **other}))

    assert (second.blueprint.fallback, second.blueprint.lm) == (other.get("fallback"), other.get("lm"))
    assert first is not second


def test_a_refusal_is_remembered_too() -> None:
    """A definition that is refused a thousand times is parsed once."""
    programs = Programs(make_settings())
    for _ in range(3):
        with pytest.raises(DefinitionError):
            programs.one_off(ExecuteArgs(signature=REFUSED, fallback="never"))

    assert programs.stats()["definition"] == {"hits": 2, "misses": 1, "entries": 1}


def test_the_caches_are_bounded() -> None:
    """Distinct signatures must not fill the memory."""
    programs = Programs(make_settings(cache_size=3))
    for number in range(10):
        programs.one_off(ExecuteArgs(signature=f"a{number} -> b"))

    assert [cache["entries"] for cache in programs.stats().values()] == [3, 3, 3]


# Questions


@pytest.mark.parametrize(
    ("inputs", "question"),
    [
        ({"question": "why?", "context": "c"}, "why?"),
        ({"text": "only"}, "only"),
        ({"number": 7}, "7"),
        ({"a": "1st", "b": [1.0]}, "Do it\na: 1st\nb: [1.0]"),
    ],
)
def test_inputs_are_written_as_one_question(inputs: dict[str, Any], question: str) -> None:
    """``question``, else the only value, else all of them by name."""
    assert as_question(inputs, instructions_text="Do it") == question


def test_no_inputs_at_all_are_missing_the_question() -> None:
    """There is nothing to ask."""
    with pytest.raises(InvalidInputsError, match="Missing required field: question"):
        Programs(make_settings()).one_off(ExecuteArgs(signature=None)).read_inputs({})


def test_inputs_of_a_fallback_program_are_not_validated() -> None:
    """Its definition was refused, so nothing is known of them."""
    programs = Programs(make_settings())
    program = programs.one_off(ExecuteArgs(signature=REFUSED))

    assert program.read_inputs({"x": 1, "y": None})[0] == {"question": "Do it\nx: 1\ny: null"}


@pytest.mark.parametrize("inputs", [None, [], "text", 7])
def test_inputs_are_an_object(inputs: object) -> None:
    """Whatever the program."""
    for signature in (SENTIMENT, None):
        program = Programs(make_settings()).one_off(ExecuteArgs(signature=signature))
        with pytest.raises(InvalidInputsError):
            program.read_inputs(inputs)


def test_the_names_that_dspex_expects() -> None:
    """Class name without dots, every field mapped to itself, nothing for question and answer."""
    signature = parse(SENTIMENT)

    assert signature_class_name(signature) == "ElixirMyAppSentiment"
    assert signature_class_name(parse({**SENTIMENT, "name": "…"})) == "DynamicSignature"
    assert field_mapping(signature) == {"text": "text", "sentiment": "sentiment", "confidence": "confidence"}
    assert field_mapping(None) == {}


def test_question_and_answer_is_the_same_compiled_signature_for_all() -> None:
    """It is built once."""
    programs = Programs(make_settings())
    legacy = programs.one_off(ExecuteArgs(signature={}))

    assert legacy.signature is LEGACY
    assert programs.question_and_answer() is legacy.compiled
