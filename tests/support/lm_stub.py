"""A local OpenAI-compatible server: answers as told, misbehaves as told, and counts every call by job."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

MODEL = "gpt-4o-mini-2024-07-18"
_JOB = re.compile(r"job-(\d+)")

# Gets the text of the prompt and the number of this call (1 at first); returns the response.
Behaviour = Callable[[str, int], Awaitable[web.StreamResponse]]


class LMStub:
    """Serves ``/v1/chat/completions`` on a loopback port.

    Attributes:
        calls: Calls received so far.
        by_job: Job number, from ``job-<n>`` in the prompt → calls.
        prompts: Every prompt received, all messages joined.
        bodies: Every request body received.
        called: Set by the first call.
        aborted: Set when a caller closes its connection before it has its answer.
        behaviour: What to do with a call; answers by default.
        outputs: Field → text of the default answer.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.by_job: Counter[int] = Counter()
        self.prompts: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.outputs: dict[str, str] = {"answer": "42"}
        self.behaviour: Behaviour = self.answer
        self.called = asyncio.Event()
        self.aborted = asyncio.Event()
        self._received = asyncio.Condition()
        self.released = asyncio.Event()
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self, port: int = 0) -> None:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/v1/chat/completions", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.released.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def reach(self, calls: int) -> None:
        """Wait until so many calls have come in."""
        async with self._received:
            await self._received.wait_for(lambda: self.calls >= calls)

    async def answer(self, prompt: str, call: int) -> web.StreamResponse:
        return completion(chat_text(self.outputs))

    async def answer_by_schema(self, prompt: str, call: int) -> web.StreamResponse:
        """Answer with JSON where a response schema was sent, with sections where none was."""
        if "response_format" in self.bodies[-1]:
            return completion(json.dumps(self.outputs))
        return completion(chat_text(self.outputs))

    async def hang(self, prompt: str, call: int) -> web.StreamResponse:
        await self.released.wait()
        return completion(chat_text(self.outputs))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        prompt = "\n".join(str(message["content"]) for message in body["messages"])
        self.calls += 1
        self.prompts.append(prompt)
        self.bodies.append(body)
        if match := _JOB.search(str(body["messages"][-1]["content"])):
            self.by_job[int(match.group(1))] += 1
        self.called.set()
        async with self._received:
            self._received.notify_all()
        try:
            return await self.behaviour(prompt, self.calls)
        except asyncio.CancelledError:
            self.aborted.set()
            raise


def chat_text(outputs: dict[str, str]) -> str:
    """Write an answer as the model is asked to."""
    sections = [f"[[ ## {name} ## ]]\n{text}" for name, text in outputs.items()]
    end = "completed_" if "completed" in outputs else "completed"
    return "\n\n".join([*sections, f"[[ ## {end} ## ]]"])


def completion(text: str | None, *, usage: tuple[int, int] = (100, 10), finish_reason: str = "stop") -> web.Response:
    """Return a completion as OpenAI spells it."""
    prompt_tokens, completion_tokens = usage
    return web.json_response(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }
    )


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Return a behaviour that does one thing after the other, and the last one for ever."""

    async def act(prompt: str, call: int) -> web.StreamResponse:
        return await behaviours[min(call, len(behaviours)) - 1](prompt, call)

    return act


def failing(status: int, *, code: str = "error", headers: dict[str, str] | None = None) -> Behaviour:
    """Return a behaviour that refuses every call."""

    async def refuse(prompt: str, call: int) -> web.StreamResponse:
        error: dict[str, Any] = {"message": f"refused with {status}", "type": code, "code": code}
        return web.json_response({"error": error}, status=status, headers=headers)

    return refuse


def saying(text: str | None, *, finish_reason: str = "stop") -> Behaviour:
    """Return a behaviour that answers every call with the same text."""

    async def say(prompt: str, call: int) -> web.StreamResponse:
        return completion(text, finish_reason=finish_reason)

    return say
