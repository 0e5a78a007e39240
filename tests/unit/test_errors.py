"""The error tree: codes, strings, and that the drawing is true."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from worker import errors
from worker.errors import (
    DefinitionError,
    InternalError,
    InvalidInputsError,
    LMNotConfiguredError,
    Problem,
    ProgramExistsError,
    RefusedError,
    RunError,
    TransientLMError,
    UnknownCommandError,
    WorkerError,
)


def _tree(root: type[WorkerError]) -> Iterator[type[WorkerError]]:
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _tree(child)


CLASSES = sorted(set(_tree(WorkerError)), key=lambda kind: kind.__name__)
LEAVES = [kind for kind in CLASSES if not kind.__subclasses__()]


def test_the_drawing_in_the_docstring_is_the_tree() -> None:
    """Every class once, every leaf with its code."""
    drawn = dict(re.findall(r"[├└]─ (\w+)(?: +(\w+)$)?", errors.__doc__ or "", flags=re.MULTILINE))

    assert set(drawn) == {kind.__name__ for kind in CLASSES}
    assert {name: code for name, code in drawn.items() if code and name in {kind.__name__ for kind in LEAVES}} == {
        kind.__name__: kind.code for kind in LEAVES
    }


def test_every_leaf_has_a_code_of_its_own() -> None:
    """A code tells exactly one thing."""
    codes = [kind.code for kind in LEAVES]

    assert len(codes) == len(set(codes))


def test_only_lm_trouble_that_may_pass_is_recoverable() -> None:
    """The rest will fail again without a change."""
    recoverable = {kind for kind in LEAVES if kind.recoverable}

    assert recoverable == {kind for kind in LEAVES if issubclass(kind, TransientLMError)}


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if issubclass(kind, DefinitionError)])
def test_definition_faults_begin_with_the_fixed_words(kind: type[WorkerError]) -> None:
    """DSPex matches on them."""
    assert str(kind("why")) == "Failed to create program: why"


@pytest.mark.parametrize(
    "kind", [kind for kind in LEAVES if issubclass(kind, RunError) and kind is not LMNotConfiguredError]
)
def test_failures_of_a_run_begin_with_the_fixed_words(kind: type[WorkerError]) -> None:
    """DSPex matches on them."""
    assert str(kind("why")) == "Program execution failed: why"


def test_the_other_fixed_sentences() -> None:
    """As in the table of the contract."""
    assert str(LMNotConfiguredError("x")) == "No LM is loaded: x"
    assert str(UnknownCommandError("x")) == "Unknown command: x"
    assert str(ProgramExistsError("x")) == "Program with ID 'x' already exists"


def test_an_error_carries_what_the_reply_needs() -> None:
    """Reason without prefix, field, problems, hint."""
    error = InternalError("why", field="f", problems=[Problem("/f", "bad")], retry_after_ms=5)

    assert (error.reason, error.field, error.problems, error.retry_after_ms, error.attempts) == (
        "why",
        "f",
        (Problem("/f", "bad"),),
        5,
        0,
    )


def test_a_refusal_is_never_the_failure_of_a_run() -> None:
    """The two are settled differently."""
    assert [kind for kind in CLASSES if issubclass(kind, RefusedError) and issubclass(kind, RunError)] == []


def test_a_lone_surrogate_in_a_sentence_costs_nobody_the_answer() -> None:
    """Sentences quote what was sent or answered."""
    error = InvalidInputsError("Field a\ud800: bad", field="a\ud800", problems=[Problem("/inputs/a\ud800", "bad")])

    assert (str(error), error.field, error.problems) == ("Field a?: bad", "a?", (Problem("/inputs/a?", "bad"),))
