"""The LM layer: every failure by its code, one request a call, usage, cost, cache, and the offline stand-in."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.support.left_hand import KNOWN_MODEL, SECRET, make_settings, stub_settings
from tests.support.lm_stub import LMStub, completion, failing
from worker.errors import (
    BudgetExceededError,
    ContextWindowExceededError,
    LMAuthError,
    LMInvalidRequestError,
    LMNotConfiguredError,
    LMRateLimitedError,
    LMTimeoutError,
    LMUnavailableError,
    Problem,
    WorkerError,
)
from worker.lm import CountedLM, LMs
from worker.lm.failures import mask
from worker.meter import METER, Meter
from worker.settings import LMProfile, Settings
from worker.telemetry import LM_CALLS


@pytest.fixture
async def stub() -> AsyncIterator[LMStub]:
    server = LMStub()
    await server.start()
    yield server
    await server.stop()


async def ask(settings: Settings, *, meter: Meter | None = None, alias: str = "default", **given: Any) -> Any:
    """Make one call on an alias."""
    lms = LMs(settings.profiles, timeout_seconds=settings.lm_timeout_seconds)
    METER.set(meter or Meter(max_calls=5))
    try:
        return await lms.get(alias).acall("hello", **given)
    finally:
        await lms.aclose()


async def test_a_worker_without_a_key_harms_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is this worker's trouble, as a wrong key is: another one may have it."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(LMAuthError, match="has no key on this worker") as failure:
        await ask(make_settings(lm_model=KNOWN_MODEL))

    assert failure.value.is_circuit_open


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, LMRateLimitedError),
        (500, LMUnavailableError),
        (502, LMUnavailableError),
        (503, LMUnavailableError),
        (401, LMAuthError),
        (403, LMAuthError),
        (402, LMAuthError),
        (400, LMInvalidRequestError),
        (422, LMInvalidRequestError),
        # No job names a model or a URL, so this is the worker's own trouble.
        (404, LMUnavailableError),
    ],
)
async def test_each_http_failure_has_its_code(stub: LMStub, status: int, kind: type[WorkerError]) -> None:
    """And costs exactly one request: DSPy's own retries are off."""
    stub.behaviour = failing(status)
    meter = Meter(max_calls=5)
    with pytest.raises(kind):
        await ask(stub_settings(stub.url), meter=meter)

    assert (stub.calls, meter.calls) == (1, 1)


@pytest.mark.parametrize(
    ("header", "expected"), [("7", 7_000), ("0.5", 500), ("inf", None), ("nan", None), (None, None)]
)
async def test_retry_after_is_given_in_milliseconds(stub: LMStub, header: str | None, expected: int | None) -> None:
    """The provider speaks in seconds."""
    stub.behaviour = failing(429, headers={"Retry-After": header} if header else None)
    with pytest.raises(LMRateLimitedError) as limited:
        await ask(stub_settings(stub.url))

    assert limited.value.retry_after_ms == expected


async def test_a_prompt_that_is_too_long_has_a_code_of_its_own(stub: LMStub) -> None:
    """It will never fit, so it is not tried again."""
    stub.behaviour = failing(400, code="context_length_exceeded")
    with pytest.raises(ContextWindowExceededError):
        await ask(stub_settings(stub.url))


@pytest.mark.parametrize("status", [400, 404])
async def test_a_model_that_the_provider_does_not_know_is_named_as_such(stub: LMStub, status: int) -> None:
    """The operator mends it; the job waits."""
    stub.behaviour = failing(status, code="model_not_found")
    with pytest.raises(LMUnavailableError, match="LM 'default' has no such model at its provider") as failed:
        await ask(stub_settings(stub.url))

    assert failed.value.is_circuit_open


REFUSALS: list[dict[str, Any]] = [
    {"message": {"role": "assistant", "content": None, "refusal": "I will not"}, "finish_reason": "stop"},
    {"message": {"role": "assistant", "content": "half an ans"}, "finish_reason": "content_filter"},
    {"message": {"role": "assistant", "content": None}, "finish_reason": "content_filter"},
]


@pytest.mark.parametrize("choice", REFUSALS)
async def test_an_answer_that_the_provider_held_back_is_a_refusal(stub: LMStub, choice: dict[str, Any]) -> None:
    """It was paid for; asked again, the provider would refuse again."""

    async def refuse(prompt: str, call: int) -> web.StreamResponse:
        body = json.loads(completion("").text or "")
        return web.json_response({**body, "choices": [{"index": 0, **choice}]})

    stub.behaviour = refuse
    meter = Meter(max_calls=5)
    with pytest.raises(LMInvalidRequestError, match="refuses to answer"):
        await ask(stub_settings(stub.url), meter=meter)

    assert (meter.calls, meter.prompt_tokens) == (1, 100)


