"""Make up values that satisfy a signature: always the same ones for the same seed.

The offline language model answers with them, so that a team can wire everything up before it has a key.
"""

from __future__ import annotations

import math
import random

from worker.signatures.nodes import Type, float_range, item_type, pair_types
from worker.signatures.signature import Signature

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "lotus")
_USUAL_LENGTH = 24
_USUAL_ITEMS = 2
_USUAL_SPAN = 100
_MAX_PARTS = 200_000


def sample_outputs(signature: Signature, *, seed: str) -> dict[str, object]:
    """Return one valid value for each output, wire name → value.

    Args:
        signature: What to answer.
        seed: The same seed gives the same values, in every process.

    Raises:
        ValueError: The least value allowed is too large to make, more than 200,000 characters or items.
    """
    sampler = _Sampler(random.Random(f"{seed}\0{signature.fingerprint}"))  # noqa: S311 - no secret is made here
    return {one.name: sampler.sample(one.type) for one in signature.outputs}


class _Sampler:
    """A source of random values that stops before it fills the memory."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._parts_left = _MAX_PARTS

    def sample(self, node: Type) -> object:
        self._spend(1)
        if node.choices is not None:
            return self._source.choice(node.choices)
        if node.kind == "list":
            return self._sample_list(node)
        if node.kind == "dict":
            return self._sample_dict(node)
        if node.kind == "union":
            return self.sample(self._source.choice(node.members))
        return self._sample_scalar(node)

    def _sample_scalar(self, node: Type) -> object:
        if node.kind == "integer":
            return self._sample_integer(node)
        if node.kind == "float":
            return self._sample_float(node)
        if node.kind == "boolean":
            return self._source.random() < 0.5
        return self._sample_string(node)

    def _sample_integer(self, node: Type) -> int:
        low, high = _span(node.minimum, node.maximum)
        return self._source.randint(int(low), int(high))

    def _sample_float(self, node: Type) -> float:
        low, high = float_range(node)
        start, end = _span(low if math.isfinite(low) else None, high if math.isfinite(high) else None)
        drawn = start + (end - start) * self._source.random()
        fitting = (number for number in (round(drawn, 2), drawn) if math.isfinite(number) and low <= number <= high)
        return float(next(fitting, start))

    def _sample_string(self, node: Type) -> str:
        length = _length(node, usual=_USUAL_LENGTH)
        self._spend(length)
        text = self._source.choice(_WORDS)
        while len(text) < (node.min_length or 0):
            text = f"{text} {self._source.choice(_WORDS)}"
        # A text must not end in a space, which readers of the prompt may strip.
        return text if node.max_length is None or len(text) <= node.max_length else _cut(text, node.max_length)

    def _sample_list(self, node: Type) -> list[object]:
        items, count = item_type(node), _length(node, usual=_USUAL_ITEMS)
        self._spend(count)
        return [self.sample(items) for _ in range(count)]

    def _sample_dict(self, node: Type) -> dict[str, object]:
        key, values = pair_types(node)
        return {str(self.sample(key)): self.sample(values)}

    def _spend(self, parts: int) -> None:
        self._parts_left -= parts
        if self._parts_left < 0:
            raise ValueError(f"a sample needs more than {_MAX_PARTS} characters or items")


def _span(low: float | None, high: float | None) -> tuple[float, float]:
    """Return both ends of a range, the missing ones a usual span away."""
    if low is not None:
        return low, low + _USUAL_SPAN if high is None else high
    return (0, _USUAL_SPAN) if high is None else (high - _USUAL_SPAN, high)


def _length(node: Type, *, usual: int) -> int:
    high = usual if node.max_length is None else min(usual, node.max_length)
    return max(high, node.min_length or 0)


def _cut(text: str, length: int) -> str:
    cut = text[:length]
    return f"{cut[:-1]}s" if cut.endswith(" ") else cut
