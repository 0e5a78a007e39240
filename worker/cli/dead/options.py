"""What the commands of ``dspex-worker dead`` take, and how it is read."""

from __future__ import annotations

import functools
import inspect
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from worker.amqp.dead_letters import Selection
    from worker.message import Lane

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def read_age(text: str) -> float:
    """Read an age such as ``90s``, ``30m``, ``2h``, ``1d12h`` in seconds.

    Raises:
        typer.BadParameter: It is none.
    """
    if _AGE.fullmatch(text) is None:
        raise typer.BadParameter(f"{text!r} is no age; write 90s, 30m, 2h, 7d or 1d12h")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="create, execute, control, or a queue's full name.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count and check, and change nothing.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="At most so many: the oldest that match, of all in the queue. Default: all that match."),
]
Codes = Annotated[
    list[str] | None,
    typer.Option("--code", metavar="CODE", help="Only letters of this code, e.g. lm_unavailable; may be repeated."),
]
NotCodes = Annotated[
    list[str] | None,
    typer.Option("--not-code", metavar="CODE", help="No letters of this code; may be repeated."),
]
LMAliases = Annotated[
    list[str] | None, typer.Option("--lm", metavar="ALIAS", help="Only jobs of this LM; may be repeated.")
]
Programs = Annotated[
    list[str] | None, typer.Option("--program", metavar="ID", help="Only jobs of this program; may be repeated.")
]
MessageIds = Annotated[
    list[str] | None, typer.Option("--message-id", metavar="ID", help="Only this job; may be repeated.")
]
Tenant = Annotated[str | None, typer.Option(metavar="USER", help="Only jobs of this tenant.")]
OlderThan = Annotated[
    float | None,
    typer.Option(parser=read_age, metavar="AGE", help="Only jobs that failed longer ago, e.g. 30m, 2h, 1d12h."),
]
NewerThan = Annotated[
    float | None, typer.Option(parser=read_age, metavar="AGE", help="Only jobs that failed more recently.")
]
WithExpired = Annotated[
    bool,
    typer.Option("--include-expired", help="Also jobs that only came too late; `--code expired`: nothing but these."),
]
Rate = Annotated[float | None, typer.Option(min=0.001, metavar="N", help="At most so many messages a second.")]
Patch = Annotated[
    str | None, typer.Option(metavar="FILE|JSON", help="A JSON merge patch (RFC 7396) for the `args` of each job.")
]
SkipInvalid = Annotated[
    bool, typer.Option("--skip-invalid", help="Leave letters that would fail again where they are; move the rest.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Move them all the same; also a fourth replay, and a create with `replace`.")
]
AuditFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Where a line of JSON is added for each message; default: audit-<namespace>.jsonl in the state folder.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which letters are meant, as the command line says it; each field is an option."""

    code: Codes = None
    not_code: NotCodes = None
    program: Programs = None
    lm: LMAliases = None
    message_id: MessageIds = None
    tenant: Tenant = None
    older_than: OlderThan = None
    newer_than: NewerThan = None

    def selection(self, *, has_expired: bool) -> Selection:
        """Return what the steps on the broker take; ages count from now.

        Args:
            has_expired: Whether letters that only expired are meant too.
        """
        from worker.amqp.dead_letters import Selection

        now_ms = round(time.time() * 1_000)
        ages = (self.older_than, self.newer_than)
        before_ms, after_ms = (None if age is None else now_ms - round(age * 1_000) for age in ages)
        return Selection(
            codes=frozenset(self.code or ()),
            not_codes=frozenset(self.not_code or ()),
            programs=frozenset(self.program or ()),
            lms=frozenset(self.lm or ()),
            message_ids=frozenset(self.message_id or ()),
            tenant=self.tenant,
            failed_before_ms=before_ms,
            failed_after_ms=after_ms,
            has_expired=has_expired,
        )


def with_filters(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Filters` in place of its argument ``filters``.

    typer reads the options off a command's signature, so a signature is what is put together here: the options in the
    place of the argument.
    """
    options = list(inspect.signature(Filters, eval_str=True).parameters.values())
    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [part for each in own for part in (options if each.name == "filters" else [each])]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        filters = Filters(**{option.name: given.pop(option.name) for option in options})
        command(**given, filters=filters)

    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def read_lane(queue: str, *, namespace: str) -> Lane:
    """Read a lane from its own name, its work queue's or its dead-letter queue's.

    Raises:
        typer.BadParameter: It names no lane of the namespace.
    """
    from worker.message import LANES

    name = queue.removeprefix(f"{namespace}.").removesuffix(".dead")
    for lane in LANES:
        if name == lane:
            return lane
    raise typer.BadParameter(
        f"must be {', '.join(LANES)}, or a queue's full name, such as {namespace}.execute or {namespace}.execute.dead",
        param_hint="QUEUE",
    )


def read_patch(text: str | None) -> dict[str, Any] | None:
    """Read a merge patch: JSON itself, or the name of a file that holds it.

    Raises:
        typer.BadParameter: It is no JSON object, or the file cannot be read.
    """
    if text is None:
        return None
    from worker.errors import WorkerError
    from worker.message import parse

    try:
        body = text.encode() if text.lstrip().startswith("{") else Path(text).read_bytes()
        patch = parse(body, max_bytes=len(body))
    except OSError as error:
        raise _bad_patch(f"is neither a JSON object nor a file: {error.strerror}") from None
    except WorkerError as error:
        raise _bad_patch(str(error).replace("The body", "it")) from None
    if not isinstance(patch, dict):
        raise _bad_patch('must be an object, such as {"inputs": {"text": "…"}, "options": {"lm": null}}')
    return patch


def read_body(body: bytes) -> Any:
    """Return a letter's body as JSON, or as text where it is none."""
    from worker.errors import WorkerError
    from worker.message import parse

    try:
        return parse(body, max_bytes=len(body))
    except WorkerError:
        return body.decode("utf-8", "replace")


def audit_file(path: Path | None, *, namespace: str) -> Path:
    """Return where the audit trail is: as given, or in the XDG state folder."""
    if path is not None:
        return path
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "dspex-worker" / f"audit-{namespace}.jsonl"


def _bad_patch(told: str) -> typer.BadParameter:
    return typer.BadParameter(told, param_hint="--patch")
