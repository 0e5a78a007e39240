"""The commands of ``dspex-worker dead``."""

# ruff: noqa: PLR0913 - an argument here is an option of the command line

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.dead.options import (
    AsJSON,
    AuditFile,
    DryRun,
    Filters,
    Force,
    Limit,
    Patch,
    QueueName,
    Rate,
    SkipInvalid,
    WithExpired,
    audit_file,
    read_body,
    read_lane,
    read_patch,
    with_filters,
)
from worker.cli.dead.reports import print_letter, print_letters, print_purge, print_queues, print_replay
from worker.cli.dead.runs import browsing, purge_letters, replay_letters
from worker.cli.printing import print_json
from worker.cli.running import EXIT_ERROR, EXIT_INTERRUPTED, load_settings, stop

if TYPE_CHECKING:
    from worker.amqp.dead_letters import OnRefusal, Plan, PurgeReport, ReplayReport, Selection
    from worker.message import Lane
    from worker.settings import Settings

_dead = typer.Typer(
    no_args_is_help=True,
    help="List, show, replay and purge dead letters: jobs that failed for good.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def add_to(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(_dead, name="dead")


@_dead.command("list")
def list_queues(
    *,
    count: Annotated[bool, typer.Option("--count", help="Only the number in each queue; looks at no letter.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Count the dead letters of each queue, by code, program and LM.

    Looks at every letter and leaves it where it is. Meanwhile the letters are held, and another `dead` command does not
    see them; --count holds none.
    """
    from worker.amqp.dead_letters import list_dead

    settings = load_settings()
    queues = browsing(settings, functools.partial(list_dead, has_groups=not count), has_bar=not as_json)
    if as_json:
        print_json([asdict(queue) for queue in queues])
    else:
        print_queues(queues)


@_dead.command("show")
@with_filters
def show_letters(
    queue: Annotated[
        str,
        typer.Argument(
            metavar="QUEUE",
            help="create, execute, control, or a queue's full name; else an ID, looked for in all three.",
        ),
    ],
    job: Annotated[
        str | None, typer.Argument(metavar="ID", help="A message id or correlation id: show all of this one job.")
    ] = None,
    *,
    filters: Filters,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the oldest first.")] = 20,
    body: Annotated[bool, typer.Option("--body", help="With ID: the body too, with the job's inputs.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Show dead letters and leave them where they are: a line for each, or everything about one job.

    Looks at the whole queue and sorts it by the time of the first failure, then by message id; two looks in a row agree.
    Meanwhile the letters are held, and another `dead` command does not see them.

    Exits with 0; 1 where the broker refuses or there is no letter of ID, 2 where the broker cannot be reached.
    """
    settings = load_settings()
    lanes, job = _read_place(queue, job, namespace=settings.namespace)
    if job is not None:
        if filters != Filters():
            raise typer.BadParameter("takes no filters beside it", param_hint="ID")
        _show_one(settings, lanes, job=job, has_body=body, as_json=as_json)
        return
    if body:
        raise typer.BadParameter("needs the ID of a job", param_hint="--body")
    from worker.amqp.dead_letters import show

    step = functools.partial(show, lane=lanes[0], limit=limit, selection=filters.selection(has_expired=True))
    letters = browsing(settings, step, has_bar=not as_json)
    if as_json:
        print_json([asdict(letter) for letter in letters])
    else:
        print_letters(letters)


def _read_place(queue: str, job: str | None, *, namespace: str) -> tuple[Sequence[Lane], str | None]:
    """Return the lanes to look at, and the id to look for: one that stands alone is looked for in all lanes."""
    from worker.message import LANES

    try:
        return (read_lane(queue, namespace=namespace),), job
    except typer.BadParameter:
        if job is not None:
            raise
        return LANES, queue


def _show_one(settings: Settings, lanes: Sequence[Lane], *, job: str, has_body: bool, as_json: bool) -> None:
    from worker.amqp.dead_letters import find

    found = []
    for lane in lanes:
        step = functools.partial(find, lane=lane, job_id=job, has_body=has_body)
        found += browsing(settings, step, has_bar=not as_json)
    if not found:
        told = f"No dead letter of {', '.join(lanes)} has the message id or correlation id {job}"
        raise stop(told if len(lanes) == 1 else f"{told}, and no queue is called so", code=EXIT_ERROR)
    bodies = [None if raw is None else read_body(raw) for _, raw in found]
    if as_json:
        own = ({"body": body} if has_body else {} for body in bodies)
        print_json([{**asdict(letter), **more} for (letter, _), more in zip(found, own, strict=True)])
        return
    for (letter, _), body in zip(found, bodies, strict=True):
        print_letter(letter, body=body)


@_dead.command("replay")
@with_filters
def replay_command(
    queue: QueueName,
    *,
    filters: Filters,
    include_expired: WithExpired = False,
    limit: Limit = None,
    rate: Rate = None,
    patch: Patch = None,
    dry_run: DryRun = False,
    skip_invalid: SkipInvalid = False,
    force: Force = False,
    audit: AuditFile = None,
    as_json: AsJSON = False,
) -> None:
    """Send dead letters back to their work queue, once each.

    First the whole queue is looked at. --limit chooses the oldest that match, by the time of their first failure, then by
    message id. Before anything moves, each chosen one is checked as a worker would check it today; if one would fail
    again, nothing moves, unless --skip-invalid, by which the next ones take their place, or --force. Inputs are checked
    where the store (DSPEX_STORE_URL) is at hand. Letters that come in meanwhile are left alone.

    Safe to interrupt: each one is copied, the copy is confirmed, and only then the dead letter is removed. Killed or
    not, run it again for the rest. Ctrl-C ends it after the message in hand.

    Exits with 0 when it is through; 1 where fewer were moved than were chosen, where a letter would fail again or is held
    by somebody else, or another replay runs; 2 where the broker cannot be reached; 130 after Ctrl-C.
    """
    settings = load_settings()
    lane = read_lane(queue, namespace=settings.namespace)
    plan = replace(
        _plan(settings, filters.selection(has_expired=include_expired), limit=limit, is_dry_run=dry_run),
        rate=rate,
        patch=read_patch(patch),
        on_refusal=_on_refusal(skip_invalid=skip_invalid, force=force),
    )
    _replay(settings, lane, plan=plan, audit=audit, as_json=as_json)


@_dead.command("purge")
@with_filters
def purge_command(
    queue: QueueName,
    *,
    filters: Filters,
    include_expired: WithExpired = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal.")] = False,
    audit: AuditFile = None,
    as_json: AsJSON = False,
) -> None:
    """Remove dead letters for good, each with a line in the audit file.

    First the whole queue is looked at; --limit chooses the oldest that match. Letters that come in meanwhile stay.

    Exits with 0 when it is through; 1 where fewer were removed than were chosen, the answer is no, somebody else holds
    letters, or another replay or purge runs; 2 where the broker cannot be reached; 130 after Ctrl-C.
    """
    settings = load_settings()
    lane = read_lane(queue, namespace=settings.namespace)
    plan = _plan(settings, filters.selection(has_expired=include_expired), limit=limit, is_dry_run=dry_run)
    path = audit_file(audit, namespace=settings.namespace)
    if not (dry_run or yes):
        plan = _confirm(settings, lane, plan=plan, audit=path)
    report = purge_letters(settings, lane=lane, plan=plan, audit=path, has_bar=not as_json)
    print_purge(report, as_json=as_json)
    _end(report, done=report.purged)


def _plan(settings: Settings, selection: Selection, *, limit: int | None, is_dry_run: bool) -> Plan:
    from worker.amqp.dead_letters import Plan

    trusted_users = frozenset(settings.trusted_users)
    return Plan(selection=selection, limit=limit, is_dry_run=is_dry_run, trusted_users=trusted_users)


def _replay(settings: Settings, lane: Lane, *, plan: Plan, audit: Path | None, as_json: bool) -> None:
    path = audit_file(audit, namespace=settings.namespace)
    report = replay_letters(settings, lane=lane, plan=plan, audit=path, has_bar=not as_json)
    print_replay(report, plan=plan, as_json=as_json)
    is_held_up = plan.on_refusal == "stop" and any(not refusal.is_final for refusal in report.refusals)
    _end(report, done=report.replayed, is_held_up=is_held_up)


def _end(report: ReplayReport | PurgeReport, *, done: int, is_held_up: bool = False) -> None:
    """Exit with what a run has come to, if it is not through."""
    if report.is_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if is_held_up or report.unseen or done < report.wanted:
        raise typer.Exit(EXIT_ERROR)


def _on_refusal(*, skip_invalid: bool, force: bool) -> OnRefusal:
    if skip_invalid and force:
        raise typer.BadParameter("contradicts --force", param_hint="--skip-invalid")
    return "skip" if skip_invalid else "force" if force else "stop"


def _confirm(settings: Settings, lane: Lane, *, plan: Plan, audit: Path) -> Plan:
    """Ask before anything is removed for good, and return a plan for no more than was agreed to.

    Where nobody can answer, that is a no.
    """
    found = purge_letters(settings, lane=lane, plan=replace(plan, is_dry_run=True), audit=audit, has_bar=False)
    if found.is_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    agreed = replace(plan, limit=found.purged)
    if not found.purged:
        return agreed
    if not sys.stdin.isatty():
        raise stop(f"{found.purged} would be purged from {found.queue}; say --yes, or --dry-run", code=EXIT_ERROR)
    if not typer.confirm(f"Purge {found.purged} dead letters from {found.queue} for good?", err=True):
        raise stop("Nothing was purged.", code=EXIT_ERROR)
    return agreed
