"""Blueprints into programs that DSPy runs, each compiled at most once while it stays in the caches.

Compiled signatures are cached by fingerprint, programs by (id, revision); the revision is read with each job's claim,
so no cache here is ever stale and no worker tells another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy

from worker.adapter import WireAdapter
from worker.blueprints import Blueprint, Blueprints, definition_key
from worker.cache import CountedCache
from worker.errors import InvalidInputsError, Problem
from worker.message import ExecuteArgs, canonical, dump
from worker.settings import Settings
from worker.signatures import LEGACY, Signature, check_inputs
from worker.signatures.classes import make_signature_class
from worker.store import ProgramRecord


@dataclass(frozen=True, slots=True)
class Compiled:
    """A signature ready to run; shared by all programs that declare it."""

    signature: Signature
    signature_class: type[dspy.Signature]
    adapter: WireAdapter


@dataclass(frozen=True, slots=True)
class Program:
    """A program ready to run.

    Attributes:
        blueprint: What it is.
        compiled: Its signature; `LEGACY` for question and answer.
        predictor: The DSPy module.
        question: Instructions that stand before the inputs when they are written out as one question.
    """

    blueprint: Blueprint
    compiled: Compiled
    predictor: dspy.Predict
    question: str

    @property
    def signature(self) -> Signature:
        """The normalised signature that runs."""
        return self.compiled.signature

    @property
    def is_dynamic(self) -> bool:
        """Whether the declared signature itself runs."""
        return self.blueprint.kind == "dynamic"

    def read_inputs(self, inputs: object) -> tuple[dict[str, object], list[str]]:
        """Return inputs by wire name, ready for the run, and warnings.

        Raises:
            InvalidInputsError: Inputs do not match the declaration; every problem is named.
        """
        if not isinstance(inputs, dict):
            raise InvalidInputsError(
                "inputs must be an object", field="inputs", problems=[Problem("/inputs", "must be an object")]
            )
        if self.is_dynamic:
            return check_inputs(self.signature, inputs)
        return {"question": as_question(inputs, instructions_text=self.question)}, []


class Programs:
    """Compiles programs.

    Args:
        settings: Flags, default policy and cache size.

    Attributes:
        blueprints: Draws what is compiled here.
    """

    def __init__(self, settings: Settings) -> None:
        self.blueprints = Blueprints(settings)
        self._compiled: CountedCache[Compiled] = CountedCache("signature", settings.cache_size)
        self._programs: CountedCache[Program] = CountedCache("program", settings.cache_size)

    def one_off(self, args: ExecuteArgs) -> Program:
        """Return the program of a job that carries its own definition.

        Raises:
            DefinitionError: As `Blueprints.draw`.
            DynamicSignaturesOffError: As `Blueprints.draw`.
        """
        policies = [self.blueprints.policy(args), args.fallback, args.use_dynamic_signature]
        sent = [args.program_type, args.lm, args.demos, *policies]
        config = [args.config.temperature, args.config.max_tokens]
        key = (definition_key(args.signature), canonical([*sent, *config]))
        return self._programs.get(key, lambda: self._compile(self.blueprints.draw(args)))

    def load(self, record: ProgramRecord) -> Program:
        """Return the program of a stored record."""
        key = (record.program_id, record.revision)
        return self._programs.get(key, lambda: self._compile(Blueprint.from_text(record.definition)))

    def question_and_answer(self) -> Compiled:
        """Return the compiled ``question -> answer`` signature, for a fallback at run time."""
        return self._compile_signature(LEGACY, "predict")

    def stats(self) -> dict[str, dict[str, int]]:
        """Return cache name → hits, misses and entries."""
        return {
            "definition": self.blueprints.cache.to_json(),
            "signature": self._compiled.to_json(),
            "program": self._programs.to_json(),
        }

    def _compile(self, blueprint: Blueprint) -> Program:
        signature = self.blueprints.normalized(blueprint) or LEGACY
        compiled = self._compile_signature(signature, blueprint.program_type)
        predictor = dspy.Predict(compiled.signature_class)
        predictor.demos = [compiled.adapter.to_internal(demo) for demo in blueprint.demos]
        return Program(blueprint, compiled, predictor, _question_instructions(blueprint.definition))

    def _compile_signature(self, signature: Signature, program_type: str) -> Compiled:
        has_reasoning = program_type == "chain_of_thought"

        def make() -> Compiled:
            adapter = WireAdapter(signature, has_reasoning=has_reasoning)
            key = adapter.reasoning_key
            extra = {key: "The chain of thought"} if key is not None else {}
            return Compiled(signature, make_signature_class(signature, extra_outputs=extra), adapter)

        return self._compiled.get((signature.fingerprint, has_reasoning), make)


def as_question(inputs: Mapping[str, Any], *, instructions_text: str) -> str:
    """Write inputs as one question: ``question`` itself, the only value, or all of them by name.

    Raises:
        InvalidInputsError: There is nothing to ask.
    """
    if "question" in inputs:
        return _text(inputs["question"])
    if len(inputs) == 1:
        return _text(next(iter(inputs.values())))
    if not inputs:
        raise InvalidInputsError(
            "Missing required field: question", field="question", problems=[Problem("/inputs/question", "missing")]
        )
    lines = [f"{name}: {_text(value)}" for name, value in inputs.items()]
    return "\n".join(([instructions_text] if instructions_text else []) + lines)


def _question_instructions(definition: object) -> str:
    description = definition.get("description") if isinstance(definition, dict) else None
    return description.strip() if isinstance(description, str) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else dump(value).decode()
