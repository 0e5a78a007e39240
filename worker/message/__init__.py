"""The wire contract: what arrives, what it means, and what goes back.

A `Delivery` is what the broker gave; a `Job` is what the sender meant; an `Outcome` is the reply and the
`Settlement` that a job ends in. Both hands share these types and nothing here knows AMQP or DSPy.

See Also:
    docs/WIRE.md: the contract in words.
"""

from worker.message.contract import (
    CREATE_KEYS,
    EXECUTE_KEYS,
    CreateArgs,
    ExecuteArgs,
    Options,
    ProgramConfig,
    as_object,
    read_args,
)
from worker.message.delivery import (
    DIRECT_REPLY_TO,
    HEADER_ATTEMPTS,
    HEADER_DEADLINE,
    HEADER_DELIVERIES,
    HEADER_FIRST_DELIVERED,
    HEADER_GENERATION,
    HEADER_ORIGINAL_ROUTING_KEY,
    HEADER_TENANT,
    HEADER_WAITS,
    INTERNAL_HEADERS,
    LANES,
    Delivery,
    Lane,
    Trail,
)
from worker.message.job import Job, check_deadline, check_properties, check_reply_to, decode, request_id
from worker.message.named import named_job, named_program, read_number
from worker.message.outcome import (
    Ack,
    AckIfReplied,
    DeadLetter,
    Delay,
    GiveBack,
    Isolate,
    Leave,
    Letter,
    Outcome,
    Reject,
    Reply,
    Settlement,
    encode_error,
    encode_success,
    error_detail,
    make_reply,
)
from worker.message.strict_json import canonical, dump, parse

__all__ = [
    "CREATE_KEYS",
    "DIRECT_REPLY_TO",
    "EXECUTE_KEYS",
    "HEADER_ATTEMPTS",
    "HEADER_DEADLINE",
    "HEADER_DELIVERIES",
    "HEADER_FIRST_DELIVERED",
    "HEADER_GENERATION",
    "HEADER_ORIGINAL_ROUTING_KEY",
    "HEADER_TENANT",
    "HEADER_WAITS",
    "INTERNAL_HEADERS",
    "LANES",
    "Ack",
    "AckIfReplied",
    "CreateArgs",
    "DeadLetter",
    "Delay",
    "Delivery",
    "ExecuteArgs",
    "GiveBack",
    "Isolate",
    "Job",
    "Lane",
    "Leave",
    "Letter",
    "Options",
    "Outcome",
    "ProgramConfig",
    "Reject",
    "Reply",
    "Settlement",
    "Trail",
    "as_object",
    "canonical",
    "check_deadline",
    "check_properties",
    "check_reply_to",
    "decode",
    "dump",
    "encode_error",
    "encode_success",
    "error_detail",
    "make_reply",
    "named_job",
    "named_program",
    "parse",
    "read_args",
    "read_number",
    "request_id",
]
