"""The demo's four programs: definitions as an Elixir application sends them, inputs, and what a valid output is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SENTIMENTS = ("positive", "negative", "neutral")


@dataclass(frozen=True, slots=True)
class DemoProgram:
    """One program of the demo.

    Attributes:
        id: Its name.
        signature: Definition as sent in ``create_program``.
        inputs: Inputs to take turns with.
        is_valid: Whether outputs are what the definition declares.
    """

    id: str
    signature: Any
    inputs: Sequence[Mapping[str, Any]]
    is_valid: Callable[[Mapping[str, Any]], bool]


def _is_sentiment(outputs: Mapping[str, Any]) -> bool:
    confidence = outputs["confidence"]
    return outputs["sentiment"] in _SENTIMENTS and isinstance(confidence, float) and 0 <= confidence <= 1


def _is_translation(outputs: Mapping[str, Any]) -> bool:
    return isinstance(outputs["translation"], str)


def _is_extraction(outputs: Mapping[str, Any]) -> bool:
    has_lists = isinstance(outputs["people"], list) and isinstance(outputs["years"], list)
    return (
        has_lists
        and all(isinstance(person, str) for person in outputs["people"])
        and all(type(year) is int for year in outputs["years"])
    )


def _is_answer(outputs: Mapping[str, Any]) -> bool:
    return isinstance(outputs["answer"], str)


def _field(name: str, kind: Any, description: str = "", **constraints: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "description": description, "required": True, "constraints": constraints}


SENTIMENT = DemoProgram(
    id="sentiment",
    signature={
        "name": "Elixir.Demo.Sentiment",
        "description": "Detects the sentiment of a text",
        "inputs": [_field("text", "string", "Text to analyse")],
        "outputs": [_field("sentiment", "string", enum=list(_SENTIMENTS)), _field("confidence", "probability")],
        "metadata": {"module": "Elixir.Demo.Sentiment", "created_at": "2026-07-15T12:00:00Z"},
    },
    inputs=({"text": "I love it"}, {"text": "It broke on the first day"}, {"text": "It is a chair"}),
    is_valid=_is_sentiment,
)

TRANSLATION = DemoProgram(
    id="translation",
    signature={
        "name": "Elixir.Demo.Translation",
        "description": "Translates a text",
        "inputs": [_field("text", "string"), _field("language", "string", "Language to translate into")],
        "outputs": [_field("translation", "string")],
    },
    inputs=(
        {"text": "Good morning", "language": "German"},
        {"text": "Where is the station?", "language": "Portuguese"},
    ),
    is_valid=_is_translation,
)

EXTRACTION = DemoProgram(
    id="extraction",
    signature={
        "name": "Elixir.Demo.Extraction",
        "description": "Finds people and years in a text",
        "inputs": [_field("text", "string")],
        # Two spellings of the same idea: an encoded tuple {:list, :string}, and text.
        "outputs": [_field("people", ["list", "string"]), _field("years", "list<integer>")],
    },
    inputs=(
        {"text": "Ada Lovelace wrote to Charles Babbage in 1843."},
        {"text": "Grace Hopper joined the Navy in 1943."},
    ),
    is_valid=_is_extraction,
)

QUESTION = DemoProgram(
    id="question",
    signature="question -> answer",
    inputs=({"question": "What is a quorum queue?"}, {"question": "Why is the sky blue?"}),
    is_valid=_is_answer,
)

PROGRAMS = (SENTIMENT, TRANSLATION, EXTRACTION, QUESTION)
