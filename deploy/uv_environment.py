"""The environment in which set-up runs uv: away from the user's own uv, and on the way to the index that pip takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["make_environment"]

# uv reads no pip configuration, and a company's index is often named there alone. Which one serves the packages does
# not matter: they are compared with the lock's hashes.
_OF_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}
_KEPT = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_HTTP_",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_SYSTEM_CERTS",
)


def make_environment(inherited: Mapping[str, str], *, pip_config: str, cache: Path) -> dict[str, str]:
    """Return the environment of uv.

    Of the settings of uv, those that say how to reach the index stay; the others, and uv's own files, could change what
    is installed and where.

    Args:
        inherited: This process's environment.
        pip_config: What ``pip config list`` prints.
        cache: The folder for uv's downloads.
    """
    kept = {name: text for name, text in inherited.items() if not name.startswith("UV_") or name.startswith(_KEPT)}
    told = {variable: text for name, variable in _OF_PIP.items() if (text := _configured(pip_config, name))}
    ours = {"UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "UV_CACHE_DIR": str(cache)}
    return told | kept | ours


def _configured(pip_config: str, name: str) -> str:
    """Return a setting of pip; the environment counts before its files, and `install` before `global`."""
    for section in (":env:", "install", "global"):
        found = re.search(rf"^{section}\.{name}='(.*)'$", pip_config, flags=re.MULTILINE)
        if found:
            # Some take several values, a line each.
            return found[1].replace("\\n", " ").strip()
    return ""
