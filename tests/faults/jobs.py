"""What the jobs of the suite are: their right answer is a pure function of their number."""

from __future__ import annotations

import re
import zlib
from typing import Any

SIGNATURE = "text -> label: string"
PROGRAM = "label"
_NAME = re.compile(r"job-(\d+)\b")


def text_of(number: int) -> str:
    """Return the input of a job, which names it."""
    return f"job-{number}"


def number_in(prompt: str) -> int | None:
    """Return the number of the job that a prompt is about; None where it names none."""
    found = _NAME.findall(prompt)
    return int(found[-1]) if found else None


def label_of(number: int) -> str:
    """Return the right output of a job."""
    return f"{zlib.crc32(text_of(number).encode()):08x}"


def message_id_of(number: int) -> str:
    """Return the idempotency key of a job."""
    return f"m{number}"


def body_of(number: int, **args: Any) -> dict[str, Any]:
    """Return the request of a job; keyword arguments go into ``args``."""
    return {"id": number, "args": {"program_id": PROGRAM, "inputs": {"text": text_of(number)}, **args}}
