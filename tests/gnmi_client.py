"""A transport at work, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.gnmi.transport import Endpoint, TransportError, open_transport

TIMEOUT_S = 60.0


class Taken:
    """Takes messages as octets, and is told when enough have come."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._come = asyncio.Event()

    def __call__(
        self, octets: NDArray[np.uint8], offsets: NDArray[np.int64], lengths: NDArray[np.int64], received_ns: int
    ) -> None:
        assert received_ns > 0
        for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
            self.messages.append(octets[offset : offset + length].tobytes())
        self._come.set()

    async def wait_for(self, number: int) -> None:
        """Wait until so many messages have come."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.messages) < number:
                self._come.clear()
                await self._come.wait()


async def requests(*octets: bytes, stay: bool = False) -> AsyncIterator[bytes]:
    """Send requests; with ``stay`` our half stays open."""
    for request in octets:
        yield request
    if stay:
        await asyncio.Event().wait()


def endpoint(port: int, transport: str, **options: Any) -> Endpoint:
    options.setdefault("connect_timeout_s", 10.0)
    return Endpoint(options.pop("host", "127.0.0.1"), port, transport=transport, **options)  # type: ignore[arg-type]


async def subscribe(where: Endpoint, *octets: bytes, stay: bool = False) -> tuple[list[bytes], TransportError | None]:
    """Subscribe until the stream ends; return the messages, and how it ended where that was not well."""
    taken = Taken()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await open_transport(where).subscribe(requests(*(octets or (b"request",)), stay=stay), taken)
    except TransportError as error:
        return taken.messages, error
    return taken.messages, None
