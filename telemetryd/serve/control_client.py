"""The client of the control service, for the commands of an operator on the same host."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, cast

import grpc

from telemetryd.errors import TelemetrydError
from telemetryd.proto import control_pb2, control_pb2_grpc
from telemetryd.serve.messages import ReloadResult, Status, Update, to_dict

STATUS_DEADLINE_S: Final = 5.0
RELOAD_DEADLINE_S: Final = 60.0
WATCH_DEADLINE_S: Final = 600.0
SILENCE_S: Final = 10.0


class ControlError(TelemetrydError):
    """The daemon cannot be reached or did not answer; the message says what to do about it."""


class NoDaemonError(ControlError):
    """No daemon runs, or it listens elsewhere."""


class ControlClient:
    """Talk to the daemon behind a Unix socket; an asynchronous context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._channel: Any = None
        self._stub: Any = None

    async def __aenter__(self) -> ControlClient:
        """Connect.

        Raises
        ------
        ControlError
            If there is no daemon, or it does not let this user in.
        """
        self._probe()
        self._channel = grpc.aio.insecure_channel(f"unix:{self.path.absolute()}")
        self._stub = control_pb2_grpc.ControlStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self._channel.close()

    async def status(self, deadline_s: float = STATUS_DEADLINE_S) -> Status:
        """Ask how the daemon is."""
        reply = await self._call(self._stub.Status(control_pb2.StatusRequest(), timeout=deadline_s))
        return cast(Status, to_dict(reply))

    async def reload(self, deadline_s: float = RELOAD_DEADLINE_S) -> ReloadResult:
        """Make the daemon read its configuration and registry again."""
        reply = await self._call(self._stub.Reload(control_pb2.ReloadRequest(), timeout=deadline_s))
        return ReloadResult(reply.reloaded, tuple(reply.changes), tuple(reply.needs_restart), tuple(reply.problems))

    async def updates(self, silence_s: float = SILENCE_S) -> AsyncGenerator[Update, None]:
        """Yield an update a second, without end.

        Raises
        ------
        ControlError
            If the connection breaks, or nothing came for ``silence_s`` seconds.
        """
        while True:
            stream = self._stub.Watch(control_pb2.WatchRequest(), timeout=WATCH_DEADLINE_S)
            try:
                while True:
                    async with asyncio.timeout(silence_s):
                        message = await stream.read()
                    if message is grpc.aio.EOF:
                        raise ControlError(f"the daemon at {self.path} is stopping")
                    yield cast(Update, to_dict(message))
            except TimeoutError:
                raise ControlError(f"the daemon at {self.path} sent no update for {silence_s:g} s") from None
            except grpc.aio.AioRpcError as error:
                # The deadline of a long watch is no failure: it only makes sure that both ends are alive.
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    self._fail(error)
            finally:
                stream.cancel()

    async def _call(self, call: Any) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            self._fail(error)

    def _fail(self, error: Any) -> NoReturn:
        code, detail = error.code(), error.details()
        if code is grpc.StatusCode.UNAVAILABLE:
            raise ControlError(
                f"the daemon at {self.path} closed the connection: it is stopping, or this user is neither root, "
                f"nor the daemon's user, nor in the group of the socket ({_group(self.path)})"
            ) from error
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise ControlError(f"the daemon at {self.path} did not answer in time: {detail}") from error
        raise ControlError(f"the daemon at {self.path} refused: {detail}") from error

    def _probe(self) -> None:
        """Fail with what the system says, which gRPC would wrap up beyond recognition."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(STATUS_DEADLINE_S)
            try:
                probe.connect(os.fspath(self.path))
            except (FileNotFoundError, ConnectionRefusedError):
                raise NoDaemonError(
                    f"no daemon listens at {self.path} - is it running (systemctl status telemetryd)? "
                    "Name another socket with --socket or TELEMETRYD_CONTROL"
                ) from None
            except PermissionError:
                raise ControlError(
                    f"{self.path}: permission denied - be root or in the group {_group(self.path)}"
                ) from None
            except OSError as error:
                raise ControlError(f"{self.path}: {error.strerror or error}") from None


def _group(path: Path) -> str:
    try:
        return path.group()
    except (OSError, KeyError):
        return "unknown"
