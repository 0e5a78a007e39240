"""The demo's LM provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from worker.demo.lm_stub import LMStub

FIELDS = {"sentiment": "positive", "confidence": 0.97}


@pytest.fixture
async def stub() -> AsyncIterator[LMStub]:
    stub = LMStub(FIELDS)
    await stub.open()
    yield stub
    await stub.close()


async def ask(stub: LMStub, **more: Any) -> str:
    body = {"model": "m", "messages": [], **more}
    async with aiohttp.ClientSession() as session, session.post(f"{stub.url}/chat/completions", json=body) as response:
        document = await response.json()
    return str(document["choices"][0]["message"]["content"])


async def test_a_request_with_a_response_schema_gets_json(stub):
    """As a provider that keeps to the schema."""
    answer = json.loads(await ask(stub, response_format={"type": "json_schema"}))

    assert answer == FIELDS


async def test_a_request_without_one_gets_sections(stub):
    """As a chat model that does what the prompt asks for."""
    answer = await ask(stub)

    assert answer == "[[ ## sentiment ## ]]\npositive\n\n[[ ## confidence ## ]]\n0.97\n\n[[ ## completed ## ]]"
