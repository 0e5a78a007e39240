"""Which variables of an environment are meant for us."""

from __future__ import annotations

import re
from collections.abc import Mapping

from worker.suggestions import nearest

PREFIX = "DSPEX_"
RESERVED_PREFIX = "DSPEX_TEST_"
# The seed's own name for the rollout percentage; still accepted.
ROLLOUT_ALIAS = "DYNAMIC_SIG_ROLLOUT"


def take_own(environ: Mapping[str, str]) -> dict[str, str]:
    """Return name without prefix → text of every variable that is meant for us.

    Not those of tests, those that Kubernetes injects for a service of our name, and those that are empty.
    """
    given = {
        name.removeprefix(PREFIX): text
        for name, text in environ.items()
        if name.startswith(PREFIX) and not name.startswith(RESERVED_PREFIX) and not _is_from_kubernetes(name, text)
        # Compose files pass on what the host has not set as empty text.
        if text.strip()
    }
    if ROLLOUT_ALIAS in environ:
        given.setdefault("DYNAMIC_SIGNATURES_ROLLOUT", environ[ROLLOUT_ALIAS])
    return given


def explain_unknown(name: str, *, known: set[str]) -> str:
    """Say that there is no such setting, and which one may have been meant.

    Args:
        name: Without the prefix.
        known: The names that there are, without the prefix.
    """
    meant = nearest(name, sorted(known), cutoff=0.5)
    hint = f"; did you mean {PREFIX}{meant}?" if meant else "; `dspex-worker serve --help` lists them"
    return f"{PREFIX}{name} is not a setting{hint}"


def _is_from_kubernetes(name: str, text: str) -> bool:
    """Tell the variables that Kubernetes injects for a service whose name starts with ``dspex``."""
    if re.search(r"_SERVICE_(HOST|PORT)(_|$)", name):
        return True
    if re.search(r"_PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?$", name):
        return True
    return name.endswith("_PORT") and "://" in text
