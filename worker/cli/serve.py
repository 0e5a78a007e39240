"""``dspex-worker serve``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.printing import print_table
from worker.cli.running import EXIT_ERROR, load_settings, run, stop

if TYPE_CHECKING:
    import asyncio


def add_to(app: typer.Typer) -> None:
    """Add the command; its help is our own option, because it ends with the table of settings."""
    app.command("serve", add_help_option=False)(serve)


def _print_help(context: typer.Context, is_asked: bool) -> None:
    if not is_asked:
        return
    typer.echo(context.get_help())
    typer.echo()
    print_table(("setting", "default", "meaning"), setting_rows())
    raise typer.Exit


def serve(
    _help: Annotated[
        bool,
        typer.Option("-h", "--help", callback=_print_help, is_eager=True, help="Show this and all settings, and exit."),
    ] = False,
) -> None:
    """Take jobs from RabbitMQ until SIGTERM, then finish running jobs.

    All settings are environment variables. Without any, jobs come from a broker on this machine, programs and results
    are kept in a SQLite file, and an offline stand-in takes the LM's place.
    """
    settings = load_settings()
    from worker.amqp.errors import BrokerError
    from worker.server import serve as serve_jobs
    from worker.store import StoreUnavailableError
    from worker.telemetry import configure_logging, log_uncaught

    configure_logging(level=settings.log_level, style=settings.log_format)
    log_uncaught()
    try:
        code = run(serve_jobs(settings), loop_factory=_loop_factory())
    except (BrokerError, StoreUnavailableError, OSError) as error:
        raise stop(str(error), code=EXIT_ERROR) from None
    raise typer.Exit(code)


def setting_rows() -> Iterator[tuple[str, str, str]]:
    """Yield variable, default and meaning of every setting, in the order in which they are declared."""
    from worker.settings import PREFIX, Settings

    for name, field in Settings.model_fields.items():
        yield f"{PREFIX}{name.upper()}", _text(field.get_default(call_default_factory=True)), field.description or ""


def _text(default: Any) -> str:
    """Write a default as one would set it."""
    if hasattr(default, "get_secret_value"):
        return str(default.get_secret_value())
    if default is None or default == "":
        return "–"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(str(item) for item in default) or "–"
    return str(default)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on Windows
        return None
    return uvloop.new_event_loop
