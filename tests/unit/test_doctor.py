"""What the doctor concludes from what it sees, and that its table is the one of the page."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

import worker.doctor
import worker.doctor.broker
from worker.amqp.differences import read_difference
from worker.amqp.errors import ConnectionLostError
from worker.amqp.topology import Topology
from worker.doctor import Check, Options, Verdict, has_errors
from worker.doctor.check import bounded, error, ok, skipped, warning
from worker.doctor.comparison import Finding, State
from worker.doctor.lm import check_aliases
from worker.doctor.management import Answer, check_management, judge_ack_timeout, judge_bindings, judge_clock
from worker.doctor.store import check_file, check_store, file_system_of, sqlite_path
from worker.doctor.topology import judge_topology
from worker.doctor.traffic import check_consumers, check_delays
from worker.doctor.workers import Workforce, check_workers, judge_circuits, look
from worker.settings import Settings, load
from worker.store import WorkerRecord

TOPOLOGY = Topology.of(namespace="dspex", delays_ms=[1_000, 7_200_000])
QUEUES = {queue.name: queue for queue in TOPOLOGY.queues}
LONG = {"consumer-timeout": 1_800_000}
MOUNTS = """\
/dev/vda1 / ext4 rw 0 0
server:/export /srv nfs4 rw 0 0
sshfs /srv/my\\040data fuse.sshfs rw 0 0
tmpfs /srv/fast tmpfs rw 0 0
"""


def settings(**given: str) -> Settings:
    return load({f"DSPEX_{name.upper()}": text for name, text in given.items()})


def answer(
    policies: dict[str, dict[str, int]] | None = None, bindings: frozenset[tuple[str, str, str]] = frozenset()
) -> Answer:
    return Answer("3.13.7", policies or {}, bindings, ahead_seconds=0.0)


def found(name: str, state: State = State.SAME, *, messages: int = 0, consumers: int = 0) -> dict[str, Finding]:
    return {name: Finding(QUEUES[name], state, messages=messages, consumers=consumers)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received the value "
                "'100' of type 'signedint' but current is the value '5' of type 'signedint'"
            ),
            ("queue", "q", "x-delivery-limit", "5", "100", False),
        ),
        (
            (
                "inequivalent arg 'x-overflow' for queue 'q' in vhost '/': received none but current is the value "
                "'drop-head' of type 'longstr'"
            ),
            ("queue", "q", "x-overflow", "drop-head", "none", True),
        ),
        (
            "inequivalent arg 'type' for exchange 'e' in vhost '/': received 'direct' but current is 'fanout'",
            ("exchange", "e", "type", "fanout", "direct", False),
        ),
    ],
)
def test_what_the_broker_says_of_a_difference_is_read(text, expected):
    """Kind, name, argument, have, want, and whether what it has is text."""
    difference = read_difference(text)

    assert difference is not None
    assert tuple(getattr(difference, name) for name in difference.__slots__) == expected
    assert read_difference("NOT_FOUND - no queue 'q' in vhost '/'") is None


async def test_no_check_stops_the_others():
    """What hangs or breaks is a finding of its own."""

    async def hang() -> Sequence[Check]:
        await asyncio.Event().wait()
        return []

    async def fail() -> Sequence[Check]:
        raise RuntimeError("odd")

    late = await bounded("slow", hang, seconds=0.01)
    broken = await bounded("broken", fail)

    assert [(check.name, check.verdict) for check in (*late, *broken)] == [
        ("slow", Verdict.ERROR),
        ("broken", Verdict.ERROR),
    ]
    assert "RuntimeError: odd" in broken[0].sentence


def test_only_errors_fail_unless_warnings_count_too():
    """Skipped checks never do."""
    checks = [ok("a", ""), skipped("b", ""), warning("c", "", "")]

    assert not has_errors(checks, is_strict=False)
    assert has_errors(checks, is_strict=True)
    assert has_errors([error("d", "", "")], is_strict=False)
    assert not has_errors(checks[:2], is_strict=True)


@pytest.mark.parametrize(
    ("policies", "ack_timeout_seconds", "expected"),
    [
        ({"dspex.execute": LONG, "dspex.create": LONG}, "1800", Verdict.OK),
        ({"dspex.execute": LONG, "dspex.create": {"consumer-timeout": 1_000}}, "1800", Verdict.ERROR),
        ({"dspex.execute": LONG, "dspex.create": {}}, "1800", Verdict.SKIPPED),
        ({}, "1800", Verdict.SKIPPED),
        ({}, "3600", Verdict.WARNING),
    ],
)
def test_the_ack_timeout_of_the_broker_must_not_be_shorter(policies, ack_timeout_seconds, expected):
    """Than the one that the settings reckon with; without a policy only the default is known."""
    check = judge_ack_timeout(settings(ack_timeout_seconds=ack_timeout_seconds), answer(policies))

    assert check.verdict == expected


def test_a_binding_that_is_missing_is_named():
    """By exchange and queue."""
    bindings = frozenset((each.exchange, each.queue, each.routing_key) for each in TOPOLOGY.bindings)
    gone = ("dspex", "dspex.execute", "execute")

    assert judge_bindings(TOPOLOGY, answer(bindings=bindings)).verdict == Verdict.OK
    assert judge_bindings(TOPOLOGY, answer(bindings=bindings - {gone})).sentence == "Missing: dspex → dspex.execute"


@pytest.mark.parametrize(
    ("ahead_seconds", "expected"), [(0.9, "ok"), (-0.9, "ok"), (1.5, "1.5 s ahead of"), (-3, "3.0 s behind")]
)
def test_a_clock_that_is_off_is_told_with_its_direction(ahead_seconds, expected):
    """Both ways, over one second."""
    check = judge_clock("clock of the store", ahead_seconds, limit_seconds=1.0)

    assert expected in f"{check.verdict} {check.sentence}"


async def test_the_management_api_is_asked_with_the_login_of_its_url():
    """Names are escaped, and a refusal is a finding that does not show the password."""
    asked: list[str] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.headers.get('Authorization', '')[:6]}{request.raw_path}")
        if request.path == "/api/overview":
            return web.json_response({"rabbitmq_version": "4.1.0"})
        if request.path.startswith("/api/bindings"):
            return web.json_response([])
        return web.json_response({"effective_policy_definition": LONG})

    application = web.Application()
    application.router.add_get("/api/{path:.*}", serve)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    own = settings(amqp_url="amqp://dspex:secret@127.0.0.1/team%2Fa")
    checks = await check_management(own, TOPOLOGY, url=f"http://operator:secret@127.0.0.1:{port}/")
    await runner.cleanup()
    gone = await check_management(own, TOPOLOGY, url=f"http://operator:secret@127.0.0.1:{port}/")

    assert asked[:2] == ["Basic /api/overview", "Basic /api/queues/team%2Fa/dspex.create"]
    assert [check.verdict for check in checks] == [Verdict.OK, Verdict.WARNING, Verdict.OK]
    assert [check.name for check in gone] == ["management"]
    assert "secret" not in gone[0].sentence


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("operator:secret@127.0.0.1:15672", "The URL does not begin with http:// or https://"),
        ("ftp://operator:secret@127.0.0.1/", "The URL does not begin with http:// or https://"),
        ("http://operator:secret@127.0.0.1:port/", "No answer that can be used: "),
        ("http://operator:secret/x@127.0.0.1/", "No answer that can be used: "),
        ("http://operator:secret@[::1/", "No answer that can be used: "),
    ],
)
async def test_a_management_url_that_cannot_be_used_is_not_repeated(url, expected):
    """It holds a password."""
    (check,) = await check_management(settings(), TOPOLOGY, url=url)

    assert (check.verdict, check.sentence.startswith(expected)) == (Verdict.ERROR, True)
    assert "secret" not in f"{check.sentence} {check.mend}"


async def test_a_broker_that_goes_in_the_middle_is_a_finding(monkeypatch):
    """The other sides are told all the same."""

    @contextlib.asynccontextmanager
    async def connected(_: Settings) -> AsyncIterator[None]:
        yield

    def lose(*_: object) -> list[Check]:
        raise ConnectionLostError("The connection was closed")

    monkeypatch.setattr(worker.doctor.broker, "connected", connected)
    monkeypatch.setattr(worker.doctor.broker, "check_connection", lose)
    checks = {
        check.name: check
        for check in await worker.doctor.examine(settings(store_url="sqlite:///nowhere/x.db"), Options())
    }

    assert (checks["broker"].verdict, checks["topology"].verdict) == (Verdict.ERROR, Verdict.SKIPPED)
    assert "The connection was closed" in checks["broker"].sentence
    assert "store" in checks


def test_lanes_without_consumers_are_told_by_what_waits():
    """Nobody consumes: a warning while nothing waits, then an error; a queue that is missing is the topology's."""
    queues = found("dspex.create") | found("dspex.execute", messages=3) | found("dspex.control", State.MISSING)
    verdicts = [check.verdict for check in check_consumers(TOPOLOGY, queues)]
    busy = check_consumers(TOPOLOGY, found("dspex.create", messages=9, consumers=2))[0]

    assert verdicts == [Verdict.WARNING, Verdict.ERROR, Verdict.SKIPPED]
    assert busy.sentence == "2 consumers, 9 jobs wait"


