"""The gate in front of the control service: who may connect is decided by the kernel's word on who it is.

gRPC tells a handler nothing about the process at the other end of a Unix socket. So gRPC listens in a directory
that only the daemon's user can enter, and this gate listens where everybody may try: it accepts, asks the kernel
for the peer's user and groups (SO_PEERCRED and SO_PEERGROUPS, unix(7) and socket(7): those of the moment of
connect(2), nothing the peer says), and either passes the octets on or closes the connection.

Three locks in a row: the mode 0660 and the group of the socket file, this check, and the inner directory's 0700.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

from telemetryd.errors import InputError, TelemetrydError
from telemetryd.observe.log import Log

SOCKET_MODE: Final = 0o660
CONNECTIONS: Final = 32
CHUNK_OCTETS: Final = 65_536
PATH_OCTETS: Final = 107  # sun_path of unix(7), less the final NUL
RETRY_S: Final = 1.0
_GATE: Final = "gate"
_SERVICE: Final = "grpc"
_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; the socket module has no name for it
_MOST_GROUPS: Final = 256  # of 4 octets: as much as socket.getsockopt returns

log = Log("control")


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as the kernel knew it then."""

    pid: int
    uid: int
    groups: frozenset[int]

    def user(self) -> str:
        """Return the user's name, or the number where it has none; may take its time where names come from afar."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


class Gate:
    """Pass connections on from a public socket to a private one, those of trusted users only.

    Use as a context manager: the sockets exist inside it.

    Parameters
    ----------
    path:
        The public socket.
    gid:
        Group of the public socket: its members are let in, besides root and the daemon's own user. Default:
        the group of the process.
    """

    def __init__(self, path: Path, gid: int | None = None) -> None:
        self.path = path
        self.gid = os.getegid() if gid is None else gid
        self.accepted = 0
        self.refused = 0
        self._directory = path.with_name(path.name + ".d")
        self._open = 0
        self._peers: dict[str, Peer] = {}  # where the service sees them connect from -> who they are
        self._listener: socket.socket | None = None
        self._inode = 0

    @property
    def inner(self) -> Path:
        """The private socket, where the service has to listen."""
        return self._directory / _SERVICE

    def __enter__(self) -> Gate:
        """Make the sockets; the public one appears with its mode and group, never without.

        Raises
        ------
        InputError
            If the path cannot be used.
        TelemetrydError
            If another process listens there.
        """
        outer = self._directory / _GATE
        if len(os.fsencode(outer.absolute())) > PATH_OCTETS:
            raise InputError(f"{self.path}: too long for a Unix socket: {PATH_OCTETS - 7} octets at most")
        self._check_free()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._clear()
            self._directory.mkdir(mode=0o700)
            listener.bind(os.fspath(outer))
            os.chown(outer, -1, self.gid)
            outer.chmod(SOCKET_MODE)
            listener.listen(CONNECTIONS)
            self._inode = outer.stat().st_ino
            outer.replace(self.path)
        except OSError as error:
            listener.close()
            raise InputError(
                f"{self.path}: no control socket can be made there: {error.filename or self.path}: {error.strerror} - "
                "its directory must exist and be writable for the daemon's user (systemd makes it by "
                f"RuntimeDirectory=), and {self._directory.name} in it must be free"
            ) from error
        self._listener = listener
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close and remove the sockets; a successor's socket of the same name stays."""
        if self._listener is not None:
            self._listener.close()
        if self.path.exists() and self.path.stat().st_ino == self._inode:
            self.path.unlink()
        self._clear()

    def _clear(self) -> None:
        """Remove the inner directory if nothing but our sockets is in it: by its name it may be anybody's."""
        with suppress(OSError):
            for name in (_GATE, _SERVICE):
                if (self._directory / name).is_socket():
                    (self._directory / name).unlink()
            self._directory.rmdir()

    def _check_free(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_socket():
            raise InputError(f"{self.path}: is not a socket - remove it, or name another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(os.fspath(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return  # left behind by a daemon that was killed
            except OSError as error:
                raise TelemetrydError(f"{self.path}: {error.strerror}: another process holds it") from error
            pid = peer_of(probe).pid
        raise TelemetrydError(f"{self.path}: process {pid} listens there: is another telemetryd running?")

    async def run(self) -> None:
        """Accept connections until cancelled."""
        assert self._listener is not None
        async with asyncio.TaskGroup() as connections:
            while True:
                try:
                    connection = await _accept(self._listener)
                except OSError as error:
                    # Out of descriptors, most likely: a state that passes, not the end of the daemon.
                    log.warning("connections cannot be accepted", reason=error.strerror)
                    await asyncio.sleep(RETRY_S)
                    continue
                peer = peer_of(connection)
                if self._open >= CONNECTIONS or not self.trusts(peer):
                    self.refused += 1
                    log.warning("connection refused", pid=peer.pid, uid=peer.uid)
                    connection.close()
                    continue
                self.accepted += 1
                self._open += 1
                log.debug("connection accepted", pid=peer.pid, uid=peer.uid)
                task = connections.create_task(self._carry(connection, peer, self.accepted), name=f"control-{peer.pid}")
                task.add_done_callback(partial(_close, connection))  # it may be cancelled before it starts

    def peer_at(self, address: str) -> Peer | None:
        """Return who is behind a connection of the service, by the address that gRPC gives it (`unix:PATH`)."""
        return self._peers.get(address.removeprefix("unix:"))

    def trusts(self, peer: Peer) -> bool:
        """Say whether a process may use the control service."""
        return peer.uid in (0, os.geteuid()) or self.gid in peer.groups

    async def _carry(self, outer: socket.socket, peer: Peer, number: int) -> None:
        loop = asyncio.get_running_loop()
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        # The only thing that the service learns of a connection is the address of its other end: a name of its own
        # tells who is behind it. The file is not needed once they are connected.
        name = (self._directory / f"{number % 0x10000:04x}").absolute()
        try:
            outer.setblocking(False)
            inner.bind(os.fspath(name))
            self._peers[os.fspath(name)] = peer
            try:
                await loop.sock_connect(inner, os.fspath(self.inner))
            finally:
                name.unlink()
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(outer, inner))
                both.create_task(_copy(inner, outer))
        except* OSError as errors:
            # A client that goes away in the middle is nothing to worry an operator with.
            log.debug("connection broken", reason=str(errors.exceptions[0]))
        finally:
            self._open -= 1
            self._peers.pop(os.fspath(name), None)
            outer.close()
            inner.close()


def _close(connection: socket.socket, _: object) -> None:
    connection.close()


async def _accept(listener: socket.socket) -> socket.socket:
    """Wait for a connection. It is not lost when this is cancelled meanwhile, as one of loop.sock_accept may be."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return listener.accept()[0]
        except BlockingIOError:
            readable = asyncio.Event()
            loop.add_reader(listener, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(listener)


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while octets := await loop.sock_recv(source, CHUNK_OCTETS):
        await loop.sock_sendall(sink, octets)
    sink.shutdown(socket.SHUT_WR)


def peer_of(connection: socket.socket) -> Peer:
    """Return who is at the other end of a connected Unix socket."""
    size = struct.calcsize("iII")
    pid, uid, gid = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    try:
        octets = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MOST_GROUPS)
    except OSError:
        octets = b""  # an old kernel, or a user in more groups than fit: the primary group counts
    return Peer(pid, uid, frozenset((gid, *struct.unpack(f"{len(octets) // 4}I", octets))))
