"""The HTTP port: ``/healthz``, ``/readyz`` and ``/metrics``.

``/healthz`` is 503 where only a restart can help, and says why: the broker has been connected for five minutes and the
worker does not consume, with no pause that wants it so. A stuck event loop shows as no answer at all, for the server
runs on that loop: give the probe a time-out. ``/readyz`` names what is missing: consuming, publishing, store; a pause
on purpose is named by its reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

# Returns what is not ready, one phrase each; nothing missing means ready.
Readiness = Callable[[], Awaitable[list[str]]]
# Returns why the worker should be started again, or None.
Liveness = Callable[[], str | None]

# What an answer that is under way gets at the end.
_STOP_SECONDS = 1.0


class HealthServer:
    """Serves health and metrics.

    Args:
        readiness: Asked at each ``/readyz``.
        liveness: Asked at each ``/healthz``.
    """

    def __init__(self, readiness: Readiness, liveness: Liveness) -> None:
        self._readiness = readiness
        self._liveness = liveness
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_STOP_SECONDS)

    async def start(self, *, host: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be bound.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        fault = self._liveness()
        if fault is None:
            return web.json_response({"status": "ok"})
        return web.json_response({"status": "stuck", "reason": fault}, status=503)

    async def _readyz(self, _: web.Request) -> web.Response:
        missing = await self._readiness()
        status = "unready" if missing else "ok"
        return web.json_response({"status": status, "missing": missing}, status=503 if missing else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
