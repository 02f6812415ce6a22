"""Traffic control over rtnetlink, in messages of our own (rtnetlink(7), linux/pkt_sched.h).

    nlmsghdr  length u32, type u16, flags u16, sequence u32, port u32
    tcmsg     family u8, 3 octets, ifindex s32, handle u32, parent u32, info u32
    rtattr    length u16, type u16, value, filled up to 4 octets

An HTB class is changed in some microseconds so: with the link layer named the kernel wants no table of rates, and
several messages go with one call, each with its acknowledgement. Reading back unpacks what is needed and nothing else.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from telemetryd.agent.qos.objects import DEFAULT, PORT, Fifo, HtbClass, Key, Object, Root
from telemetryd.errors import TelemetrydError

#: The handle of our HTB: 1:0.
HANDLE: Final = PORT << 16
#: What tells our HTB from others: nobody would ask for this divisor, and all our classes name their quantum.
OUR_R2Q: Final = 0x7464
TC_H_ROOT: Final = 0xFFFFFFFF

_NEWQDISC, _DELQDISC, _GETQDISC, _NEWTCLASS, _DELTCLASS, _GETTCLASS = 36, 37, 38, 40, 41, 42
_REQUEST, _ACK, _DUMP, _REPLACE, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400
_DUMP_INTR: Final = 0x10
_ERROR, _DONE = 2, 3
_KIND, _OPTIONS, _STATS2 = 1, 2, 7
_BASIC, _QUEUE, _APP, _PKT64 = 1, 3, 4, 8
_HTB_PARMS, _HTB_INIT, _HTB_RATE64, _HTB_CEIL64 = 1, 2, 6, 7
_ETHERNET: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
_TCMSG: Final = struct.Struct("=Bxxxi3I")
_ATTRIBUTE: Final = struct.Struct("=HH")
#: tc_ratespec (cell_log, linklayer, overhead, cell_align, mpu, rate) twice, buffer, cbuffer, quantum, level, prio.
_HTB_OPT: Final = struct.Struct("=BBHhHIBBHhHI5I")
_HTB_GLOB: Final = struct.Struct("=5I")
_XSTATS: Final = struct.Struct("=IIIii")
_U32_MAX: Final = 0xFFFFFFFF
#: Messages of a call: their acknowledgements have room in the socket.
_BATCH: Final = 96
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
#: A dump that changes while it is read is read again.
_TRIES: Final = 5


class NetlinkRefusedError(TelemetrydError):
    """The kernel did not do what a message asked for.

    Attributes
    ----------
    code:
        errno.
    index:
        Position of the first such message.
    """

    def __init__(self, code: int, index: int, message: str) -> None:
        self.code, self.index = code, index
        super().__init__(message or os.strerror(code))


class Statistics(NamedTuple):
    """Counters of a class since it was made; octets as the kernel counts them, without FCS.

    Attributes
    ----------
    lends, borrows:
        Packets that went within its own rate, and with what others left.
    """

    octets: int = 0
    packets: int = 0
    drops: int = 0
    backlog: int = 0
    lends: int = 0
    borrows: int = 0


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A qdisc as the kernel has it; `object` is what it is to us, None for what is not ours."""

    index: int
    kind: str
    handle: int
    parent: int
    object: Object | None


class TcSocket:
    """A socket of the namespace that it is made in; a context manager that closes it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages, in order, and wait until each is done.

        Raises
        ------
        NetlinkRefusedError
            At the first that was not. Those behind it in the same call were tried nevertheless.
        """
        for start in range(0, len(messages), _BATCH):
            part = messages[start : start + _BATCH]
            first = self._sequence + 1
            self._sequence += len(part)
            self._socket.send(b"".join(_numbered(one, first + i) for i, one in enumerate(part)))
            failed: NetlinkRefusedError | None = None
            left = len(part)
            while left:
                data = self._socket.recv(1 << 16)
                for kind, flags, sequence, at, end in _messages(data):
                    if kind != _ERROR or sequence < first:
                        continue
                    left -= 1
                    code = -int.from_bytes(data[at : at + 4], "little", signed=True)
                    if code and failed is None:
                        text = _said(data, at, end, flags)
                        failed = NetlinkRefusedError(code, start + sequence - first, text)
            if failed is not None:
                raise failed

    def qdiscs(self) -> list[Qdisc]:
        """Return all qdiscs of the namespace that have a handle or are roots.

        Raises
        ------
        TelemetrydError
            If they change all the time.
        """
        return [_qdisc(data, at, end) for data, at, end in self._dump(_GETQDISC, 0)]

    def classes(self, index: int, device: str) -> dict[Key, tuple[HtbClass, Statistics]]:
        """Return the HTB classes of a device with their counters.

        Raises
        ------
        TelemetrydError
            If they change all the time.
        """
        found: dict[Key, tuple[HtbClass, Statistics]] = {}
        for data, at, end in self._dump(_GETTCLASS, index):
            own = _class(data, at, end)
            if own is not None:
                number, one, counted = own
                found[Key(device, "class", number)] = one, counted
        return found

    def _dump(self, kind: int, index: int) -> list[tuple[bytes, int, int]]:
        for _ in range(_TRIES):
            self._sequence += 1
            body = _TCMSG.pack(0, index, 0, 0, 0)
            length = _HEADER.size + len(body)
            self._socket.send(_HEADER.pack(length, kind, _REQUEST | _DUMP, self._sequence, 0) + body)
            found, is_whole = self._collect()
            if is_whole:
                return found
        raise TelemetrydError("cannot read the queues of the kernel: they change all the time")

    def _collect(self) -> tuple[list[tuple[bytes, int, int]], bool]:
        found: list[tuple[bytes, int, int]] = []
        is_whole = True
        while True:
            data = self._socket.recv(1 << 18)
            for kind, flags, sequence, at, end in _messages(data):
                if sequence != self._sequence:
                    continue
                is_whole = is_whole and not flags & _DUMP_INTR
                if kind == _DONE:
                    return found, is_whole
                if kind == _ERROR:
                    code = -int.from_bytes(data[at : at + 4], "little", signed=True)
                    if code == errno.ENODEV:
                        return [], True
                    raise NetlinkRefusedError(code, 0, _said(data, at, end, flags))
                found.append((data, at, end))


