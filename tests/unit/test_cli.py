"""The command line: what it parses, prints and exits with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest
import typer
from aiormq.exceptions import ProbableAuthenticationError
from child_processes import free_port
from typer.testing import CliRunner

import worker.client
from worker.cli import app
from worker.cli.dead import read_age, read_lane, read_patch
from worker.cli.running import run
from worker.client import NoWorkerError
from worker.settings import Settings

SUCCESS: dict[str, Any] = {"id": None, "success": True, "timestamp": 1.0, "result": {"status": "ok", "ratio": 1.0}}
FAILURE: dict[str, Any] = {"id": None, "success": False, "timestamp": 1.0, "error": "Unknown command: x"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No setting of the machine reaches a test."""
    for name in os.environ:
        if name.startswith("DSPEX_"):
            monkeypatch.delenv(name)
    # rich in typer's help: a fixed width, and no colours.
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


class FakeClient:
    """Answers every command with what the test gave it, or raises it."""

    answer: Mapping[str, Any] | Exception = SUCCESS
    asked: tuple[Any, ...] = ()

    def __init__(self, url: str, *, namespace: str, timeout: float) -> None:
        FakeClient.asked = (url, namespace, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""

    async def ask(self, command: str, args: Mapping[str, Any], **more: Any) -> Mapping[str, Any]:
        FakeClient.asked += (command, args, more)
        if isinstance(FakeClient.answer, Exception):
            raise FakeClient.answer
        return FakeClient.answer


@pytest.fixture
def client(monkeypatch) -> type[FakeClient]:
    """The client that ``call`` uses, replaced."""
    monkeypatch.setattr(worker.client, "Client", FakeClient)
    monkeypatch.setattr(FakeClient, "answer", SUCCESS)
    return FakeClient


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["call", "--help"], ["dead", "replay", "--help"], ["flags", "set", "--help"], ["demo", "--help"]],
)
def test_help_loads_nothing_heavy(arguments):
    """Help is there at once: no broker library, no settings, no DSPy."""
    script = (
        "import sys, worker.cli\n"
        f"sys.argv = ['dspex-worker', *{arguments!r}]\n"
        "try:\n    worker.cli.main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'dspy', 'aio_pika', 'pydantic_settings', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("typed", "expected"), [("dspex-worker ", "serve"), ("dspex-worker dead ", "replay")])
def test_a_shell_completes_the_commands(typed, expected):
    """The installed command answers the shell's question."""
    command = Path(sys.executable).with_name("dspex-worker")
    asked = {
        "_DSPEX_WORKER_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split())),
    }
    done = subprocess.run([command], capture_output=True, text=True, env=os.environ | asked)

    assert expected in done.stdout.split(), done.stderr


def test_serve_help_lists_every_setting_with_its_default(runner):
    """The environment is the only configuration, so its names are in the help."""
    shown = runner.invoke(app, ["serve", "--help"]).stdout
    rows = {line.split()[0]: line for line in shown.splitlines() if line.startswith("DSPEX_")}

    assert "amqp://guest:guest@127.0.0.1:5672/" in rows["DSPEX_AMQP_URL"]
    assert "1,5,30,120,600,3600" in rows["DSPEX_DELAYS_SECONDS"]
    assert list(rows) == [f"DSPEX_{name.upper()}" for name in Settings.model_fields]


def test_output_has_no_colours_without_a_terminal(runner, client):
    """A pipe gets text."""
    shown = runner.invoke(app, ["call", "ping"]).output + runner.invoke(app, ["serve", "--help"]).output

    assert "\x1b[" not in shown


@pytest.mark.parametrize("command", [["serve"], ["call", "ping"], ["dead", "list"]])
def test_a_wrong_setting_is_named_on_stderr_and_exits_with_2(runner, monkeypatch, command):
    """Before anything connects."""
    monkeypatch.setenv("DSPEX_CONCURRENZY", "4")
    done = runner.invoke(app, command)

    assert (done.exit_code, done.stderr) == (
        2,
        "DSPEX_CONCURRENZY is not a setting; did you mean DSPEX_CONCURRENCY?\n",
    )


FLAGS: dict[str, Any] = {
    **SUCCESS,
    "result": {
        "flags": {"dynamic_signatures": "off", "dynamic_signatures_rollout": 100},
        "set": ["dynamic_signatures"],
    },
}
FLAG_SET: dict[str, Any] = {
    **SUCCESS,
    "result": {"name": "dynamic_signatures", "value": "force_off", "previous": "on"},
}


def test_flags_are_shown_with_where_they_come_from(runner, client, monkeypatch):
    """Set, or the environment's start value."""
    monkeypatch.setattr(client, "answer", FLAGS)
    shown = runner.invoke(app, ["flags"])
    lines = [line.split() for line in shown.stdout.splitlines()]

    assert (shown.exit_code, client.asked[3:5]) == (0, ("get_flags", {}))
    assert lines[1:] == [["dynamic_signatures", "off", "set"], ["dynamic_signatures_rollout", "100", "start", "value"]]


def test_the_rollback_is_one_command(runner, client, monkeypatch):
    """It says what was and what is."""
    monkeypatch.setattr(client, "answer", FLAG_SET)
    shown = runner.invoke(app, ["flags", "set", "dynamic_signatures", "force_off", "--timeout", "5"])

    assert client.asked[2:5] == (5.0, "set_flag", {"name": "dynamic_signatures", "value": "force_off"})
    assert (shown.exit_code, shown.stdout) == (0, "dynamic_signatures: on → force_off\n")


@pytest.mark.parametrize(("arguments", "answer"), [(["flags"], FLAGS), (["flags", "set", "a", "b"], FLAG_SET)])
def test_flags_are_printed_as_json(runner, client, monkeypatch, arguments, answer):
    """The reply's result."""
    monkeypatch.setattr(client, "answer", answer)
    shown = runner.invoke(app, [*arguments, "--json"])

    assert json.loads(shown.stdout) == answer["result"]


WORKER: dict[str, Any] = {
    "worker_id": "w-1",
    "host": "pod-1",
    "version": "0.2.0",
    "state": "living",
    "uptime": 7_300.0,
    "silent_seconds": 0.4,
    "in_flight": {"create": 0, "execute": 3, "control": 1},
    "paused": [{"reason": "every LM is down", "lanes": ["execute"]}],
    "circuits": {"fast": {"code": "lm_unavailable", "open_seconds": 130.0}},
    "settings": "0123456789ab",
    "differs": ["version"],
}
OLD: dict[str, Any] = {
    **WORKER,
    "worker_id": "w-0",
    "version": None,
    "in_flight": None,
    "paused": [],
    "circuits": {},
    "settings": None,
    "state": "lost",
    "silent_seconds": 31.0,
    "differs": [],
}
WORKERS: dict[str, Any] = {**SUCCESS, "result": {"workers": [OLD, WORKER]}}


def test_workers_are_listed_one_a_row_with_what_is_odd_about_them(runner, client, monkeypatch):
    """What is not known is a question mark; the last line counts."""
    monkeypatch.setattr(client, "answer", WORKERS)
    shown = runner.invoke(app, ["workers"])
    head, old, new, more, last = [" ".join(line.split()) for line in shown.stdout.splitlines()]

    assert (shown.exit_code, client.asked[3]) == (0, "list_workers")
    assert head == "id host version uptime seen in flight paused open circuits settings"
    assert old == "w-0 pod-1 ? 2 h lost, 31 s ago ? – – ?"
    assert new.startswith("w-1 pod-1 0.2.0 (differs) 2 h 0 s ago execute 3 execute: every LM is")
    assert new.endswith("0123456789ab")
    assert "control 1" in more
    assert last == "1 living, 1 lost, not of the same version"


def test_workers_are_printed_as_json(runner, client, monkeypatch):
    """The reply's result."""
    monkeypatch.setattr(client, "answer", WORKERS)

    assert json.loads(runner.invoke(app, ["workers", "--json"]).stdout) == WORKERS["result"]


@pytest.mark.parametrize(
    "answer",
    [NoWorkerError("nobody"), ConnectionRefusedError(), {**FAILURE, "error_detail": {"code": "unknown_command"}}],
)
def test_without_an_answer_the_store_is_read_and_the_command_exits_with_2(
    runner, client, monkeypatch, tmp_path, answer
):
    """It says so on stderr; a store that is not there is not made."""
    path = tmp_path / "store.db"
    monkeypatch.setenv("DSPEX_STORE_URL", f"sqlite:///{path}")
    monkeypatch.setattr(client, "answer", answer)
    shown = runner.invoke(app, ["workers"])

    assert (shown.exit_code, shown.stdout, path.exists()) == (2, "", False)
    assert shown.stderr.splitlines()[-1] in (
        "nobody; the store is not there either",
        "No worker was asked; the store is not there either",
        "A worker of an older version answered; the store is not there either",
    )


def test_who_may_not_list_the_workers_is_told_so(runner, client, monkeypatch):
    """Exit code 1, and nothing is read behind the workers' back."""
    refused = {**FAILURE, "error": "Only the operator", "error_detail": {"code": "not_permitted"}}
    monkeypatch.setattr(client, "answer", refused)
    shown = runner.invoke(app, ["workers"])

    assert (shown.exit_code, shown.stdout, shown.stderr) == (1, "", "Only the operator\n")


@pytest.mark.parametrize(("answer", "code"), [(FAILURE, 1), (NoWorkerError("nobody"), 2)])
@pytest.mark.parametrize("arguments", [["flags"], ["flags", "set", "a", "b"]])
def test_flags_exit_with_1_on_an_error_and_with_2_when_nobody_answers(
    runner, client, monkeypatch, arguments, answer, code
):
    """With the reason on stderr."""
    monkeypatch.setattr(client, "answer", answer)
    shown = runner.invoke(app, arguments)

    assert (shown.exit_code, shown.stdout) == (code, "")
    assert shown.stderr.strip() in ("Unknown command: x", "nobody")


def test_serve_exits_with_what_the_server_returns(runner, monkeypatch):
    """A drain that ran out is not a success."""
    given = []

    async def serve(settings: Settings) -> int:
        given.append(settings.namespace)
        return 1

    monkeypatch.setitem(sys.modules, "worker.server", types.SimpleNamespace(serve=serve))
    monkeypatch.setenv("DSPEX_NAMESPACE", "orders")
    done = runner.invoke(app, ["serve"])

    assert (done.exit_code, given) == (1, ["orders"])


def test_call_prints_the_whole_reply_as_json_and_exits_with_0(runner, client):
    """Floats stay floats."""
    done = runner.invoke(app, ["call", "ping"])

    assert json.loads(done.stdout) == SUCCESS
    assert '"ratio": 1.0' in done.stdout
    assert done.exit_code == 0


def test_call_passes_on_what_it_was_given(runner, client, monkeypatch):
    """Arguments, queue, message id and time-out; URL and namespace come from the settings."""
    monkeypatch.setenv("DSPEX_AMQP_URL", "amqp://me@somewhere/")
    monkeypatch.setenv("DSPEX_NAMESPACE", "orders")
    options = ["--args", '{"a": [1]}', "--timeout", "3", "--queue", "execute", "--message-id", "m-1"]
    runner.invoke(app, ["call", "get_result", *options])

    assert client.asked == (
        "amqp://me@somewhere/",
        "orders",
        3.0,
        "get_result",
        {"a": [1]},
        {"queue": "execute", "message_id": "m-1"},
    )


def test_call_reads_arguments_from_stdin(runner, client):
    """Long arguments need no quoting."""
    runner.invoke(app, ["call", "ping", "--args", "-"], input='{"b": 2}')

    assert client.asked[4] == {"b": 2}


def test_call_exits_with_1_on_an_error_reply(runner, client, monkeypatch):
    """The reply is still printed."""
    monkeypatch.setattr(client, "answer", FAILURE)
    done = runner.invoke(app, ["call", "x"])

    assert (done.exit_code, json.loads(done.stdout)) == (1, FAILURE)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"fallback_used": False, "fallback_reason": None}, ""),
        (
            {"fallback_used": True, "fallback_reason": "unknown_type: Field a:\nunknown"},
            "Fallback: `question -> answer` takes the place of the signature (unknown_type: Field a: unknown)\n",
        ),
    ],
)
def test_call_says_in_one_line_that_a_fallback_was_used(runner, client, monkeypatch, result, expected):
    """On stderr: stdout stays JSON."""
    reply = {**SUCCESS, "result": result}
    monkeypatch.setattr(client, "answer", reply)
    done = runner.invoke(app, ["call", "execute_program"])

    assert json.loads(done.stdout) == reply
    assert (done.exit_code, done.stderr) == (0, expected)


