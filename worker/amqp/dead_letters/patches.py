"""Mend a job's arguments on the way back: JSON Merge Patch.

Ten lines of our own: the packages that do it are as small, and none of them knows that Elixir writes an object as a
list of pairs.

See Also:
    RFC 7396, section 2: the algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.errors import InvalidRequestError
from worker.message import as_object, dump, parse


def merge_patch(target: Any, patch: Any) -> Any:
    """Return ``target`` with a merge patch applied; null takes a member away, lists are replaced as a whole."""
    if not isinstance(patch, dict):
        return patch
    whole = as_object(target)
    merged = dict(whole) if isinstance(whole, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def patch_args(body: bytes, patch: Mapping[str, Any]) -> bytes:
    """Return the body of a job with its ``args`` patched; the very same bytes where that makes no difference.

    Raises:
        InvalidJSONError: The body is not JSON.
        InvalidRequestError: The body is not an object.
    """
    document = parse(body, max_bytes=len(body))
    if not isinstance(document, dict):
        raise InvalidRequestError("The body must be a JSON object")
    args = as_object({} if document.get("args") is None else document["args"])
    patched = merge_patch(args, dict(patch))
    return body if dump(patched) == dump(args) else dump({**document, "args": patched})
