"""What the comparison means: missing, different, silent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aio_pika.abc import AbstractConnection

from worker.amqp.errors import TopologyError
from worker.amqp.topology import Topology, declare
from worker.doctor.check import Check, error, ok, warning
from worker.doctor.comparison import Finding, State


async def declare_missing(connection: AbstractConnection, topology: Topology, findings: Sequence[Finding]) -> Check:
    """Declare what is missing; what differs stays as it is, and its own check tells."""
    missing = [finding for finding in findings if finding.state is State.MISSING]
    try:
        await declare(topology, connection)
    except TopologyError:
        pass
    if not missing:
        return ok("declare", "Nothing was missing")
    return ok("declare", f"Declared, as far as the rights go: {_names(missing)}")


def judge_topology(findings: Sequence[Finding]) -> list[Check]:
    """Turn the comparison into checks: one for all that is as it should be, missing or refused, one for each other."""
    by_state = {state: [finding for finding in findings if finding.state is state] for state in State}
    parts = {
        f"missing: {_names(by_state[State.MISSING])}": by_state[State.MISSING],
        f"not compared, since the user may not declare them: {_names(by_state[State.REFUSED])}": by_state[
            State.REFUSED
        ],
    }
    sentences = [f"{len(found)} of {len(findings)} are {words}" for words, found in parts.items() if found]
    bad = [_judge(finding) for state in (State.DIFFERS, State.SILENT, State.LATE) for finding in by_state[state]]
    if sentences:
        mend = "Start a worker, which declares what is missing, or run `dspex-worker doctor --declare` with its rights"
        return [warning("topology", "; ".join(sentences), mend), *bad]
    if bad:
        return bad
    return [ok("topology", f"All {len(findings)} queues and exchanges have the arguments that this worker declares")]


def _judge(finding: Finding) -> Check:
    name = f"{finding.kind} {finding.item.name}"
    if finding.state is State.LATE:
        return error(name, "It was not compared in time", "Run this again; if it stays so, look at the broker's load")
    if finding.state is State.SILENT:
        return error(
            name,
            "It exists and says that it is empty, but a get has no answer. A quorum queue may come back so when its node "
            "was killed within two seconds of its declaration",
            "Run this again; if it stays so, delete the queue, then start a worker or run `dspex-worker doctor --declare`",
        )
    return error(name, _differences(finding), _mend(finding))


def _differences(finding: Finding) -> str:
    if not finding.differences:
        return f"The broker refuses its declaration: {finding.reason}"
    parts = (f"{each.argument} is {each.have}, this worker wants {each.want}" for each in finding.differences)
    return "; ".join(parts)


def _mend(finding: Finding) -> str:
    loss = f" ({finding.messages} messages are in it)" if finding.messages else ""
    return f"Empty the {finding.kind}{loss}, delete it and start a worker, or use another DSPEX_NAMESPACE"


def _names(findings: Iterable[Finding]) -> str:
    """Name each once: an exchange and a queue of the delay ladder share theirs."""
    return ", ".join(sorted({finding.item.name for finding in findings}))
