"""``dspex-worker doctor``: check a deployment before it hurts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.printing import print_json, print_table
from worker.cli.running import EXIT_ERROR, EXIT_SETTINGS, run

if TYPE_CHECKING:
    from worker.doctor import Check

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red", "skipped": "dim"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with all checks.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings, too.")] = False,
    declare: Annotated[bool, typer.Option("--declare", help="Declare queues and exchanges that are missing.")] = False,
    call_lm: Annotated[bool, typer.Option("--call-lm", help="Make one tiny call to each LM alias.")] = False,
    management_url: Annotated[
        str | None,
        typer.Option(
            envvar="RABBITMQ_MANAGEMENT_URL",
            show_envvar=True,
            help="Management API, http://user:password@host:15672, for what AMQP does not tell.",
        ),
    ] = None,
) -> None:
    """Check broker, queues, permissions, store and LMs, and say how to fix each problem.

    It changes nothing, except with --declare. Exits with 0, 1 on an error, and 2 when the settings cannot be read.
    """
    from worker.doctor import Options, examine, has_errors, unreadable_settings
    from worker.settings import SettingsError, load
    from worker.telemetry import configure_logging

    # What the parts log of their troubles is what the checks say.
    configure_logging(level="critical", style="auto")
    try:
        settings = load()
    except SettingsError as error:
        _print([unreadable_settings(str(error))], as_json=as_json)
        raise typer.Exit(EXIT_SETTINGS) from None
    options = Options(is_declaring=declare, is_calling_lm=call_lm, management_url=management_url)
    checks = run(examine(settings, options))
    _print(checks, as_json=as_json)
    if has_errors(checks, is_strict=strict):
        raise typer.Exit(EXIT_ERROR)


def _print(checks: Sequence[Check], *, as_json: bool) -> None:
    counts = Counter(check.verdict.value for check in checks)
    if as_json:
        print_json({"counts": counts, "checks": [asdict(check) for check in checks]})
        return
    from rich.text import Text

    rows = (
        (check.name, Text(check.verdict, style=_STYLES[check.verdict]), _with_mend(check.sentence, check.mend))
        for check in checks
    )
    print_table(("check", "verdict", "what was found"), rows)
    typer.echo(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))


def _with_mend(sentence: str, mend: str) -> str:
    return f"{sentence}\n→ {mend}" if mend else sentence
