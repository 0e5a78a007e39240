"""A private RabbitMQ node that may be stopped, killed and started again.

It runs the ``rabbitmq-server`` package's own files, the machine's or those of another Debian (`debian_root`), but
shares nothing with a broker that the machine may already run: its own name, ports, cookie, data folder and port mapper
(epmd), all of it on 127.0.0.1.

See Also:
    https://www.rabbitmq.com/docs/configure#customise-environment: the variables below.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from child_processes import ServiceError, free_port, kill_group, spawn, terminate, wait_until
from debian_root import release_with, unpacked

VERSION_VARIABLE = "DSPEX_TEST_RABBITMQ"
"""Names the RabbitMQ of every node that is not asked for another one, e.g. ``4.3``; unset or empty: the machine's."""

_PACKAGE_FOLDER = Path("/usr/lib/rabbitmq/lib")
_SCRIPT = "rabbitmq_server-*/sbin/rabbitmq-server"
_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"

# As large as RabbitMQ 3.10 takes anyway; 4 would stop at 16 MiB, before the worker's own limit is reached.
_MAX_MESSAGE_BYTES = 134_217_728

_CONFIG = """\
listeners.tcp.local = 127.0.0.1:{port}
default_user = dspex
default_pass = {password}
log.console = false
log.file.level = warning
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 67108864
max_message_size = {max_message_size}
"""


def find_server() -> Path | None:
    """Return the machine's newest ``rabbitmq-server``, or None where the package is missing.

    The package's folder comes first: Debian's ``/usr/sbin/rabbitmq-server`` insists on the user ``rabbitmq``.
    """
    installed = sorted(_PACKAGE_FOLDER.glob(_SCRIPT))
    if installed:
        return installed[-1]
    elsewhere = shutil.which("rabbitmq-server")
    return Path(elsewhere) if elsewhere else None


def find_erlang_libraries() -> Path | None:
    """Return the folder with the Erlang libraries of the machine's ``rabbitmq-server``, ``amqp_client`` among them."""
    server = find_server()
    folder = server.resolve().parents[1] / "plugins" if server is not None else None
    return folder if folder is not None and any(folder.glob("amqp_client-*/ebin")) else None


