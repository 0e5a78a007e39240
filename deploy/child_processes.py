"""Start, watch and end the processes of the throw-away services.

Every child leads its own process group, so that ending it ends all that it started, and nothing else.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Below the range from which Linux takes ports for outgoing connections (32768 and up): a node that is
# restarted finds its port free again.
_PORTS = range(20_000, 32_000)


class ServiceError(Exception):
    """A service cannot be had; the message is one sentence that says why and what to do."""


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceError("No free port between 20000 and 32000 on 127.0.0.1; end what holds them.")


def spawn(
    command: Sequence[str | Path], *, environment: Mapping[str, str], log: Path, folder: Path, user: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a command as the leader of a session of its own.

    Args:
        command: The program and its arguments.
        environment: The whole environment of the child.
        log: File that gets its standard output and error, appended.
        folder: Its working folder.
        user: Login name to run as; only root may name one.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a child's whole process group with SIGKILL and reap the child.

    Also called after the child has ended by itself, since its group may have members left.
    """
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def child_ids(process_id: int) -> list[int]:
    """Return the ids of a process's children; empty where the system has no ``/proc`` or the process is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()]
    except OSError:
        return []


def kill_all(process_ids: Sequence[int], *, timeout_seconds: float = 10) -> None:
    """Kill processes that are no children of ours, and wait until the last one has ended."""
    for process_id in process_ids:
        try:
            os.kill(process_id, signal.SIGKILL)
        except ProcessLookupError:
            pass
    end = time.monotonic() + timeout_seconds
    while any(map(_is_running, process_ids)) and time.monotonic() < end:
        time.sleep(0.01)


def _is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # a zombie waits for its parent only


def terminate(process: subprocess.Popen[bytes], *, number: int = signal.SIGTERM, grace_seconds: float) -> int:
    """Ask a child to end, wait, and kill what is left of its group.

    Returns:
        The child's return code; negative where a signal ended it.
    """
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(timeout=grace_seconds)
    except subprocess.TimeoutExpired:
        pass
    kill_group(process)
    return process.wait()


def wait_until(
    is_ready: Callable[[], bool], *, process: subprocess.Popen[bytes], log: Path, name: str, timeout_seconds: float
) -> None:
    """Poll until a service answers.

    Raises:
        ServiceError: The process ended, or the time ran out; with the end of its log.
    """
    end = time.monotonic() + timeout_seconds
    while not is_ready():
        if process.poll() is not None:
            raise ServiceError(f"{name} ended with code {process.returncode} while starting.{_tail(log)}")
        if time.monotonic() > end:
            raise ServiceError(f"{name} did not answer within {timeout_seconds:g} s.{_tail(log)}")
        time.sleep(0.05)


def _tail(log: Path, *, lines: int = 20) -> str:
    text = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "".join(f"\n    {line}" for line in ["The end of its log:", *text[-lines:]])
