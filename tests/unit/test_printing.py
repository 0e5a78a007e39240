"""What is printed of messages: their senders choose the text, and a terminal obeys control characters."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from rich.cells import cell_len

from tests.unit.amqp.test_dead_letters import LETTER
from worker.amqp.dead_letters import Plan, Refusal, ReplayReport
from worker.cli.dead.reports import print_letters, print_replay
from worker.cli.printing import escape, print_json, print_table

HOSTILE = "a\x1b]0;owned\x07\x9b2J\r\x7fb"
HARMLESS = r"a\x1b]0;owned\x07\x9b2J\x0d\x7fb"


def has_control(text: str) -> bool:
    return any(not character.isprintable() and character != "\n" for character in text)


def test_control_characters_become_visible():
    """C0, DEL and C1; all else stays."""
    assert escape(f"é – ✓ {HOSTILE}") == f"é – ✓ {HARMLESS}"


def test_a_table_speaks_to_no_terminal(capsys):
    """Line breaks of our own stay."""
    print_table(("name", "text"), [(HOSTILE, f"one\n{HOSTILE}")])
    shown = capsys.readouterr().out

    assert (shown.count(HARMLESS), has_control(shown), shown.count("\n")) == (2, False, 3)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_json_speaks_to_no_terminal_and_is_the_same_document(capsys, monkeypatch, is_terminal):
    """JSON leaves DEL and C1 as they are, and so does rich."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    print_json({"text": HOSTILE, "list": [1.0, "é"]})
    shown = capsys.readouterr().out

    assert not has_control(shown)
    assert json.loads(shown) == {"text": HOSTILE, "list": [1.0, "é"]}


def test_a_letter_is_one_line_however_long_its_sentence_is(capsys):
    """Cut at the width, with line breaks folded; its id is whole."""
    long_id = "m" * 60
    print_letters([replace(LETTER, message_id=long_id, message="first\nsecond " + "x" * 5_000)] * 3)
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) == 4
    assert all(line.startswith(long_id) and "first second x" in line and line.endswith("…") for line in lines[1:])
    assert max(map(len, lines)) <= 180


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(capsys, monkeypatch, width):
    """Whatever a sender has put into names, and in any script."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((width, 24)))
    wide = replace(LETTER, message_id="m" * 300, program_id="程" * 300, code="c" * 300, message="序\n" * 300)
    print_letters([wide, LETTER])
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) == 3
    assert max(map(cell_len, lines)) <= width


def test_dead_letters_speak_to_no_terminal(capsys):
    """Neither in the table nor in what a replay says of them."""
    print_letters([replace(LETTER, message_id=HOSTILE, message=HOSTILE)])
    refusal = Refusal(f"m\n{HOSTILE}", None, HOSTILE, "invalid_inputs", HOSTILE)
    report = ReplayReport(
        queue="q", is_dry_run=False, total=1, left=1, counts={(HOSTILE, None): 1}, refusals=(refusal,)
    )
    print_replay(report, plan=Plan(), as_json=False)
    shown = capsys.readouterr()

    assert not has_control(shown.out + shown.err)
    assert rf"m\x0a{HARMLESS}" in shown.err


def test_letters_that_were_not_looked_at_are_told(capsys):
    """By number, and with what to do."""
    print_replay(ReplayReport(queue="q", is_dry_run=False, unseen=7), plan=Plan(), as_json=False)

    assert "7 were not looked at" in capsys.readouterr().err
