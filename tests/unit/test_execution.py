"""Running a program: the quick retry, the limits, the fallback, the usage; against a real HTTP stub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import tenacity
from aiohttp import web

from tests.support.left_hand import SECRET, SENTIMENT, make_settings, stub_settings
from tests.support.lm_stub import LMStub, chat_text, completion, failing, saying
from worker import execution
from worker.errors import (
    ExpiredError,
    JobTimeoutError,
    LMAuthError,
    LMInvalidRequestError,
    LMRateLimitedError,
    LMTimeoutError,
    LMUnavailableError,
    OutputInvalidError,
    WorkerError,
)
from worker.execution import Limits, Result, Runner
from worker.lm import LMs
from worker.message import ExecuteArgs
from worker.meter import Meter
from worker.offline import OFFLINE_WARNING
from worker.programs import Program, Programs
from worker.settings import Settings
from worker.signatures import check_outputs

POSITIVE = {"sentiment": "positive", "confidence": "0.9"}


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_QUICK_WAIT", tenacity.wait_none())


@pytest.fixture
async def stub() -> AsyncIterator[LMStub]:
    server = LMStub()
    server.outputs = dict(POSITIVE)
    await server.start()
    yield server
    await server.stop()


class Bench:
    """A runner with its programs on one LM."""

    def __init__(self, settings: Settings) -> None:
        self.programs = Programs(settings)
        self.lms = LMs(settings.profiles, timeout_seconds=settings.lm_timeout_seconds)
        self.runner = Runner(self.lms, self.programs, max_repairs=0)

    def program(self, signature: object = SENTIMENT, **args: Any) -> Program:
        return self.programs.one_off(ExecuteArgs(signature=signature, **args))

    async def run(
        self,
        inputs: dict[str, Any] | None = None,
        *,
        meter: Meter | None = None,
        on: Program | None = None,
        **limits: Any,
    ) -> Result:
        program = on or self.program()
        checked, _ = program.read_inputs({"text": "I love it"} if inputs is None else inputs)
        given = {"lm": "default", "timeout_seconds": 20.0, **limits}
        return await self.runner.run(program, checked, limits=Limits(**given), meter=meter or Meter(max_calls=5))


@pytest.fixture
async def bench(stub: LMStub) -> AsyncIterator[Bench]:
    made = Bench(stub_settings(stub.url))
    yield made
    await made.lms.aclose()


async def test_a_run_brings_typed_outputs_for_one_request(bench: Bench, stub: LMStub) -> None:
    """No silent second call by an adapter."""
    meter = Meter(max_calls=5)
    result = await bench.run(meter=meter)

    assert result.outputs == {"sentiment": "positive", "confidence": 0.9}
    assert (result.fallback_reason, result.warnings, stub.calls, meter.calls) == (None, [], 1, 1)


async def test_the_prompt_is_the_adapters_own(bench: Bench, stub: LMStub) -> None:
    """Wire names, descriptions and inputs; nothing internal."""
    await bench.run({"text": "I love it"})

    assert "Detects the sentiment of a text" in stub.prompts[0]
    assert "[[ ## text ## ]]\nI love it" in stub.prompts[0]


@pytest.mark.parametrize("status", [500, 503])
async def test_a_server_error_is_tried_once_more(bench: Bench, stub: LMStub, status: int) -> None:
    """Both calls count."""

    async def recover(prompt: str, call: int) -> web.StreamResponse:
        return await (failing(status) if call == 1 else stub.answer)(prompt, call)

    stub.behaviour = recover
    meter = Meter(max_calls=5)
    result = await bench.run(meter=meter)

    assert result.outputs["sentiment"] == "positive"
    assert (stub.calls, meter.calls) == (2, 2)


async def test_a_server_error_that_stays_is_tried_twice_and_no_more(bench: Bench, stub: LMStub) -> None:
    """Longer waits belong to the broker."""
    stub.behaviour = failing(500)
    with pytest.raises(LMUnavailableError):
        await bench.run()

    assert stub.calls == 2


async def test_an_lm_that_is_taken_for_down_is_not_tried_again_here(bench: Bench, stub: LMStub) -> None:
    """A model that the provider does not know looks like an outage, and is none that passes in a second."""
    stub.behaviour = failing(404, code="model_not_found")
    with pytest.raises(LMUnavailableError) as failed:
        await bench.run()

    assert (stub.calls, failed.value.is_circuit_open) == (1, True)


async def test_a_run_meets_the_open_circuit_before_it_costs_anything(bench: Bench, stub: LMStub) -> None:
    """Neither a request nor a call of the meter."""
    stub.behaviour = failing(401)
    with pytest.raises(LMAuthError):
        await bench.run()
    meter = Meter(max_calls=5)
    with pytest.raises(LMAuthError, match="until it answers again") as refused:
        await bench.run(meter=meter)

    assert (stub.calls, meter.calls_now, refused.value.is_circuit_open) == (1, 0, True)


async def test_a_job_that_is_let_in_after_its_deadline_is_not_started(bench: Bench, stub: LMStub) -> None:
    """It may have waited for its turn."""
    with pytest.raises(ExpiredError):
        await bench.runner.admit(Limits(lm="default", timeout_seconds=20), meter=Meter(max_calls=5, deadline_ms=1))

    assert stub.calls == 0


@pytest.mark.parametrize("is_asked_again", [True, False])
async def test_a_providers_refusal_is_not_asked_again(is_asked_again: bool, stub: LMStub) -> None:
    """It is the provider's answer to this request, and no invalid answer of the model."""
    settings = stub_settings(stub.url)
    bench = Bench(settings)
    bench.runner = Runner(bench.lms, bench.programs, max_repairs=2)
    stub.behaviour = saying("hello", finish_reason="stop" if is_asked_again else "content_filter")
    with pytest.raises(OutputInvalidError if is_asked_again else LMInvalidRequestError):
        await bench.run()
    await bench.lms.aclose()

    assert stub.calls == (3 if is_asked_again else 1)


