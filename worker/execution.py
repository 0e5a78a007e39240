"""Runs one program within one delivery: the LM calls, the quick retry, the time limit, the fallback, the usage.

What a run may cost is in its `Meter`; what it may last is one time-out around all of it. Longer waits belong to the
broker's delay ladder, never to an unacked delivery, so the only retry here is one quick second attempt after a
transport error or a server error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy
import tenacity
from dspy.utils.exceptions import AdapterParseError

from worker.adapter import WireAdapter, free_word
from worker.errors import JobTimeoutError, LMUnavailableError, OutputInvalidError
from worker.lm import OFFLINE_ANSWER, OFFLINE_WARNING, CountedLM, LMs
from worker.message import canonical
from worker.meter import METER, Meter
from worker.programs import Compiled, Program, Programs, as_question
from worker.signatures import sample_outputs

REASONING_OUTPUT = "_reasoning"

_QUICK_ATTEMPTS = 2
_QUICK_WAIT = tenacity.wait_random(min=0.2, max=1.5)
_ANSWERED_BY_FALLBACK = "The outputs stayed invalid, so the job was asked once more as question and answer"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use and how it samples.

    Attributes:
        lm: Alias.
        timeout_seconds: For the whole run.
        config: LM keywords: ``temperature``, ``max_tokens``, ``cache``.
        may_fall_back: Whether outputs that stay invalid may end in question and answer.
        has_reasoning: Whether the chain of thought is returned.
    """

    lm: str
    timeout_seconds: float
    config: Mapping[str, Any] = field(default_factory=dict)
    may_fall_back: bool = False
    has_reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a run brought.

    Attributes:
        outputs: Wire name → value, every declared output, valid.
        seconds: Duration of the run.
        fallback_reason: ``<code>: <message>`` where question and answer stood in, else None.
        warnings: What the caller should know.
    """

    outputs: dict[str, Any]
    seconds: float
    fallback_reason: str | None = None
    warnings: list[Any] = field(default_factory=list)


class Runner:
    """Runs programs on the worker's LMs.

    Args:
        lms: The aliases.
        programs: For the question-and-answer program of a fallback.
    """

    def __init__(self, lms: LMs, programs: Programs) -> None:
        self._lms = lms
        self._programs = programs

    async def run(self, program: Program, inputs: Mapping[str, object], *, limits: Limits, meter: Meter) -> Result:
        """Run a program on checked inputs.

        Args:
            program: What to run.
            inputs: Wire name → value, as `Program.read_inputs` returned them.
            limits: Time, sampling and fallback.
            meter: Counts the calls, also those of a run that fails.

        Raises:
            RunError: By its code; ``meter`` tells what it cost.
        """
        began = time.perf_counter()
        lm = self._lms.get(limits.lm)
        token = METER.set(meter)
        clock = asyncio.timeout(limits.timeout_seconds)
        try:
            async with clock:
                outputs, reason, warnings = await self._ask_with_fallback(program, inputs, lm=lm, limits=limits)
        except TimeoutError:
            if not clock.expired():
                raise
            raise JobTimeoutError(f"the run took longer than {limits.timeout_seconds:g} seconds") from None
        finally:
            METER.reset(token)
        if self._lms.is_offline(limits.lm):
            warnings.append(OFFLINE_WARNING)
        return Result(outputs, time.perf_counter() - began, reason, warnings)

    async def _ask_with_fallback(
        self, program: Program, inputs: Mapping[str, object], *, lm: CountedLM, limits: Limits
    ) -> tuple[dict[str, Any], str | None, list[Any]]:
        try:
            return await self._ask(program, inputs, lm=lm, limits=limits), None, []
        except OutputInvalidError as error:
            if not (limits.may_fall_back and program.is_dynamic and inputs):
                raise
            question = as_question(inputs, instructions_text=program.question)
            compiled = self._programs.question_and_answer()
            answered = await self._predict(
                compiled, dspy.Predict(compiled.signature_class), {"question": question}, lm=lm, limits=limits
            )
            return answered, f"{error.code}: {error}", [_ANSWERED_BY_FALLBACK]

    async def _ask(
        self, program: Program, inputs: Mapping[str, object], *, lm: CountedLM, limits: Limits
    ) -> dict[str, Any]:
        """Ask the program itself, with one quick retry where the LM could not be reached."""
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_QUICK_ATTEMPTS),
            wait=_QUICK_WAIT,
            retry=tenacity.retry_if_exception_type(LMUnavailableError),
            reraise=True,
        )
        return await retrying(self._predict, program.compiled, program.predictor, inputs, lm=lm, limits=limits)

    async def _predict(
        self,
        compiled: Compiled,
        predictor: dspy.Predict,
        inputs: Mapping[str, object],
        *,
        lm: CountedLM,
        limits: Limits,
    ) -> dict[str, Any]:
        adapter = compiled.adapter
        offline = OFFLINE_ANSWER.set(lambda: _stand_in_answer(adapter, inputs))
        try:
            with dspy.context(lm=lm, adapter=adapter, trace=None, warn_on_type_mismatch=False):
                prediction = await predictor.acall(  # type: ignore[no-untyped-call]
                    **adapter.to_internal(inputs), config=dict(limits.config)
                )
        except AdapterParseError:
            raise OutputInvalidError("the LM gave an empty answer") from None
        finally:
            OFFLINE_ANSWER.reset(offline)
        values = {key: prediction[key] for key in (*adapter.outputs, *_reasoning_keys(adapter))}
        outputs = adapter.to_wire(values)
        if limits.has_reasoning and adapter.reasoning_key is not None:
            outputs[free_word(REASONING_OUTPUT, set(outputs))] = values[adapter.reasoning_key]
        return outputs


def _reasoning_keys(adapter: WireAdapter) -> list[str]:
    return [adapter.reasoning_key] if adapter.reasoning_key is not None else []


def _stand_in_answer(adapter: WireAdapter, inputs: Mapping[str, object]) -> str:
    seed = f"{adapter.signature.fingerprint}:{canonical(dict(inputs)).decode()}"
    return adapter.write_answer(sample_outputs(adapter.signature, seed=seed))
