#!/usr/bin/env python3
r"""Make the broker users of a namespace, with the least rights that each needs, or bring them up to date.

::

    printf '%s\n' 'worker worker PASSWORD' 'publisher alice PASSWORD' 'operator operator PASSWORD' |
        python deploy/rabbitmq/make_users.py --namespace dspex

Reads one user a line from standard input: role, name, password. Without a password the user must be there already and
keeps the one it has. Roles: publisher (one user for each application or tenant), worker, operator; what each may do
says broker_rights.py. Passwords go to rabbitmqctl by its standard input, so that no process list shows them. Running
it again changes nothing but the passwords that it is given. Needs nothing but Python 3.11 and rabbitmqctl, be it in a
container:

    … make_users.py --rabbitmqctl 'docker compose exec -T rabbitmq rabbitmqctl'

Name another node by the variable RABBITMQ_NODENAME, not by ``--node``: beside an option, rabbitmqctl of RabbitMQ 4 reads
no password.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from broker_rights import Rights, ack_timeout_policy, definitions, rights_of

_UNREAD = "; name the node by RABBITMQ_NODENAME: beside an option rabbitmqctl of RabbitMQ 4 reads no password"


class RefusedError(Exception):
    """A line cannot be read, or rabbitmqctl refuses; the message says what to do."""


@dataclass(frozen=True)
class User:
    """One line of the input; the password is empty where the user keeps its own."""

    role: str
    name: str
    password: str = field(repr=False)


class Ctl:
    """Runs rabbitmqctl for one vhost.

    Args:
        command: How to run it, as one writes it in a shell.
        vhost: Where the rights are given.
        timeout_seconds: How long one run may take.
    """

    def __init__(self, command: str, *, vhost: str, timeout_seconds: float = 60) -> None:
        self._command = shlex.split(command)
        self._vhost = vhost
        self._timeout_seconds = timeout_seconds

    def users(self) -> set[str]:
        """Return the names of all users."""
        listed = json.loads(self._run("list_users", "--formatter", "json"))
        return {user["user"] for user in listed}

    def add_user(self, name: str, password: str) -> None:
        """Add a user, with no tags."""
        self._run("add_user", name, secret=password)

    def change_password(self, name: str, password: str) -> None:
        """Give a user another password."""
        self._run("change_password", name, secret=password)

    def strip(self, name: str) -> None:
        """Take a user's tags and topic permissions: an `impersonator` could forge a ``user_id``."""
        self._run("set_user_tags", name)
        self._run("clear_topic_permissions", "-p", self._vhost, name)

    def set_rights(self, name: str, rights: Rights) -> None:
        """Give a user these rights in the vhost, in place of those that it has."""
        self._run("set_permissions", "-p", self._vhost, name, rights.configure, rights.write, rights.read)

    def set_queue_policy(self, name: str, pattern: str, definition: str) -> None:
        """Set a policy on queues.

        Raises:
            RefusedError: The broker is too old to know it.
        """
        try:
            self._run("set_policy", "-p", self._vhost, "--apply-to", "queues", name, pattern, definition)
        except RefusedError as error:
            hint = "; before RabbitMQ 3.12 only consumer_timeout in rabbitmq.conf sets it"
            raise RefusedError(f"{error}{hint if 'not recognised' in str(error) else ''}") from None

    def _run(self, *arguments: str, secret: str | None = None) -> str:
        # RabbitMQ 4's script counts its words: with one more than these two it waits for ever for a password.
        options = ["--quiet"] if secret is None else []
        text = "" if secret is None else f"{secret}\n"
        try:
            done = self._finish([*self._command, *options, *arguments], text)
        except OSError as error:
            raise RefusedError(f"{self._command[0]} cannot be run: {error.strerror}; --rabbitmqctl names it") from None
        except subprocess.TimeoutExpired:
            hint = "" if secret is None else _UNREAD
            refusal = f"rabbitmqctl {arguments[0]} did not end within {self._timeout_seconds:g} s{hint}"
            raise RefusedError(refusal) from None
        if done.returncode != 0:
            raise RefusedError(f"rabbitmqctl {arguments[0]} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _finish(self, command: list[str], text: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; what it started ends with it where it takes too long."""
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, process_group=0) as process:
            try:
                output, errors = process.communicate(text, timeout=self._timeout_seconds)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return the exit code."""
    options = _parse(arguments)
    try:
        if options.definitions:
            print(json.dumps(definitions(options.namespace, vhost=options.vhost), indent=2))
            return 0
        ctl = Ctl(options.rabbitmqctl, vhost=options.vhost)
        make_users(read_users(sys.stdin), namespace=options.namespace, ctl=ctl)
        if options.ack_timeout_seconds:
            ctl.set_queue_policy(*ack_timeout_policy(options.namespace, seconds=options.ack_timeout_seconds))
    except (RefusedError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def read_users(lines: Iterable[str]) -> list[User]:
    """Read one user a line; empty lines and lines that begin with # are none.

    Raises:
        RefusedError: A line has no role and name.
    """
    users = []
    for number, line in enumerate(lines, start=1):
        words = line.strip().split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        if len(words) == 1:
            raise RefusedError(f"line {number} must be: role name [password]")
        users.append(User(words[0], words[1], words[2] if len(words) == 3 else ""))
    return users


def make_users(users: Sequence[User], *, namespace: str, ctl: Ctl) -> None:
    """Make or change users, after a look at all of them: a mistake in the last line changes nothing.

    Raises:
        RefusedError: A new user has no password, or rabbitmqctl refuses.
        ValueError: A role or a name cannot be used.
    """
    wanted = [(user, rights_of(user.role, namespace=namespace, user=user.name)) for user in users]
    known = ctl.users()
    nameless = [user.name for user in users if not user.password and user.name not in known]
    if nameless:
        raise RefusedError(f"a new user needs a password: {', '.join(nameless)}")
    for user, rights in wanted:
        if user.name in known:
            _update(user, ctl)
        else:
            ctl.add_user(user.name, user.password)
        ctl.set_rights(user.name, rights)
        print(f"{user.role} {user.name}: configure {rights.configure} write {rights.write} read {rights.read}")


def _update(user: User, ctl: Ctl) -> None:
    if user.password:
        ctl.change_password(user.name, user.password)
    ctl.strip(user.name)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make_users.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--namespace", default="dspex", help="the workers' DSPEX_NAMESPACE")
    parser.add_argument("--vhost", default="/")
    parser.add_argument("--rabbitmqctl", default="rabbitmqctl", help="how to run it")
    parser.add_argument(
        "--ack-timeout-seconds", type=int, help="also set the work queues' ack time-out (RabbitMQ 3.12 or later)"
    )
    parser.add_argument(
        "--definitions", action="store_true", help="print the rights of users called as their roles, and change nothing"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
