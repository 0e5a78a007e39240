"""An OpenAI-compatible server that knows every call: which job, which worker, paid or not, and what is in flight.

A bare asyncio protocol in the process of the suite: about 0.1 ms a call, and its books can be read at any instant.
A worker is told by its API key (`Stage` gives each life of a worker another one). A call is *paid* when it is answered
with a completion; refused, hung and dropped calls are not.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

from tests.faults.jobs import label_of, number_in

Fault = Literal["429", "429-retry-after", "500", "hang", "garbage", "400", "401", "empty"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nauthorization: *bearer +(\S+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_STATUS = {
    "429": "429 Too Many Requests",
    "500": "500 Internal Server Error",
    "400": "400 Bad Request",
    "401": "401 Unauthorized",
}


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        number: 0 at first, in the order of arrival.
        job: The job that its prompt names, or None.
        caller: The API key it came with.
        began: ``time.monotonic()`` of its arrival.
        ended: ``time.monotonic()`` of its answer; None while it is in flight, and for a call that was never answered.
        fault: What was done to it instead of answering; None for an answer.
        is_dropped: Whether its connection was gone before the answer.
    """

    number: int
    job: int | None
    caller: str
    began: float
    ended: float | None = None
    fault: Fault | None = None
    is_dropped: bool = False

    @property
    def is_paid(self) -> bool:
        """Whether a provider would bill it: everything that was not refused."""
        return self.fault in (None, "garbage", "empty", "hang")


@dataclass(frozen=True, slots=True)
class Trouble:
    """How often calls go wrong.

    Attributes:
        shares: Fault → share of the calls, 0 to 1; together at most 1.
        is_first_only: Whether only the first call of each job may go wrong.
        retry_after_seconds: What ``429-retry-after`` says.
    """

    shares: Mapping[Fault, float] = field(default_factory=dict)
    is_first_only: bool = False
    retry_after_seconds: int = 1


class LMStub:
    """Serves ``/v1/chat/completions`` on a loopback port.

    Args:
        seed: Decides which calls go wrong.

    Attributes:
        calls: Every call, in the order of arrival.
        by_job: Job → calls.
        paid: Job → calls that a provider would bill.
        by_caller: API key → jobs that it called for.
        delay_seconds: How long an answer takes.
        trouble: What goes wrong, and how often.
        is_out: Whether every call is answered with 503: an outage.
        arrived: Set by every call; who waits clears it.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self.calls: list[Call] = []
        self.by_job: Counter[int] = Counter()
        self.paid: Counter[int] = Counter()
        self.by_caller: defaultdict[str, set[int]] = defaultdict(set)
        self.delay_seconds = 0.0
        self.trouble = Trouble()
        self.is_out = False
        self.arrived = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._numbers = itertools.count()
        self._in_flight: dict[int, Call] = {}
        self._transports: set[asyncio.Transport] = set()
        self._held: list[_Connection] | None = None

    @property
    def url(self) -> str:
        """What ``DSPEX_LM_API_BASE`` is set to."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def in_flight(self) -> list[Call]:
        """The calls that are not answered now and whose caller is still connected."""
        return list(self._in_flight.values())

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1_024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self._transports):
            transport.abort()
        # Their connection_lost comes in the next turn.
        await asyncio.sleep(0)

    async def reach(self, calls: int) -> None:
        """Wait until so many calls have come in."""
        while len(self.calls) < calls:
            self.arrived.clear()
            await self.arrived.wait()

    def hold(self) -> None:
        """Answer nobody until `let_go`."""
        self._held = []

    def let_go(self, *, caller: str | None = None) -> None:
        """Answer whoever was held, and go on; with a caller, answer only its calls and keep holding."""
        held, self._held = self._held or [], None
        if caller is not None:
            self._held = [connection for connection in held if connection.caller != caller]
        for connection in held:
            if caller in (None, connection.caller):
                connection._answer()

    # What a connection calls.

    def begin(self, prompt: str, caller: str) -> Call:
        """Note a call and decide what becomes of it."""
        job = number_in(prompt)
        call = Call(next(self._numbers), job, caller, time.monotonic(), fault=self._draw(job))
        self.calls.append(call)
        self._in_flight[call.number] = call
        if job is not None:
            self.by_job[job] += 1
            self.by_caller[caller].add(job)
            self.paid[job] += not self.is_out and call.is_paid
        self.arrived.set()
        return call

    def end(self, call: Call, *, is_dropped: bool = False) -> None:
        """Note that a call is over."""
        if self._in_flight.pop(call.number, None) is None:
            return
        call.is_dropped = is_dropped
        if not is_dropped:
            call.ended = time.monotonic()

    def respond(self, call: Call) -> bytes:
        """Return the response to a call, head and all."""
        if self.is_out:
            return _refusal("503 Service Unavailable")
        match call.fault:
            case "429-retry-after":
                return _refusal(_STATUS["429"], f"Retry-After: {self.trouble.retry_after_seconds}\r\n")
            case "429" | "500" | "400" | "401":
                return _refusal(_STATUS[call.fault])
            case "garbage":
                return _response(json.dumps(_completion("no sections in here")))
            case "empty":
                return _response(json.dumps(_completion("")))
            case _:
                label = label_of(call.job) if call.job is not None else "none"
                text = f"[[ ## label ## ]]\n{label}\n\n[[ ## completed ## ]]"
                return _response(json.dumps(_completion(text)))

    def _draw(self, job: int | None) -> Fault | None:
        if not self.trouble.shares or (self.trouble.is_first_only and job is not None and self.by_job[job]):
            return None
        left = self._random.random()
        for fault, share in self.trouble.shares.items():
            left -= share
            if left < 0:
                return fault
        return None


