"""A server with InfluxDB's v2 write endpoint that keeps points in a dictionary and fails as it is told to."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

#: (measurement and tags as written, time) -> fields as written: what a line is in a database.
Points = dict[tuple[bytes, int], bytes]
Fault = Callable[[web.Request, bytes], Awaitable[web.StreamResponse | None]]


def parse(line: bytes) -> tuple[bytes, int, bytes]:
    """Return key, time and fields of a line; ValueError if it is none."""
    key, fields, time = re.split(rb"(?<!\\) ", line)
    if b"=" not in fields:
        raise ValueError("missing field value")
    return key, int(time), fields


def points_of(text: bytes) -> Points:
    """Return what a database holds after lines were written."""
    return {(key, time): fields for key, time, fields in map(parse, text.splitlines())}


@dataclass(eq=False)
class FaultServer:
    """A running server; `async with FaultServer() as server`.

    ``fault`` may answer instead of storing; ``refuses`` says which lines are bad, and ``partial`` whether the good
    lines of a body with bad ones are stored (InfluxDB 1.8) or not; bodies beyond ``largest`` octets are refused.
    """

    token: str = ""
    context: ssl.SSLContext | None = None
    refuses: Callable[[bytes], bool] = lambda line: False
    partial: bool = False
    port: int = 0
    points: Points = field(default_factory=dict)
    #: Of every request: its path with the query, and its number of lines (aiohttp has undone the compression).
    requests: list[tuple[str, int]] = field(default_factory=list)
    #: First times of the bodies that were stored, in order.
    stored: list[int] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    fault: Fault | None = None
    largest: int | None = None
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> Self:
        """Listen; on the port of before where there was one."""
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._write)
        # Requests that hang are cancelled with their connection, and at once when the server stops.
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.context, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Stop listening, and drop all connections."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _write(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.RequestPayloadError:
            response: web.StreamResponse = error(400, "gzip: invalid header")
        else:
            response = await self._answer(request, body)
        self.statuses[response.status] += 1
        return response

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        lines = [line for line in body.splitlines() if line]  # empty ones are none, for every server
        self.requests.append((request.path_qs, len(lines)))
        if self.token and request.headers.get("Authorization") != f"Token {self.token}":
            return error(401, "unauthorized access")
        if self.fault is not None and (response := await self.fault(request, body)) is not None:
            return response
        if self.largest is not None and len(body) > self.largest:
            return error(413, "Request Entity Too Large")
        return self.store(lines)

    def store(self, lines: list[bytes]) -> web.Response:
        """Store the good lines, or say which one is bad."""
        bad = [line for line in lines if self.refuses(line)]
        if not bad or self.partial:
            parsed = [parse(line) for line in lines if line not in bad]
            self.points.update({(key, time): fields for key, time, fields in parsed})
            self.stored.extend([parsed[0][1]] if parsed else [])
        if bad:
            return error(400, f"partial write: the type of a field conflicts dropped={len(bad)}")
        return web.Response(status=204)


def error(status: int, message: str, **headers: str) -> web.Response:
    """Answer as InfluxDB does."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"code": "error", "message": message}, status=status, headers=names)


async def reset(request: web.Request, _: bytes = b"") -> web.StreamResponse:
    """Drop the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=499)


async def hang(request: web.Request, _: bytes = b"") -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    return web.Response(status=499)


async def half(request: web.Request, _: bytes = b"") -> web.StreamResponse:
    """Send the first half of an answer 503, and drop the connection."""
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1000\r\n\r\n{")
    request.transport.close()
    return web.Response(status=499)


def script(*steps: Fault | web.Response | tuple[int, str] | None) -> Fault:
    """Return a fault that does one step a request, None being the normal answer; afterwards all is well."""
    left: Iterator[Fault | web.Response | tuple[int, str] | None] = iter(steps)

    async def step(request: web.Request, text: bytes) -> web.StreamResponse | None:
        now = next(left, None)
        if now is None or isinstance(now, web.Response):
            return now
        if isinstance(now, tuple):
            return error(*now)
        return await now(request, text)

    return step
