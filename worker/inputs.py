"""The inputs of a run, checked before it costs anything."""

from __future__ import annotations

from typing import Any

from worker.errors import InvalidInputsError, Problem
from worker.signatures import Signature, check_inputs


def read_inputs(inputs: object, *, signature: Signature | None) -> tuple[dict[str, Any], list[str]]:
    """Return inputs by wire name, as declared, and warnings.

    Args:
        inputs: As sent.
        signature: What is declared; None for question and answer, which asks anything that is there.

    Raises:
        InvalidInputsError: They do not match the declaration, every problem is named; or there is nothing to ask.
    """
    if not isinstance(inputs, dict):
        raise InvalidInputsError(
            "Field inputs: must be an object", field="inputs", problems=[Problem("/inputs", "must be an object")]
        )
    if signature is not None:
        return check_inputs(signature, inputs)
    if not inputs:
        raise InvalidInputsError(
            "Missing required field: question", field="question", problems=[Problem("/inputs/question", "missing")]
        )
    return inputs, []
