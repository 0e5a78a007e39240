"""Dead letters: list them, look at them, replay them, purge them.

===========  ===========================================================
module       its one responsibility
===========  ===========================================================
`replay`     back to the work queue
`purge`      away for good
`plan`       what a run is asked to do, may call, and reports
`selection`  which letters are meant
`refusals`   why a letter is not replayed
`patches`    mend a job's arguments on the way
`audit`      a line for every letter that leaves
`browse`     look at letters and leave them where they are
`survey`     the first pass of a run: which letters are meant, and which shall leave
`search`     send for the letters of a queue, and know them again
`source`     the queue: its name, its depth, its lock
`letters`    one letter, and what of its headers may be believed
===========  ===========================================================
"""

from worker.amqp.dead_letters.audit import AuditLine, AuditTrail
from worker.amqp.dead_letters.browse import DeadQueue, Group, find, list_dead, show
from worker.amqp.dead_letters.letters import DeadLetterView, view
from worker.amqp.dead_letters.plan import Check, OnProgress, OnRefusal, Plan, Ports, PurgeReport, ReplayReport
from worker.amqp.dead_letters.purge import purge
from worker.amqp.dead_letters.refusals import MAX_GENERATION, Refusal
from worker.amqp.dead_letters.replay import replay
from worker.amqp.dead_letters.selection import Selection

__all__ = [
    "MAX_GENERATION",
    "AuditLine",
    "AuditTrail",
    "Check",
    "DeadLetterView",
    "DeadQueue",
    "Group",
    "OnProgress",
    "OnRefusal",
    "Plan",
    "Ports",
    "PurgeReport",
    "Refusal",
    "ReplayReport",
    "Selection",
    "find",
    "list_dead",
    "purge",
    "replay",
    "show",
    "view",
]
