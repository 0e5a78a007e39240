"""What AMQP does not tell and the management API does: the ack time-out, bindings, and the broker's clock.

From RabbitMQ 3.12 on a policy's ``consumer-timeout`` sets the ack time-out of a queue; 3.10 refuses such a policy.
Where there is none, ``rabbitmq.conf`` sets it, which no API tells.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import aiohttp

from worker.amqp.topology import Topology
from worker.doctor.check import CHECK_SECONDS, Check, error, ok, skipped, warning
from worker.message import LANES
from worker.settings import Settings

DEFAULT_ACK_TIMEOUT_SECONDS = 1_800
# The Date header has whole seconds.
_MAX_CLOCK_SECONDS = 2.0
_NO_URL = "AMQP does not tell it"
_GIVE_URL = "Give --management-url http://user:password@host:15672"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the management API said.

    Attributes:
        version: Of the broker, as it writes it.
        policies: Work queue → definition of the policy that holds for it; a queue that is missing is left out.
        bindings: Source, destination and routing key of every binding of the vhost.
        ahead_seconds: The broker's clock less ours.
    """

    version: str
    policies: Mapping[str, Mapping[str, Any]]
    bindings: frozenset[tuple[str, str, str]]
    ahead_seconds: float


async def check_management(settings: Settings, topology: Topology, *, url: str | None) -> list[Check]:
    """Check ack time-out, bindings and clock, or say what to compare by hand."""
    if url is None:
        return without_management(settings)
    if re.match(r"https?://", url, re.IGNORECASE) is None:
        return [error("management", "The URL does not begin with http:// or https://", _GIVE_URL)]
    try:
        answer = await _ask(url, topology, vhost=vhost_of(settings))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as fault:
        mend = "Correct --management-url; its user needs the tag `monitoring` or `management`"
        return [error("management", f"No answer that can be used: {_describe(fault)}", mend)]
    return [
        judge_ack_timeout(settings, answer),
        judge_bindings(topology, answer),
        judge_clock("clock of the broker", answer.ahead_seconds, limit_seconds=_MAX_CLOCK_SECONDS),
    ]


def without_management(settings: Settings) -> list[Check]:
    """Say what cannot be checked over AMQP."""
    return [
        skipped("ack time-out", _NO_URL, f"{_GIVE_URL}. {_compare(settings)}"),
        skipped("bindings", _NO_URL, f"{_GIVE_URL}; `--declare` binds what is not bound"),
        skipped("clock of the broker", _NO_URL, _GIVE_URL),
    ]


def judge_ack_timeout(settings: Settings, answer: Answer) -> Check:
    """Compare the broker's ack time-out with the one that the settings reckon with."""
    name, want = "ack time-out", settings.ack_timeout_seconds
    given = {queue: policy.get("consumer-timeout") for queue, policy in answer.policies.items()}
    short = {queue: ms for queue, ms in given.items() if isinstance(ms, int) and ms < want * 1_000}
    if short:
        queue, ms = next(iter(short.items()))
        mend = "Raise the policy's consumer-timeout, or lower DSPEX_ACK_TIMEOUT_SECONDS and the times below it"
        return error(name, f"{queue} has {ms / 1_000:g} s, and the worker reckons with {want:g} s", mend)
    if given and all(isinstance(ms, int) for ms in given.values()):
        return ok(name, f"The policy gives work queues no less than the {want:g} s that the worker reckons with")
    sentence = (
        f"No policy sets it for all work queues, so consumer_timeout in rabbitmq.conf does (RabbitMQ {answer.version})"
    )
    if want > DEFAULT_ACK_TIMEOUT_SECONDS:
        mend = f"Set it to {want * 1_000:.0f} or more there, or from RabbitMQ 3.12 on by the policy in deploy/rabbitmq"
        return warning(name, f"{sentence}; its default is less than the {want:g} s of the settings", mend)
    return skipped(name, sentence, _compare(settings))


def judge_bindings(topology: Topology, answer: Answer) -> Check:
    """Look for bindings that are missing: what is published there would be lost or returned."""
    wanted = [(each.exchange, each.queue, each.routing_key) for each in topology.bindings]
    missing = [f"{source} → {queue}" for source, queue, key in wanted if (source, queue, key) not in answer.bindings]
    if missing:
        mend = "Start a worker, which binds them, or run `dspex-worker doctor --declare`"
        return warning("bindings", f"Missing: {', '.join(missing)}", mend)
    return ok("bindings", f"All {len(wanted)} are there")


def judge_clock(name: str, ahead_seconds: float, *, limit_seconds: float) -> Check:
    """Judge how far a clock is from ours."""
    sentence = f"It is {abs(ahead_seconds):.1f} s {'ahead of' if ahead_seconds > 0 else 'behind'} this machine's"
    if abs(ahead_seconds) <= limit_seconds:
        return ok(name, f"It agrees with this machine's within {limit_seconds:g} s")
    return warning(name, sentence, "Keep both machines on time (NTP): deadlines are compared with this machine's clock")


def vhost_of(settings: Settings) -> str:
    """Return the vhost that the AMQP URL names."""
    path = urlsplit(settings.amqp_url.get_secret_value()).path
    return unquote(path[1:]) or "/"


async def _ask(url: str, topology: Topology, *, vhost: str) -> Answer:
    base, headers = _split_login(url)
    timeout = aiohttp.ClientTimeout(total=CHECK_SECONDS - 0.5)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        overview, date = await _get(session, f"{base}/api/overview")
        ahead_seconds = parsedate_to_datetime(date).timestamp() - time.time() if date else 0.0
        policies = {}
        for queue in (topology.work_queue(lane) for lane in LANES):
            found, _ = await _get(session, f"{base}/api/queues/{quote(vhost, safe='')}/{quote(queue, safe='')}")
            if found is not None:
                policies[queue] = found.get("effective_policy_definition") or {}
        bindings, _ = await _get(session, f"{base}/api/bindings/{quote(vhost, safe='')}")
    known = frozenset((each["source"], each["destination"], each["routing_key"]) for each in bindings or ())
    return Answer(str(overview["rabbitmq_version"]), policies, known, ahead_seconds)


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[Any, str]:
    """Return a document, or None where there is none, and the time that the broker's web server tells."""
    async with session.get(url) as response:
        if response.status == 404:
            return None, ""
        response.raise_for_status()
        return await response.json(), response.headers.get("Date", "")


def _describe(fault: Exception) -> str:
    """Say what went wrong, never in the error's own words: they may repeat a URL with its password."""
    match fault:
        case aiohttp.ClientResponseError():
            return f"HTTP status {fault.status}"
        case aiohttp.ClientConnectorError():
            return fault.os_error.strerror or "no connection"
        case TimeoutError():
            return "none in time"
        case _:
            return type(fault).__name__


def _split_login(url: str) -> tuple[str, dict[str, str]]:
    """Take user and password out of a URL, and return the header that carries them."""
    address = urlsplit(url)
    headers = {}
    if address.username is not None:
        login = f"{unquote(address.username)}:{unquote(address.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    place = address.netloc.rpartition("@")[2]
    return urlunsplit((address.scheme, place, address.path.rstrip("/"), "", "")), headers


def _compare(settings: Settings) -> str:
    return (
        "See that consumer_timeout of `rabbitmqctl environment`, in milliseconds, is no less than "
        f"DSPEX_ACK_TIMEOUT_SECONDS ({settings.ack_timeout_seconds:g} s)"
    )
