"""Checks a deployment before it hurts, and changes nothing.

============================  =========================================================================================
check                         what is wrong when it is not ok
============================  =========================================================================================
settings                      a value, a name or times that do not nest: exit code 2
broker                        out of reach, or the login is refused
broker version                older than RabbitMQ 3.10, or another product
tls                           not encrypted, and the network is not this machine's own
limits                        few channels, or a heartbeat that finds a dead connection late
alarm                         publishes are held back: memory or disk
declare                       with --declare: what was declared
topology                      queues or exchanges are missing, or cannot be compared for want of rights
queue NAME · exchange NAME    an argument differs (have, want), or there is no answer
permission to configure       the broker user may not declare what a worker declares
permission to read and bind   the broker user may not consume the lanes, or bind
permission to publish         the broker user may not publish replies, copies or dead letters
consumers LANE                nobody consumes; an error where jobs wait
dead letters LANE             jobs that failed for good wait to be looked at
delays                        jobs wait for another attempt while an LM is down
ack time-out                  shorter on the broker than the settings reckon with; needs --management-url
bindings                      an exchange is not bound to its queue; needs --management-url
clock of the broker           off by more than 2 s; needs --management-url
management                    the management API gives no answer
store                         out of reach
store schema                  made by another version
store writes                  read-only, locked or full
clock of the store            off by more than 1 s
store file                    others may read it
store file system             on the network, where SQLite is not safe
store disk                    less than 1 GiB free; an error below 100 MiB
lm ALIAS                      no key where one is needed, the offline stand-in, or workers take it for down
lm call ALIAS                 with --call-lm: the error's code that a job would end in
workers                       none lives, or one was lost
pauses                        a lane is not consumed, with the reason and in how many workers
agreement                     workers differ by version, or by settings that should agree
============================  =========================================================================================

=============================  =====================================================================
module                         its one responsibility
=============================  =====================================================================
`worker.doctor.examination`    all checks, the sides at the same time
`worker.doctor.broker`         the connection
`worker.doctor.comparison`     queues and exchanges against the topology, argument by argument
`worker.doctor.topology`       what the comparison means
`worker.doctor.permissions`    rights, by requests that cannot succeed
`worker.doctor.traffic`        what waits, and whether somebody takes it
`worker.doctor.management`     what AMQP does not tell
`worker.doctor.store`          the store
`worker.doctor.lm`             the LM aliases
`worker.doctor.workers`        the living workers: circuits, pauses, versions, settings
`worker.doctor.check`          a finding, and its bounds
=============================  =====================================================================

See Also:
    docs/RELIABILITY.md, "Doctor".
"""

from __future__ import annotations

from worker.doctor.check import Check, Verdict
from worker.doctor.examination import Options, examine, has_errors, unreadable_settings

__all__ = ["Check", "Options", "Verdict", "examine", "has_errors", "unreadable_settings"]
