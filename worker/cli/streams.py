"""stdout and stderr that end no command in its middle."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from worker.cli.running import EXIT_ERROR

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Sink(io.FileIO):
    """Takes whatever is written to a descriptor; a reader that has seen enough, as ``head`` has, is no fault.

    Attributes:
        fault: Why some of it is lost, or None.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.fault: OSError | None = None

    def write(self, data: Buffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.fault = error
            return memoryview(data).nbytes


@contextmanager
def sturdy_streams() -> Iterator[None]:
    """Let a command do its work to the end, whatever becomes of its output, and exit with its own code.

    Raises:
        SystemExit: With 1 where all went well, but stdout did not take what is told of it, on a full disk for instance.
    """
    sys.stderr, _ = _sturdy(sys.stderr)
    sys.stdout, sink = _sturdy(sys.stdout)
    try:
        yield
    except SystemExit as end:
        sys.stdout.flush()
        if end.code or sink is None or sink.fault is None:
            raise
        print(f"The output cannot be written: {sink.fault.strerror}.", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_ERROR) from None


def _sturdy(stream: TextIO | None) -> tuple[TextIO, _Sink | None]:
    if stream is None:
        # Started with it closed. Opened here, it keeps its number from a socket.
        return Path(os.devnull).open("w", encoding="utf-8"), None
    if not isinstance(stream, io.TextIOWrapper):
        return stream, None
    sink = _Sink(stream.fileno())
    writer = io.TextIOWrapper(
        io.BufferedWriter(sink),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    return writer, sink
