"""What all workers of a namespace should have set alike, as one short hash: which value it is, nobody reads from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, SecretStr

from worker.settings.settings import Settings

OF_ONE_WORKER = frozenset(
    {
        "amqp_url",
        "amqp_ca_file",
        "amqp_cert_file",
        "amqp_key_file",
        "store_url",
        "concurrency",
        "create_concurrency",
        "control_concurrency",
        "drain_seconds",
        "cache_size",
        "http_host",
        "http_port",
        "log_level",
        "log_format",
    }
)
"""Settings that a worker may have for itself: addresses, files, sizes, time to stop, the log. All others should agree."""

_HASH_DIGITS = 12


def settings_hash(settings: Settings) -> str:
    """Return the hash of the settings that should agree; LM keys count, and no key can be read from it.

    Lists whose order means nothing, and LM aliases, count in any order.
    """
    given = {name: _revealed(getattr(settings, name)) for name in Settings.model_fields if name not in OF_ONE_WORKER}
    given["trusted_users"] = sorted(settings.trusted_users)
    text = json.dumps(given, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]


def _revealed(value: object) -> object:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case BaseModel():
            return {name: _revealed(getattr(value, name)) for name in type(value).model_fields}
        case Mapping():
            return {name: _revealed(member) for name, member in value.items()}
        case Path():
            return str(value)
        case _:
            return value
