"""``dspex-worker dead``: look into dead-letter queues, send their jobs back to work, or remove them."""

from worker.cli.dead.commands import add_to
from worker.cli.dead.options import read_age, read_lane, read_patch

__all__ = ["add_to", "read_age", "read_lane", "read_patch"]
