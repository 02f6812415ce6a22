"""Health and metrics over HTTP: ``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from aiohttp import web

from telemetryd.component import Component
from telemetryd.errors import InputError
from telemetryd.observe.health import Health, State, combine, document
from telemetryd.observe.log import Log

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SHUTDOWN_S: Final = 1.0
REQUEST_S: Final = 10.0


class HttpServer(Component):
    """Answer whoever watches the daemon.

    ``/healthz`` is 200 unless something has failed (then 503), ``/readyz`` is 200 while the daemon takes and
    stores datagrams (else 503), both with the health of every component as JSON; ``/metrics`` is the
    Prometheus text format.

    Parameters
    ----------
    address, port:
        Where to listen; port 0 takes a free one (:attr:`port` says which, and the log).
    health:
        Gives the health of every component.
    is_ready:
        Tells whether the daemon has started and does not drain.
    metrics:
        Writes the metrics; called in a thread.
    """

    name: ClassVar[str] = "http"

    def __init__(
        self,
        address: str,
        port: int,
        *,
        health: Callable[[], Mapping[str, Health]],
        is_ready: Callable[[], bool],
        metrics: Callable[[], bytes],
    ) -> None:
        super().__init__()
        self.address = address
        self.port = port
        self._health = health
        self._is_ready = is_ready
        self._metrics = metrics
        self._log = Log(self.name)

    async def run(self) -> None:
        """Serve until stopped.

        Raises
        ------
        InputError
            If the address cannot be bound.
        """
        app = web.Application(client_max_size=0)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metricsz)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=REQUEST_S
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.address, self.port)
            try:
                await site.start()
            except OSError as error:
                where = f"{self.address} port {self.port}"
                raise InputError(f"http: cannot listen on {where}: {error.strerror or error}") from error
            self.port = runner.addresses[0][1]
            self._log.info("listening", address=self.address, port=self.port)
            self.started.set()
            await self.stopping.wait()
        finally:
            await runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        parts = self._health()
        return web.json_response(document(parts), status=503 if combine(parts).state == State.FAILED else 200)

    async def _readyz(self, request: web.Request) -> web.Response:
        parts = self._health()
        is_ready = self._is_ready() and combine(parts).state < State.FAILED
        return web.json_response({"ready": is_ready, **document(parts)}, status=200 if is_ready else 503)

    async def _metricsz(self, request: web.Request) -> web.Response:
        async with asyncio.timeout(REQUEST_S):
            body = await asyncio.to_thread(self._metrics)
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})