@pytest.mark.parametrize(("status", "kind"), [(429, LMRateLimitedError), (401, LMAuthError), (400, WorkerError)])
async def test_other_failures_are_not_tried_again_here(
    bench: Bench, stub: LMStub, status: int, kind: type[WorkerError]
) -> None:
    """A rate limit is only made worse."""
    stub.behaviour = failing(status)
    with pytest.raises(kind):
        await bench.run()

    assert stub.calls == 1


async def test_an_lm_that_hangs_is_not_tried_again_here(stub: LMStub) -> None:
    """The LM's time limit is the larger part of the job's."""
    bench = Bench(stub_settings(stub.url, lm_timeout_seconds=0.2))
    stub.behaviour = stub.hang
    with pytest.raises(LMTimeoutError):
        await bench.run()
    await bench.lms.aclose()

    assert stub.calls == 1


async def test_a_run_ends_at_its_own_time_limit(bench: Bench, stub: LMStub) -> None:
    """It is the job's fault, not the LM's."""
    stub.behaviour = stub.hang
    with pytest.raises(JobTimeoutError, match=r"0\.2 seconds"):
        await bench.run(timeout_seconds=0.2)


async def test_a_run_may_not_make_more_calls_than_its_budget(bench: Bench, stub: LMStub) -> None:
    """The quick retry counts, too; the run says what the LM said."""
    stub.behaviour = failing(500)
    meter = Meter(max_calls=1)
    with pytest.raises(LMUnavailableError):
        await bench.run(meter=meter)

    assert (stub.calls, meter.calls) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param("I'd rather not.", id="no format"),
        pytest.param("[[ ## sentiment ## ]]\nhappy\n[[ ## confidence ## ]]\n0.5", id="not a choice"),
        pytest.param("[[ ## sentiment ## ]]\npositive\n[[ ## confidence ## ]]\n7.3", id="out of range"),
        pytest.param("[[ ## sentiment ## ]]\npositive", id="one missing"),
        pytest.param("[[ ## sentiment ## ]]\n\ud800\n[[ ## confidence ## ]]\n0.5", id="lone surrogate"),
        pytest.param("x" * 10_000_000, id="10 MB"),
    ],
)
async def test_an_answer_that_breaks_the_declaration_is_output_invalid(
    bench: Bench, stub: LMStub, text: str | None
) -> None:
    """Never a wrong value, and never a bug."""
    stub.behaviour = saying(text)
    with pytest.raises(OutputInvalidError):
        await bench.run()

    assert stub.calls == 1


