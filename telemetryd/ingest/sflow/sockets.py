"""The UDP sockets that sFlow comes in by: opened here, or handed over by the service manager.

Several sockets share one port (``SO_REUSEPORT``), and a classic BPF program steers by the agent address in the
datagram, so that one agent's datagrams stay in order on one socket. The first socket is bound before it
may be shared: a port that another process holds is refused, whatever that process allows.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from telemetryd.errors import InputError, TelemetrydError

SFLOW_PORT: Final = 6343

_LOG: Final = logging.getLogger("telemetryd.receive")
_SO_RCVBUFFORCE: Final = 33
_SO_ATTACH_REUSEPORT_CBPF: Final = 51
_PROC: Final = Path("/proc")

# Classic BPF (linux/filter.h, bpf_common.h): class | size | mode.
_LOAD_WORD: Final = 0x00 | 0x00 | 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP: Final = 0x05 | 0x00  # BPF_JMP | BPF_JA
_JUMP_EQUAL: Final = 0x05 | 0x10  # BPF_JMP | BPF_JEQ | BPF_K
_MULTIPLY: Final = 0x04 | 0x20  # BPF_ALU | BPF_MUL | BPF_K
_SHIFT_RIGHT: Final = 0x04 | 0x70  # BPF_ALU | BPF_RSH | BPF_K
_MODULO: Final = 0x04 | 0x90  # BPF_ALU | BPF_MOD | BPF_K
_RETURN_A: Final = 0x06 | 0x10  # BPF_RET | BPF_A
_INSTRUCTION: Final = struct.Struct("=HBBI")  # sock_filter: code, jt, jf, k
_PROGRAM: Final = struct.Struct("@HP")  # sock_fprog: len, filter

# Where an sFlow v5 header has the type and the end of the agent's address.
_ADDRESS_TYPE: Final = 4
_TYPE_IPV6: Final = 2
_IPV4_WORD: Final = 8
_IPV6_LAST_WORD: Final = 20
# Knuth's multiplicative hash: addresses that differ by a multiple of the number of sockets spread too.
_GOLDEN: Final = 2654435761
_HIGH_HALF: Final = 16


def open_sockets(address: str, port: int, count: int, receive_buffer: int) -> list[socket.socket]:
    """Open the sockets of one port, sharing its datagrams by agent.

    Parameters
    ----------
    address, port:
        Where to bind; ``"::"`` takes IPv4 as well, port 0 a free one.
    count:
        How many sockets, at least one.
    receive_buffer:
        Octets that may wait in each socket. Without the privilege to go beyond ``net.core.rmem_max`` it may
        get less, which is logged.

    Raises
    ------
    InputError
        If the address is not one of this host, or the port is in use: by whom is said where that can be seen.
    """
    family = socket.AF_INET6 if ip_address(address.partition("%")[0]).version == 6 else socket.AF_INET
    opened: list[socket.socket] = []
    try:
        for index in range(count):
            one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            opened.append(one)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != "::")
            if index:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(one, address, port)
            port = one.getsockname()[1]
            if count > 1 and index == 0:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        prepare(opened, receive_buffer)
    except BaseException:
        for one in opened:
            one.close()
        raise
    return opened


def adopt_sockets(fds: Sequence[int], receive_buffer: int | None = None) -> list[socket.socket]:
    """Take over bound UDP sockets, such as those of the service manager (sd_listen_fds(3)).

    What waits in them is received; their buffers stay as they are unless ``receive_buffer`` is larger.

    Raises
    ------
    InputError
        If a descriptor is no bound UDP socket, or the sockets belong to different ports.
    """
    adopted: list[socket.socket] = []
    try:
        for fd in fds:
            adopted.append(_adopt(fd))
        ports = {one.getsockname()[1] for one in adopted}
        if 0 in ports:
            raise InputError("a socket that was handed over is not bound to a port")
        if len(ports) > 1:
            raise InputError(f"the sockets that were handed over belong to different ports: {sorted(ports)}")
        prepare(adopted, receive_buffer)
    except BaseException:
        for one in adopted:
            one.detach()
        raise
    return adopted


def _adopt(fd: int) -> socket.socket:
    try:
        one = socket.socket(fileno=fd)
    except OSError as error:
        raise InputError(f"descriptor {fd} is no socket: hand over UDP sockets") from error
    if one.type != socket.SOCK_DGRAM or one.family not in (socket.AF_INET, socket.AF_INET6):
        one.detach()
        raise InputError(f"descriptor {fd} is no UDP socket: use ListenDatagram= in the socket unit")
    os.set_inheritable(fd, False)
    return one


def prepare(sockets: Sequence[socket.socket], receive_buffer: int | None) -> None:
    """Set the receive buffers, and steer each agent to one of the sockets."""
    least = 0
    for one in sockets:
        one.setblocking(False)
        if receive_buffer is not None:
            least = _set_receive_buffer(one, receive_buffer)
    if receive_buffer is not None and least < receive_buffer:
        _LOG.warning(
            "the receive buffer is %d octets, not the %d that are configured: raise it with "
            "`sysctl -w net.core.rmem_max=%d`, or give the daemon CAP_NET_ADMIN",
            least,
            receive_buffer,
            receive_buffer,
        )
    if len(sockets) > 1 and all(one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for one in sockets):
        steer(sockets[0], len(sockets))


def steer(one: socket.socket, count: int) -> None:
    """Attach the program that chooses one of ``count`` sockets by the agent's address; ``one`` is any of them.

    A datagram that is too short for an address, or names none, goes to a socket chosen by what stands there.
    """
    instructions = (
        (_LOAD_WORD, 0, 0, _ADDRESS_TYPE),
        (_JUMP_EQUAL, 0, 2, _TYPE_IPV6),
        (_LOAD_WORD, 0, 0, _IPV6_LAST_WORD),
        (_JUMP, 0, 0, 1),
        (_LOAD_WORD, 0, 0, _IPV4_WORD),
        (_MULTIPLY, 0, 0, _GOLDEN),
        (_SHIFT_RIGHT, 0, 0, _HIGH_HALF),
        (_MODULO, 0, 0, count),
        (_RETURN_A, 0, 0, 0),
    )
    program = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*one) for one in instructions))
    head = _PROGRAM.pack(len(instructions), ctypes.addressof(program))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, head)


def holders(port: int) -> list[str]:
    """Name the processes that hold a UDP port, as ``NAME (pid N)``; those of others may be out of sight."""
    inodes = set(_inodes(port))
    found = []
    for process in _PROC.iterdir():
        if not process.name.isdecimal():
            continue
        try:
            links = {_link(descriptor) for descriptor in (process / "fd").iterdir()}
            name = (process / "comm").read_text().strip()
        except OSError:  # it has ended meanwhile, or belongs to someone else
            continue
        if links & {f"socket:[{inode}]" for inode in inodes}:
            found.append(f"{name} (pid {process.name})")
    return sorted(found)


def _inodes(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets bound to a UDP port (proc(5): /proc/net/udp)."""
    for table in ("net/udp", "net/udp6"):
        try:
            lines = (_PROC / table).read_text().splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""


def _bind(one: socket.socket, address: str, port: int) -> None:
    try:
        one.bind((address, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            who = ", ".join(holders(port)) or "a process that this user may not see (look with `ss -lunp` as root)"
            raise InputError(f"UDP port {port} of {address} is held by {who}: stop it, or take another port") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"{address} is no address of this host: see `ip address`") from error
        if error.errno == errno.EACCES:
            raise InputError(f"UDP port {port} needs a privilege: take one above 1023") from error
        raise TelemetrydError(f"cannot bind UDP port {port} of {address}: {error.strerror}") from error


def _set_receive_buffer(one: socket.socket, octets: int) -> int:
    """Give a socket a receive buffer, unless it has a larger one; return what it has.

    The kernel doubles what is asked, for its own structures, and reports the double (socket(7)).
    """
    if _receive_buffer(one) >= octets:
        return _receive_buffer(one)
    try:
        one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, octets)
    except PermissionError:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)
    return _receive_buffer(one)


def _receive_buffer(one: socket.socket) -> int:
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
