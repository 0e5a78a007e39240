"""Runs one program within one delivery: the LM calls, the quick retry, the repairs, the time limit, the fallback.

What a run may cost is in its `Meter`; what it may last is one time-out around all of it. Longer waits belong to the
broker's delay ladder, never to an unacked delivery, so the only retry here is one quick second attempt after a
transport error or a server error, and none while the LM is taken for down. An invalid answer is asked for again, with its problems named; each time is an LM
call like any other.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy
import tenacity
from dspy import lm15
from dspy.utils.exceptions import AdapterParseError
from tenacity.stop import stop_base

from worker.adapter import WireAdapter, free_word
from worker.aliases import check_price
from worker.errors import JobTimeoutError, LMUnavailableError, OutputInvalidError
from worker.lm import CountedLM, LMs
from worker.message import canonical, expired
from worker.meter import METER, Meter
from worker.offline import OFFLINE_ANSWER, OFFLINE_WARNING
from worker.programs import Compiled, Program, Programs, as_question
from worker.signatures import sample_outputs
from worker.telemetry import REPAIRS

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
        lm_pointer: JSON pointer to where the job named the alias; empty where it did not.
    """

    lm: str
    timeout_seconds: float
    config: Mapping[str, Any] = field(default_factory=dict)
    may_fall_back: bool = False
    has_reasoning: bool = False
    lm_pointer: str = ""


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


@dataclass(frozen=True, slots=True)
class _Task:
    """What is asked of which LM."""

    compiled: Compiled
    predictor: dspy.Predict
    inputs: Mapping[str, object]
    lm: CountedLM
    limits: Limits


class Runner:
    """Runs programs on the worker's LMs.

    Args:
        lms: The aliases.
        programs: For the question-and-answer program of a fallback.
        max_repairs: Times that a run asks again for an invalid answer.
    """

    def __init__(self, lms: LMs, programs: Programs, *, max_repairs: int) -> None:
        self._lms = lms
        self._programs = programs
        self._max_repairs = max_repairs

    async def admit(self, limits: Limits, *, meter: Meter) -> None:
        """Let a job run, unless its LM is taken for down; a job that is not let in has not run.

        Raises:
            LMNotConfiguredError: No such alias.
            TransientLMError: The LM is down; it was not called.
            ExpiredError: The deadline passed while the job waited for its turn.
        """
        lm = self._lms.get(limits.lm, pointer=limits.lm_pointer)
        await self._lms.circuits.admit(lm.alias)
        if meter.is_late:
            raise expired(meter.late_ms)

    async def run(self, program: Program, inputs: Mapping[str, object], *, limits: Limits, meter: Meter) -> Result:
        """Run a program on checked inputs.

        Args:
            program: What to run.
            inputs: Wire name → value, as `Program.read_inputs` returned them.
            limits: Time, sampling and fallback.
            meter: Counts the calls, also those of a run that fails.

        Raises:
            InvalidRequestError: A cost budget for a model whose price is not known.
            RunError: By its code; ``meter`` tells what it cost.
        """
        began = time.perf_counter()
        lm = self._lms.get(limits.lm, pointer=limits.lm_pointer)
        check_price(lm, alias=limits.lm, max_cost_usd=meter.max_cost_usd)
        token = METER.set(meter)
        clock = asyncio.timeout(limits.timeout_seconds)
        try:
            async with clock:
                outputs, reason, warnings = await self._answer(program, inputs, lm=lm, limits=limits)
        except TimeoutError:
            if not clock.expired():
                raise
            raise JobTimeoutError(f"the run took longer than {limits.timeout_seconds:g} seconds") from None
        finally:
            METER.reset(token)
        if self._lms.is_offline(limits.lm):
            warnings.append(OFFLINE_WARNING)
        return Result(outputs, time.perf_counter() - began, reason, warnings)

    async def _answer(
        self, program: Program, inputs: Mapping[str, object], *, lm: CountedLM, limits: Limits
    ) -> tuple[dict[str, Any], str | None, list[Any]]:
        """Ask the program itself, and where that is allowed question and answer after it."""
        try:
            return await self._ask(_Task(program.compiled, program.predictor, inputs, lm, limits)), None, []
        except OutputInvalidError as error:
            may_fall_back = limits.may_fall_back and program.is_dynamic and bool(inputs)
            if not may_fall_back or not METER.get().may_go_on:
                raise
            question = as_question(inputs, instructions_text=program.question)
            compiled = self._programs.question_and_answer()
            predictor = dspy.Predict(compiled.signature_class)
            task = _Task(compiled, predictor, {"question": question}, lm, limits)
            answered = await _reach(task, compiled.adapter_for(lm.dialect), config=limits.config)
            return answered, f"{error.code}: {error}", [_ANSWERED_BY_FALLBACK]

    async def _ask(self, task: _Task) -> dict[str, Any]:
        """Ask until the answer is valid, naming each time what was wrong, as often as the budgets allow."""
        adapter = task.compiled.adapter_for(task.lm.dialect)
        config = dict(task.limits.config)
        for repairs in itertools.count():
            try:
                return await _reach(task, adapter, config=config)
            except OutputInvalidError as error:
                if repairs == self._max_repairs or not METER.get().may_go_on:
                    raise
                REPAIRS.labels(task.lm.alias).inc()
                adapter = adapter.asking_again(error)
                config["cache"] = False
        raise AssertionError("an endless count has ended")


