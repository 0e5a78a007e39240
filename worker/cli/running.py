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


def run(
    coroutine: Coroutine[Any, Any, T],
    *,
    amqp_url: str | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run a coroutine to its end; Ctrl-C and a broker that is away end the command without a traceback.

    Args:
        coroutine: What to run.
        amqp_url: The broker that it connects to, once; None where it sees to lost connections itself.
        loop_factory: Makes the event loop; asyncio's own by default.

    Raises:
        typer.Exit: The broker cannot be reached or refuses, or Ctrl-C.
    """
    # What matters of its chatter reaches us as exceptions.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    with _quiet(amqp_url), asyncio.Runner(loop_factory=loop_factory) as runner:
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
def _quiet(amqp_url: str | None) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except OSError as error:
        if amqp_url is None or not _is_of_connecting(error):
            raise
        raise stop(describe_broker_trouble(amqp_url, error), code=EXIT_NOBODY) from None


def describe_broker_trouble(amqp_url: str, error: Exception) -> str:
    """Say in one line which broker it is about, what is wrong, and what to look at; the password is left out."""
    from aiormq.exceptions import AuthenticationError, ConnectionClosed, ProbableAuthenticationError

    from worker.amqp.connection import mask_url
    from worker.amqp.tls import explain

    reason = str(error.__cause__ or error).strip().rstrip(".") or "no answer in time"
    broker = f"The broker {mask_url(amqp_url)} (DSPEX_AMQP_URL)"
    if isinstance(error, (AuthenticationError, ProbableAuthenticationError, ConnectionClosed)):
        return f"{broker} refuses the connection: {reason}. Are user, password and vhost right?"
    if fault := explain(error):
        return f"{broker} cannot be reached: {fault}."
    return f"{broker} cannot be reached: {reason}. Is it running?"


def _is_of_connecting(error: OSError) -> bool:
    # A reply that does not come in time is a TimeoutError too, of a class of the client's own.
    return isinstance(error, ConnectionError) or type(error) is TimeoutError
