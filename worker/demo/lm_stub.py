"""A stand-in for an LM provider: one OpenAI-compatible route on a port that is closed until it is opened."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any


class LMStub:
    """Answer every chat completion with the same fields, written as the request asks for them.

    A request with a ``response_format`` gets JSON, any other one ``[[ ## name ## ]]`` sections.
    The port is bound from the start, so that nobody else takes it, and refuses connections until `open`.

    Args:
        fields: Output field → value of every answer.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        sections = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
        self._sections = "\n\n".join([*sections, "[[ ## completed ## ]]"])
        self._json = json.dumps(fields)
        self._server: asyncio.Server | None = None
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    async def open(self) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def close(self) -> None:
        """Give the port back."""
        if self._server is None:
            self._socket.close()
        else:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            writer.write(_response(self._completion(request)))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the worker hung up
        finally:
            writer.close()

    def _completion(self, request: Mapping[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": self._json if request.get("response_format") else self._sections}
        return {
            "id": "chatcmpl-demo",
            "object": "chat.completion",
            "created": 0,
            "model": request.get("model", "demo"),
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 120, "completion_tokens": 20, "total_tokens": 140},
        }


async def _read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length:"))
    request: dict[str, Any] = json.loads(await reader.readexactly(length))
    return request


def _response(document: Mapping[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
