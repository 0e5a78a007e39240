"""``dspex-worker demo``."""

from __future__ import annotations

import os

import typer

from worker.cli.running import EXIT_SETTINGS, load_settings, run, stop

_SCHEMES = ("amqp://", "amqps://")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo() -> None:
    """Show two workers, 200 jobs, a kill, a dead letter and its replay, in a namespace of its own.

    Needs a broker in DSPEX_AMQP_URL; `make demo` starts one.
    """
    amqp_url = os.environ.get("DSPEX_AMQP_URL")
    if not amqp_url:
        raise stop("Set DSPEX_AMQP_URL, or run `make demo`, which starts a broker of its own.", code=EXIT_SETTINGS)
    if not amqp_url.startswith(_SCHEMES):
        raise stop(f"DSPEX_AMQP_URL: must begin with {' or '.join(_SCHEMES)}", code=EXIT_SETTINGS)
    from worker.demo import show

    broker_url = load_settings().broker_url
    raise typer.Exit(run(show(broker_url), amqp_url=broker_url))
