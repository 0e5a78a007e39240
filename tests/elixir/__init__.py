"""The Elixir client and its compat project, tried by ExUnit against real workers: ``make test-elixir``.

`mix` runs Mix with everything that the tests need; `stage` is what ExUnit itself starts to break things: workers that
are killed, an LM that is down, a broker that is restarted.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The private brokers live there, in files that also run before any package is installed.
_DEPLOY = str(Path(__file__).resolve().parents[2] / "deploy")
if _DEPLOY not in sys.path:
    sys.path.append(_DEPLOY)