async def test_a_completion_without_choices_is_output_invalid(bench: Bench, stub: LMStub) -> None:
    """Some proxies answer ``{}``."""

    async def empty(prompt: str, call: int) -> web.StreamResponse:
        return web.json_response({})

    stub.behaviour = empty
    with pytest.raises(OutputInvalidError):
        await bench.run()


async def test_a_text_output_with_a_lone_surrogate_is_output_invalid(bench: Bench, stub: LMStub) -> None:
    """It could not be written into the reply, after it was paid for."""
    stub.behaviour = saying(chat_text({"answer": "half of \ud83d"}))
    with pytest.raises(OutputInvalidError):
        await bench.run(on=bench.program("text -> answer"))


async def test_outputs_that_stay_invalid_end_in_a_question_where_that_is_allowed(bench: Bench, stub: LMStub) -> None:
    """Policy ``execute``: once, and never silent."""

    async def stubborn(prompt: str, call: int) -> web.StreamResponse:
        return completion("no format" if call == 1 else chat_text({"answer": "It is positive."}))

    stub.behaviour = stubborn
    meter = Meter(max_calls=5)
    result = await bench.run(meter=meter, may_fall_back=True)

    assert result.outputs == {"answer": "It is positive."}
    assert (result.fallback_reason or "").startswith("output_invalid: ")
    assert result.warnings
    assert meter.calls == 2
    assert "[[ ## question ## ]]\nI love it" in stub.prompts[1]


@pytest.mark.parametrize("behaviour", [failing(500), failing(429), failing(401)])
async def test_an_lm_in_trouble_is_no_reason_to_fall_back(bench: Bench, stub: LMStub, behaviour: Any) -> None:
    """The question would fail the same way."""
    stub.behaviour = behaviour
    with pytest.raises(WorkerError) as failed:
        await bench.run(may_fall_back=True)

    assert failed.value.recoverable


async def test_a_run_without_inputs_never_ends_as_a_refusal_after_a_call(bench: Bench, stub: LMStub) -> None:
    """The inputs were accepted; what was paid for must be stored as a failed run."""
    stub.behaviour = saying("no format")
    program = bench.program(
        {"inputs": [{"name": "hint", "required": False}], "outputs": [{"name": "number", "type": "integer"}]}
    )
    with pytest.raises(OutputInvalidError):
        await bench.run({}, on=program, may_fall_back=True)


async def test_question_and_answer_runs_the_legacy_signature(bench: Bench, stub: LMStub) -> None:
    """One call, one answer."""
    stub.outputs = {"answer": "42"}
    result = await bench.run({"question": "why?"}, on=bench.program({}))

    assert result.outputs == {"answer": "42"}


async def test_runs_at_the_same_time_do_not_share_their_meters(bench: Bench, stub: LMStub) -> None:
    """Each pays for its own calls."""
    both_arrived = asyncio.Event()

    async def together(prompt: str, call: int) -> web.StreamResponse:
        if call == 2:
            both_arrived.set()
        await both_arrived.wait()
        usage = (100, 1) if "job-1" in prompt else (200, 2)
        return completion(chat_text(POSITIVE), usage=usage)

    stub.behaviour = together
    meters = [Meter(max_calls=1), Meter(max_calls=1)]
    await asyncio.gather(bench.run({"text": "job-1"}, meter=meters[0]), bench.run({"text": "job-2"}, meter=meters[1]))

    assert [(meter.calls, meter.prompt_tokens, meter.completion_tokens) for meter in meters] == [
        (1, 100, 1),
        (1, 200, 2),
    ]


