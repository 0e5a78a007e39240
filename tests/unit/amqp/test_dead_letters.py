"""Which dead letters are meant, and how a job is mended on its way back."""

from __future__ import annotations

import json
import os
import pwd
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pamqp.commands import Basic

from worker.amqp.dead_letters import AuditLine, AuditTrail, DeadLetterView, Selection, view
from worker.amqp.dead_letters.letters import read_trail
from worker.amqp.dead_letters.patches import merge_patch, patch_args
from worker.amqp.dead_letters.refusals import object_to
from worker.amqp.errors import AuditError
from worker.errors import InvalidJSONError, InvalidRequestError
from worker.message import Trail

LETTER = DeadLetterView(
    code="lm_unavailable",
    message="The LM is down",
    attempts=3,
    first_failed_ms=1_000,
    message_id="m1",
    correlation_id="c1",
    reply_to=None,
    command=None,
    program_id="sentiment",
    size_bytes=2,
    generation=0,
    tenant="ann",
    fingerprint=None,
    worker="worker-1",
    lm="fast",
)
LINE = AuditLine("replay", "dspex.execute.dead", "r1", "m1", "c1", "p1", None, "timeout", 0, 1, False, "guest")


DEATH = {"reason": "delivery_limit", "routing-keys": ["execute"], "time": datetime(2026, 1, 1, tzinfo=UTC)}
FORGED: dict[str, Any] = {"x-dspex-generation": 2, "x-dspex-tenant": "ann", "x-dspex-code": "timeout"}


def letter(user_id: str | None, *, body: bytes = b"{}", **headers: Any) -> Any:
    """A message as aiormq gives it, as far as it is looked at."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    properties = Basic.Properties(user_id=user_id, headers=FORGED | given, message_id="m1")
    return SimpleNamespace(header=SimpleNamespace(properties=properties), body=body)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), True),
        (Selection(codes=["lm_unavailable", "timeout"]), True),
        (Selection(codes=["timeout"]), False),
        (Selection(not_codes=["timeout"]), True),
        (Selection(not_codes=["lm_unavailable"]), False),
        (Selection(lms=["fast"]), True),
        (Selection(lms=["slow"]), False),
        (Selection(programs=["sentiment"]), True),
        (Selection(programs=["other"]), False),
        (Selection(message_ids=["m1", "m2"]), True),
        (Selection(message_ids=["m2"]), False),
        (Selection(tenant="ann"), True),
        (Selection(tenant="bob"), False),
        (Selection(failed_before_ms=1_001), True),
        (Selection(failed_before_ms=1_000), False),
        (Selection(failed_after_ms=999), True),
        (Selection(failed_after_ms=1_000), False),
        (Selection(programs=["sentiment"], codes=["timeout"]), False),
    ],
)
def test_a_letter_is_meant_that_matches_every_part(selection, expected):
    """An empty part matches all; two parts are both asked for."""
    assert selection.takes(LETTER) is expected


@pytest.mark.parametrize("code", ["expired", "broker:expired"])
@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), False),
        (Selection(message_ids=["m1"]), False),
        (Selection(has_expired=True), True),
        (Selection(codes=["expired"]), True),
        (Selection(has_expired=True, codes=["timeout"]), False),
    ],
)
def test_what_only_expired_is_meant_only_when_it_is_asked_for(code, selection, expected):
    """Whoever it was that let it expire."""
    assert selection.takes(replace(LETTER, code=code)) is expected


@pytest.mark.parametrize("selection", [Selection(failed_before_ms=9_000), Selection(failed_after_ms=0)])
def test_a_letter_without_a_time_matches_no_age(selection):
    """It stays rather than goes by mistake."""
    assert selection.takes(replace(LETTER, first_failed_ms=None)) is False


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_patch_does_what_the_examples_of_rfc_7396_say(target, patch, expected):
    """All fifteen of its appendix A."""
    assert merge_patch(target, patch) == expected


def test_a_patch_reads_a_keyword_list_as_the_object_that_it_is():
    """Elixir's options keep what the patch does not name."""
    body = json.dumps({"args": {"options": [["lm", "a"], ["max_tokens", 9]], "inputs": {"n": 1.0}}}).encode()
    patched = patch_args(body, {"options": {"lm": "b"}})

    assert patched == b'{"args":{"options":{"lm":"b","max_tokens":9},"inputs":{"n":1.0}}}'


