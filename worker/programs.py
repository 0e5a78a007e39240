"""Blueprints into programs that DSPy runs, each compiled at most once while it stays in the caches.

Compiled signatures are cached by fingerprint, programs by (id, revision); the revision is read with each job's claim,
so no cache here is ever stale and no worker tells another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy

from worker.adapter import SchemaAdapter, WireAdapter, as_text
from worker.blueprints import Blueprint, Blueprints, cache_key
from worker.cache import CountedCache
from worker.flags import Flags
from worker.inputs import read_inputs
from worker.message import ExecuteArgs
from worker.settings import Settings
from worker.signatures import LEGACY, Dialect, Signature
from worker.signatures.classes import make_signature_class
from worker.store import ProgramRecord


@dataclass(frozen=True, slots=True)
class Compiled:
    """A signature ready to run; shared by all programs that declare it."""

    signature: Signature
    signature_class: type[dspy.Signature]
    adapter: WireAdapter
    has_reasoning: bool = False
    _schema_adapters: dict[Dialect, SchemaAdapter] = field(default_factory=dict)

    def adapter_for(self, dialect: Dialect | None) -> WireAdapter:
        """Return the adapter for models that take a response schema of this dialect, or that take none."""
        if dialect is None:
            return self.adapter
        found = self._schema_adapters.get(dialect)
        if found is None:
            found = SchemaAdapter(self.signature, dialect=dialect, has_reasoning=self.has_reasoning)
            self._schema_adapters[dialect] = found
        return found


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
        checked, warnings = read_inputs(inputs, signature=self.signature if self.is_dynamic else None)
        if self.is_dynamic:
            return checked, warnings
        return {"question": as_question(checked, instructions_text=self.question)}, []


class Programs:
    """Compiles programs.

    Args:
        settings: Start values of flags, default policy and cache size.

    Attributes:
        blueprints: Draws what is compiled here.
    """

    def __init__(self, settings: Settings) -> None:
        self.blueprints = Blueprints(settings)
        self._compiled: CountedCache[Compiled] = CountedCache("signature", settings.cache_size)
        self._programs: CountedCache[Program] = CountedCache("program", settings.cache_size)

    def one_off(self, args: ExecuteArgs, *, flags: Flags | None = None) -> Program:
        """Return the program of a job that carries its own definition.

        Args:
            args: The job's arguments.
            flags: As of the job's claim; the start values by default.

        Raises:
            DefinitionError: As `Blueprints.draw`.
            DynamicSignaturesOffError: As `Blueprints.draw`.
        """
        policies = [self.blueprints.policy(args), args.fallback, args.use_dynamic_signature]
        sent = [args.program_type, args.lm, args.demos, *policies]
        config = [args.config.temperature, args.config.max_tokens]
        flags = flags or self.blueprints.flags({})
        key = (cache_key(args.signature), cache_key([*sent, *config]), flags)

        def draw() -> Program:
            blueprint = self.blueprints.draw(args, flags=flags)
            return self._compile(self.blueprints.in_force(blueprint, flags=flags, policy=self.blueprints.policy(args)))

        return self._programs.get(key, draw, size_bytes=len(key[0]) + len(key[1]))

    def load(self, record: ProgramRecord, *, flags: Flags | None = None, policy: str | None = None) -> Program:
        """Return the program of a stored record, as the flags let it run.

        Args:
            record: As of the job's claim.
            flags: As of the job's claim; the start values by default.
            policy: The job's own fallback policy, or None.

        Raises:
            DynamicSignaturesOffError: As `Blueprints.in_force`.
        """
        flags = flags or self.blueprints.flags({})
        is_forced = flags.dynamic_signatures == "force_off"
        # A policy decides nothing but whether a forced run is refused.
        key = (record.program_id, record.revision, (is_forced, policy if is_forced else None))

        def read() -> Program:
            blueprint = Blueprint.from_text(record.definition)
            return self._compile(self.blueprints.in_force(blueprint, flags=flags, policy=policy))

        return self._programs.get(key, read, size_bytes=len(record.definition))

    def question_and_answer(self) -> Compiled:
        """Return the compiled ``question -> answer`` signature, for a fallback at run time."""
        return self._compile_signature(LEGACY, has_reasoning=False)

    def stats(self) -> dict[str, dict[str, int]]:
        """Return cache name → hits, misses and entries."""
        return {
            "definition": self.blueprints.cache.to_json(),
            "signature": self._compiled.to_json(),
            "program": self._programs.to_json(),
        }

    def _compile(self, blueprint: Blueprint) -> Program:
        signature = self.blueprints.normalized(blueprint) or LEGACY
        has_reasoning = blueprint.program_type == "chain_of_thought"
        size_bytes = len(cache_key(blueprint.definition))
        compiled = self._compile_signature(signature, has_reasoning=has_reasoning, size_bytes=size_bytes)
        predictor = dspy.Predict(compiled.signature_class)
        predictor.demos = [compiled.adapter.to_internal(demo) for demo in blueprint.demos]
        return Program(blueprint, compiled, predictor, _question_instructions(blueprint.definition))

    def _compile_signature(self, signature: Signature, *, has_reasoning: bool, size_bytes: int = 0) -> Compiled:
        def make() -> Compiled:
            adapter = WireAdapter(signature, has_reasoning=has_reasoning)
            key = adapter.reasoning_key
            extra = {key: "The chain of thought"} if key is not None else {}
            signature_class = make_signature_class(signature, extra_outputs=extra)
            return Compiled(signature, signature_class, adapter, has_reasoning)

        return self._compiled.get((signature.fingerprint, has_reasoning), make, size_bytes=size_bytes)


def as_question(inputs: Mapping[str, Any], *, instructions_text: str) -> str:
    """Write inputs as one question: ``question`` itself, the only value, or all of them by name."""
    if "question" in inputs:
        return as_text(inputs["question"])
    if len(inputs) == 1:
        return as_text(next(iter(inputs.values())))
    lines = [f"{name}: {as_text(value)}" for name, value in inputs.items()]
    return "\n".join(([instructions_text] if instructions_text else []) + lines)


def _question_instructions(definition: object) -> str:
    description = definition.get("description") if isinstance(definition, dict) else None
    return description.strip() if isinstance(description, str) else ""
