"""A private PostgreSQL server that may be stopped, killed and started again.

It runs the binaries of the machine's ``postgresql`` package on a cluster of its own: own folder, own port on
127.0.0.1, own password, ``fsync`` on as in real life.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType

from child_processes import ServiceError, child_ids, free_port, kill_all, kill_group, spawn, terminate, wait_until

_PACKAGE_FOLDER = Path("/usr/lib/postgresql")


def find_binaries() -> Path | None:
    """Return the folder of the machine's newest ``initdb`` and ``postgres``, or None where the package is missing."""
    installed = sorted(_PACKAGE_FOLDER.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    elsewhere = shutil.which("initdb")
    found = installed[-1] if installed else Path(elsewhere) if elsewhere else None
    return found.parent if found else None


class PostgresServer:
    """One database server in a folder of its own.

    The context manager starts it and ends with the server killed. Port, password and data outlive ``stop``, ``kill``
    and ``restart``; the folder is the caller's to remove. PostgreSQL refuses to run as root, so for root it runs as
    the package's user ``postgres``, which must be able to reach the folder.

    Attributes:
        url: ``postgresql://`` URL of the database ``postgres``, with the superuser's name and password.
        port: Its port on 127.0.0.1.
        log: File with what it prints.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # a password lies in it
        self.folder = folder
        self.port = free_port()
        self.log = folder / "console.log"
        self._password = secrets.token_hex(16)
        self._user = "postgres" if os.geteuid() == 0 else None
        self._data = folder / "data"
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the database ``postgres``, with user and password."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> PostgresServer:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Launch the server and return at once; the first time, after about a second for a new cluster.

        Raises:
            ServiceError: No ``postgresql`` on this machine, or the cluster cannot be made.
        """
        if not self._data.exists():
            self._make_cluster()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._server = self._spawn(self._binary("postgres"), "-D", self._data, *settings)

    def wait_ready(self, *, timeout_seconds: float = 60) -> None:
        """Wait until the server takes connections.

        Raises:
            ServiceError: It ended or did not answer in time; with the end of its log.
        """
        if self._server is None:
            raise ServiceError("This PostgreSQL server was not started; call start() first.")
        wait_until(
            self._is_ready, process=self._server, log=self.log, name="PostgreSQL", timeout_seconds=timeout_seconds
        )

    def stop(self) -> None:
        """Shut the server down at once but in order (connections are cut, nothing needs recovery); its data stays."""
        if self._server is not None:
            terminate(self._server, number=signal.SIGINT, grace_seconds=30)
            self._server = None

    def kill(self) -> None:
        """Kill the server and its backends with SIGKILL, as a crash would; its data stays as it was on disk."""
        if self._server is not None:
            backends = child_ids(self._server.pid)
            kill_group(self._server)
            kill_all(backends)  # each backend leads a group of its own, and holds the shared memory
            self._server = None

    def pause(self) -> None:
        """Freeze the server with SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start the server again on the same port and data, and wait until it is ready; stop it first if it runs."""
        self.stop()
        self.start()
        self.wait_ready()

    def close(self) -> None:
        """End the server at once; nothing of it runs afterwards."""
        if self._server is not None:
            # Its own immediate shutdown, because it then reaps its backends itself.
            terminate(self._server, number=signal.SIGQUIT, grace_seconds=5)
            self._server = None

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and then to its backends: frozen first, it makes no more of them."""
        if self._server is None:
            return
        self._server.send_signal(number)
        for process_id in child_ids(self._server.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, number)

    def _make_cluster(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self._password, encoding="utf-8")
        if self._user is not None:
            for path in (self.folder, password_file):
                shutil.chown(path, self._user, self._user)
        process = self._spawn(
            self._binary("initdb"),
            *("--pgdata", self._data, "--username", "postgres", "--auth", "scram-sha-256", "--pwfile", password_file),
            *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions"),
        )
        try:
            code = process.wait()
        finally:
            kill_group(process)
            password_file.unlink()
        if code != 0:
            raise ServiceError(f"initdb failed with code {code}: {self.log.read_text(errors='replace')}")

    def _binary(self, name: str) -> Path:
        folder = find_binaries()
        if folder is None:
            raise ServiceError("No PostgreSQL server on this machine; `apt-get install postgresql` gives one.")
        return folder / name

    def _spawn(self, *command: str | Path) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment = kept | {"HOME": str(self.folder)}
        return spawn(command, environment=environment, log=self.log, folder=self.folder, user=self._user)

    def _is_ready(self) -> bool:
        command = [str(self._binary("pg_isready")), "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0