def test_a_patch_without_an_effect_leaves_the_very_same_bytes():
    """Spaces included."""
    body = b'{ "args": {"inputs": {"text": "a"}} }'

    assert patch_args(body, {"inputs": {"text": "a"}, "options": None}) is body


@pytest.mark.parametrize(("body", "error"), [(b"\xff", InvalidJSONError), (b"[]", InvalidRequestError)])
def test_what_is_no_request_cannot_be_patched(body, error):
    """It is refused with the code a worker would give it."""
    with pytest.raises(error):
        patch_args(body, {})


def test_the_audit_file_is_its_owners_alone_and_only_grows(tmp_path: Path):
    """Two runs, two lines; each says who did it and when."""
    path = tmp_path / "state" / "audit.jsonl"
    for action in ("replay", "purge"):
        with AuditTrail.open(path) as trail:
            trail.write(replace(LINE, action=action))
    lines = [json.loads(line) for line in path.read_text().splitlines()]

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [line["action"] for line in lines] == ["replay", "purge"]
    assert {"time", "os_user", "broker_user", "message_id", "generation_to"} <= set(lines[0])


def test_the_audit_file_names_who_it_is_and_not_who_he_says(tmp_path: Path, monkeypatch):
    """The environment may say anything; a user without a name has a number."""
    monkeypatch.setenv("LOGNAME", "somebody-else")
    with AuditTrail.open(tmp_path / "audit.jsonl") as trail:
        trail.write(LINE)
    monkeypatch.setattr(os, "getuid", lambda: 4_242_424)
    with AuditTrail.open(tmp_path / "audit.jsonl") as trail:
        trail.write(LINE)
    users = [json.loads(line)["os_user"] for line in (tmp_path / "audit.jsonl").read_text().splitlines()]

    assert users == [pwd.getpwuid(os.geteuid()).pw_name, "4242424"]


def test_an_audit_file_that_cannot_be_written_is_named(tmp_path: Path):
    """Before anything moves."""
    with pytest.raises(AuditError, match=r"cannot be written: .* --audit"), AuditTrail.open(tmp_path):
        pass


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (letter("worker"), Trail(generation=2, tenant="ann")),
        (letter("worker", x_death=[DEATH]), Trail(generation=2, tenant="ann")),
        (letter("mallory", x_death=[DEATH]), Trail(original_routing_key="execute", tenant="mallory")),
        (letter("mallory"), Trail(tenant="mallory")),
        (letter(None, x_death=[DEATH]), Trail(original_routing_key="execute")),
        (letter(None), Trail()),
    ],
)
def test_a_trail_counts_where_a_trusted_user_has_written_it(message, expected):
    """Of all others, the broker's word on who they are is all that counts."""
    assert read_trail(message, trusted_users={"worker", "operator"}) == expected


def test_a_letter_that_the_broker_moved_tells_what_the_broker_knows():
    """The publisher's own words on its failure are none."""
    seen = view(letter("mallory", x_death=[DEATH]), trusted_users={"worker"})

    assert (seen.code, seen.generation, seen.tenant) == ("broker:delivery_limit", 0, "mallory")
    assert seen.first_failed_ms == 1_767_225_600_000


@pytest.mark.parametrize("user_id", [None, "mallory"])
def test_what_nobody_trusted_has_written_tells_nothing(user_id):
    """A forged letter has no code, no time and no worker."""
    seen = view(letter(user_id, x_dspex_first_failed=1, x_dspex_worker="w"), trusted_users={"worker"})

    assert (seen.code, seen.message, seen.first_failed_ms, seen.worker, seen.generation) == (None, None, None, None, 0)
    assert seen.tenant == user_id


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (letter("worker"), None),
        (letter("mallory", x_death=[DEATH]), None),
        (letter(None), "untrusted_sender"),
        (letter(None, x_death=[DEATH]), None),
        (letter("mallory"), "untrusted_sender"),
        (letter("worker", x_dspex_generation=3), "too_many_replays"),
        (letter("worker", body=b'{"args": {"replace": true}}'), "replaces_program"),
        (letter("worker", body=b'{"args": {"replace": 1}}'), None),
        (letter("worker", body=b"[]"), None),
        (letter("worker", big="x" * 70_000), "not_copyable"),
    ],
)
def test_some_letters_are_held_whatever_their_job_is(message, expected):
    """Each with its code; nobody forges a letter of another tenant into the queue."""
    trusted = {"worker"}
    refusal = object_to(message, view(message, trusted_users=trusted), trusted_users=trusted)

    assert (refusal.code if refusal else None) == expected
