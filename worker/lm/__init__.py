"""The operator's LM aliases as DSPy LMs, the count of every call, and what its failure means.

A message names an alias and never a model, a URL or a key. DSPy runs each call once (``num_retries=0``): its own
retries would sleep in this process and multiply with ours. What a call costs goes to the `Meter` of the job, which
`execution` puts into a context variable; the meter also stops a call that the budget does not cover. Each call tells
the alias's circuit how it ended, and is not made while that is open.
"""

from __future__ import annotations

import os

# Without it DSPy's first litellm call downloads a price list.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")

from worker.lm.aliases import LMs
from worker.lm.counted import CountedLM
from worker.lm.failures import translate

__all__ = ["CountedLM", "LMs", "translate"]