def test_the_depth_of_the_ladder_is_told():
    """Step by step."""
    queues = found("dspex.delay.1000", messages=3) | found("dspex.delay.7200000", messages=1)
    (check,) = check_delays(TOPOLOGY, queues, lms_down=[])

    assert check.sentence == "Jobs wait for another attempt: 3 for 1 s, 1 for 2 h"


def test_jobs_on_the_ladder_are_a_warning_while_an_lm_is_down():
    """They circle until it answers; an empty ladder is well all the same."""
    queues = found("dspex.delay.1000", messages=40)
    (check,) = check_delays(TOPOLOGY, queues, lms_down=["down"])
    (empty,) = check_delays(TOPOLOGY, {}, lms_down=["down"])

    assert check.sentence == "40 jobs wait while down is down; Jobs wait for another attempt: 40 for 1 s"
    assert (check.verdict, empty.verdict) == (Verdict.WARNING, Verdict.OK)


def one_of(number: int, **facts: object) -> WorkerRecord:
    return replace(WorkerRecord(f"w{number}", "host", "0.2.0", 60.0, 0.5, is_living=True, settings="abc"), **facts)  # type: ignore[arg-type]


def is_down(seconds: float, code: str = "lm_unavailable") -> dict[str, dict[str, object]]:
    return {"down": {"code": code, "open_seconds": seconds}}