async def test_a_probe_is_one_small_request_that_no_job_pays_for(stub: LMStub) -> None:
    """It is counted under a label of its own."""
    settings = stub_settings(stub.url)
    lms = LMs(settings.profiles, timeout_seconds=5)
    meter = Meter(max_calls=5)
    METER.set(meter)
    before = _calls("probe_ok"), _calls("probe_lm_auth")
    await asyncio.create_task(lms.get("default").probe())
    stub.behaviour = failing(401)
    with pytest.raises(LMAuthError):
        await asyncio.create_task(lms.get("default").probe())
    await lms.aclose()

    assert (meter.calls_now, stub.calls, stub.bodies[0]["max_completion_tokens"]) == (0, 2, 16)
    assert (_calls("probe_ok") - before[0], _calls("probe_lm_auth") - before[1]) == (1, 1)


def _calls(result: str) -> float:
    return float(LM_CALLS.labels("default", result)._value.get())


async def test_a_closed_port_is_an_outage() -> None:
    """Connection refused may pass."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(LMUnavailableError):
            await ask(stub_settings(f"http://127.0.0.1:{port}/v1"))


async def test_an_lm_that_hangs_times_out(stub: LMStub) -> None:
    """Within its own time limit, not the job's."""
    stub.behaviour = stub.hang
    with pytest.raises(LMTimeoutError):
        await ask(stub_settings(stub.url, lm_timeout_seconds=0.2))

    assert stub.calls == 1


async def test_an_answer_that_is_cut_off_is_an_outage(stub: LMStub) -> None:
    """The connection ends before the announced length."""

    async def cut(prompt: str, call: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(stub_request())
        await response.write(b'{"id": "chatcmpl-1", "choices": [')
        transport = stub_request().transport
        assert transport is not None
        transport.abort()
        return response

    def stub_request() -> web.Request:
        return requests[-1]

    requests: list[web.Request] = []
    serve = stub._serve

    async def remember(request: web.Request) -> web.StreamResponse:
        requests.append(request)
        return await serve(request)

    stub._serve = remember  # type: ignore[method-assign]
    stub.behaviour = cut
    await stub.stop()
    await stub.start()
    with pytest.raises(LMUnavailableError):
        await ask(stub_settings(stub.url))


@pytest.mark.parametrize("body", ["", "not json", "[]", '{"choices": [{"message"'])
async def test_an_answer_that_is_no_completion_is_a_coded_error(stub: LMStub, body: str) -> None:
    """Garbage from a proxy must not look like a bug of ours."""

    async def garbage(prompt: str, call: int) -> web.StreamResponse:
        return web.Response(text=body, content_type="application/json")

    stub.behaviour = garbage
    with pytest.raises(WorkerError) as failed:
        await ask(stub_settings(stub.url))

    assert failed.value.code != "internal"
    assert stub.calls == 1


@pytest.mark.parametrize("status", [400, 401, 429, 500])
@pytest.mark.parametrize("padding", [0, 460])
async def test_the_key_never_shows_in_an_error(stub: LMStub, status: int, padding: int) -> None:
    """Providers repeat it; the cut of a long message must not leave a part of it."""

    async def telltale(prompt: str, call: int) -> web.StreamResponse:
        message = f"{'x' * padding} key {SECRET} is wrong"
        return web.json_response({"error": {"message": message, "type": "e", "code": "e"}}, status=status)

    stub.behaviour = telltale
    with pytest.raises(WorkerError) as failed:
        await ask(stub_settings(stub.url))

    shown = f"{failed.value} {failed.value.reason} {failed.value.problems}"
    assert SECRET[:12] not in shown


async def test_one_call_is_one_request_with_its_usage_and_cost(stub: LMStub) -> None:
    """``openai/gpt-4o-mini`` has a known price."""
    meter = Meter(max_calls=5)
    await ask(stub_settings(stub.url), meter=meter)

    assert stub.calls == 1
    assert (meter.calls, meter.prompt_tokens, meter.completion_tokens) == (1, 100, 10)
    assert meter.cost_usd == pytest.approx(100 * 0.15e-6 + 10 * 0.6e-6)


async def test_an_unknown_price_is_null_and_never_zero(stub: LMStub) -> None:
    """A budget must not believe that it was free."""

    async def nameless(prompt: str, call: int) -> web.StreamResponse:
        body = json.loads(completion("hello").text or "")
        return web.json_response({**body, "model": "nobody-knows-me"})

    stub.behaviour = nameless
    meter = Meter(max_calls=5)
    await ask(stub_settings(stub.url, lm_model="openai/nobody-knows-me"), meter=meter)

    assert (meter.to_json()["lm_calls"], meter.to_json()["cost_usd"]) == (1, None)


async def test_one_unpriced_call_makes_the_sum_unknown() -> None:
    """In either order."""
    for costs in ([0.1, None], [None, 0.1]):
        meter = Meter(max_calls=5)
        for cost in costs:
            meter.answered({"prompt_tokens": 1, "completion_tokens": 1}, cost)
        assert meter.cost_usd is None


async def test_known_costs_add_up() -> None:
    """Over all calls of the run."""
    meter = Meter(max_calls=5)
    meter.answered({"prompt_tokens": 1}, 0.1)
    meter.answered({"completion_tokens": 2}, 0.2)

    assert (meter.prompt_tokens, meter.completion_tokens) == (1, 2)
    assert meter.cost_usd == pytest.approx(0.3)


async def test_a_call_over_the_budget_is_not_made(stub: LMStub) -> None:
    """Calls of earlier deliveries count."""
    meter = Meter(max_calls=3, calls_before=3)
    with pytest.raises(BudgetExceededError):
        await ask(stub_settings(stub.url), meter=meter)

    assert (stub.calls, meter.calls_now) == (0, 0)


async def test_without_the_cache_option_the_model_is_asked_anew(stub: LMStub) -> None:
    """The default."""
    settings = stub_settings(stub.url)
    lms = LMs(settings.profiles, timeout_seconds=5)
    METER.set(Meter(max_calls=5))
    for _ in range(2):
        await lms.get("default").acall("hello")
    await lms.aclose()

    assert stub.calls == 2


async def test_a_cached_answer_costs_no_request_and_no_call(stub: LMStub) -> None:
    """And its usage is not counted again."""
    settings = stub_settings(stub.url)
    lms = LMs(settings.profiles, timeout_seconds=5)
    meters = [Meter(max_calls=5), Meter(max_calls=5)]
    answers = []
    for meter in meters:
        METER.set(meter)
        answers.append(await lms.get("default").acall("cache me", cache=True))
    await lms.aclose()

    assert answers[0] == answers[1]
    assert [meter.calls for meter in meters] == [1, 0]
    assert (meters[1].cache_hits, meters[1].prompt_tokens) == (1, 0)
    assert stub.calls == 1


@pytest.mark.parametrize("alias", ["fast", "", "openai/gpt-4o", "http://evil/v1"])
def test_a_message_names_an_alias_and_nothing_else(alias: str) -> None:
    """Never a model, a URL or a key; the sentence names the alias that was asked for, and those that there are."""
    told = f"there is no alias '{alias}'; available aliases: default"
    with pytest.raises(LMNotConfiguredError) as refused:
        LMs(make_settings().profiles, timeout_seconds=5).get(alias, pointer="/options/lm")

    assert refused.value.problems == (Problem("/options/lm", told),)
    assert str(refused.value) == f"No LM is loaded: {told}"


def test_a_profile_that_cannot_be_used_is_said_without_its_key() -> None:
    """Here DSPy repeats the model's name, which an operator mixed up with the key."""
    profile = LMProfile.model_validate({"model": f"{SECRET}/", "api_key": SECRET})
    with pytest.raises(LMNotConfiguredError) as refused:
        LMs({"odd": profile}, timeout_seconds=5).get("odd")

    assert "'odd'" in refused.value.problems[0].problem
    assert SECRET not in refused.value.problems[0].problem


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("k", "a backoff token kept"),
        ("backoff", "a backoff token kept"),
        ("backoff ", "a ***token kept"),
        (None, "a backoff token kept"),
    ],
)
def test_a_key_is_masked_from_8_characters_on(key: str | None, expected: str) -> None:
    """A shorter one stands for no key, as local servers take it, and would cut up words."""
    assert mask("a backoff token kept", key) == expected


