"""The aliases of a worker: which LMs there are, and the cache that they share."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import dspy
from dspy import lm15
from dspy.clients import execution
from dspy.clients.cache import Cache
from dspy.utils import exceptions as dspy_errors

from worker.aliases import find_profile, not_configured
from worker.circuits import Circuits
from worker.lm.counted import CountedLM
from worker.lm.failures import mask
from worker.meter import METER
from worker.offline import OFFLINE_MODEL, AsyncOfflineEngine, OfflineEngine
from worker.settings import LMProfile

_CACHE_ENTRIES = 10_000


class LMs:
    """The aliases of a worker.

    LMs are made at their first use and kept: DSPy pools connections in them.

    Attributes:
        circuits: Which of them are taken for down.
    """

    def __init__(
        self, profiles: Mapping[str, LMProfile], *, timeout_seconds: float, max_connections: int = 100
    ) -> None:
        # DSPy gives its connection pools no size, and lm15's default of 100 would hold back a higher concurrency.
        execution.RouterConfig = functools.partial(  # type: ignore[attr-defined, assignment]
            lm15.RouterConfig, max_connections=max(100, max_connections)
        )
        self._profiles = dict(profiles)
        self._timeout_seconds = timeout_seconds
        self._made: dict[str, CountedLM] = {}
        real = [alias for alias, profile in profiles.items() if profile.model != OFFLINE_MODEL]
        self.circuits = Circuits(real, probe=self._probe)
        # The default cache writes pickles to disk; this one counts hits and lives in memory only.
        dspy.cache = _CountingCache(
            enable_disk_cache=False,
            enable_memory_cache=True,
            disk_cache_dir="",
            memory_max_entries=_CACHE_ENTRIES,
        )

    @property
    def models(self) -> dict[str, str]:
        """Alias → model string, for logs and statistics."""
        return {alias: profile.model for alias, profile in self._profiles.items()}

    def get(self, alias: str, *, pointer: str = "") -> CountedLM:
        """Return the LM of an alias.

        Args:
            alias: As configured.
            pointer: JSON pointer to where the job named it, for the error.

        Raises:
            LMNotConfiguredError: No such alias, or its profile cannot be used.
        """
        lm = self._made.get(alias)
        if lm is None:
            profile = find_profile(self._profiles, alias, pointer=pointer)
            lm = self._made[alias] = self._make(alias, profile)
        return lm

    def is_offline(self, alias: str) -> bool:
        """Tell whether an alias is the stand-in that asks no model."""
        profile = self._profiles.get(alias)
        return profile is not None and profile.model == OFFLINE_MODEL

    async def aclose(self) -> None:
        """End the probes, and close the connections of all LMs."""
        await self.circuits.aclose()
        for lm in self._made.values():
            await lm.aclose()  # type: ignore[no-untyped-call]

    async def _probe(self, alias: str) -> None:
        await self.get(alias).probe()

    def _make(self, alias: str, profile: LMProfile) -> CountedLM:
        secret = profile.api_key.get_secret_value() if profile.api_key else None
        options: dict[str, Any] = {"temperature": profile.temperature, "max_tokens": profile.max_tokens}
        if profile.model == OFFLINE_MODEL:
            options |= {"engine": OfflineEngine(), "async_engine": AsyncOfflineEngine()}
        else:
            client = {"api_key": secret, "api_base": profile.api_base, "timeout": self._timeout_seconds}
            options |= {key: value for key, value in client.items() if value is not None}
        try:
            circuit = self.circuits.of(alias)
            return CountedLM(profile, circuit=circuit, timeout_seconds=self._timeout_seconds, options=options)
        except (ValueError, TypeError, dspy_errors.LMError) as error:
            raise not_configured(f"LM '{alias}': {mask(str(error), secret)}") from error


class _CountingCache(Cache):
    """DSPy's response cache, in memory, one part for each tenant, that tells the job's meter about a hit.

    DSPy looks it up in a thread with a copy of the job's context, so the meter is the same object.
    """

    def cache_key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a request; a hit would tell a tenant what another one has asked."""
        return f"{METER.get().tenant}/{super().cache_key(*args, **kwargs)}"

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Look a response up; a hit is no LM call."""
        found = super().get(*args, **kwargs)
        if found is not None:
            METER.get().cache_hits += 1
        return found