@pytest.mark.parametrize("has_reasoning", [True, False])
async def test_the_chain_of_thought_is_returned_when_it_is_asked_for(
    bench: Bench, stub: LMStub, has_reasoning: bool
) -> None:
    """A declared ``reasoning`` stays the user's own."""
    stub.outputs = {"reasoning_": "because", "answer": "yes", "reasoning": "mine"}
    program = bench.program("text -> answer, reasoning", program_type="chain_of_thought")
    result = await bench.run(on=program, has_reasoning=has_reasoning)
    own = {"_reasoning": "because"} if has_reasoning else {}

    assert result.outputs == {"answer": "yes", "reasoning": "mine", **own}


async def test_sampling_settings_reach_the_lm(bench: Bench, stub: LMStub) -> None:
    """As the provider spells them, and the key as a header only."""
    bodies: list[dict[str, Any]] = []
    serve = stub._serve

    async def remember(request: web.Request) -> web.StreamResponse:
        bodies.append(json.loads(await request.read()))
        return await serve(request)

    stub._serve = remember  # type: ignore[method-assign]
    port = stub.port
    await stub.stop()
    await stub.start(port)
    await bench.run(config={"temperature": 0.25, "max_tokens": 77})

    assert bodies[0]["temperature"] == 0.25
    assert 77 in (bodies[0].get("max_tokens"), bodies[0].get("max_completion_tokens"))
    assert SECRET not in json.dumps(bodies)


async def test_demos_reach_the_prompt(bench: Bench, stub: LMStub) -> None:
    """As questions and answers in wire names."""
    program = bench.program(demos=[{"text": "Awful!", "sentiment": "negative", "confidence": 1}])
    await bench.run(on=program)

    assert "[[ ## text ## ]]\nAwful!" in stub.prompts[0]
    assert "[[ ## sentiment ## ]]\nnegative" in stub.prompts[0]


OFFLINE_OUTPUTS: list[dict[str, Any]] = [
    {"name": "choice", "constraints": {"enum": ["a", "b"]}},
    {"name": "share", "type": "probability"},
    {"name": "count", "type": "integer", "constraints": {"min": 3, "max": 4}},
    {"name": "flag", "type": "boolean"},
    {"name": "words", "type": "list<string>", "constraints": {"min_items": 2, "max_items": 3}},
    {"name": "sizes", "type": "dict<string, integer>"},
    {"name": "either", "type": "integer | string"},
    {"name": "maybe", "type": "string?"},
    {"name": "vector", "type": "embedding", "constraints": {"dimensions": 4}},
    {"name": "anything", "type": "any"},
    {"name": "short", "constraints": {"max_length": 3}},
    {"name": "long", "constraints": {"min_length": 200}},
]


@pytest.mark.parametrize("program_type", ["predict", "chain_of_thought"])
async def test_the_stand_in_answers_every_type_with_valid_values_and_says_so(program_type: str) -> None:
    """A team can wire everything up before it has a key."""
    bench = Bench(make_settings())
    definition = {"inputs": [{"name": "text"}], "outputs": OFFLINE_OUTPUTS}
    program = bench.program(definition, program_type=program_type)
    for number in range(20):
        result = await bench.run({"text": f"text {number}"}, on=program)
        assert check_outputs(program.signature, result.outputs)[0] == result.outputs
        assert result.warnings == [OFFLINE_WARNING]


async def test_the_stand_in_says_the_same_for_the_same_inputs() -> None:
    """In every process, and something else for others."""
    definition = {"inputs": [{"name": "text"}], "outputs": [{"name": "number", "type": "float"}]}
    answers = []
    for text in ("a", "a", "b"):
        bench = Bench(make_settings())
        answers.append((await bench.run({"text": text}, on=bench.program(definition))).outputs["number"])

    assert answers[0] == answers[1]
    assert answers[0] != answers[2]


async def test_the_stand_in_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at its first job either."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a connection was opened")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "create_connection", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    result = await Bench(make_settings()).run()

    assert set(result.outputs) == {"sentiment", "confidence"}
