"""The wire contract as an AsyncAPI 3.0 document, for readers and for code generators.

Where the worker has the truth as a value, the document is made of it: the queues from the topology, the arguments of
create and execute from their models, the codes from the error tree. The rest stands in two tables, `worker.asyncapi.commands`
and `worker.asyncapi.messages`, which tests compare with what workers answer.

The same contract gives the same document, byte for byte: it holds no time and no order of arrival.

See Also:
    https://www.asyncapi.com/docs/reference/specification/v3.0.0; docs/WIRE.md: the contract in words.
"""

from worker.asyncapi.commands import COMMANDS, Command
from worker.asyncapi.contract import Contract, Server
from worker.asyncapi.document import write_document
from worker.asyncapi.programs import ProgramSchemas

__all__ = ["COMMANDS", "Command", "Contract", "ProgramSchemas", "Server", "write_document"]