def test_call_exits_with_2_when_nobody_consumes(runner, client, monkeypatch):
    """Said on stderr; stdout stays empty for the machine that reads it."""
    monkeypatch.setattr(client, "answer", NoWorkerError("No worker consumes dspex.control"))
    done = runner.invoke(app, ["call", "ping"])

    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "No worker consumes dspex.control\n")


@pytest.mark.parametrize("command", [["call", "ping"], ["dead", "list"], ["flags"], ["schema", "a"], ["demo"]])
def test_a_broker_that_is_away_is_one_line_on_stderr(runner, monkeypatch, command):
    """Which broker, without its password, and what to look at; the exit code says that nobody answers."""
    port = free_port()
    monkeypatch.setenv("DSPEX_AMQP_URL", f"amqp://guest:s3cret@127.0.0.1:{port}/")
    done = runner.invoke(app, command)

    assert done.stderr.startswith(f"The broker amqp://guest:***@127.0.0.1:{port}/ (DSPEX_AMQP_URL) cannot be reached: ")
    assert done.stderr.endswith(". Is it running?\n")
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (2, 1, "")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), "cannot be reached: no answer in time. Is it running?"),
        (ConnectionError("gone."), "cannot be reached: gone. Is it running?"),
        (
            ProbableAuthenticationError("Login was refused"),
            "refuses the connection: Login was refused. Are user, password and vhost right?",
        ),
    ],
)
def test_what_the_broker_did_decides_what_is_asked(capsys, error, expected):
    """Silence, a loss and a refused login are not the same trouble."""

    async def connect() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        run(connect(), amqp_url="amqp://a:b@127.0.0.1/")

    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == f"The broker amqp://a:***@127.0.0.1/ (DSPEX_AMQP_URL) {expected}\n"


