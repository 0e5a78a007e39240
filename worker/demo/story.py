"""The story, scene by scene."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from worker.amqp.dead_letters import replay
from worker.amqp.dead_letters import show as show_letters
from worker.amqp.errors import BrokerError
from worker.client import ClientError
from worker.demo import elixir
from worker.demo.errors import DemoError
from worker.demo.programs import PROGRAMS, SENTIMENT, DemoProgram
from worker.demo.reply_queue import ReplyQueue, open_reply_queue
from worker.demo.runs import Run
from worker.demo.screen import Screen
from worker.demo.stage import Stage, set_up, wait_for_workers, watch
from worker.demo.workers import REMOTE_LM

JOBS = 200
_IN_FLIGHT = 24
_SHOWN_PROBLEMS = 5
_TIME_OUT_SECONDS = 150.0


async def show(amqp_url: str) -> int:
    """Play the demo on a broker.

    Returns:
        The exit code: 0 only if every job was answered, and every answer is what its signature declares.

    Raises:
        ConnectionError: The broker cannot be reached.
    """
    _end_on_sigterm()
    screen = Screen()
    started = time.monotonic()
    try:
        async with set_up(amqp_url) as stage:
            runs = await _play(stage, screen)
    except (BrokerError, DemoError) as error:
        screen.complain(f"The demo failed: {error}")
        return 1
    return end(screen, runs, seconds=time.monotonic() - started)


async def _play(stage: Stage, screen: Screen) -> list[Run]:
    """Play all scenes; where anything is wrong, show what the workers logged."""
    try:
        async with asyncio.timeout(_TIME_OUT_SECONDS):
            screen.say("Starting two workers with the offline LM …")
            await wait_for_workers(stage)
            await create_programs(stage, screen)
            runs = [*await run_jobs(stage, screen), await fail_and_replay(stage, screen)]
            await publish_from_elixir(stage, screen)
    except (ClientError, BrokerError, DemoError, TimeoutError) as error:
        _show_logs(stage, screen)
        raise DemoError(str(error) or f"Not finished after {_TIME_OUT_SECONDS:g} s") from error
    if any(run.problem for run in runs):
        _show_logs(stage, screen)
    return runs


def _show_logs(stage: Stage, screen: Screen) -> None:
    for worker in stage.workers:
        screen.show_log(worker.name, worker.tail())


async def create_programs(stage: Stage, screen: Screen) -> None:
    """Declare the programs, as an Elixir application would; any worker can run them from then on."""
    for program in PROGRAMS:
        await stage.client.create_program(program.signature, id=program.id)
    screen.say(f"Created {len(PROGRAMS)} programs: {', '.join(program.id for program in PROGRAMS)}")


async def run_jobs(stage: Stage, screen: Screen) -> list[Run]:
    """Send 200 jobs, and kill a worker when half of them are answered. The other one takes over its jobs."""
    screen.say(f"Sending {JOBS} jobs …")
    gate = asyncio.Semaphore(_IN_FLIGHT)
    jobs = [asyncio.create_task(_run_job(stage, number, gate=gate)) for number in range(JOBS)]
    runs = []
    with screen.progress(JOBS) as show_count:
        for answered, job in enumerate(asyncio.as_completed(jobs), start=1):
            runs.append(await job)
            show_count(answered)
            if answered == JOBS // 2:
                await stage.workers[0].kill()
                screen.say(f"Killed {stage.workers[0].name} with -9; the other worker takes its jobs over")
    return runs


async def fail_and_replay(stage: Stage, screen: Screen) -> Run:
    """Let a job fail for good on an LM that is down, look at its dead letter, mend the LM and replay the job."""
    started = time.monotonic()
    inputs = SENTIMENT.inputs[0]
    async with open_reply_queue(stage.connection) as replies:
        await _fail(stage, screen, replies=replies, inputs=inputs)
        await stage.remote_lm.open()
        screen.say(f"Opened the port of LM '{REMOTE_LM}', and replaying the dead letter …")
        await replay(stage.connection, stage.topology, lane="execute")
        reply = await replies.next()
    seconds = time.monotonic() - started
    name = f"{SENTIMENT.id} (replayed)"
    if not reply["success"]:
        return Run(name, inputs, seconds, problem=reply["error"])
    screen.say("… the replayed job was answered")
    return replace(_judge(SENTIMENT, inputs, outputs=reply["result"]["outputs"], seconds=seconds), name=name)


async def _fail(stage: Stage, screen: Screen, *, replies: ReplyQueue, inputs: Mapping[str, Any]) -> None:
    screen.say(f"Sending one job to LM '{REMOTE_LM}', whose port is closed …")
    args = {"program_id": SENTIMENT.id, "inputs": dict(inputs), "options": {"lm": REMOTE_LM}}
    await replies.publish(stage.topology.work_queue("execute"), {"command": "execute_program", "id": 1, "args": args})
    reply = await replies.next()
    if reply["success"]:
        raise DemoError("A job succeeded on an LM that is not there")
    # The error reply comes first, then the letter.
    await watch(stage, stage.topology.dead_queue("execute"), until=lambda messages, _consumers: messages > 0)
    for letter in await show_letters(stage.connection, stage.topology, lane="execute", limit=1):
        screen.say(f"Its dead letter: {letter.code} after {letter.attempts} attempts: {letter.message}")


async def publish_from_elixir(stage: Stage, screen: Screen) -> None:
    """Have the Elixir client call the same workers, where Elixir is installed.

    Raises:
        DemoError: A call failed, or an answer is not what its signature declares.
    """
    if missing := elixir.what_is_missing():
        screen.say(f"{missing}: the part in which Elixir publishes is left out")
        return
    screen.say("Compiling the Elixir client, and publishing from it …")
    answers = await elixir.publish(stage.amqp_url, namespace=stage.topology.namespace, folder=stage.folder)
    wrong = [answer for answer in answers if "error" in answer or not SENTIMENT.is_valid(answer["outputs"])]
    if wrong or not answers:
        raise DemoError(f"From Elixir, {len(wrong)} of {len(answers)} calls went wrong: {wrong[:1]}")
    screen.say(f"… {len(answers)} of {len(answers)} answered and valid: {answers[-1]['shown']}")


async def _run_job(stage: Stage, number: int, *, gate: asyncio.Semaphore) -> Run:
    program = PROGRAMS[number % len(PROGRAMS)]
    inputs = program.inputs[number // len(PROGRAMS) % len(program.inputs)]
    async with gate:
        started = time.monotonic()
        try:
            result = await stage.client.execute(program.id, inputs)
        except ClientError as error:
            return Run(program.id, inputs, time.monotonic() - started, problem=str(error))
    return _judge(program, inputs, outputs=result.outputs, seconds=time.monotonic() - started)


def _judge(program: DemoProgram, inputs: Mapping[str, Any], *, outputs: Mapping[str, Any], seconds: float) -> Run:
    problem = None if program.is_valid(outputs) else "the outputs are not what the signature declares"
    return Run(program.id, inputs, seconds, outputs, problem)


def end(screen: Screen, runs: Sequence[Run], *, seconds: float) -> int:
    """Show how it went; where anything is wrong, the reason stands last. Returns the exit code."""
    problems = [run for run in runs if run.problem]
    screen.show_results(_some_of_each(runs))
    summary = f"{len(runs) - len(problems)} of {len(runs)} jobs answered and valid"
    if problems:
        screen.complain(f"Only {summary} in {seconds:.0f} s. What was wrong with the first of the others:")
        for run in problems[:_SHOWN_PROBLEMS]:
            screen.complain(f"{run.name}: {run.problem}")
        return 1
    screen.show_success(f"{summary} (1 worker killed, 1 dead letter replayed) in {seconds:.0f} s")
    return 0


def _some_of_each(runs: Sequence[Run]) -> list[Run]:
    """Return one run with each of the different inputs, and the replayed one, which is the last."""
    first = {str(run.inputs): run for run in reversed(runs[:-1]) if not run.problem}
    return [*sorted(first.values(), key=lambda run: (run.name, str(run.inputs))), runs[-1]]


def _end_on_sigterm() -> None:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does: the story is cancelled, and all is tidied up."""
    story = asyncio.current_task()
    if story is None:
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, story.cancel)
