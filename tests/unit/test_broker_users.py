"""The script that makes broker users: what it reads, and what it refuses before it runs anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from broker_rights import ROLES, ack_timeout_policy, definitions, rights_of
from make_users import Ctl, RefusedError

from tests.support.pages import ROOT
from worker.amqp.topology import Topology

SCRIPT = ROOT / "deploy/rabbitmq/make_users.py"


def _run(*lines: str, namespace: str = "dspex") -> subprocess.CompletedProcess[str]:
    """Run it with a rabbitmqctl that is none: whatever is refused is refused before."""
    command = [sys.executable, str(SCRIPT), "--namespace", namespace, "--rabbitmqctl", "no-such-rabbitmqctl"]
    return subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("worker worker secret", "admin eve secret"), "there is no role 'admin'"),
        (("worker worker secret", "publisher e.ve secret"), "'e.ve' cannot be a user"),
        (("worker worker secret", "publisher .* secret"), "'.*' cannot be a user"),
        (("publisher",), "line 1 must be: role name [password]"),
        (("worker worker secret",), "no-such-rabbitmqctl cannot be run"),
    ],
)
def test_a_mistake_in_the_input_changes_nothing(lines: tuple[str, ...], words: str) -> None:
    """One sentence, without the password."""
    done = _run(*lines)

    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "secret" not in done.stderr


def test_a_namespace_that_is_a_pattern_is_refused() -> None:
    """It would widen every right."""
    assert "cannot be a namespace" in _run("worker worker secret", namespace=".*").stderr


def test_the_definitions_are_the_scripts() -> None:
    """One source for both, and no password in it."""
    stored = json.loads((ROOT / "deploy/rabbitmq/definitions.json").read_text(encoding="utf-8"))

    assert "users" not in stored
    assert stored == definitions("dspex")


def test_the_worker_may_declare_the_whole_topology_and_nothing_else() -> None:
    """A queue that the topology gets needs a right as well."""
    topology = Topology.of(namespace="team-a", delays_ms=(200, 3_600_000))
    names = {queue.name for queue in topology.queues} | {exchange.name for exchange in topology.exchanges}
    rights = rights_of("worker", namespace="team-a", user="worker")

    assert {name for name in names if not re.search(rights.configure, name)} == set()
    assert not any(re.search(rights.configure, name) for name in ("team-a.reply.x", "team-ab.execute", "billing", ""))


@pytest.mark.parametrize("role", ROLES)
def test_no_right_reaches_another_namespace(role: str) -> None:
    """Names that only begin or end alike are others."""
    rights = rights_of(role, namespace="team", user="me")
    others = ("team2", "team2.execute", "my-team", "team.execute.deads", "teamXexecute", "team2.reply.me", "")

    assert not any(re.search(pattern, name) for pattern in vars(rights).values() for name in others)


def test_a_publisher_has_no_right_to_anothers_reply_queue() -> None:
    """A user whose name begins alike is another one."""
    rights = rights_of("publisher", namespace="team", user="me")

    assert not any(re.search(pattern, "team.reply.me2") for pattern in vars(rights).values())


def test_the_ack_time_out_policy_is_for_work_queues_only() -> None:
    """In milliseconds, as RabbitMQ counts."""
    _, pattern, definition = ack_timeout_policy("dspex", seconds=1_800)
    names = ("dspex.create", "dspex.execute", "dspex.control", "dspex.execute.dead", "dspex.delay.1000")

    assert [bool(re.search(pattern, name)) for name in names] == [True, True, True, False, False]
    assert json.loads(definition) == {"consumer-timeout": 1_800_000}


def test_a_rabbitmqctl_that_waits_for_ever_is_ended_and_said() -> None:
    """Beside an option, that of RabbitMQ 4 never reads the password; what it started ends as well."""
    ctl = Ctl("sh -c 'sleep 300; true' rabbitmqctl --node other", vhost="/", timeout_seconds=0.1)

    with pytest.raises(
        RefusedError, match=r"^rabbitmqctl add_user did not end within 0\.1 s; name the node by RABBITMQ_NODENAME"
    ):
        ctl.add_user("alice", "secret")


def test_a_password_goes_by_standard_input_and_no_option_beside_it() -> None:
    """RabbitMQ 4's rabbitmqctl reads one for exactly two words."""
    ctl = Ctl("""sh -c 'read -r secret; test "$*$secret" = "add_user alicea secret"' rabbitmqctl""", vhost="/")

    ctl.add_user("alice", "a secret")