def test_an_lm_that_workers_take_for_down_is_a_warning_with_their_number():
    """Since when and why; an alias that has no key stays an error, and one that only workers know is told too."""
    living = [one_of(1, circuits=is_down(300)), one_of(2, circuits=is_down(12, "lm_auth")), one_of(3)]
    workforce = Workforce(living)
    aliases = [ok("lm default", "fine"), ok("lm down", "openai/x, with a key")]
    default, down = judge_circuits(aliases, workforce)
    keyless = judge_circuits([error("lm down", "needs a key", "Set one")], workforce)[0]
    unknown = judge_circuits(aliases[:1], workforce)[1]
    told = "2 of 3 workers take it for down (lm_auth, lm_unavailable), for 5 min"

    assert default == aliases[0]
    assert (down.verdict, down.sentence) == (Verdict.WARNING, f"openai/x, with a key; {told}")
    assert (keyless.verdict, keyless.sentence, keyless.mend) == (Verdict.ERROR, f"needs a key; {told}", "Set one")
    assert (unknown.name, unknown.sentence) == ("lm down", f"Not in these settings; {told}")


def test_what_the_workers_have_paused_is_told_by_lane_and_reason():
    """With how many of them; who is being stopped is not in trouble."""
    down = [{"reason": "every LM is down", "lanes": ["execute"]}]
    stopping = [{"reason": "stopping", "lanes": ["create", "execute", "control"]}]
    living = [one_of(1, paused=down), one_of(2, paused=down), one_of(3, paused=stopping), one_of(4)]
    _, pauses, _ = check_workers(Workforce(living))
    _, well, _ = check_workers(Workforce(living[2:]))

    assert (pauses.verdict, pauses.sentence) == (Verdict.WARNING, "execute in 2 of 4 workers: every LM is down")
    assert well.verdict == Verdict.OK


def test_workers_that_are_not_alike_are_a_warning():
    """By version, where one that is too old to tell counts too, and by the settings that should agree."""
    living = [one_of(1), one_of(2), one_of(3, version=None, settings="def")]
    lost = [one_of(4, version="0.0.9", is_living=False, silent_seconds=31.0)]
    lives, _, agreement = check_workers(Workforce(living, lost))
    alike = check_workers(Workforce(living[:2]))

    assert agreement.verdict == lives.verdict == Verdict.WARNING
    assert agreement.sentence == "The workers differ by version: 0.2.0 in 2, ? in 1; settings: abc in 2, def in 1"
    assert lives.sentence == "3 living, 1 lost: last seen w4 31 s ago"
    assert {check.verdict for check in alike} == {Verdict.OK}


