"""What `make setup` prints, and which settings of the user reach uv."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from child_processes import ServiceError
from stages import Stages, folder_bytes
from uv_environment import make_environment

WARNS = "import sys; print('WARNING: Running pip as root', file=sys.stderr); "


def test_a_stage_that_succeeds_prints_nothing_of_its_command(tmp_path, capfd):
    """Warnings about the user's own configuration do not drown what set-up says."""
    Stages(tmp_path).run(sys.executable, "-c", WARNS)

    assert capfd.readouterr() == ("", "")


def test_a_stage_that_fails_shows_what_its_command_printed(tmp_path, capfd):
    """All of it, before the error."""
    with pytest.raises(ServiceError, match="failed with code 7; what it printed is above"):
        Stages(tmp_path).run(sys.executable, "-c", f"{WARNS} print('no such index'); raise SystemExit(7)")

    assert sorted(capfd.readouterr().err.splitlines()) == ["WARNING: Running pip as root", "no such index"]


def test_a_command_that_is_not_there_is_told(tmp_path):
    """In one sentence, not a traceback."""
    with pytest.raises(ServiceError, match=r"Cannot run no-such-command: No such file or directory\."):
        Stages(tmp_path).run("no-such-command")


def test_a_long_stage_says_how_far_it_is(tmp_path, capfd):
    """Whole lines without control codes, each with the seconds since the start."""
    mark = tmp_path / "mark"

    def progress() -> str:
        mark.touch()
        return "half"

    waits = f"import pathlib\nwhile not pathlib.Path({str(mark)!r}).exists(): pass"
    stages = Stages(tmp_path, pause_seconds=0.01)
    stages.say("first")
    stages.run(sys.executable, "-c", waits, progress=progress)
    first, second = capfd.readouterr().err.splitlines()[:2]

    assert (first, second) == ("  [  0 s] first", "  [  0 s] … half")


def test_files_that_go_away_while_they_are_counted_are_no_error(tmp_path):
    """A download moves from folder to folder; one that is listed may be gone when it is looked at."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/here").write_bytes(bytes(7))
    (tmp_path / "gone").symlink_to("nowhere")

    assert folder_bytes(tmp_path) == 7
    assert folder_bytes(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("pip_config", "inherited", "expected"),
    [
        ("global.index-url='https://a.example/simple'", {}, "https://a.example/simple"),
        (":env:.index-url='https://a'\nglobal.index-url='https://b'\ninstall.index-url='https://c'", {}, "https://a"),
        ("global.index-url='https://b'\ninstall.index-url='https://c'", {}, "https://c"),
        ("global.index-url='https://b'", {"UV_DEFAULT_INDEX": "https://d"}, "https://d"),
        ("global.extra-index-url='https://e'", {}, None),
    ],
)
def test_uv_asks_the_index_that_pip_asks(pip_config, inherited, expected):
    """A company's index is often named in pip's configuration alone; what is said to uv itself counts more."""
    environment = make_environment(inherited, pip_config=pip_config, cache=Path("cache"))

    assert environment.get("UV_DEFAULT_INDEX") == expected


def test_several_trusted_hosts_reach_uv():
    """A line for each from pip; uv takes words."""
    environment = make_environment({}, pip_config=r"global.trusted-host='\na.example\nb.example'", cache=Path("cache"))

    assert environment["UV_INSECURE_HOST"] == "a.example b.example"


def test_no_other_setting_of_the_users_uv_reaches_ours():
    """Neither its files, nor what changes which versions are installed, and where."""
    inherited = {
        "UV_TARGET": "/elsewhere",
        "UV_CACHE_DIR": "/home/bob/.cache/uv",
        "UV_PYTHON": "3.8",
        "HOME": "/home/bob",
    }
    environment = make_environment(inherited, pip_config="", cache=Path("/clone/.venv/downloads"))

    assert environment == {
        "HOME": "/home/bob",
        "UV_CACHE_DIR": "/clone/.venv/downloads",
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }
