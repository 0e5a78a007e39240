"""Every name works, as input and as output, in both formats, from the job to the reply."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

from tests.support.left_hand import LeftHand, open_left_hand, reply_of, stub_settings
from tests.support.lm_stub import LMStub

OWNERS = (dspy.Signature, dspy.Prediction, dspy.Example, pydantic.BaseModel)
CLAIMED = {name for owner in OWNERS for name in dir(owner) if not name.startswith("_")}
PARAMETERS = set(inspect.signature(dspy.Predict).parameters) | {"demos", "lm", "new_signature", "prediction"}
NAMES = sorted(
    CLAIMED | PARAMETERS | set(keyword.kwlist) | {"completed", "valid?", "größe", "user-id", "reasoning", "f0"}
)
SIZE = 40
CHUNKS = [NAMES[start : start + SIZE] for start in range(0, len(NAMES), SIZE)]


@pytest.fixture
async def lm_stub() -> AsyncIterator[LMStub]:
    stub = LMStub()
    stub.behaviour = stub.answer_by_schema
    await stub.start()
    yield stub
    await stub.stop()


def definition(inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    # Names beyond the grammar, such as user-id, are for definition objects.
    return {"inputs": [{"name": name} for name in inputs], "outputs": [{"name": name} for name in outputs]}


async def run(left: LeftHand, inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    args = {
        "signature": definition(inputs, outputs),
        "fallback": "never",
        "inputs": {name: f"in {name}" for name in inputs},
    }
    reply = reply_of(await left.handle({"args": args}))
    assert reply["success"], reply
    return dict(reply["result"]["outputs"])


@pytest.mark.parametrize("dialect", ["false", "strict", "full"])
@pytest.mark.parametrize("names", CHUNKS, ids=[chunk[0] for chunk in CHUNKS])
async def test_every_name_is_an_input_and_an_output_in_both_formats(
    names: list[str], dialect: str, lm_stub: LMStub, tmp_path: Path
) -> None:
    """No list of reserved names can be incomplete where none is needed."""
    async with open_left_hand(tmp_path, stub_settings(lm_stub.url, lm_structured_outputs=dialect)) as left:
        lm_stub.outputs = {"an answer": "x"}
        as_inputs = await run(left, names, ["an answer"])
        lm_stub.outputs = {name: f"out {name}" for name in names}
        as_outputs = await run(left, ["a question"], names)

    assert all(f"[[ ## {name} ## ]]\nin {name}" in lm_stub.prompts[0] for name in names)
    assert as_inputs == {"an answer": "x"}

    assert as_outputs == {name: f"out {name}" for name in names}
