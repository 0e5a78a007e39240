"""The channels of the document: work queues, their exchange, reply queues, dead letters and the delay ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker.asyncapi.commands import COMMANDS
from worker.asyncapi.contract import Contract, TopologyNames
from worker.asyncapi.messages import BINDING_VERSION, DEAD_LETTER, ERROR
from worker.asyncapi.programs import ProgramSchemas
from worker.asyncapi.schemas import to
from worker.message import LANES

Channel = dict[str, Any]


def channels(contract: Contract, programs: Sequence[ProgramSchemas]) -> dict[str, Channel]:
    """Return every channel, by name."""
    topology, vhost = contract.topology, contract.server.vhost
    arguments = {queue.name: dict(queue.arguments) for queue in topology.queues}
    written = _work_channels(topology, arguments, vhost=vhost)
    written["reply"] = _reply_channel()
    for program in programs:
        written |= _program_channels(program, execute=written["execute"], reply=written["reply"])
    return (
        written | _dead_channels(topology, arguments, vhost=vhost) | _delay_channels(topology, arguments, vhost=vhost)
    )


def _work_channels(topology: TopologyNames, arguments: Mapping[str, Channel], *, vhost: str) -> dict[str, Channel]:
    names = [f"{command.name}.request" for command in COMMANDS]
    written: dict[str, Channel] = {}
    for lane in LANES:
        queue = topology.work_queue(lane)
        written[lane] = _queue(queue, arguments[queue], vhost=vhost)
        written[lane] |= {"title": f"Work queue {lane}", "messages": _refs(names)}
    written["exchange"] = _exchange(topology.exchange, LANES, vhost=vhost)
    written["exchange"] |= {
        "title": "Exchange of the work queues",
        "description": "The other way to a work queue; the routing key is the lane.",
        "messages": _refs(names),
    }
    return written


def _reply_channel() -> Channel:
    replies = [f"{command.name}.reply" for command in COMMANDS if command.result is not None]
    return {
        "address": None,
        "title": "Your reply queue",
        "description": "What `reply_to` of the request names.",
        "servers": [_broker()],
        "messages": _refs([*replies, ERROR]),
    }


def _program_channels(program: ProgramSchemas, *, execute: Channel, reply: Channel) -> dict[str, Channel]:
    """Return the channels of ``execute_program`` and its replies as one program uses them.

    They are views of the same queues. With the messages of all programs in one channel, readers that put channels in
    place of their references would take time with the square of the programs.
    """
    about = f"as the program {program.program_id} uses it"
    return {
        program.request_channel: execute
        | {"title": f"{execute['title']}, {about}", "messages": _refs([program.request])},
        program.reply_channel: reply
        | {"title": f"{reply['title']}, {about}", "messages": _refs([program.reply, ERROR])},
    }


def _dead_channels(topology: TopologyNames, arguments: Mapping[str, Channel], *, vhost: str) -> dict[str, Channel]:
    written: dict[str, Channel] = {}
    for lane in LANES:
        queue = topology.dead_queue(lane)
        written[f"{lane}_dead"] = _queue(queue, arguments[queue], vhost=vhost)
        written[f"{lane}_dead"] |= {
            "title": f"Dead letters of {lane}",
            "description": "Jobs that failed for good; `dspex-worker dead` shows and replays them.",
            "messages": _refs([DEAD_LETTER]),
        }
    keys = [topology.work_queue(lane) for lane in LANES]
    written["dead_exchange"] = _exchange(topology.dead_exchange, keys, vhost=vhost)
    written["dead_exchange"] |= {
        "title": "Exchange of the dead letters",
        "description": "The workers' own; the routing key is the work queue's name.",
        "messages": _refs([DEAD_LETTER]),
    }
    return written


def _delay_channels(topology: TopologyNames, arguments: Mapping[str, Channel], *, vhost: str) -> dict[str, Channel]:
    written: dict[str, Channel] = {}
    for delay_ms in topology.delays_ms:
        name = topology.delay_name(delay_ms)
        written[f"delay_{delay_ms}"] = _queue(name, arguments[name], vhost=vhost)
        written[f"delay_{delay_ms}"] |= {
            "title": f"Delay of {delay_ms} ms",
            "description": "The workers' own: a step of the delay ladder, with a fanout exchange of the same name.",
        }
    return written


def _queue(name: str, arguments: Channel, *, vhost: str) -> Channel:
    queue = {"name": name, "durable": True, "exclusive": False, "autoDelete": False, "vhost": vhost}
    return {
        "address": name,
        "servers": [_broker()],
        "bindings": {"amqp": {"is": "queue", "queue": queue, "bindingVersion": BINDING_VERSION}},
        "x-queue-arguments": arguments,
    }


def _exchange(name: str, keys: Sequence[str], *, vhost: str) -> Channel:
    exchange = {"name": name, "type": "direct", "durable": True, "autoDelete": False, "vhost": vhost}
    return {
        "address": "{routing_key}",
        "parameters": {"routing_key": {"enum": list(keys), "description": "The routing key."}},
        "servers": [_broker()],
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": BINDING_VERSION}},
    }


def _broker() -> Channel:
    return {"$ref": "#/servers/broker"}


def _refs(names: Sequence[str]) -> Channel:
    return {name: to("messages", name) for name in names}