@pytest.mark.parametrize(("text", "expected"), [("{", "is not JSON"), ("[1]", "must be a JSON object")])
def test_arguments_that_are_no_object_are_refused_before_anything_connects(runner, text, expected):
    """A usage error names the option."""
    done = runner.invoke(app, ["call", "ping", "--args", text])

    assert done.exit_code == 2
    assert expected in done.stderr
    assert "--args" in done.stderr


def test_the_demo_without_a_broker_says_what_to_do(runner):
    """One line, and no traceback."""
    done = runner.invoke(app, ["demo"])

    assert (done.exit_code, done.stderr) == (
        2,
        "Set DSPEX_AMQP_URL, or run `make demo`, which starts a broker of its own.\n",
    )


@pytest.mark.parametrize("queue", ["execute", "orders.execute", "orders.execute.dead", "execute.dead"])
def test_a_dead_letter_queue_is_named_in_short_or_in_full(queue):
    """What ``dead list`` prints can be pasted."""
    assert read_lane(queue, namespace="orders") == "execute"


@pytest.mark.parametrize("queue", ["", "orders", "dspex.execute", "orders.delay.1000"])
def test_a_queue_that_holds_no_dead_letters_is_refused(queue):
    """Nothing is replayed from a queue that was not meant."""
    with pytest.raises(typer.BadParameter, match=r"create, execute, control, or .* orders\.execute\.dead"):
        read_lane(queue, namespace="orders")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("7d", 604_800), ("1d12h", 129_600), ("0.5h", 1_800)],
)
def test_an_age_is_written_as_people_say_it(text, expected):
    """Units of seconds, minutes, hours and days, and several of them."""
    assert read_age(text) == expected