def _is_quickly_over(error: BaseException) -> bool:
    """Tell whether a second call may be made at once: the LM is not known to be down, and did not ask to wait."""
    return isinstance(error, LMUnavailableError) and error.retry_after_ms is None and not error.is_circuit_open


class _StopWhenUsedUp(stop_base):
    """Stop where the caller's deadline has passed, or where the budget does not cover another call."""

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return not METER.get().may_go_on


async def _reach(task: _Task, adapter: WireAdapter, *, config: Mapping[str, Any]) -> dict[str, Any]:
    """Ask once, with one quick retry where the LM could not be reached."""
    async for attempt in tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(_QUICK_ATTEMPTS) | _StopWhenUsedUp(),
        wait=_QUICK_WAIT,
        retry=tenacity.retry_if_exception(_is_quickly_over),
        reraise=True,
    ):
        with attempt:
            return await _predict(task, adapter, config=config)
    raise AssertionError("retrying has ended without a result")


async def _predict(task: _Task, adapter: WireAdapter, *, config: Mapping[str, Any]) -> dict[str, Any]:
    """Run the DSPy module: one LM call, checked outputs by wire name."""
    offline = OFFLINE_ANSWER.set(lambda: _stand_in_answer(adapter, task.inputs))
    try:
        with dspy.context(lm=task.lm, adapter=adapter, trace=None, warn_on_type_mismatch=False):
            prediction = await task.predictor.acall(  # type: ignore[no-untyped-call]
                **adapter.to_internal(task.inputs), config={**config, **adapter.lm_options}
            )
    except AdapterParseError:
        raise OutputInvalidError("the LM gave an empty answer") from None
    finally:
        OFFLINE_ANSWER.reset(offline)
    values = {key: prediction[key] for key in (*adapter.outputs, *_reasoning_keys(adapter))}
    outputs = adapter.to_wire(values)
    if task.limits.has_reasoning and adapter.reasoning_key is not None:
        outputs[free_word(REASONING_OUTPUT, set(outputs))] = values[adapter.reasoning_key]
    return outputs


def _reasoning_keys(adapter: WireAdapter) -> list[str]:
    return [adapter.reasoning_key] if adapter.reasoning_key is not None else []


def _stand_in_answer(adapter: WireAdapter, inputs: Mapping[str, object]) -> str:
    seed = f"{adapter.signature.fingerprint}:{canonical(dict(inputs)).decode()}"
    try:
        return adapter.write_answer(sample_outputs(adapter.signature, seed=seed))
    except ValueError as error:
        raise lm15.UnsupportedFeatureError(f"the offline stand-in can make up no value: {error}") from None
