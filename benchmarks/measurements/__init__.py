"""The measurements, in the order in which they run.

================== ==================================================================================
name               what it measures
================== ==================================================================================
``cpu``            CPU per job: bare DSPy, the worker, a dynamic signature against legacy Q&A
``pieces``         what parts of a job cost: cold signature, cache hit, store, AMQP alone
``safety``         what being safe costs: against an earlier version (``--against``), and by its parts
``in-flight``      1,000 jobs in flight on an LM that takes a second, against 100
``workers``        two workers against one
``start``          ``serve`` to the first job
``memory``         resident memory: idle, after a job, after many jobs and signatures
``elixir``         the Elixir client against a raw loop, both to an echo consumer
================== ==================================================================================
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks.figures import Figure
from benchmarks.measurements import cpu, elixir, in_flight, memory, pieces, safety, start, workers
from benchmarks.stage import Stage

Measurement = Callable[[Stage], Awaitable[list[Figure]]]

MEASUREMENTS: dict[str, Measurement] = {
    "cpu": cpu.measure,
    "pieces": pieces.measure,
    "safety": safety.measure,
    "in-flight": in_flight.measure,
    "workers": workers.measure,
    "start": start.measure,
    "memory": memory.measure,
    "elixir": elixir.measure,
}