def test_an_lm_is_made_once() -> None:
    """DSPy pools connections in it."""
    lms = LMs(make_settings().profiles, timeout_seconds=5)

    assert lms.get("default") is lms.get("default")
    assert isinstance(lms.get("default"), CountedLM)


def test_the_aliases_are_shown_without_keys() -> None:
    """For logs and statistics."""
    settings = make_settings(lms=json.dumps({"fast": {"model": "openai/x", "api_key": SECRET}}))

    assert LMs(settings.profiles, timeout_seconds=5).models == {"default": "offline", "fast": "openai/x"}


def test_the_offline_alias_is_known_as_such() -> None:
    """Every reply of it says so."""
    settings = make_settings(lms=json.dumps({"real": {"model": KNOWN_MODEL}}))
    lms = LMs(settings.profiles, timeout_seconds=5)

    assert [lms.is_offline(alias) for alias in ("default", "real", "unknown")] == [True, False, False]


_SCRIPT = """
import asyncio, sys
from worker.lm import LMs
from worker.meter import METER, Meter
from worker.settings import load

async def main():
    settings = load()
    lms = LMs(settings.profiles, timeout_seconds=5)
    METER.set(Meter(max_calls=1))
    await lms.get("default").acall("x")
    await lms.aclose()
    print("litellm" in sys.modules)

asyncio.run(main())
"""


async def test_litellm_is_not_loaded_by_a_real_call(stub: LMStub) -> None:
    """It costs 140 MB."""
    environment = {
        "DSPEX_LM_MODEL": KNOWN_MODEL,
        "DSPEX_LM_API_BASE": stub.url,
        "DSPEX_LM_API_KEY": SECRET,
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ":".join(sys.path),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SCRIPT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    out, err = await process.communicate()

    assert out.decode().strip() == "False", err.decode()
    assert stub.calls == 1
