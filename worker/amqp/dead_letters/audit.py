"""The audit trail: one line of JSON for each dead letter that was replayed or purged.

A line is written after the copy was confirmed and before the dead letter is removed, so no letter ever leaves without
a line. Killed between the two, a line stands for a letter that is still there, and the next run writes another one.
Payloads are never in it.
"""

from __future__ import annotations

import json
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from worker.amqp.dead_letters.letters import DeadLetterView
from worker.amqp.dead_letters.source import Source
from worker.amqp.errors import AuditError


@dataclass(frozen=True, slots=True)
class AuditLine:
    """What was done to one dead letter.

    Attributes:
        action: ``replay`` or ``purge``.
        queue: The dead-letter queue.
        run_id: Of the run, the same on all of its lines; a replay's copies carry it as ``x-dspex-replay``.
        message_id: Of the job, or None.
        correlation_id: Of the job, or None.
        program_id: Of the job, or None.
        tenant: Whose job it is, or None.
        code: Why it was dead-lettered, or None.
        generation_from: Before.
        generation_to: After; None where it was purged.
        is_patched: Whether its arguments were changed.
        broker_user: Who did it, for the broker.
        lm: Alias of the LM that the job used, or None.
        attempts: Runs that reached the LM, in the generation before.
        failed_ms: When it was dead-lettered, in Unix milliseconds, or None.
    """

    action: Literal["replay", "purge"]
    queue: str
    run_id: str
    message_id: str | None
    correlation_id: str | None
    program_id: str | None
    tenant: str | None
    code: str | None
    generation_from: int
    generation_to: int | None
    is_patched: bool
    broker_user: str
    lm: str | None = None
    attempts: int = 0
    failed_ms: int | None = None

    @classmethod
    def of_replay(cls, letter: DeadLetterView, *, source: Source, run_id: str, is_patched: bool) -> AuditLine:
        """Return the line of a letter that goes back to work."""
        to = letter.generation + 1
        user_id = source.user_id
        return cls("replay", source.queue, run_id, *_ids(letter), to, is_patched, user_id, *_facts(letter))

    @classmethod
    def of_purge(cls, letter: DeadLetterView, *, source: Source, run_id: str) -> AuditLine:
        """Return the line of a letter that is removed for good."""
        return cls("purge", source.queue, run_id, *_ids(letter), None, False, source.user_id, *_facts(letter))


class AuditTrail:
    """An open file of lines; it only grows, and many runs may write to it at once."""

    def __init__(self, file: int, *, path: Path) -> None:
        """Use `AuditTrail.open`."""
        self._file = file
        self._path = path
        self._os_user = _os_user()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[AuditTrail]:
        """Open a file, or make it for its owner alone, before anything moves.

        Raises:
            AuditError: It cannot be written.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            yield cls(file, path=path)
        finally:
            os.close(file)

    def write(self, line: AuditLine) -> None:
        """Add a line in one write, so that it outlives this process.

        Raises:
            AuditError: The disk is full, or the file is gone.
        """
        now = datetime.fromtimestamp(time.time(), tz=UTC).isoformat(timespec="milliseconds")
        document = {"time": now, **asdict(line), "os_user": self._os_user}
        text = f"{json.dumps(document, ensure_ascii=True)}\n".encode()
        try:
            written = os.write(self._file, text)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        if written != len(text):
            raise AuditError(f"The audit file {self._path} took only a part of a line. Is the disk full?")


def _ids(letter: DeadLetterView) -> tuple[str | None, str | None, str | None, str | None, str | None, int]:
    return (
        letter.message_id,
        letter.correlation_id,
        letter.program_id,
        letter.tenant,
        letter.code,
        letter.generation,
    )


def _facts(letter: DeadLetterView) -> tuple[str | None, int, int | None]:
    return letter.lm, letter.attempts, letter.first_failed_ms


def _os_user() -> str:
    """Return who runs this; the environment would say whatever it was told."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need not have a name
        return str(os.getuid())


def _unwritable(path: Path, error: OSError) -> AuditError:
    return AuditError(f"The audit file {path} cannot be written: {error.strerror or error}. Name another with --audit.")
