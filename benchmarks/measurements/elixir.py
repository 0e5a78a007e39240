"""The Elixir client against a raw ``amqp_client`` loop: what supervision, JSON, checks and bookkeeping cost a caller.

All make the same calls from one virtual machine to one echo consumer, in another, on the workers' own queue. The raw loop
is one Erlang process that publishes a ready body under confirms and counts the replies without reading them; what it
costs to write and to read JSON by hand is a second loop. The client checks inputs, writes JSON, matches the reply, reads
it and checks the outputs, for each of its callers.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import MeasurementError
from benchmarks.figures import Figure, at_least, median, spread
from benchmarks.processes import Child, child
from benchmarks.stage import Stage, namespace

ROUNDS = 15
CALLS = 5_000
IN_FLIGHT = 500
WARM_UP_CALLS = 1_000

_SCRIPTS = Path(__file__).parents[1] / "elixir"
_CLIENT = Path(__file__).parents[2] / "clients/elixir"


@dataclass(frozen=True, slots=True)
class Round:
    """What the calls of one round took.

    Attributes:
        seconds: By the clock.
        cpu_seconds: Of the calling process.
    """

    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Calls per second."""
        return CALLS / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU of the calling process per call, in microseconds."""
        return 1e6 * self.cpu_seconds / CALLS


Rounds = dict[str, list[Round]]


async def measure(stage: Stage) -> list[Figure]:
    """Alternate the raw loop and the client."""
    environment = _environment(stage.folder)
    await _compile(environment)
    rounds: Rounds = {how: [] for how in ("raw", "client", "json")}
    async with (
        _script(stage, "echo", f"{namespace()}.execute", environment=environment) as echo,
        _script(stage, "calls", namespace(), environment=environment) as calls,
    ):
        await echo.read_line()
        for how in rounds:
            await calls.ask(f"{how} {WARM_UP_CALLS} {IN_FLIGHT}")
        for number in range(1, ROUNDS + 1):
            with stage.progress.bar(f"Elixir {number}/{ROUNDS}", total=len(rounds)) as advance:
                for how in rounds:
                    rounds[how].append(await _measure_round(calls, how))
                    advance()
    return _figures(rounds)


def _figures(rounds: Rounds) -> list[Figure]:
    rates = [one.per_second for one in rounds["client"]]
    others = [
        f"{name} {median([one.per_second for one in rounds[how]]):,.0f} 1/s, {_cpu(rounds, how):.0f} µs"
        for how, name in (("raw", "raw loop"), ("json", "raw loop with JSON"))
    ]
    return [
        Figure(
            "Elixir client ÷ raw amqp_client loop, calls/s",
            median(_ratios(rounds, "raw")),
            bound=at_least(0.7),
            note=f"{CALLS:,} calls, {IN_FLIGHT} in flight, no JSON in the loop; {spread(_ratios(rounds, 'raw'))}",
        ),
        Figure(
            "Elixir client ÷ raw amqp_client loop with JSON, calls/s",
            median(_ratios(rounds, "json")),
            note=f"as one would write it by hand; {spread(_ratios(rounds, 'json'))}",
        ),
        Figure("Elixir client: calls/s to an echo consumer", median(rates), "1/s", note=spread(rates, "1/s")),
        Figure("Elixir client: CPU of the caller per call", _cpu(rounds, "client"), "µs", note="; ".join(others)),
    ]


def _ratios(rounds: Rounds, how: str) -> list[float]:
    return [ours.per_second / bare.per_second for ours, bare in zip(rounds["client"], rounds[how], strict=True)]


def _cpu(rounds: Rounds, how: str) -> float:
    return median([one.cpu_us for one in rounds[how]])


async def _measure_round(calls: Child, how: str) -> Round:
    cpu = calls.cpu_seconds()
    seconds = float(await calls.ask(f"{how} {CALLS} {IN_FLIGHT}"))
    return Round(seconds, calls.cpu_seconds() - cpu)


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of Mix and of the scripts.

    Raises:
        MeasurementError: Elixir or RabbitMQ's Erlang libraries are missing.
    """
    if shutil.which("mix") is None or "ERL_LIBS" not in os.environ:
        raise MeasurementError("Elixir or RabbitMQ's Erlang libraries are missing: `make bench` installs both")
    # No dependency is listed under `test`, so none is fetched.
    own = {"MIX_ENV": "test", "MIX_BUILD_PATH": str(folder / "_build"), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}
    return dict(os.environ) | own


def _script(
    stage: Stage, name: str, *arguments: str, environment: dict[str, str]
) -> AbstractAsyncContextManager[Child]:
    """Run a script of ``benchmarks/elixir`` inside the block; the program becomes the virtual machine itself."""
    ebin = str(stage.folder / "_build/lib/dspex_worker/ebin")
    script = ("-pa", ebin, "-r", str(_SCRIPTS / "raw.ex"), str(_SCRIPTS / f"{name}.exs"), *arguments)
    return child(name, *script, environment=environment, folder=stage.folder, program="elixir")


async def _compile(environment: dict[str, str]) -> None:
    """Compile the client into a folder that is removed at the end.

    Raises:
        MeasurementError: It does not compile.
    """
    process = await asyncio.create_subprocess_exec(
        "mix",
        "compile",
        cwd=_CLIENT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    if process.returncode != 0:
        raise MeasurementError(f"the Elixir client does not compile:\n{printed.decode()}")
