"""``python -m tests.recording``: run the demo and draw ``docs/demo.svg``. ``make recording`` starts a broker for it."""

from __future__ import annotations

import os
import sys

from tests.recording.demo import play
from tests.recording.picture import draw
from tests.support.pages import ROOT

PICTURE = "docs/demo.svg"
TITLE = "make demo"


def main() -> int:
    """Return the exit code: the demo's, where it failed."""
    run = play(os.environ)
    if run.exit_code:
        print(run.printed, file=sys.stderr)
        return run.exit_code
    (ROOT / PICTURE).write_text(draw(run.story, title=TITLE), encoding="utf-8")
    print(f"  {PICTURE}: {len(run.story)} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
