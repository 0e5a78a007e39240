"""The Python client: create and run programs on workers, over RabbitMQ.

::

    async with Client("amqp://…") as client:
        await client.create_program("text -> sentiment: string, confidence: probability", id="sentiment")
        result = await client.execute("sentiment", {"text": "I love it"})
        print(result["sentiment"], result["confidence"])

Importing it loads neither DSPy nor the worker's own parts: only aio-pika and the wire contract.

See Also:
    docs/PYTHON.md: what it does, by example.
"""

from worker.client.client import Client
from worker.client.errors import ArgumentError, ClientError, NoWorkerError, ReplyError, ReplyTimeoutError
from worker.client.many import RowResult
from worker.client.presence import NoWorker
from worker.client.result import Result
from worker.message import CancelStatus, FallbackPolicy, ResultStatus

__all__ = [
    "ArgumentError",
    "CancelStatus",
    "Client",
    "ClientError",
    "FallbackPolicy",
    "NoWorker",
    "NoWorkerError",
    "ReplyError",
    "ReplyTimeoutError",
    "Result",
    "ResultStatus",
    "RowResult",
]
