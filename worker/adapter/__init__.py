"""Our DSPy adapters: wire names in the prompt and in the answer, and no second LM call.

See Also:
    docs/WIRE.md, "How outputs are read".
"""

from worker.adapter.chat import WireAdapter
from worker.adapter.prompt import as_text, free_word
from worker.adapter.schema import SchemaAdapter

__all__ = ["SchemaAdapter", "WireAdapter", "as_text", "free_word"]
