"""The check of a replay and the worker itself say the same of a job, as long as no LM is called."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.left_hand import SENTIMENT, LeftHand, make_delivery, make_settings, open_left_hand
from worker.asyncapi.commands import COMMANDS
from worker.errors import WorkerError
from worker.message import Delivery, Trail
from worker.settings import Settings
from worker.store.schema import programs
from worker.vetting import Vetting

# No LM answers here, and none is asked: `priced` would cost something, and `unpriced` is of no known price.
LMS = json.dumps(
    {
        "priced": {"model": "openai/gpt-4o-mini", "api_key": "k", "api_base": "http://127.0.0.1:9"},
        "unpriced": {"model": "openai/of-no-known-price", "api_key": "k", "api_base": "http://127.0.0.1:9"},
    }
)
ANN = "ann"
TENANCIES = ("off", "user_id")
# A worker looks for a missing program a second time, a little later, before it refuses the job.
WAITED = Trail(waits=1)
REFUSED = {"inputs": [{"name": "a", "type": "what"}], "outputs": [{"name": "b"}]}


def execute(*, inputs: object = None, body: object = None, properties: Any = None, **args: Any) -> Delivery:
    own: dict[str, Any] = {} if "signature" in args else {"program_id": "sentiment"}
    document = {"args": {**own, "inputs": {"text": "a"} if inputs is None else inputs, **args}}
    return _deliver(document if body is None else body, properties)


def control(command: str, *, properties: Any = None, **args: Any) -> Delivery:
    return _deliver({"command": command, "args": args}, properties, lane="control")


def create(*, properties: Any = None, **args: Any) -> Delivery:
    return _deliver({"args": args}, properties, lane="create")


def _deliver(body: object, properties: Any, *, lane: Any = "execute") -> Delivery:
    return make_delivery(body, lane=lane, **{"user_id": ANN, "reply_to": "dspex.reply.ann", **(properties or {})})


# Both codes where they differ: without tenants, and with them.
JOBS: dict[str, tuple[Delivery, str | tuple[str, str]]] = {
    "a job that runs": (execute(), "ok"),
    "an unknown alias in the options": (execute(options={"lm": "nope"}), "lm_not_configured"),
    "an unknown alias of a signature sent along": (execute(signature=SENTIMENT, lm="nope"), "lm_not_configured"),
    "an unknown alias of the stored program": (execute(program_id="on-nope"), "lm_not_configured"),
    "a known alias in place of the program's": (execute(program_id="on-nope", options={"lm": "default"}), "ok"),
    "an alias beside a program, which counts": (execute(lm="nope"), "ok"),
    "an unknown alias of a Gemini job": (
        _deliver(
            {
                "command": "execute_gemini_program",
                "args": {"program_id": "sentiment", "inputs": {"text": "a"}, "options": {"lm": "nope"}},
            },
            None,
        ),
        "lm_not_configured",
    ),
    "an alias of no letters": (execute(options={"lm": ""}), "ok"),
    "an alias that is no text": (execute(options={"lm": 7}), "invalid_request"),
    "invalid inputs before an unknown alias": (execute(inputs={}, options={"lm": "nope"}), "invalid_inputs"),
    "a bound in money without a price": (
        execute(options={"lm": "unpriced", "max_cost_usd": 1.0}),
        "invalid_request",
    ),
    "a bound in money on the stand-in": (execute(options={"max_cost_usd": 1.0}), "invalid_request"),
    "a bound in money on an unknown alias": (
        execute(options={"lm": "nope", "max_cost_usd": 1.0}),
        "lm_not_configured",
    ),
    "a bound in money of the wrong type": (execute(options={"max_cost_usd": "1"}), "invalid_request"),
    "a bound of no money": (execute(options={"max_cost_usd": 0}), "invalid_request"),
    "a deadline that passed": (execute(properties={"headers": {"x-dspex-deadline": 1}}), "expired"),
    "a deadline before invalid inputs": (
        execute(inputs={}, properties={"headers": {"x-dspex-deadline": 1}}),
        "expired",
    ),
    "a deadline of a question": (control("ping", properties={"headers": {"x-dspex-deadline": 1}}), "expired"),
    "a deadline after an unknown command": (
        control("nonsense", properties={"headers": {"x-dspex-deadline": 1}}),
        "unknown_command",
    ),
    "a deadline that is none": (execute(properties={"headers": {"x-dspex-deadline": "soon"}}), "invalid_request"),
    "a work queue for replies": (execute(properties={"reply_to": "dspex.execute"}), "reply_to_not_allowed"),
    "another tenant's queue for replies": (
        execute(properties={"reply_to": "dspex.reply.bob"}),
        ("ok", "reply_to_not_allowed"),
    ),
    "another's queue, in an unreadable job": (
        execute(body=b"{", properties={"reply_to": "dspex.reply.bob"}),
        ("invalid_json", "reply_to_not_allowed"),
    ),
    "nobody's job": (execute(properties={"user_id": None, "reply_to": None}), ("ok", "not_permitted")),
    "nobody's unreadable job": (
        execute(body=b"{", properties={"user_id": None, "reply_to": None}),
        ("invalid_json", "not_permitted"),
    ),
    "another tenant's program": (
        execute(properties={"user_id": "bob", "reply_to": "dspex.reply.bob", "trail": WAITED}),
        ("ok", "program_not_found"),
    ),
    "neither a reply queue nor an id": (
        execute(properties={"reply_to": None, "message_id": None}),
        "invalid_request",
    ),
    "headers that are too large": (execute(properties={"is_oversized": True}), "invalid_request"),
    "large headers of an unreadable job": (execute(body=b"{", properties={"is_oversized": True}), "invalid_request"),
    "properties that are not UTF-8": (execute(properties={"unreadable": ("app_id",)}), "invalid_request"),
    "another content type": (execute(properties={"content_type": "text/plain"}), "invalid_request"),
    "a body that says it is gzip": (
        execute(body=b"\x1f\x8b", properties={"content_encoding": "gzip"}),
        "invalid_request",
    ),
    "a control character in an id": (execute(properties={"message_id": "a\nb"}), "invalid_request"),
    "no JSON": (execute(body=b"{"), "invalid_json"),
    "a key twice": (execute(body=b'{"args": {}, "args": {}}'), "invalid_json"),
    "a body that is too large": (execute(body=b'"' + b"a" * 20_000 + b'"'), "body_too_large"),
    "a list": (execute(body=b"[]"), "invalid_request"),
    "an unknown key": (execute(body={"args": {}, "argz": {}}), "invalid_request"),
    "an id that is an object": (execute(body={"args": {}, "id": {}}), "invalid_request"),
    "arguments that are a number": (execute(body={"args": 7}), "invalid_request"),
    "no command in the control queue": (_deliver({"args": {}}, None, lane="control"), "invalid_request"),
    "an unknown command": (control("nonsense"), "unknown_command"),
    "no program and no signature": (execute(program_id=None), "invalid_request"),
    "a program that is not there": (execute(program_id="other", properties={"trail": WAITED}), "program_not_found"),
    "a program's name that is a number": (execute(program_id=7), "invalid_request"),
    "a damaged program": (execute(program_id="damaged"), "internal"),
    "a damaged program to describe": (control("describe", program_id="damaged"), "internal"),
    "a damaged program to tell of": (control("get_program_info", program_id="damaged"), "internal"),
    "a damaged program to delete": (control("delete_program", program_id="damaged"), "ok"),
    "missing inputs": (execute(inputs={}), "invalid_inputs"),
    "inputs of the wrong type": (execute(inputs={"text": 1}), "invalid_inputs"),
    "inputs that are a text": (execute(inputs="a"), "invalid_inputs"),
    "nothing to ask": (execute(signature="question -> answer", inputs={}), "invalid_inputs"),
    "a refused signature": (execute(signature=REFUSED, fallback="never"), "unknown_type"),
    "a refused signature that may fall back": (execute(signature=REFUSED, fallback="create"), "ok"),
    "an unknown fallback policy": (execute(options={"fallback": "always"}), "invalid_request"),
    "a create with an unknown alias": (create(signature=SENTIMENT, lm="nope"), "ok"),
    "a create of a refused signature": (create(signature=REFUSED, fallback="never"), "unknown_type"),
    "a create of an unknown type of program": (
        create(signature=SENTIMENT, program_type="react", fallback="never"),
        "unsupported_program_type",
    ),
    "a create under a name with a space": (create(signature=SENTIMENT, id="a b"), "invalid_request"),
    "a create of the same": (create(signature=SENTIMENT, id="sentiment"), "ok"),
    "a create on another alias under its id": (create(signature=SENTIMENT, id="on-nope"), "program_exists"),
    "a create of another under its id": (create(signature=SENTIMENT, id="legacy"), "program_exists"),
    "a delete of nothing": (control("delete_program"), "invalid_request"),
    "a delete of another": (control("delete_program", program_id="other"), "program_not_found"),
    "a cancel of nothing": (control("cancel"), "invalid_request"),
    "a result of a number": (control("get_result", message_id=7), "invalid_request"),
    "a page of none": (control("list_programs", limit=0), "invalid_request"),
    "a page before the first": (control("list_programs", offset=-1), "invalid_request"),
    "an unknown flag": (control("set_flag", name="nonsense", value="on"), ("invalid_request", "not_permitted")),
    "a flag's wrong value": (
        control("set_flag", name="dynamic_signatures", value="maybe"),
        ("invalid_request", "not_permitted"),
    ),
    "an LM that is not the operator's": (control("configure_lm", model="nope"), "not_permitted"),
    **{f"{command.name} without arguments": (control(command.name), "*") for command in COMMANDS},
}


def settings_of(tenancy: str) -> Settings:
    return make_settings(tenancy=tenancy, lms=LMS, max_body_bytes=10_000)


async def furnish(hand: LeftHand) -> None:
    """Store a program that runs, one on an unknown alias, one of question and answer, and a damaged one."""
    known: dict[str, dict[str, Any]] = {
        "sentiment": {"signature": SENTIMENT},
        "on-nope": {"signature": SENTIMENT, "lm": "nope"},
        "legacy": {"signature": "question -> answer"},
        "damaged": {"signature": SENTIMENT},
    }
    for name, args in known.items():
        reply = await hand.call("create_program", {"id": name, **args}, user_id=ANN, reply_to="dspex.reply.ann")
        assert reply["success"], reply
    spoil = update(programs).where(programs.c.program_id == "damaged").values(definition="{", revision="r")
    await hand.store._write(lambda connection: connection.execute(spoil))


async def code_of_check(hand: LeftHand, delivery: Delivery) -> str:
    try:
        await Vetting(hand.settings, shelf=hand.store).check(delivery)
    except WorkerError as error:
        return error.code
    return "ok"


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tenancy → a folder with a furnished store, to be copied by each test."""
    folders = {tenancy: tmp_path_factory.mktemp(tenancy) for tenancy in TENANCIES}

    async def make() -> None:
        for tenancy, folder in folders.items():
            async with open_left_hand(folder, settings_of(tenancy)) as hand:
                await furnish(hand)

    asyncio.run(make())
    return folders


@pytest.mark.parametrize("tenancy", TENANCIES)
@pytest.mark.parametrize("name", JOBS)
async def test_the_check_says_what_a_worker_would_answer(
    name: str, tenancy: str, tmp_path: Path, furnished: dict[str, Path]
) -> None:
    """By the code; the worker is asked after the check, for it changes something."""
    delivery, wanted = JOBS[name]
    shutil.copytree(furnished[tenancy], tmp_path, dirs_exist_ok=True)
    async with open_left_hand(tmp_path, settings_of(tenancy)) as hand:
        checked = await code_of_check(hand, delivery)
        answered = (await hand.handler.handle(delivery)).code
    code = wanted[tenancy == "user_id"] if isinstance(wanted, tuple) else wanted
    expected = answered if code == "*" else code

    assert (expected, expected) == (answered, checked)