class RabbitNode:
    """One broker node in a folder of its own.

    ``start`` only launches it and ``wait_ready`` waits (about 5 s), so that several services can boot side by side;
    the context manager does both and ends with the node killed. Name, ports, password and data outlive ``stop``,
    ``kill`` and ``restart``; the folder is the caller's to remove.

    Args:
        folder: Holds its configuration, data and logs; nobody else's.
        config: More lines for its ``rabbitmq.conf``, e.g. a TLS listener.
        version: The number of its RabbitMQ, e.g. ``4.0``; by default what `VERSION_VARIABLE` says.

    Raises:
        ServiceError: There is no RabbitMQ of this number.

    Attributes:
        url: ``amqp://`` URL of the node, with its user and password.
        port: Its AMQP port on 127.0.0.1.
        log: File with what it prints; its own log is in the folder ``log`` beside it.
    """

    def __init__(self, folder: Path, *, config: str = "", version: str | None = None) -> None:
        number = os.environ.get(VERSION_VARIABLE, "") if version is None else version
        self._root = unpacked(release_with(number)) if number else None
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # a password lies in it
        self.folder = folder
        self.port = free_port()
        self.log = folder / "console.log"
        self._node_name = f"dspex-{secrets.token_hex(4)}@localhost"
        self._password = secrets.token_hex(16)
        self._environment = self._make_environment(dist_port=free_port(), epmd_port=free_port())
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        own_config = _CONFIG.format(port=self.port, password=self._password, max_message_size=_MAX_MESSAGE_BYTES)
        (folder / "rabbitmq.conf").write_text(own_config + config, encoding="utf-8")
        (folder / "enabled_plugins").write_text("[].\n", encoding="utf-8")

    @property
    def url(self) -> str:
        """The URL of the node, with user and password."""
        return f"amqp://dspex:{self._password}@127.0.0.1:{self.port}/"

    def __enter__(self) -> RabbitNode:
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
        """Launch the node and return at once.

        Raises:
            ServiceError: No ``rabbitmq-server`` on this machine.
        """
        server = self._find_server()
        if self._epmd is None:
            self._epmd = self._spawn("epmd", "-address", "127.0.0.1", "-port", self._environment["ERL_EPMD_PORT"])
        self._node = self._spawn(str(server))

    def wait_ready(self, *, timeout_seconds: float = 90) -> None:
        """Wait until the node speaks AMQP.

        Raises:
            ServiceError: It ended or did not answer in time; with the end of its log.
        """
        if self._node is None:
            raise ServiceError("This RabbitMQ node was not started; call start() first.")
        wait_until(
            self._speaks_amqp, process=self._node, log=self.log, name="RabbitMQ", timeout_seconds=timeout_seconds
        )

    def stop(self) -> None:
        """Shut the node down in order, as ``rabbitmqctl stop`` does; its data stays."""
        if self._node is not None:
            terminate(self._node, grace_seconds=30)
            self._node = None

    def kill(self) -> None:
        """Kill the node with SIGKILL, as a crash would; its data stays as it was on disk."""
        if self._node is not None:
            kill_group(self._node)
            self._node = None

    def restart(self) -> None:
        """Start the node again on the same ports and data, and wait until it is ready; stop it first if it runs."""
        self.stop()
        self.start()
        self.wait_ready()

    def pause(self) -> None:
        """Freeze the node with SIGSTOP: connections stay open and nothing answers (a black hole)."""
        if self._node is not None:
            self._node.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused node go on."""
        if self._node is not None:
            self._node.send_signal(signal.SIGCONT)

    @property
    def ctl_command(self) -> tuple[str, ...]:
        """``rabbitmqctl`` of this node as a command that runs in any environment; `RABBITMQ_NODENAME` names the node."""
        own = (f"{name}={value}" for name, value in self._environment.items() if os.environ.get(name) != value)
        tool = self._find_server().with_name("rabbitmqctl")
        return self._entered("env", *own, str(tool))

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` against this node and return what it prints; takes about a second.

        Raises:
            ServiceError: The command failed; with its output.
        """
        command = [*self.ctl_command, "--quiet", *arguments]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            raise ServiceError(f"rabbitmqctl {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def close(self) -> None:
        """Kill the node and its port mapper; nothing of it runs afterwards."""
        self.kill()
        if self._epmd is not None:
            kill_group(self._epmd)
            self._epmd = None

    def _find_server(self) -> Path:
        if self._root is not None:
            installed = next(self._root.path.glob(f"{_PACKAGE_FOLDER.relative_to('/')}/{_SCRIPT}"))
            return Path("/") / installed.relative_to(self._root.path)
        server = find_server()
        if server is None:
            raise ServiceError("No rabbitmq-server on this machine; `apt-get install rabbitmq-server` gives one.")
        return server

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        return spawn(self._entered(*command), environment=self._environment, log=self.log, folder=self.folder)

    def _entered(self, *command: str) -> tuple[str, ...]:
        return command if self._root is None else self._root.command(*command, folder=self.folder)

    def _speaks_amqp(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(_PROTOCOL_HEADER)
                return connection.recv(1) == _METHOD_FRAME
        except OSError:
            return False

    def _make_environment(self, *, dist_port: int, epmd_port: int) -> dict[str, str]:
        # What the shell holds for another broker must not leak in.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return kept | {
            "HOME": str(self.folder),  # the Erlang cookie lives there
            "RABBITMQ_NODENAME": self._node_name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2",
            # The start script then becomes the node instead of waiting beside it: signals reach the node itself.
            "RUNNING_UNDER_SYSTEMD": "true",
            # Every Erlang process reads this, the short-lived ones of rabbitmqctl too.
            "ERL_AFLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_CRASH_DUMP_SECONDS": "0",
        }
