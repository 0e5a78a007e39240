"""Print what was found in a dead-letter queue, and what was done to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from worker.cli.printing import escape, print_json, print_lines, print_table

if TYPE_CHECKING:
    from worker.amqp.dead_letters import DeadLetterView, DeadQueue, Plan, PurgeReport, Refusal, ReplayReport

_MAX_SHOWN = 20


def print_queues(queues: Sequence[DeadQueue]) -> None:
    """Print how many letters each queue has, and of which kinds."""
    print_table(("queue", "lane", "messages"), [(queue.name, queue.lane, queue.messages) for queue in queues])
    groups = [(queue.lane, group) for queue in queues for group in queue.groups]
    if not groups:
        return
    typer.echo()
    columns = ("lane", "messages", "code", "program", "lm", "oldest", "newest")
    print_table(
        columns,
        (
            (
                lane,
                group.messages,
                group.code,
                group.program_id,
                group.lm,
                _when(group.oldest_ms),
                _when(group.newest_ms),
            )
            for lane, group in groups
        ),
    )


def print_letters(letters: Sequence[DeadLetterView]) -> None:
    """Print letters, one a line, cut to the width of the terminal."""
    if not letters:
        typer.echo("No dead letters.")
        return
    columns = ["message_id", "failed", "program_id", "lm", "code", "attempts", "generation", "message"]
    if any(letter.tenant for letter in letters):
        columns.insert(3, "tenant")
    print_lines(columns, ([_cell(letter, column) for column in columns] for letter in letters))


def print_letter(letter: DeadLetterView, *, body: object = None) -> None:
    """Print everything that is known of one letter, a line for each fact, and its body if there is one."""
    facts = {**asdict(letter), "first_failed": _when(letter.first_failed_ms)}
    history = facts.pop("history")
    del facts["first_failed_ms"]
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {'–' if value is None else escape(str(value))}")
    for death in history:
        told = f"{death['code'] or '–'} at {_when(death['failed_ms'])}, generation {death['generation']}"
        typer.echo(escape(f"{'before':<{width}}  {told}, {death['worker'] or '–'}"))
    if body is not None:
        print_json(body)


def _cell(letter: DeadLetterView, column: str) -> object:
    return _when(letter.first_failed_ms) if column == "failed" else getattr(letter, column)


def _when(milliseconds: int | None) -> str | None:
    """Return a time in UTC, to the second; None where there is none, or no calendar has it."""
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1_000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return str(milliseconds)


def print_replay(report: ReplayReport, *, plan: Plan, as_json: bool) -> None:
    """Print what a replay did; what stays, and why, goes to stderr."""
    if as_json:
        refusals = [asdict(refusal) for refusal in report.refusals]
        print_json({**asdict(report), "counts": list(_counts(report)), "refusals": refusals})
        return
    _print_counts(report)
    verb = "would be replayed" if report.is_dry_run else "replayed"
    typer.echo(f"{report.replayed} of {report.total} {verb} from {report.queue}")
    if plan.patch is not None:
        _tell_patch(report)
    if report.unchecked:
        _tell(f"{report.unchecked} were not compared with their programs: there is no store here to read")
    _tell_expired(report)
    _tell_unseen(report)
    _tell_refusals(report, plan=plan)
    if report.is_interrupted:
        _tell("Interrupted; run it again for the rest.")


def print_purge(report: PurgeReport, *, as_json: bool) -> None:
    """Print what a purge did."""
    if as_json:
        print_json({**asdict(report), "counts": list(_counts(report))})
        return
    _print_counts(report)
    verb = "would be purged" if report.is_dry_run else "purged"
    typer.echo(f"{report.purged} of {report.total} {verb} from {report.queue}")
    _tell_expired(report)
    _tell_unseen(report)
    if report.is_interrupted:
        _tell("Interrupted; run it again for the rest.")


def _print_counts(report: ReplayReport | PurgeReport) -> None:
    if report.counts:
        print_table(("program_id", "code", "messages"), (list(count.values()) for count in _counts(report)))


def _counts(report: ReplayReport | PurgeReport) -> Iterator[dict[str, Any]]:
    for (program_id, code), messages in report.counts.items():
        yield {"program_id": program_id, "code": code, "messages": messages}


def _tell_patch(report: ReplayReport) -> None:
    same = report.replayed - report.patched
    typer.echo(f"{report.patched} patched")
    if same:
        _tell(f"The patch makes no difference to {same} of them")


def _tell_expired(report: ReplayReport | PurgeReport) -> None:
    if report.expired:
        _tell(f"{report.expired} that only expired stay; --include-expired takes them too")


def _tell_unseen(report: ReplayReport | PurgeReport) -> None:
    if report.unseen:
        _tell(f"{report.unseen} were not looked at: somebody else holds them, or took them; run it again")


def _tell_refusals(report: ReplayReport, *, plan: Plan) -> None:
    if not report.refusals:
        return
    kinds = Counter((refusal.program_id, refusal.code) for refusal in report.refusals)
    is_held_up = plan.on_refusal == "stop" and any(not refusal.is_final for refusal in report.refusals)
    if not is_held_up:
        _tell(f"{len(report.refusals)} stay:")
    elif report.is_dry_run:
        _tell(f"{len(report.refusals)} would fail again, so nothing would move without --skip-invalid or --force:")
    else:
        _tell(f"{len(report.refusals)} would fail again, so nothing was moved; --skip-invalid leaves them, or --force:")
    for (program_id, code), number in kinds.most_common(_MAX_SHOWN):
        _tell(f"  {number} × {code}" + (f" of {program_id}" if program_id else ""))
    for refusal in report.refusals[:_MAX_SHOWN]:
        _tell(f"  {_name(refusal)}: {refusal.code}: {refusal.reason}")
    if len(report.refusals) > _MAX_SHOWN:
        _tell(f"  and {len(report.refusals) - _MAX_SHOWN} more; --json lists all")


def _name(refusal: Refusal) -> str:
    return refusal.message_id or refusal.correlation_id or "a job without an id"


def _tell(line: str) -> None:
    typer.echo(escape(line), err=True)
