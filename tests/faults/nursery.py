"""Forks workers from a process that has imported everything: a life costs about 0.1 s of CPU instead of 2 s.

The parent writes one JSON object a line: ``{"log": path, "environment": {name: text}}``; the nursery answers each with
``{"pid": n}``, and later, when that worker has ended, with ``{"pid": n, "code": exit code}``, negative for a signal.
It ends with its standard input, and takes its children with it. There is no thread and no event loop before a fork.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import sys
import traceback
from typing import Any, NoReturn

# What a worker imports only when it runs, or when its first job does.
_LATER = ("worker.server", "worker.health", "worker.telemetry", "worker.cli.serve", "aiosqlite", "asyncpg", "uvloop")

_PR_SET_PDEATHSIG = 1


def keep_nursery() -> None:
    """Fork a worker for each line until standard input ends."""
    for name in _LATER:
        __import__(name)
    gc.collect()
    gc.freeze()
    children: dict[int, int] = {}  # pidfd → pid
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    pending = b""
    _say({"ready": True})
    while True:
        for key, _ in selector.select():
            if key.fd != 0:
                _reap(selector, key.fd, children.pop(key.fd))
                continue
            data = os.read(0, 1 << 16)
            if not data:
                _end_all(children)
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                pid = _fork(json.loads(line))
                handle = os.pidfd_open(pid)
                children[handle] = pid
                selector.register(handle, selectors.EVENT_READ)
                _say({"pid": pid})


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if not pid:
        _be_worker(order)
    return pid


def _be_worker(order: dict[str, Any]) -> NoReturn:
    """Run ``dspex-worker serve`` in this fresh child and leave without the parent's exit handlers."""
    code = 70
    try:
        os.setsid()
        # Whatever ends the nursery ends its workers.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        nothing = os.open(os.devnull, os.O_RDWR)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.closerange(3, 256)  # those of the nursery
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv = ["dspex-worker", "serve"]
        code = _serve()
    except BaseException:  # noqa: BLE001 - nothing may leave this child but its exit code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> int:
    from tests.faults.failpoints import installed
    from worker.cli import main

    installed()
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _reap(selector: selectors.DefaultSelector, handle: int, pid: int) -> None:
    selector.unregister(handle)
    os.close(handle)
    _, status = os.waitpid(pid, 0)
    _say({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _end_all(children: dict[int, int]) -> None:
    for pid in children.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")
