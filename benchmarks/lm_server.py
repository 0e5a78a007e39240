"""An OpenAI-compatible server that answers at once, or after a delay: ``python -m benchmarks.lm_server``.

A process of its own, so that its CPU counts for nobody, and a bare asyncio protocol, so that it takes little of the cores
that it shares. The path says what to answer and when: ``/<answer>/<delay in ms>/v1/chat/completions``. ``GET /peak`` returns
the largest number of calls that were in flight together since the last such request.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any, cast

import uvloop

from benchmarks.programs import ANSWERS, LM_ANSWER_MODEL

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PATH = re.compile(rb"^POST /(\w+)/(\d+)/v1/chat/completions ")
_HEAD_END = b"\r\n\r\n"


class CallCount:
    """How many calls are in flight, and how many were at most."""

    def __init__(self) -> None:
        self._now = 0
        self._peak = 0

    def begin(self) -> None:
        """Count a call in."""
        self._now += 1
        self._peak = max(self._peak, self._now)

    def end(self) -> None:
        """Count a call out."""
        self._now -= 1

    def take_peak(self) -> int:
        """Return the largest number since the last time, and start over."""
        peak, self._peak = self._peak, self._now
        return peak


class LMProtocol(asyncio.Protocol):
    """One keep-alive connection; requests on it follow each other."""

    def __init__(self, responses: dict[str, bytes], calls: CallCount) -> None:
        self._responses = responses
        self._calls = calls
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            size = end + len(_HEAD_END) + (int(length.group(1)) if length else 0)
            if len(self._received) < size:
                return
            self._received = self._received[size:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"GET /peak "):
            self._write(respond(json.dumps({"peak": self._calls.take_peak()}).encode()))
            return
        path = _PATH.match(head)
        if path is None or path.group(1).decode() not in self._responses:
            self._write(respond(b'{"error": {"message": "no such answer"}}', status="404 Not Found"))
            return
        self._calls.begin()
        delay_ms = int(path.group(2))
        response = self._responses[path.group(1).decode()]
        if delay_ms:
            asyncio.get_running_loop().call_later(delay_ms / 1_000, self._finish, response)
        else:
            self._finish(response)

    def _finish(self, response: bytes) -> None:
        self._calls.end()
        self._write(response)

    def _write(self, response: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response)


def respond(body: bytes, *, status: str = "200 OK") -> bytes:
    """Return an HTTP response with a JSON body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def completion(outputs: dict[str, str]) -> dict[str, Any]:
    """Return a chat completion that DSPy's chat adapter and ours can read."""
    sections = [f"[[ ## {name} ## ]]\n{text}" for name, text in outputs.items()]
    text = "\n\n".join([*sections, "[[ ## completed ## ]]"])
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 180, "completion_tokens": 24, "total_tokens": 204}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": LM_ANSWER_MODEL,
        "choices": [choice],
        "usage": usage,
    }


async def serve() -> None:
    """Serve on a free loopback port, say which on stdout, and stop when stdin is closed."""
    responses = {name: respond(json.dumps(completion(outputs)).encode()) for name, outputs in ANSWERS.items()}
    calls = CallCount()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: LMProtocol(responses, calls), "127.0.0.1", 0, backlog=4_096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
