"""What a program is, decided once from what was sent: dynamic, legacy or fallback.

A `Blueprint` holds everything that a run needs as plain data, so the store keeps it and every worker runs the same.

See Also:
    docs/WIRE.md, "Fallback to Q&A" and "Flags and rollout": the rules of the decision.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import orjson

from worker.cache import CountedCache
from worker.errors import (
    DefinitionError,
    DynamicSignaturesOffError,
    InvalidSignatureError,
    Problem,
    UnsupportedProgramTypeError,
    WorkerError,
)
from worker.flags import Flags
from worker.message import CreateArgs, ExecuteArgs, canonical, dump, error_detail, parse
from worker.settings import Settings
from worker.signatures import LEGACY, Signature, check_inputs, check_outputs, is_legacy
from worker.signatures import parse as parse_signature
from worker.store import CorruptRowError

Kind = Literal["dynamic", "legacy", "fallback"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PROGRAM_TYPES = ("predict", "chain_of_thought")

_LEGACY_WARNING = "The question -> answer format is deprecated: declare a signature"
_ROLLOUT_WARNING = "Dynamic signatures are not rolled out to this signature: it runs as question and answer"
_SWITCHED_OFF_WARNING = "Dynamic signatures are switched off: it runs as question and answer"
_FORCED_WARNING = "Dynamic signatures are switched off for every run: it runs as question and answer"
_DEMOS_WARNING = "The demos are not used: the program runs as question and answer"
_MAX_STORED_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a program is.

    Attributes:
        kind: ``dynamic`` runs its own signature; ``legacy`` and ``fallback`` run question and answer.
        definition: The signature as sent.
        program_type: ``predict`` or ``chain_of_thought``.
        fallback: Policy as sent, or None.
        lm: Alias as sent, or None.
        config: Sampling settings: ``temperature``, ``max_tokens``.
        demos: Examples by wire name, checked.
        reason: ``<code>: <message>`` of a fallback, else None.
        fingerprint: Of the signature; of a refused definition, the hash of its JSON.
        warnings: What the sender should know, repeated in each reply.
    """

    kind: Kind
    definition: Any
    program_type: str
    fallback: str | None
    lm: str | None
    config: Mapping[str, Any]
    demos: list[dict[str, Any]]
    reason: str | None
    fingerprint: str
    warnings: list[Any]

    def to_text(self) -> str:
        """Write the blueprint for the store."""
        return dump(asdict(self)).decode()

    @classmethod
    def from_text(cls, text: str) -> Blueprint:
        """Read a stored blueprint.

        Raises:
            CorruptRowError: It is none; the job's sender has done nothing wrong.
        """
        try:
            return cls(**parse(text.encode(), max_bytes=_MAX_STORED_BYTES))
        except (WorkerError, TypeError) as error:
            raise CorruptRowError("The stored definition of a program cannot be read") from error