@pytest.mark.parametrize("text", ["", "2", "2 h", "h", "-2h", "2w"])
def test_what_is_no_age_is_refused(text):
    """A number without a unit may be anything."""
    with pytest.raises(typer.BadParameter, match="write 90s, 30m, 2h"):
        read_age(text)


def test_a_patch_is_json_or_the_name_of_a_file(tmp_path):
    """What begins with a brace is JSON."""
    (tmp_path / "patch.json").write_text('{"inputs": null}')
    read = [read_patch(None), read_patch(' {"a": 1.0}'), read_patch(str(tmp_path / "patch.json"))]

    assert read == [None, {"a": 1.0}, {"inputs": None}]


@pytest.mark.parametrize(
    ("text", "expected"), [("{", "not JSON"), ("nowhere.json", "neither"), ('{"a":1,"a":2}', "twice")]
)
def test_a_patch_that_cannot_be_read_is_refused_before_anything_connects(runner, text, expected):
    """A usage error names the option."""
    done = runner.invoke(app, ["dead", "replay", "execute", "--patch", text])

    assert done.exit_code == 2
    assert expected in done.stderr
    assert "--patch" in done.stderr


@pytest.mark.parametrize("arguments", [["m1", "--code", "timeout"], ["--body"]])
def test_one_letter_is_shown_by_its_id_alone_and_a_body_only_of_one(runner, arguments):
    """What would be ignored is refused."""
    done = runner.invoke(app, ["dead", "show", "execute", *arguments])

    assert done.exit_code == 2
    assert "filters" in done.output or "ID of a job" in done.output


def test_a_letter_is_skipped_or_forced_but_not_both(runner):
    """One of them would win in silence."""
    done = runner.invoke(app, ["dead", "replay", "execute", "--skip-invalid", "--force"])

    assert (done.exit_code, "contradicts --force" in done.stderr) == (2, True)


@pytest.mark.parametrize("url", ["localhost", "http://127.0.0.1:15672/"])
def test_the_demo_refuses_a_url_that_is_no_brokers(runner, monkeypatch, url):
    """By the setting's name."""
    monkeypatch.setenv("DSPEX_AMQP_URL", url)
    done = runner.invoke(app, ["demo"])

    assert (done.exit_code, done.stderr) == (2, "DSPEX_AMQP_URL: must begin with amqp:// or amqps://\n")


def test_ctrl_c_is_quiet():
    """No traceback, and the exit code that shells expect."""

    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as caught:
        run(interrupted())

    assert caught.value.exit_code == 130
