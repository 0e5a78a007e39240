"""What a stranger gets from a clone: the command, the wheel, and services that come and go without a trace."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aio_pika
import pytest
from local_services import PostgresServer, RabbitNode, temporary_folder
from yarl import URL

ROOT = Path(__file__).resolve().parents[2]
SERVICES = [sys.executable, str(ROOT / "deploy/local_services.py")]
PRINT_URLS = "import os; print(os.environ['DSPEX_AMQP_URL'], os.environ.get('DSPEX_TEST_POSTGRES_URL'), os.environ['XDG_STATE_HOME'])"


def _without_services() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}


def _is_listening(port: int) -> bool:
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def _port(url: str) -> int:
    return int(url.rpartition("@")[2].partition(":")[2].partition("/")[0])


def test_the_command_is_installed_and_helps():
    """`dspex-worker --help` names each command."""
    command = Path(sys.executable).with_name("dspex-worker")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, env=_without_services())

    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("serve", "demo", "call", "dead"))


def test_services_hand_on_the_exit_code_and_leave_nothing_behind():
    """The command finds running services; afterwards ports are closed and folders are gone."""
    program = f"{PRINT_URLS}; raise SystemExit(7)"
    command = [*SERVICES, "--postgres", "--", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=_without_services(), timeout=50)
    amqp_url, postgres_url, state = done.stdout.split()

    assert done.returncode == 7, done.stderr
    assert not _is_listening(_port(amqp_url))
    assert not _is_listening(_port(postgres_url))
    assert not Path(state).parent.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_services_end_with_a_signal_and_leave_nothing_behind(amqp_url, number, code):
    """Ctrl-C and SIGTERM stop the command and tear all down."""
    program = (
        f"{PRINT_URLS.replace('print(', 'print(os.getpid(), ')}; import sys, time; sys.stdout.flush(); time.sleep(60)"
    )
    environment = _without_services() | {"DSPEX_AMQP_URL": amqp_url}
    command = [*SERVICES, "--", sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        process_id, _, _, state = process.stdout.readline().split()
        process.send_signal(number)
        process.communicate(timeout=30)

    assert process.returncode == code
    assert not Path(f"/proc/{process_id}").exists()
    assert not Path(state).parent.exists()


async def test_with_a_broker_of_yours_a_fresh_namespace_is_used_and_removed(amqp_url):
    """Nothing that the command declared in its namespace is left on a broker that is not ours."""
    program = (
        "import asyncio, os, aio_pika\n"
        "async def main():\n"
        "    name = os.environ['DSPEX_NAMESPACE']\n"
        "    async with await aio_pika.connect(os.environ['DSPEX_AMQP_URL']) as connection:\n"
        "        channel = await connection.channel()\n"
        "        await channel.declare_queue(f'{name}.execute', durable=True, arguments={'x-queue-type': 'quorum'})\n"
        "        await channel.declare_exchange(name, durable=True)\n"
        "    print(name)\n"
        "asyncio.run(main())\n"
    )
    environment = _without_services() | {"DSPEX_AMQP_URL": amqp_url}
    command = [*SERVICES, "--", sys.executable, "-c", program]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, env=environment, timeout=50)
    namespace = done.stdout.strip()

    assert done.returncode == 0, done.stderr
    assert namespace.startswith("dspex-")
    async with await aio_pika.connect(amqp_url) as connection:
        first, second = await connection.channel(), await connection.channel()
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await first.get_queue(f"{namespace}.execute")
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await second.get_exchange(namespace)


def test_without_a_command_to_run_the_services_say_so(amqp_url):
    """A command that does not exist is one line, not a traceback."""
    environment = _without_services() | {"DSPEX_AMQP_URL": amqp_url}
    done = subprocess.run([*SERVICES, "--", "no-such-command"], capture_output=True, text=True, env=environment)

    assert done.returncode == 1
    assert "Error: Cannot run no-such-command" in done.stderr
    assert "Traceback" not in done.stderr


def test_private_services_survive_their_own_kill():
    """A killed node or server starts again on its port, with its data."""
    with temporary_folder() as folder, RabbitNode(folder / "rabbitmq") as node, PostgresServer(folder / "pg") as server:
        node.ctl("add_vhost", "kept")
        for service in (node, server):
            service.kill()
            service.restart()
        vhosts = node.ctl("list_vhosts").split()

    assert {"/", "kept"} <= set(vhosts)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "amqp://bob:s3cret@127.0.0.1:1/",
            "The broker amqp://bob:***@127.0.0.1:1/ (DSPEX_AMQP_URL) cannot be reached: ",
        ),
        ("localhost", "DSPEX_AMQP_URL is not a broker's URL: "),
    ],
)
def test_a_broker_of_yours_that_is_away_is_one_sentence(url, expected):
    """Which broker and what to do; nothing is started, and nothing is said to be ready or left."""
    environment = _without_services() | {"DSPEX_AMQP_URL": url}
    done = subprocess.run([*SERVICES, "--", "true"], capture_output=True, text=True, env=environment, timeout=50)

    assert done.stderr.startswith(f"Error: {expected}")
    assert "unset it" in done.stderr
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, "")


async def test_a_refused_login_is_told_before_anything_starts(amqp_url):
    """A wrong password is not a broker that is away."""
    url = str(URL(amqp_url).with_password("wr0ng"))
    environment = _without_services() | {"DSPEX_AMQP_URL": url}
    done = await asyncio.to_thread(
        subprocess.run, [*SERVICES, "--", "true"], capture_output=True, text=True, env=environment, timeout=50
    )

    assert "(DSPEX_AMQP_URL) refuses the connection: " in done.stderr
    assert "wr0ng" not in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
