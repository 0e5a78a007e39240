"""Run a command's coroutine, and turn what stops it into a line on stderr and an exit code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from worker.settings import Settings

EXIT_ERROR = 1
EXIT_NOBODY = 2
EXIT_SETTINGS = 2
EXIT_INTERRUPTED = 130

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run a coroutine to its end; Ctrl-C and a broker that is away end the command without a traceback.

    Args:
        coroutine: What to run.
        loop_factory: Makes the event loop; asyncio's own by default.
    """
    # What matters of its chatter reaches us as exceptions.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    with _quiet(), asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(coroutine)


def load_settings() -> Settings:
    """Read the settings; faults are printed, one a line, and the process exits with 2."""
    from worker.settings import SettingsError, load

    try:
        return load()
    except SettingsError as error:
        raise stop(str(error), code=EXIT_SETTINGS) from None


def stop(message: str, *, code: int) -> typer.Exit:
    """Print a message on stderr, and return the exception that ends the command with an exit code."""
    typer.echo(message, err=True)
    return typer.Exit(code)


@contextmanager
def _quiet() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except ConnectionError as error:
        raise stop(f"The broker of DSPEX_AMQP_URL cannot be reached: {error}", code=EXIT_NOBODY) from None
