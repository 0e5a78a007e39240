"""See to a broker (and PostgreSQL), run a command with them, leave nothing behind.

::

    python deploy/local_services.py [--rabbitmq 4.3] [--postgres] [--tool NAME] [--trixie] -- COMMAND …

``make demo``, ``make test``, ``make bench`` and CI all go through here. Needs nothing but Python 3.11.

=============================  ==========================================================================
the command finds in           what it is
=============================  ==========================================================================
``DSPEX_AMQP_URL``             as you set it; else a private throw-away RabbitMQ node
``DSPEX_NAMESPACE``            with your broker: a fresh namespace, removed from it at the end
``DSPEX_TEST_POSTGRES_URL``    with ``--postgres``: as you set it; else a private throw-away server
``XDG_STATE_HOME``             a folder that is removed at the end (the worker's default store lives there)
``DSPY_CACHEDIR``              likewise
``ERL_LIBS``                   as you set it; else the Erlang libraries that come with ``rabbitmq-server``, if it is
                               installed: Elixir speaks AMQP with them
``DSPEX_TEST_RABBITMQ``        the number of ``--rabbitmq``: nodes that the command starts are of this RabbitMQ too
=============================  ==========================================================================

What is missing on the machine is installed with apt where that is possible without a question. The exit code is the
command's; 1 where a service cannot be had, with one line that says what to do. ``--tool NAME`` sees to a command that
must be on the path, installed from the Debian package of the same name where it is missing; with ``elixir`` come the
libraries of ``ERL_LIBS``.

``--rabbitmq`` takes the node not from the machine but from another Debian: 4.0 from trixie, other numbers from forky.
Its packages are fetched once and kept in ``.debian``; ``--trixie`` does that for what the command may start itself.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

import system_packages
from child_processes import ServiceError, kill_group, terminate
from debian_root import TRIXIE, release_with, unpacked
from postgres_server import PostgresServer, find_binaries
from rabbit_node import VERSION_VARIABLE, RabbitNode, find_erlang_libraries, find_server

__all__ = ["PostgresServer", "RabbitNode", "ServiceError", "install_missing", "main", "services", "temporary_folder"]

_BROKER_ADVICE = ", or `docker compose up -d rabbitmq` and DSPEX_AMQP_URL=amqp://dspex:dspex@127.0.0.1:5672/."
_POSTGRES_ADVICE = (
    ", or `docker compose up -d postgres` and DSPEX_TEST_POSTGRES_URL=postgresql://dspex:dspex@127.0.0.1:5432/dspex."
)
_OWN_BROKER_ADVICE = "Start it, correct DSPEX_AMQP_URL, or unset it: then a private RabbitMQ is started."
_Service = TypeVar("_Service", RabbitNode, PostgresServer)
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_COMMAND_GRACE_SECONDS = 30


class _StopSignalError(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run the command with its services, and return the exit code."""
    options = _parse(arguments)
    for number in _STOP_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        _install_tools(options.tools)
        if options.trixie:
            _unpack_trixie()
        with services(postgres=options.postgres, rabbitmq=options.rabbitmq) as environment:
            return _run(options.command, environment=environment)
    except ServiceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except _StopSignalError as interruption:
        return 128 + interruption.number


@contextmanager
def services(*, postgres: bool = False, rabbitmq: str = "") -> Iterator[dict[str, str]]:
    """Start what the environment does not name yet, and yield the environment of the command.

    Broker and PostgreSQL boot side by side. Whatever happens inside, at the end the services are killed and their
    folder is removed.

    Args:
        postgres: Whether PostgreSQL is needed besides the broker.
        rabbitmq: The number of another Debian's RabbitMQ, e.g. ``4.3``; empty: the machine's.

    Raises:
        ServiceError: A service cannot be had; the message says what to do.
    """
    environment = dict(os.environ)
    if rabbitmq:
        _choose(rabbitmq, environment)
    _probe_broker(environment)
    needs_broker = not environment.get("DSPEX_AMQP_URL")
    needs_postgres = postgres and not environment.get("DSPEX_TEST_POSTGRES_URL")
    install_missing(broker=needs_broker and not rabbitmq, postgres=needs_postgres)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        stack.callback(_ignore_stop_signals)
        environment |= {"XDG_STATE_HOME": str(folder / "state"), "DSPY_CACHEDIR": str(folder / "dspy")}
        if libraries := find_erlang_libraries():
            environment.setdefault("ERL_LIBS", str(libraries))
        started = time.monotonic()
        node = _node(folder, stack, version=rabbitmq) if needs_broker else None
        server = stack.enter_context(_closing(PostgresServer(folder / "postgres"))) if needs_postgres else None
        if node is not None:
            _say(f"starting a private RabbitMQ{f' {rabbitmq}' if rabbitmq else ''} …")
            node.start()
        if server is not None:
            _say("starting a private PostgreSQL …")
            server.start()
            server.wait_ready()
            environment["DSPEX_TEST_POSTGRES_URL"] = server.url
        if node is not None:
            node.wait_ready()
            environment["DSPEX_AMQP_URL"] = node.url
        else:
            stack.enter_context(_own_namespace(environment))
        _say(f"services are ready ({time.monotonic() - started:.1f} s)")
        yield environment