class Blueprints:
    """Draws blueprints; a definition that was seen before is not parsed again.

    Args:
        settings: Start values of flags, default policy and cache size.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Canonical JSON of a definition → its normalised signature, or why it was refused.
        self.cache: CountedCache[Signature | DefinitionError] = CountedCache("definition", settings.cache_size)

    def draw(self, args: CreateArgs | ExecuteArgs, *, flags: Flags | None = None) -> Blueprint:
        """Decide what a definition becomes.

        Args:
            args: The definition and what was sent with it.
            flags: As of the job's claim; the start values by default.

        Raises:
            DefinitionError: It is refused and its policy, or the fault, allows no fallback.
            DynamicSignaturesOffError: It insists on its signature while they are switched off.
        """
        blueprint = self._decide(args, flags or self.flags({}))
        if args.demos and blueprint.kind != "dynamic":
            return replace(blueprint, warnings=[*blueprint.warnings, _DEMOS_WARNING])
        return blueprint

    def in_force(self, blueprint: Blueprint, *, flags: Flags, policy: str | None = None) -> Blueprint:
        """Return what runs now of what was decided once: under ``force_off``, question and answer.

        The decision itself stays as it was stored, so that the emergency leaves no trace when it is over.

        Args:
            blueprint: As it was drawn.
            flags: As of the job's claim.
            policy: The fallback policy of the job, or None for that of the program.

        Raises:
            DynamicSignaturesOffError: It insists on its signature.
        """
        if flags.dynamic_signatures != "force_off" or blueprint.kind != "dynamic":
            return blueprint
        if (policy or blueprint.fallback or self._settings.fallback) == "never":
            raise _switched_off()
        return replace(blueprint, kind="legacy", demos=[], warnings=[_FORCED_WARNING])

    def flags(self, stored: Mapping[str, str]) -> Flags:
        """Return the flags in force: those that were set, and this worker's start values of the others."""
        return Flags.of(self._settings, stored)

    def _decide(self, args: CreateArgs | ExecuteArgs, flags: Flags) -> Blueprint:
        sent = _as_sent(args)
        try:
            _check_program_type(args.program_type)
            if is_legacy(args.signature):
                return _question_and_answer("legacy", sent, fingerprint=LEGACY.fingerprint, warnings=[_LEGACY_WARNING])
            signature = self._parse(args.signature)
            refusal = self._not_rolled_out(args, signature, flags=flags)
            if refusal is not None:
                return _question_and_answer("legacy", sent, fingerprint=signature.fingerprint, warnings=[refusal])
            demos = _check_demos(signature, args.demos)
        except DefinitionError as error:
            if error.breaks_limit or self.policy(args) == "never":
                raise
            return _fallback(sent, error)
        return Blueprint(
            kind="dynamic",
            reason=None,
            fingerprint=signature.fingerprint,
            warnings=list(signature.warnings),
            demos=demos,
            **sent,
        )

    def normalized(self, blueprint: Blueprint) -> Signature | None:
        """Return the normalised signature of a dynamic blueprint, None for question and answer."""
        return self._parse(blueprint.definition) if blueprint.kind == "dynamic" else None

    def policy(self, args: CreateArgs | ExecuteArgs) -> str:
        """Return the fallback policy: the job's options, then the program, then the setting."""
        own = args.options.fallback if isinstance(args, ExecuteArgs) else None
        return own or args.fallback or self._settings.fallback

    def _parse(self, definition: object) -> Signature:
        key = cache_key(definition)
        found = self.cache.get(key, lambda: _parse_or_refusal(definition), size_bytes=len(key))
        if isinstance(found, DefinitionError):
            raise found.again()
        return found

    def _not_rolled_out(self, args: CreateArgs | ExecuteArgs, signature: Signature, *, flags: Flags) -> str | None:
        """Return why the signature runs as question and answer, or None if it is dynamic."""
        if args.use_dynamic_signature is not None:
            return None if args.use_dynamic_signature else _SWITCHED_OFF_WARNING
        is_insisting = self.policy(args) == "never"
        if flags.dynamic_signatures == "off":
            if is_insisting:
                raise _switched_off()
            return _SWITCHED_OFF_WARNING
        bucket = int(signature.fingerprint[:8], 16) % 100
        is_inside = bucket < flags.rollout
        return None if is_inside or is_insisting else _ROLLOUT_WARNING


def program_fingerprint(blueprint: Blueprint, args: CreateArgs) -> str:
    """Return the hash, 64 hex digits, of what makes two programs the same.

    All but the signature counts as sent, and the signature as declared even where it does not run, so that an
    operator's flag never makes a caller's ``program_exists``.
    """
    parts = {
        "signature": blueprint.fingerprint,
        "program_type": blueprint.program_type,
        "lm": args.lm,
        "config": dict(blueprint.config),
        "demos": args.demos,
        "fallback": args.fallback,
        "use_dynamic_signature": args.use_dynamic_signature,
    }
    return hashlib.sha256(canonical(parts)).hexdigest()


