"""The Python client: create and run programs on workers, over RabbitMQ.

::

    async with Client("amqp://…") as client:
        await client.create_program("text -> sentiment: string, confidence: probability", id="sentiment")
        result = await client.execute("sentiment", {"text": "I love it"})
        print(result["sentiment"], result["confidence"])

Importing it loads neither DSPy nor the worker's own parts: only aio-pika and the wire contract.
"""

from worker.client.client import Client
from worker.client.errors import ClientError, NoWorkerError, ReplyError, ReplyTimeoutError
from worker.client.result import Result

__all__ = ["Client", "ClientError", "NoWorkerError", "ReplyError", "ReplyTimeoutError", "Result"]