# --- writing ---------------------------------------------------------------------------------------------


def set_root(index: int) -> bytes:
    """Return the message that makes our HTB the root of a device."""
    glob = _HTB_GLOB.pack(3, OUR_R2Q, DEFAULT, 0, 0)
    options = _attribute(_OPTIONS, _attribute(_HTB_INIT, glob))
    return _message(_NEWQDISC, _CREATE | _REPLACE, index, HANDLE, TC_H_ROOT, _attribute(_KIND, b"htb\0") + options)


def delete_root(index: int) -> bytes:
    """Return the message that takes our HTB away, with all in it."""
    return _message(_DELQDISC, 0, index, HANDLE, TC_H_ROOT, b"")


def set_class(index: int, number: int, one: HtbClass, *, is_new: bool) -> bytes:
    """Return the message that makes a class, or changes it in place."""
    rate, ceil = one.rate_bps // 8, one.ceil_bps // 8
    parms = _HTB_OPT.pack(
        *(0, _ETHERNET, one.overhead, 0, 0, min(rate, _U32_MAX)),
        *(0, _ETHERNET, one.overhead, 0, 0, min(ceil, _U32_MAX)),
        *(one.buffer, one.cbuffer, one.quantum or _INNER_QUANTUM, 0, one.priority),
    )
    options = _attribute(_HTB_PARMS, parms)
    if rate > _U32_MAX:
        options += _attribute(_HTB_RATE64, struct.pack("=Q", rate))
    if ceil > _U32_MAX:
        options += _attribute(_HTB_CEIL64, struct.pack("=Q", ceil))
    flags = _CREATE | _EXCL if is_new else 0
    body = _attribute(_KIND, b"htb\0") + _attribute(_OPTIONS, options)
    return _message(_NEWTCLASS, flags, index, HANDLE | number, HANDLE | one.parent, body)


#: Of a class that has others below it; the kernel wants one, and does not use it.
_INNER_QUANTUM: Final = 1514


def delete_class(index: int, number: int) -> bytes:
    """Return the message that takes a class away."""
    return _message(_DELTCLASS, 0, index, HANDLE | number, 0, b"")


def set_fifo(index: int, number: int, one: Fifo) -> bytes:
    """Return the message that gives a leaf its buffer, or changes the buffer's limit in place."""
    body = _attribute(_KIND, b"bfifo\0") + _attribute(_OPTIONS, struct.pack("=I", one.limit))
    return _message(_NEWQDISC, _CREATE | _REPLACE, index, number << 16, HANDLE | number, body)


def delete_fifo(index: int, number: int) -> bytes:
    """Return the message that gives a leaf the kernel's own buffer again."""
    return _message(_DELQDISC, 0, index, number << 16, HANDLE | number, b"")


def _message(kind: int, flags: int, index: int, handle: int, parent: int, body: bytes) -> bytes:
    length = _HEADER.size + _TCMSG.size + len(body)
    header = _HEADER.pack(length, kind, _REQUEST | _ACK | flags, 0, 0)
    return header + _TCMSG.pack(0, index, handle, parent, 0) + body


def _numbered(message: bytes, sequence: int) -> bytes:
    return message[:8] + sequence.to_bytes(4, "little") + message[12:]


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


# --- reading ---------------------------------------------------------------------------------------------


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield kind, flags, sequence, and where the body begins and ends."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= len(data) - at:
            raise TelemetrydError(
                f"the kernel sent a netlink message of {length} octets where {len(data) - at} are left"
            )
        yield kind, flags, sequence, at + _HEADER.size, at + length
        at += (length + 3) & ~3


