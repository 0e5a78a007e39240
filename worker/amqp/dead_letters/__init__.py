"""Dead letters: list them, look at them, replay them."""

from worker.amqp.dead_letters.letters import DeadLetterView, DeadQueue, list_dead, show, view
from worker.amqp.dead_letters.replay import OnProgress, ReplayReport, replay

__all__ = [
    "DeadLetterView",
    "DeadQueue",
    "OnProgress",
    "ReplayReport",
    "list_dead",
    "replay",
    "show",
    "view",
]
