"""Signatures: what a program takes and returns, from a definition on the wire to checked values.

A definition, in whatever spelling, is parsed into a ``Signature`` of typed fields in canonical form; values are checked
against it strictly in both directions. All of it is pure: nothing here does I/O, and only ``worker.signatures.classes``,
which must be imported by name, loads DSPy.

See Also:
    docs/WIRE.md, "Signature definitions".
"""

from __future__ import annotations

from worker.signatures.annotations import python_type
from worker.signatures.definitions import LEGACY, is_legacy, parse
from worker.signatures.nodes import Kind, Type
from worker.signatures.phrases import describe_type
from worker.signatures.records import check_inputs, check_outputs, read_json_outputs, read_outputs
from worker.signatures.samples import sample_outputs
from worker.signatures.schemas import Dialect, Side, write_schema
from worker.signatures.signature import Field, Signature

__all__ = [
    "LEGACY",
    "Dialect",
    "Field",
    "Kind",
    "Side",
    "Signature",
    "Type",
    "check_inputs",
    "check_outputs",
    "describe_type",
    "is_legacy",
    "parse",
    "python_type",
    "read_json_outputs",
    "read_outputs",
    "sample_outputs",
    "write_schema",
]
