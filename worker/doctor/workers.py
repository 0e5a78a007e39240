"""The living workers: who they are, what each has paused and takes for down, and whether they are alike."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.doctor.check import CHECK_SECONDS, Check, Verdict, ok, skipped, span, warning
from worker.settings import Settings
from worker.store import StoreUnavailableError, WorkerRecord
from worker.store.reader import open_reader

_CHECKS = ("workers", "pauses", "agreement")
# A worker that was told to stop consumes nothing, and nothing is wrong with it.
_STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Workforce:
    """The workers, as their heartbeats in the store tell.

    Attributes:
        living: Those whose heartbeat is younger than the lease.
        lost: Those whose heartbeat is older, and whose rows were not swept yet.
        unknown: Why the store tells nothing of them; empty where it does.
    """

    living: Sequence[WorkerRecord] = ()
    lost: Sequence[WorkerRecord] = ()
    unknown: str = ""

    @property
    def lms_down(self) -> list[str]:
        """Aliases that any living worker takes for down, in the order of the alphabet."""
        return sorted({alias for worker in self.living for alias in worker.circuits})


async def look(settings: Settings) -> Workforce:
    """Read the workers in the store, within the time of a check; it changes nothing."""
    try:
        async with (
            asyncio.timeout(CHECK_SECONDS),
            open_reader(settings.resolved_store_url, namespace=settings.namespace) as reader,
        ):
            if reader is None:
                return Workforce(unknown="The store does not exist here")
            listed = await reader.list_workers(lease_seconds=settings.lease_seconds)
    except (StoreUnavailableError, ValueError, TimeoutError):
        return Workforce(unknown="The store cannot be read")
    living = [worker for worker in listed if worker.is_living]
    return Workforce(living, [worker for worker in listed if not worker.is_living])


def check_workers(workforce: Workforce) -> list[Check]:
    """Judge who lives, what is paused, and whether all have the same version and settings."""
    if workforce.unknown:
        mend = "`dspex-worker workers` asks a worker over the broker"
        return [skipped(name, workforce.unknown, mend) for name in _CHECKS]
    if not workforce.living:
        rest = (skipped(name, "No worker lives") for name in _CHECKS[1:])
        return [warning("workers", _lives(workforce), "Start a worker: `dspex-worker serve`"), *rest]
    return [_judge_lives(workforce), _judge_pauses(workforce), _judge_agreement(workforce)]


def judge_circuits(aliases: Sequence[Check], workforce: Workforce) -> list[Check]:
    """Return the checks of the aliases; what a worker takes for down is a warning, also where its key is in place."""
    judged = [_with_circuits(check, workforce) for check in aliases]
    known = {check.name for check in aliases}
    # An alias that only workers have configured.
    others = [alias for alias in workforce.lms_down if f"lm {alias}" not in known]
    return [*judged, *(_down(f"lm {alias}", "Not in these settings", alias, workforce) for alias in others)]


def _with_circuits(check: Check, workforce: Workforce) -> Check:
    alias = check.name.removeprefix("lm ")
    if alias not in workforce.lms_down:
        return check
    down = _down(check.name, check.sentence, alias, workforce)
    return replace(check, sentence=down.sentence) if check.verdict is Verdict.ERROR else down


def _down(name: str, sentence: str, alias: str, workforce: Workforce) -> Check:
    circuits = [worker.circuits[alias] for worker in workforce.living if alias in worker.circuits]
    codes = ", ".join(sorted({circuit["code"] for circuit in circuits}))
    longest = span(max(circuit["open_seconds"] for circuit in circuits))
    count = f"{len(circuits)} of {len(workforce.living)} workers take it for down ({codes}), for {longest}"
    mend = (
        "Add --call-lm to see the provider's answer; if only some workers are concerned, compare their keys and models"
    )
    return warning(name, f"{sentence}; {count}", mend)


def _lives(workforce: Workforce) -> str:
    names = ", ".join(f"{worker.worker_id} {span(worker.silent_seconds)} ago" for worker in workforce.lost)
    return f"{len(workforce.living)} living" + (f", {len(workforce.lost)} lost: last seen {names}" if names else "")


def _judge_lives(workforce: Workforce) -> Check:
    if workforce.lost:
        mend = "See in its log why it ended; others take over what it had in hand, and its row is swept soon"
        return warning("workers", _lives(workforce), mend)
    return ok("workers", _lives(workforce))


def _judge_pauses(workforce: Workforce) -> Check:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for worker in workforce.living:
        for lane, reason in {(lane, pause["reason"]) for pause in worker.paused for lane in pause["lanes"]}:
            if reason != _STOPPING:
                counts[lane][reason] += 1
    if not counts:
        return ok("pauses", "No worker has a lane paused")
    all_of_them = len(workforce.living)
    told = [
        f"{lane} in {number} of {all_of_them} workers: {reason}"
        for lane, reasons in sorted(counts.items())
        for reason, number in reasons.items()
    ]
    mend = "The reason says what the workers wait for; they go on by themselves when it is over"
    return warning("pauses", "; ".join(told), mend)


def _judge_agreement(workforce: Workforce) -> Check:
    told = []
    for name in ("version", "settings"):
        counts = Counter(getattr(worker, name) or "?" for worker in workforce.living)
        if len(counts) > 1:
            told.append(f"{name}: " + ", ".join(f"{value} in {number}" for value, number in sorted(counts.items())))
    if not told:
        return ok("agreement", "All workers have the same version and settings")
    mend = "`dspex-worker workers` names them; end the rollout, or give all workers of a namespace the same settings"
    return warning("agreement", f"The workers differ by {'; '.join(told)}", mend)
