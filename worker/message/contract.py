"""The arguments of create and execute, as pydantic models.

Only the request's top level is strict: DSPex and its successors send more than they need, so unknown keys in ``args``
and ``options`` come back as warnings. Elixir writes keyword lists as lists of pairs and an empty one as ``[]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from worker.errors import InvalidRequestError, Problem
from worker.suggestions import did_you_mean

# What DSPex sends with every call and no worker needs.
_MAX_WARNINGS = 20
_IGNORED = frozenset({"session_id", "program_data"})


def as_object(value: object) -> object:
    """Turn a list of pairs, or ``[]``, into an object; leave all else as it is."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in value):
        return value
    members = dict(value)
    # A doubled key would be read differently elsewhere: it stays a list, which nothing accepts.
    return members if len(members) == len(value) else value


def _none_as_empty(value: object) -> object:
    return {} if value is None else as_object(value)


Pairs = BeforeValidator(_none_as_empty)
ProgramId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")]
FallbackPolicy = Literal["never", "create", "execute"]


class _Args(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    def unknown_keys(self) -> list[str]:
        """Return keys that mean nothing here and deserve a warning."""
        return sorted(set(self.model_extra or {}) - _IGNORED)


class ProgramConfig(_Args):
    """Sampling settings stored with a program."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)


class _Definition(_Args):
    signature: Any = None
    program_type: Any = "predict"
    use_dynamic_signature: bool | None = None
    fallback: FallbackPolicy | None = None
    lm: str | None = None
    config: Annotated[ProgramConfig, Pairs] = ProgramConfig()
    demos: Annotated[list[dict[str, Any]], Field(max_length=100)] = []


class CreateArgs(_Definition):
    """Arguments of ``create_program``."""

    id: ProgramId | None = None
    replace: bool = False


class Options(_Args):
    """``options`` of ``execute_program``: they win over the program, which wins over the settings."""

    lm: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    timeout_ms: int | None = Field(default=None, ge=1)
    max_lm_calls: int | None = Field(default=None, ge=1)
    max_cost_usd: float | None = Field(default=None, gt=0)
    fallback: FallbackPolicy | None = None
    cache: bool = False
    include_reasoning: bool = False


class ExecuteArgs(_Definition):
    """Arguments of ``execute_program``: a program's id, or a signature for a one-message prediction."""

    # Any name may be asked for; one that no program can have is not found.
    program_id: Annotated[str, Field(max_length=1_024)] | None = None
    inputs: Any = Field(default_factory=dict)
    options: Annotated[Options, Pairs] = Options()


CREATE_KEYS = frozenset(CreateArgs.model_fields)
EXECUTE_KEYS = frozenset(ExecuteArgs.model_fields)

A = TypeVar("A", bound=_Args)


def read_args(model: type[A], args: Mapping[str, Any]) -> tuple[A, list[str]]:
    """Read arguments, with a warning for each key that means nothing.

    Raises:
        InvalidRequestError: A value has the wrong type; all problems at once, each with its pointer.
    """
    try:
        read = model.model_validate(dict(args))
    except ValidationError as error:
        raise _refusal(error) from None
    warnings = _ignored("argument", read)
    for name in ("config", "options"):
        nested = getattr(read, name, None)
        if isinstance(nested, _Args):
            warnings += _ignored(f"key in {name}", nested)
    return read, warnings


def _ignored(what: str, args: _Args) -> list[str]:
    """Return a warning for each key that means nothing, as many as anybody would read, with the key that was meant."""
    keys = args.unknown_keys()
    absent = sorted(type(args).model_fields.keys() - args.model_fields_set)
    told = [f"Unknown {what} ignored: {key[:64]}{did_you_mean(key, absent)}" for key in keys[:_MAX_WARNINGS]]
    left = len(keys) - len(told)
    return [*told, f"Unknown {what} ignored: and {left} more"] if left else told


def _refusal(error: ValidationError) -> InvalidRequestError:
    faults = error.errors(include_url=False, include_input=False)
    problems = [
        Problem("/" + "/".join(str(part) for part in fault["loc"]), _phrase(str(fault["msg"]))) for fault in faults
    ]
    first = problems[0]
    return InvalidRequestError(f"args{first.path}: {first.problem}", problems=problems)


def _phrase(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
