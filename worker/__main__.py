"""``python -m worker`` is ``dspex-worker``."""

from worker.cli import main

main()