def signature_class_name(signature: Signature) -> str:
    """Return the definition's name as DSPex spells class names: without dots and other signs."""
    return re.sub(r"\W", "", signature.name) or "DynamicSignature"


def field_mapping(signature: Signature | None) -> dict[str, str]:
    """Return wire name → same name, as DSPex expects it; empty for question and answer."""
    if signature is None:
        return {}
    return {field.name: field.name for field in (*signature.inputs, *signature.outputs)}


def cache_key(definition: object) -> bytes:
    """Return a key under which a definition is found in this process: cheaper than `definition_key`, and never stored."""
    bare = _without_metadata(definition)
    try:
        return orjson.dumps(bare, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers beyond 64 bits
        return canonical(bare)


def definition_key(definition: object) -> bytes:
    """Return the canonical JSON of a definition, the same in every process."""
    return canonical(_without_metadata(definition))


def _without_metadata(definition: object) -> object:
    """Leave out ``metadata``: it holds a time stamp and names nothing of the definition."""
    if isinstance(definition, dict) and "metadata" in definition:
        return {key: value for key, value in definition.items() if key != "metadata"}
    return definition


def _switched_off() -> DynamicSignaturesOffError:
    return DynamicSignaturesOffError("Dynamic signatures are switched off, and fallback is 'never'")


def _check_program_type(value: object) -> None:
    if value not in PROGRAM_TYPES:
        known = " and ".join(PROGRAM_TYPES)
        raise UnsupportedProgramTypeError(f"program_type {str(value)[:64]!r} is not supported; {known} are")


def _as_sent(args: CreateArgs | ExecuteArgs) -> dict[str, Any]:
    """Return the parts of a blueprint that the sender gave."""
    config = {"temperature": args.config.temperature, "max_tokens": args.config.max_tokens}
    return {
        "definition": args.signature,
        "program_type": args.program_type if args.program_type in PROGRAM_TYPES else PROGRAM_TYPES[0],
        "fallback": args.fallback,
        "lm": args.lm,
        "config": {key: value for key, value in config.items() if value is not None},
    }


def _question_and_answer(kind: Kind, sent: Mapping[str, Any], *, fingerprint: str, warnings: list[Any]) -> Blueprint:
    return Blueprint(kind=kind, reason=None, fingerprint=fingerprint, warnings=warnings, demos=[], **sent)


def _fallback(sent: Mapping[str, Any], error: DefinitionError) -> Blueprint:
    fingerprint = hashlib.sha256(definition_key(sent["definition"])).hexdigest()
    blueprint = _question_and_answer("fallback", sent, fingerprint=fingerprint, warnings=[error_detail(error)])
    return replace(blueprint, reason=f"{error.code}: {error}")


def _parse_or_refusal(definition: object) -> Signature | DefinitionError:
    try:
        return parse_signature(definition)
    except DefinitionError as error:
        return error


def _check_demos(signature: Signature, demos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    input_names = {field.name for field in signature.inputs}
    checked = []
    for index, demo in enumerate(demos):
        given = {name: value for name, value in demo.items() if name in input_names}
        wanted = {name: value for name, value in demo.items() if name not in input_names}
        try:
            inputs, _ = check_inputs(signature, given)
            outputs, _ = check_outputs(signature, wanted)
            checked.append({**inputs, **outputs})
        except WorkerError as error:
            problems = [Problem(f"/demos/{index}{_below(problem.path)}", problem.problem) for problem in error.problems]
            raise InvalidSignatureError(
                f"demo {index} does not match the signature: {error.reason}", problems=problems, breaks_limit=True
            ) from None
    return checked


def _below(path: str) -> str:
    """Cut ``/inputs`` or ``/outputs`` off a pointer."""
    return path[path.find("/", 1) :] if path.find("/", 1) > 0 else ""
