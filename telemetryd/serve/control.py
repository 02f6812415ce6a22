"""The control service of a running daemon: gRPC (proto/telemetryd/v1/control.proto) on a Unix socket.

Who may connect: see :mod:`telemetryd.serve.gate`. Every call has a deadline: the caller's, and never longer than
the service's own. A call that names none is refused, so that a forgotten client cannot wait for ever.
"""

from __future__ import annotations

import asyncio
import grp
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import grpc

from telemetryd.component import Component
from telemetryd.errors import InputError, TelemetrydError
from telemetryd.proto import control_pb2, control_pb2_grpc
from telemetryd.serve.gate import Gate, Peer
from telemetryd.serve.messages import ReloadResult, Status, Update

STATUS_LIMIT_S: Final = 10.0
RELOAD_LIMIT_S: Final = 120.0
WATCH_LIMIT_S: Final = 3600.0
GRACE_S: Final = 0.5
CALLS: Final = 64


class ControlBackend(Protocol):
    """What the daemon answers; all of it runs in the event loop and must not block it."""

    def status(self) -> Status:
        """Say how the daemon is."""

    async def reload(self, peer: Peer) -> ReloadResult:
        """Read configuration and registry again, as that process asks; a refusal is a result, not an exception."""

    def subscribe(self) -> AsyncGenerator[Update, None]:
        """Yield an update a second; see :class:`telemetryd.serve.updates.Broadcast`."""


class ControlServer(Component):
    """The component that serves the control service.

    Parameters
    ----------
    path:
        The Unix socket; its directory must exist.
    backend:
        What answers.
    group:
        Group whose members may connect, by name; default: the group of the process.
    """

    name: ClassVar[str] = "control"

    def __init__(self, path: Path, backend: ControlBackend, group: str | None = None) -> None:
        super().__init__()
        self.path = path
        self._backend = backend
        self._group = group

    async def run(self) -> None:
        """Listen and answer until asked to stop; calls under way have half a second then.

        Raises
        ------
        InputError
            If the path or the group cannot be used.
        TelemetrydError
            If another daemon holds the socket.
        """
        with Gate(self.path, group_id(self._group)) as gate:
            server = grpc.aio.server(maximum_concurrent_rpcs=CALLS, options=[("grpc.so_reuseport", 0)])
            control_pb2_grpc.add_ControlServicer_to_server(_Control(self._backend, gate), server)
            server.add_insecure_port(f"unix:{gate.inner.absolute()}")
            try:
                await server.start()
                async with asyncio.TaskGroup() as tasks:
                    accepting = tasks.create_task(gate.run(), name="control-gate")
                    self.started.set()
                    await self.stopping.wait()
                    await server.stop(GRACE_S)
                    accepting.cancel()
            finally:
                await server.stop(None)


class _Control:
    """The methods of the service, named as protobuf names them."""

    def __init__(self, backend: ControlBackend, gate: Gate) -> None:
        self._backend = backend
        self._gate = gate
        self._one_reload = asyncio.Lock()
        self._tasks: set[asyncio.Task[ReloadResult]] = set()

    async def Status(self, request: Any, context: Any) -> Any:  # noqa: N802
        await _limit(context, STATUS_LIMIT_S)
        try:
            return control_pb2.StatusReply(**self._backend.status())
        except TelemetrydError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    async def Reload(self, request: Any, context: Any) -> Any:  # noqa: N802
        seconds = await _limit(context, RELOAD_LIMIT_S)
        peer = self._gate.peer_at(context.peer())
        if peer is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the process that asks has gone")
            raise AssertionError("abort raises")
        # A reload that was begun is finished even if nobody waits for it any more: half of one is worse.
        task = asyncio.create_task(self._reload(peer), name="control-reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(seconds):
                result = await asyncio.shield(task)
        except TelemetrydError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the reload goes on: see the log for its end")
        return control_pb2.ReloadReply(**asdict(result))

    async def _reload(self, peer: Peer) -> ReloadResult:
        async with self._one_reload:
            return await self._backend.reload(peer)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        end = asyncio.get_running_loop().time() + await _limit(context, WATCH_LIMIT_S)
        async with aclosing(self._backend.subscribe()) as updates:
            while True:
                try:
                    async with asyncio.timeout_at(end):
                        update = await anext(updates)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "watch again")
                yield control_pb2.Update(**update)


async def _limit(context: Any, longest_s: float) -> float:
    """Return how many seconds a call may take."""
    remaining: float | None = context.time_remaining()
    if remaining is None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a call needs a deadline")
        raise AssertionError("abort raises")
    return min(remaining, longest_s)


def group_id(name: str | None) -> int:
    """Return the number of a group, by default that of the process.

    Raises
    ------
    InputError
        If there is no such group.
    """
    if name is None:
        return os.getegid()
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise InputError(f"there is no group {name!r} - create it, or name another one") from None
