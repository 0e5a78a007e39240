"""The HTTP port: ``/healthz``, ``/readyz`` and ``/metrics``.

``/healthz`` answers while the event loop lives. ``/readyz`` names what is missing: consuming, publishing, store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

# Returns what is not ready, one phrase each; nothing missing means ready.
Readiness = Callable[[], Awaitable[list[str]]]


class HealthServer:
    """Serves health and metrics.

    Args:
        readiness: Asked at each ``/readyz``.
    """

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)

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
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        missing = await self._readiness()
        status = "unready" if missing else "ok"
        return web.json_response({"status": status, "missing": missing}, status=503 if missing else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
