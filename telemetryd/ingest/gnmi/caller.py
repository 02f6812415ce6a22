"""Calls to one target over one connection that is kept: Capabilities, Get, Set, and Subscribe ONCE."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

import grpc.aio

from telemetryd.ingest.gnmi.grpc_aio import channel_to, told_as_ours
from telemetryd.ingest.gnmi.transport import SUBSCRIBE, Credentials, Endpoint, Status, TransportError

_SERVICE: Final = "/gnmi.gNMI/"


class Caller:
    """A connection that is made at the first call, and anew after it was lost. For one event loop.

    Parameters
    ----------
    login:
        Reads who we are, for every connection.
    timeout_s:
        Longest time of a call.
    """

    def __init__(self, endpoint: Endpoint, login: Callable[[], Credentials] | None, timeout_s: float) -> None:
        self._endpoint, self._login, self._timeout_s = endpoint, login, timeout_s
        self._open: AsyncExitStack | None = None
        self._channel: grpc.aio.Channel | None = None
        self._metadata: list[tuple[str, str]] = []
        self._one = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def unary(self, method: str, request: bytes) -> bytes:
        """Make a call with one answer, such as ``Get``.

        Raises
        ------
        TransportError
            If the target cannot be reached, or does not answer well within the time.
        """
        channel = await self._connected()
        try:
            async with told_as_ours():
                call = channel.unary_unary(_SERVICE + method)
                answer: bytes = await call(request, timeout=self._timeout_s, metadata=self._metadata)
                return answer
        except TransportError as error:
            await self._leave_if_lost(error)
            raise

    async def once(self, request: bytes) -> list[bytes]:
        """Subscribe, and return every message until the target ends the call.

        Raises
        ------
        TransportError
            If the target cannot be reached, or does not end it well within the time.
        """
        channel = await self._connected()

        async def requests() -> grpc.aio.RequestIterableType:
            yield request

        try:
            async with told_as_ours():
                call = channel.stream_stream(SUBSCRIBE)(requests(), timeout=self._timeout_s, metadata=self._metadata)
                return [message async for message in call]
        except TransportError as error:
            await self._leave_if_lost(error)
            raise

    async def close(self) -> None:
        """Close the connection; the next call makes another."""
        if self._open is not None:
            opened, self._open, self._channel = self._open, None, None
            await opened.aclose()

    async def _connected(self) -> grpc.aio.Channel:
        async with self._one:
            if self._channel is None:
                credentials = Credentials()
                if self._login is not None:
                    credentials = await asyncio.to_thread(self._login)
                self._metadata = credentials.metadata()
                stack = AsyncExitStack()
                self._channel = await stack.enter_async_context(
                    channel_to(replace(self._endpoint, credentials=credentials))
                )
                self._open = stack
            return self._channel

    async def _leave_if_lost(self, error: TransportError) -> None:
        # gRPC waits longer and longer before it tries a connection again; we say ourselves when.
        if error.status in (Status.UNAVAILABLE, Status.UNAUTHENTICATED):
            await self.close()