def _attributes(data: bytes, at: int, end: int) -> dict[int, tuple[int, int]]:
    """Return the attributes: kind -> where the value begins and ends."""
    found: dict[int, tuple[int, int]] = {}
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not 4 <= length <= end - at:
            break
        found[kind & 0x3FFF] = at + 4, at + length
        at += (length + 3) & ~3
    return found


def _said(data: bytes, at: int, end: int, flags: int) -> str:
    """Return what the kernel says about an error, if it does: NLMSGERR_ATTR_MSG behind the capped header."""
    code = -int.from_bytes(data[at : at + 4], "little", signed=True)
    text = os.strerror(code) if code else ""
    if flags & 0x200:
        start = at + 4 + _HEADER.size
        if not flags & 0x100:
            start = at + 4 + int.from_bytes(data[at + 4 : at + 8], "little")
        found = _attributes(data, start, end).get(1)
        if found is not None:
            text += f": {data[found[0] : found[1]].rstrip(bytes(1)).decode(errors='replace')}"
    return text


def _qdisc(data: bytes, at: int, end: int) -> Qdisc:
    _, index, handle, parent, _ = _TCMSG.unpack_from(data, at)
    found = _attributes(data, at + _TCMSG.size, end)
    kind = data[slice(*found[_KIND])].rstrip(b"\0").decode() if _KIND in found else ""
    return Qdisc(index, kind, handle, parent, _qdisc_object(data, kind, handle, parent, found.get(_OPTIONS)))


def _qdisc_object(data: bytes, kind: str, handle: int, parent: int, options: tuple[int, int] | None) -> Object | None:
    if options is None:
        return None
    if kind == "htb" and handle == HANDLE and parent == TC_H_ROOT:
        init = _attributes(data, *options).get(_HTB_INIT)
        if init is not None:
            _, r2q, default, _, _ = _HTB_GLOB.unpack_from(data, init[0])
            if r2q == OUR_R2Q:
                return Root(default)
    if kind == "bfifo" and parent >> 16 == PORT and handle == (parent & 0xFFFF) << 16:
        return Fifo(int.from_bytes(data[options[0] : options[0] + 4], "little"))
    return None


def _class(data: bytes, at: int, end: int) -> tuple[int, HtbClass, Statistics] | None:
    _, _, handle, parent, _ = _TCMSG.unpack_from(data, at)
    found = _attributes(data, at + _TCMSG.size, end)
    if handle >> 16 != PORT or _OPTIONS not in found:
        return None
    options = _attributes(data, *found[_OPTIONS])
    if _HTB_PARMS not in options:
        return None
    values = _HTB_OPT.unpack_from(data, options[_HTB_PARMS][0])
    overhead, rate, ceil = values[2], values[5], values[11]
    buffer, cbuffer, quantum, level, priority = values[12:]
    if _HTB_RATE64 in options:
        rate = int.from_bytes(data[slice(*options[_HTB_RATE64])], "little")
    if _HTB_CEIL64 in options:
        ceil = int.from_bytes(data[slice(*options[_HTB_CEIL64])], "little")
    one = HtbClass(
        parent=0 if parent == TC_H_ROOT else parent & 0xFFFF,
        rate_bps=rate * 8,
        ceil_bps=ceil * 8,
        buffer=buffer,
        cbuffer=cbuffer,
        quantum=0 if level else quantum,
        priority=0 if level else priority,
        overhead=overhead,
    )
    return handle & 0xFFFF, one, _statistics(data, found.get(_STATS2))


def _statistics(data: bytes, span: tuple[int, int] | None) -> Statistics:
    if span is None:
        return Statistics()
    found = _attributes(data, *span)
    octets = packets = drops = backlog = lends = borrows = 0
    if _BASIC in found:
        octets, packets = struct.unpack_from("=QI", data, found[_BASIC][0])
    if _PKT64 in found:
        packets = int.from_bytes(data[slice(*found[_PKT64])], "little")
    if _QUEUE in found:
        _, backlog, drops, _, _ = struct.unpack_from("=5I", data, found[_QUEUE][0])
    if _APP in found and found[_APP][1] - found[_APP][0] >= _XSTATS.size:
        lends, borrows, *_ = _XSTATS.unpack_from(data, found[_APP][0])
    return Statistics(octets, packets, drops, backlog, lends, borrows)


def index_of(name: str) -> int:
    """Return the index of an interface of this namespace; 0 where there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def names_of(indices: Iterable[int]) -> dict[int, str]:
    """Return the names of interfaces by their indices; those that are gone are left out."""
    found = {}
    for index in set(indices):
        try:
            found[index] = socket.if_indextoname(index)
        except OSError:
            continue
    return found
