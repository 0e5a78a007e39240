"""Bare DSPy, as its user would write it: ``python -m benchmarks.bare LM_URL``.

The same signature, inputs, LM stub and number in flight as the worker's jobs, no queue, nothing stored. Each line on stdin is
a number of calls; when they are done, the same line comes back on stdout.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import dspy

from benchmarks.programs import LM_MODEL, text_of

IN_FLIGHT = 32

# DSPy's own functions are untyped.
_input: Callable[..., Any] = dspy.InputField
_output: Callable[..., Any] = dspy.OutputField
_predict: Callable[..., Any] = dspy.Predict
_configure: Callable[..., Any] = dspy.configure


class Label(dspy.Signature):  # type: ignore[metaclass]  # DSPy has no py.typed
    """Label a text and say how sure you are."""

    text: str = _input(desc="Text to label")
    label: str = _output(desc="The label")
    score: float = _output(desc="How sure")


async def call(predictor: Any, numbers: Iterator[int]) -> None:
    """Call until the numbers run out."""
    for number in numbers:
        prediction = await predictor.acall(text=text_of(number))
        if prediction.label != "positive" or prediction.score != 0.93:
            raise RuntimeError(f"unexpected prediction: {prediction}")


async def answer_orders(url: str) -> None:
    """Make as many calls as each line of stdin says."""
    _configure(lm=dspy.LM(LM_MODEL, api_base=url, api_key="sk-bench", cache=False, num_retries=0))
    predictor = _predict(Label)
    numbers = itertools.count()
    while line := await asyncio.to_thread(sys.stdin.readline):
        batch = itertools.islice(numbers, int(line))
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(call(predictor, batch))
        print(line.strip(), flush=True)


if __name__ == "__main__":
    asyncio.run(answer_orders(sys.argv[1]))
