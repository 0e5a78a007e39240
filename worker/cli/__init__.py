"""The command line: parses, calls, prints. What the commands do is elsewhere.

Every command imports what it needs when it runs, so that ``--help`` is quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from worker import __version__
from worker.cli import call, contract, dead, demo, doctor, flags, serve, workers
from worker.cli.streams import sturdy_streams

__all__ = ["app", "main"]

app = typer.Typer(
    name="dspex-worker",
    help="Run DSPy programs as RabbitMQ jobs: signatures defined at run time, typed answers, no job lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
serve.add_to(app)
call.add_to(app)
dead.add_to(app)
flags.add_to(app)
workers.add_to(app)
doctor.add_to(app)
contract.add_to(app)
demo.add_to(app)


def main() -> None:
    """Run the command line; the process ends with the command's exit code."""
    with sturdy_streams():
        app(prog_name="dspex-worker")


def _print_version(is_asked: bool) -> None:
    if not is_asked:
        return
    typer.echo(f"dspex-worker {__version__}")
    raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""