async def test_without_workers_or_without_their_store_nothing_is_claimed(tmp_path):
    """No worker is a warning; a store that is not here tells nothing."""
    verdicts = [check.verdict for check in check_workers(Workforce())]
    path = tmp_path / "store.db"
    away = check_workers(await look(settings(store_url=f"sqlite:///{path}")))

    assert verdicts == [Verdict.WARNING, Verdict.SKIPPED, Verdict.SKIPPED]
    assert {(check.verdict, check.sentence) for check in away} == {(Verdict.SKIPPED, "The store does not exist here")}
    assert not path.exists()


def test_what_is_missing_is_one_warning_and_what_differs_an_error_each():
    """So the list stays short on a fresh broker."""
    findings = [Finding(queue, State.MISSING) for queue in TOPOLOGY.queues[:2]]
    findings += [Finding(TOPOLOGY.queues[2], State.SILENT), Finding(TOPOLOGY.queues[3], State.DIFFERS, reason="odd")]
    checks = judge_topology(findings)

    assert [check.verdict for check in checks] == [Verdict.WARNING, Verdict.ERROR, Verdict.ERROR]
    assert checks[0].sentence == "2 of 4 are missing: dspex.create, dspex.create.dead"
    assert {check.name for check in checks[1:]} == {f"queue {queue.name}" for queue in TOPOLOGY.queues[2:4]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/worker/store.db", "ext4"),
        ("/srv/store.db", "nfs4"),
        ("/srv/fast/store.db", "tmpfs"),
        ("/srv/my data/store.db", "fuse.sshfs"),
        ("/srvother/store.db", "ext4"),
    ],
)
def test_the_file_system_of_the_store_is_found(path, expected):
    """The longest mount point that holds the path."""
    assert file_system_of(Path(path), MOUNTS) == expected


def test_a_store_file_that_others_may_read_is_a_warning(tmp_path):
    """Replies are in it."""
    path = tmp_path / "store.db"
    path.touch(mode=0o600)
    private = check_file(path)[0].verdict
    path.chmod(0o644)
    shared = check_file(path)[0]

    assert (private, shared.verdict) == (Verdict.OK, Verdict.WARNING)
    assert shared.mend.startswith(f"chmod 600 {path}")


async def test_a_store_that_is_not_there_is_not_made(tmp_path):
    """Its folder is looked at, the nearest that exists."""
    path = tmp_path / "deep" / "er" / "store.db"
    checks = await check_store(settings(store_url=f"sqlite:///{path}"))

    assert checks[0].verdict == Verdict.WARNING
    assert not path.parent.parent.exists()
    assert sqlite_path("postgresql://user@host/dspex") is None


def test_a_model_that_needs_a_key_has_one():
    """In the settings, in the provider's own variable, or at an address of its own that may want none."""
    lms = '{"a": {"model": "anthropic/x"}, "b": {"model": "openai/y", "api_base": "http://127.0.0.1/v1"}, "c": {"model": "odd/z"}}'
    own = settings(lm_model="openai/gpt-4o-mini", lm_api_key="sk-test", lms=lms)
    bare = {check.name: check.verdict for check in check_aliases(own, {})}
    given = {check.name: check.verdict for check in check_aliases(own, {"ANTHROPIC_API_KEY": "sk-ant"})}
    (offline,) = check_aliases(settings(), {})

    assert bare == {"lm default": "ok", "lm a": "error", "lm b": "ok", "lm c": "warning"}
    assert given["lm a"] == Verdict.OK
    assert offline.verdict == Verdict.WARNING


def test_the_table_of_checks_is_that_of_the_page():
    """docs/RELIABILITY.md has the docstring's rows."""
    page = (Path(__file__).parents[2] / "docs/RELIABILITY.md").read_text(encoding="utf-8")
    text = page[page.index("| Check | What is wrong when it is not ok |") :].partition("\n\n")[0]
    shown = [[cell.strip().replace("`", "") for cell in row.split("|")[1:-1]] for row in text.splitlines()[2:]]
    ruled = (worker.doctor.__doc__ or "").split("====\n")
    rows = [re.split(r" {2,}", line, maxsplit=1) for line in ruled[2].splitlines() if not line.startswith("=")]

    assert rows == shown
