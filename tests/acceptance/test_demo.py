"""``dspex-worker demo``: the first thing that a stranger runs, and its picture in the README."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from tests.recording.demo import Run, play
from tests.recording.masks import masked
from tests.recording.picture import CUT, WIDTH
from tests.recording.picture import read as read_picture
from tests.support.pages import read
from tests.support.processes import COMMAND, clean_environment

PICTURE = "docs/demo.svg"


@pytest.fixture(scope="module")
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo puts its temporary files."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def run(amqp_url: str, temporary_files: Path) -> Run:
    """One run for all tests that look at it."""
    return play(clean_environment(amqp_url=amqp_url) | {"TMPDIR": str(temporary_files)})


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_demo_answers_every_job_and_leaves_nothing_behind(run: Run, temporary_files: Path) -> None:
    """200 jobs, a killed worker, a dead letter replayed, Elixir publishes; exit 0, and no file is left."""
    assert run.exit_code == 0, run.printed
    assert "201 of 201 jobs answered and valid" in run.printed
    assert "Killed worker-" in run.printed
    assert "… 12 of 12 answered and valid: %{text: " in run.printed
    assert "What to type next" in run.printed
    assert os.listdir(temporary_files) == []  # noqa: PTH208


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_picture_of_the_readme_shows_todays_run(run: Run) -> None:
    """Line by line, but for numbers and made-up values; `make recording` draws it again."""
    pairs = itertools.zip_longest(read_picture(read(PICTURE)), run.story, fillvalue="")

    assert [(shown, printed) for shown, printed in pairs if not is_same(shown, printed)] == []


def is_same(shown: str, printed: str) -> bool:
    """Tell whether a line of the picture is one of the run; a line that was cut is compared as far as it goes."""
    if len(shown) == WIDTH and shown.endswith(CUT):
        return masked(printed).startswith(masked(shown.removesuffix(CUT)))
    return masked(printed) == masked(shown)


async def test_the_demo_says_what_it_needs() -> None:
    """Without a broker to talk to, one line that tells what to type."""
    process = await asyncio.create_subprocess_exec(
        COMMAND, "demo", env=clean_environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()

    assert process.returncode != 0
    assert "make demo" in output.decode()