def install_missing(*, broker: bool, postgres: bool) -> None:
    """Install the packages of the services that this machine lacks.

    Raises:
        ServiceError: apt cannot be used here; the message says what to do instead.
    """
    missing = ["rabbitmq-server"] if broker and find_server() is None else []
    advice = _BROKER_ADVICE if missing else _POSTGRES_ADVICE
    if postgres and find_binaries() is None:
        missing.append("postgresql")
    if missing:
        system_packages.install(*missing, otherwise=advice)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that the services' own user can reach too, and remove it at the end with all that is in it."""
    parent = tempfile.gettempdir()
    if os.geteuid() == 0 and not _is_open_to_all(Path(parent)):
        parent = "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="dspex-", dir=parent))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="local_services.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rabbitmq", default="", metavar="4.N", help="the RabbitMQ of Debian trixie (4.0) or forky")
    parser.add_argument("--postgres", action="store_true", help="see to PostgreSQL as well")
    parser.add_argument("--trixie", action="store_true", help="see to Debian trixie's RabbitMQ and Python in .debian")
    parser.add_argument("--tool", action="append", default=[], dest="tools", help="see to a command on the path")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run with the services, after `--`")
    return parser.parse_args(arguments)


def _install_tools(names: Sequence[str]) -> None:
    missing = [name for name in names if shutil.which(name) is None]
    if "elixir" in names and find_erlang_libraries() is None:
        missing.append("rabbitmq-server")
    if missing:
        system_packages.install(*missing, otherwise=".")


def _unpack_trixie() -> None:
    """Unpack Debian trixie before anything has a time-out; where it cannot be had, only the tests that need it fail."""
    try:
        unpacked(TRIXIE)
    except ServiceError as error:
        _say(f"Debian trixie is missing, and what needs it will fail: {error}")


def _node(folder: Path, stack: ExitStack, *, version: str) -> RabbitNode:
    return stack.enter_context(_closing(RabbitNode(folder / "rabbitmq", version=version or None)))


def _choose(rabbitmq: str, environment: dict[str, str]) -> None:
    """Make this RabbitMQ the one of every node that the command starts; unpack it where that was not done yet.

    Raises:
        ServiceError: It cannot be had, or the environment names another broker.
    """
    if environment.get("DSPEX_AMQP_URL"):
        raise ServiceError(f"DSPEX_AMQP_URL names a broker already; unset it to run with RabbitMQ {rabbitmq}.")
    unpacked(release_with(rabbitmq))
    environment[VERSION_VARIABLE] = rabbitmq


def _run(command: Sequence[str], *, environment: dict[str, str]) -> int:
    """Run the command in a process group of its own and return its exit code, 128 + n where signal n ended it."""
    try:
        process = subprocess.Popen(command, env=environment, process_group=0)
    except OSError as error:
        raise ServiceError(f"Cannot run {command[0]}: {error.strerror}.") from error
    try:
        code = process.wait()
    except _StopSignalError as interruption:
        _ignore_stop_signals()
        _say("stopping …")
        terminate(process, number=interruption.number, grace_seconds=_COMMAND_GRACE_SECONDS)
        raise
    finally:
        kill_group(process)
    return code if code >= 0 else 128 - code


def _probe_broker(environment: dict[str, str]) -> None:
    """Connect once to the broker that the environment names, before anything is started or claimed.

    Raises:
        ServiceError: It does not answer, or refuses.
    """
    if not environment.get("DSPEX_AMQP_URL"):
        return
    script = Path(__file__).with_name("probe_broker.py")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise ServiceError(f"{done.stdout.strip()} {_OWN_BROKER_ADVICE}")


@contextmanager
def _own_namespace(environment: dict[str, str]) -> Iterator[None]:
    """Give the command a namespace of its own on a broker that is not ours, and remove it afterwards."""
    namespace = f"dspex-{secrets.token_hex(4)}"
    environment["DSPEX_NAMESPACE"] = namespace
    _say(f"using the broker of DSPEX_AMQP_URL, in the namespace {namespace}")
    script = Path(__file__).with_name("remove_namespace.py")
    try:
        yield
    finally:
        done = subprocess.run([sys.executable, str(script), namespace], env=environment, check=False)
        if done.returncode != 0:
            _say(f"the namespace {namespace} may still be on the broker: the line above says why")


@contextmanager
def _closing(service: _Service) -> Iterator[_Service]:
    try:
        yield service
    finally:
        service.close()


def _is_open_to_all(folder: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in [folder, *folder.parents])


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise _StopSignalError(number)


def _ignore_stop_signals() -> None:
    # A second Ctrl-C must not cut the tidying up short; it takes well under a second.
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