class _Connection(asyncio.Protocol):
    """One keep-alive connection; requests on it follow each other."""

    def __init__(self, stub: LMStub) -> None:
        self._stub = stub
        self._received = b""
        self._call: Call | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def caller(self) -> str | None:
        """Whose call is waiting for its answer here."""
        return self._call.caller if self._call is not None else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._stub._transports.add(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._stub._transports.discard(self._transport)
        if self._timer is not None:
            self._timer.cancel()
        if self._call is not None:
            self._stub.end(self._call, is_dropped=True)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(_HEAD_END)
        if end < 0:
            return
        head = self._received[:end]
        length = _LENGTH.search(head)
        size = end + len(_HEAD_END) + (int(length.group(1)) if length else 0)
        if len(self._received) < size:
            return
        body, self._received = self._received[end + len(_HEAD_END) : size], self._received[size:]
        self._take(head, body)

    def _take(self, head: bytes, body: bytes) -> None:
        key = _KEY.search(head)
        # All of it: the message that asks for a repair does not name the job again.
        prompt = "\n".join(str(message["content"]) for message in json.loads(body)["messages"])
        self._call = self._stub.begin(prompt, key.group(1).decode() if key else "")
        if self._call.fault == "hang" and not self._stub.is_out:
            return
        if self._stub._held is not None:
            self._stub._held.append(self)
        elif self._stub.delay_seconds:
            self._timer = asyncio.get_running_loop().call_later(self._stub.delay_seconds, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        call, self._call, self._timer = self._call, None, None
        if call is None or self._transport is None or self._transport.is_closing():
            return
        self._transport.write(self._stub.respond(call))
        self._stub.end(call)


def _completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [choice],
        "usage": usage,
    }


def _refusal(status: str, headers: str = "") -> bytes:
    error = {"message": f"refused with {status}", "type": "error", "code": "error"}
    return _response(json.dumps({"error": error}), status=status, headers=headers)


def _response(body: str, *, status: str = "200 OK", headers: str = "") -> bytes:
    encoded = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(encoded)}\r\n\r\n"
    return head.encode() + encoded
