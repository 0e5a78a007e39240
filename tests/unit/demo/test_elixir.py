"""The part in which Elixir publishes."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.demo import elixir
from worker.demo.errors import DemoError


@pytest.fixture
def fake_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what to call with the shell commands that `mix` shall be."""
    program = tmp_path / "mix"
    program.touch(mode=stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("ERL_LIBS", "/nowhere")

    def write(commands: str) -> None:
        program.write_text(f"#!/bin/sh\n{commands}\n")

    return write


def test_without_elixir_the_demo_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It goes on without."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert elixir.what_is_missing() == "Elixir is not installed"


@pytest.mark.usefixtures("fake_mix")
def test_without_an_amqp_library_the_demo_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elixir alone does not speak AMQP."""
    assert elixir.what_is_missing() is None

    monkeypatch.delenv("ERL_LIBS")

    assert elixir.what_is_missing() == "ERL_LIBS does not name RabbitMQ's Erlang libraries"


async def test_only_lines_of_json_are_answers(fake_mix: Callable[[str], None], tmp_path: Path) -> None:
    """Mix speaks too."""
    fake_mix("""echo Compiling; echo '{"outputs": {}, "shown": "a"}'""")
    answers = await elixir.publish("amqp://127.0.0.1", namespace="demo", folder=tmp_path)

    assert answers == [{"outputs": {}, "shown": "a"}]


async def test_a_script_that_fails_ends_the_demo_with_what_it_said(
    fake_mix: Callable[[str], None], tmp_path: Path
) -> None:
    """Not with a traceback."""
    fake_mix("echo it broke; exit 3")

    with pytest.raises(DemoError, match="Elixir failed:\nit broke"):
        await elixir.publish("amqp://127.0.0.1", namespace="demo", folder=tmp_path)
