"""What is measured: the programs, their inputs, and what the LM stub answers."""

from __future__ import annotations

import time
from typing import Any

LM_MODEL = "openai/gpt-4o-mini"
# A name of DSPy's price list: for an unknown one it searches the whole list three times a call.
LM_ANSWER_MODEL = "gpt-4o-mini-2024-07-18"

LABEL_DEFINITION: dict[str, Any] = {
    "name": "Elixir.Bench.Label",
    "description": "Label a text and say how sure you are.",
    "inputs": [{"name": "text", "type": "string", "description": "Text to label"}],
    "outputs": [
        {"name": "label", "type": "string", "description": "The label"},
        {"name": "score", "type": "float", "description": "How sure"},
    ],
}
REPLY_DEFINITION: dict[str, Any] = {
    "description": "Answer a query.",
    "inputs": [{"name": "query", "type": "string"}],
    "outputs": [{"name": "reply", "type": "string"}],
}

# Program → its definition, as a sender writes it. `legacy` declares nothing, so it is question and answer.
DEFINITIONS: dict[str, Any] = {"label": LABEL_DEFINITION, "reply": REPLY_DEFINITION, "legacy": {}}
# Program → the name of its input.
INPUTS = {"label": "text", "reply": "query", "legacy": "question"}
# Program → output → text, as the LM stub answers it.
ANSWERS = {
    "label": {"label": "positive", "score": "0.93"},
    "reply": {"reply": "Forty-two, as far as anybody knows."},
    "legacy": {"answer": "Forty-two, as far as anybody knows."},
}
SLOW_MS = 1_000
# What a worker spends waiting if a job is to leave the cores mostly idle.
CALM_MS = 250

_TYPES = ("string", "integer", "float", "boolean", "list<string>", "probability", "dict<string, integer>", "string?")


def text_of(number: int) -> str:
    """Return the input of job ``number``: another one each time, of equal length."""
    return f"Job {number:07d}: the parcel came a day early and everything in it was as we had hoped."


def execute_args(program: str, number: int) -> dict[str, Any]:
    """Return the arguments of an execute job on a stored program."""
    return {
        "program_id": program,
        "inputs": {INPUTS[program]: text_of(number)},
        "options": {"lm": program},
    }


def slow_args(number: int) -> dict[str, Any]:
    """Return an execute job whose LM takes `SLOW_MS`."""
    return execute_args("label", number) | {"options": {"lm": "slow"}}


def calm_args(number: int) -> dict[str, Any]:
    """Return an execute job whose LM takes `CALM_MS`."""
    return execute_args("label", number) | {"options": {"lm": "calm"}}


def one_off_args(number: int, *, signatures: int) -> dict[str, Any]:
    """Return an execute job that brings its definition along, one of ``signatures``, with a fresh time stamp."""
    description = f"Label a text and say how sure you are, by the rules of house {number % signatures}."
    metadata = {"module": "Elixir.Bench.Label", "created_at": f"{time.time():.6f}-{number}"}
    definition = LABEL_DEFINITION | {"description": description, "metadata": metadata}
    return {"signature": definition, "inputs": {"text": text_of(number)}, "options": {"lm": "label"}}


def wide_definition(number: int, *, fields: int = 10) -> dict[str, Any]:
    """Return a definition with half its fields as inputs, half as outputs, unlike that of any other number."""

    def side(name: str, count: int) -> list[dict[str, Any]]:
        return [
            {
                "name": f"{name}_{number}_{index}",
                "type": _TYPES[(index + number) % len(_TYPES)],
                "description": f"The {name} number {index} of case {number}",
            }
            for index in range(count)
        ]

    return {
        "name": f"Elixir.Bench.Wide{number}",
        "description": f"Work out case {number}.",
        "inputs": side("given", fields - fields // 2),
        "outputs": side("wanted", fields // 2),
        "metadata": {"created_at": f"{time.time():.6f}-{number}"},
    }


def lm_profiles(stub_url: str) -> dict[str, dict[str, str]]:
    """Return alias → profile for ``DSPEX_LMS``: one alias an answer, ``slow`` and ``calm``."""
    bases = {name: f"{stub_url}/{name}/0/v1" for name in ANSWERS}
    bases |= {"slow": f"{stub_url}/label/{SLOW_MS}/v1", "calm": f"{stub_url}/label/{CALM_MS}/v1"}
    # Bare DSPy uses the chat format, so the worker does too.
    shared = {"model": LM_MODEL, "api_key": "sk-bench", "structured_outputs": "false"}
    return {alias: {**shared, "api_base": base} for alias, base in bases.items()}
