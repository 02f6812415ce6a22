"""Build captures octet by octet for tests, and read them in one go.

Nothing here comes from the package's own writer: packets are built by dpkt, file formats by struct.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import dpkt
import numpy as np

from telemetryd.ingest.capture import Capture, CaptureStats, open_capture

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
LITTLE, BIG = "<", ">"

SECOND = 1_000_000_000
START = 1_795_375_727 * SECOND
SOURCE, DESTINATION = "192.0.2.1", "198.51.100.7"
SOURCE6, DESTINATION6 = "2001:db8::1", "2001:db8:ffff::7"
PORT = 6343


@dataclass(frozen=True)
class Row:
    """One datagram as read; `source` as a text."""

    payload: bytes
    ts_ns: int
    source: str


def sflow(number: int = 0, octets: int = 60, agent_type: int = 1) -> bytes:
    """Give the first octets of a believable sFlow v5 datagram, filled up with `number`."""
    agent = {0: b"", 1: bytes(4), 2: bytes(16)}[agent_type]
    head = struct.pack(">II", 5, agent_type) + agent + struct.pack(">IIII", 0, number, 1000, 1)
    return head + bytes([number % 256]) * (octets - len(head))


# --- packets -----------------------------------------------------------------------------------------------


def udp(payload: bytes, port: int = PORT) -> dpkt.udp.UDP:
    """Wrap a payload."""
    return dpkt.udp.UDP(sport=50_000, dport=port, ulen=8 + len(payload), data=payload)


def ipv4(
    data: Any, source: str = SOURCE, destination: str = DESTINATION, total: int | None = None, **fields: Any
) -> bytes:
    """Wrap UDP, or raw octets, in IPv4; `total` puts another total length."""
    packet = dpkt.ip.IP(
        src=ipaddress.IPv4Address(source).packed,
        dst=ipaddress.IPv4Address(destination).packed,
        p=fields.pop("p", 17),
        data=data,
        **fields,
    )
    packet.len = len(packet)
    octets = bytes(packet)
    return octets if total is None else octets[:2] + struct.pack(">H", total) + octets[4:]


def ipv6(data: bytes, next_header: int = 17, source: str = SOURCE6, stated: int | None = None) -> bytes:
    """Wrap octets (extension headers and all) in IPv6."""
    head = struct.pack(">IHBB", 6 << 28, len(data) if stated is None else stated, next_header, 64)
    ends = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(DESTINATION6).packed
    return head + ends + data


def ethernet(data: bytes, kind: int | None = None, tags: Sequence[int] = ()) -> bytes:
    """Wrap an IP packet in Ethernet II with VLAN tags of the given types."""
    if kind is None:
        kind = 0x86DD if data[0] >> 4 == 6 else 0x0800
    stack = b"".join(struct.pack(">HH", tag, 100) for tag in tags)
    return bytes(12) + stack + struct.pack(">H", kind) + data


def frame(payload: bytes, source: str = SOURCE, port: int = PORT) -> bytes:
    """Wrap a payload in UDP, IPv4 and Ethernet."""
    return ethernet(ipv4(udp(payload, port), source))


def fragments4(payload: bytes, octets: int = 24, identification: int = 7, **fields: Any) -> list[bytes]:
    """Cut the UDP datagram of a payload into IPv4 fragments of `octets` each, in Ethernet."""
    whole = bytes(udp(payload))
    parts = []
    for start in range(0, len(whole), octets):
        more = 0x2000 if start + octets < len(whole) else 0
        part = whole[start : start + octets]
        parts.append(ethernet(fragment4(part, start, more=bool(more), identification=identification, **fields)))
    return parts


def fragment4(
    octets: bytes,
    start: int,
    *,
    more: bool,
    identification: int = 7,
    source: str = SOURCE,
    length: int | None = None,
) -> bytes:
    """Build one IPv4 fragment."""
    head = struct.pack(
        ">BBHHHBBH",
        *(0x45, 0, 20 + (len(octets) if length is None else length), identification),
        *((0x2000 if more else 0) | start // 8, 64, 17, 0),
    )
    return head + ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(DESTINATION).packed + octets


def fragments6(payload: bytes, octets: int = 24, before: bytes = b"", first_header: int = 17) -> list[bytes]:
    """Cut a UDP datagram (with `before`, extension headers that belong to the fragmented part) over IPv6."""
    whole = before + bytes(udp(payload))
    parts = []
    for start in range(0, len(whole), octets):
        more = int(start + octets < len(whole))
        head = struct.pack(">BBHI", first_header, 0, start | more, 99)
        parts.append(ethernet(ipv6(head + whole[start : start + octets], 44)))
    return parts


# --- pcap ----------------------------------------------------------------------------------------------------


def pcap(
    frames: Iterable[bytes],
    *,
    order: str = LITTLE,
    magic: int = 0xA1B23C4D,
    link_type: int = 1,
    snap_length: int = 262_144,
    step_ns: int = 1_000_000,
) -> bytes:
    """Build a capture of frames `step_ns` apart, cut to the snap length."""
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap_length, link_type)]
    for number, data in enumerate(frames):
        seconds, ns = divmod(START + number * step_ns, SECOND)
        fraction = ns if magic == 0xA1B23C4D else ns // 1000
        kept = data[:snap_length]
        parts.append(struct.pack(order + "IIII", seconds, fraction, len(kept), len(data)))
        parts.append((struct.pack(order + "IHBB", 1, 0x0800, 0, 0) if magic == 0xA1B2CD34 else b"") + kept)
    return b"".join(parts)


# --- pcapng --------------------------------------------------------------------------------------------------


def block(kind: int, body: bytes, order: str = LITTLE) -> bytes:
    """Frame a block's body, padded to 32 bits."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = LITTLE, version: int = 1) -> bytes:
    """Build a section header block of unknown section length."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, version, 0, -1), order)


def interface(
    order: str = LITTLE,
    link_type: int = 1,
    snap_length: int = 0,
    resolution: int | None = None,
    offset_s: int | None = None,
) -> bytes:
    """Build an interface description block, with a name and a comment before the options that matter."""
    options = struct.pack(order + "HH4s", 2, 4, b"eth0") + struct.pack(order + "HH5s3x", 1, 5, b"hello")
    if resolution is not None:
        options += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset_s is not None:
        options += struct.pack(order + "HHq", 14, 8, offset_s)
    options += struct.pack(order + "HH", 0, 0)
    return block(1, struct.pack(order + "HHI", link_type, 0, snap_length) + options, order)


def enhanced(data: bytes, ticks: int, number: int = 0, order: str = LITTLE, captured: int | None = None) -> bytes:
    """Build an enhanced packet block."""
    length = len(data) if captured is None else captured
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, length, len(data))
    return block(6, head + data, order)


def simple(data: bytes, original: int | None = None, order: str = LITTLE) -> bytes:
    """Build a simple packet block."""
    return block(3, struct.pack(order + "I", len(data) if original is None else original) + data, order)


def obsolete(data: bytes, ticks: int, number: int = 0, order: str = LITTLE) -> bytes:
    """Build a packet block of the kind that the enhanced one replaced."""
    head = struct.pack(order + "HHIIII", number, 3, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(2, head + data, order)


# --- reading -------------------------------------------------------------------------------------------------


def rows_of(capture: Capture) -> list[Row]:
    """Read a capture to its end."""
    rows = []
    for batch in capture:
        for i in range(batch.n):
            number = int(batch.source_hi[i]) << 64 | int(batch.source_lo[i])
            version = int(batch.source_version[i])
            kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
            rows.append(Row(batch.payload(i), int(batch.ts_ns[i]), str(kind(number))))
    return rows


def read_file(path: Path, octets: bytes, **options: Any) -> tuple[list[Row], CaptureStats]:
    """Write octets to a file and read it as a capture."""
    path.write_bytes(octets)
    with open_capture(path, **options) as capture:
        return rows_of(capture), capture.stats


class MemorySource:
    """A window over octets in memory, each window an array of exactly its size: an over-read leaves it."""

    is_compressed = False
    damage: str | None = None

    def __init__(self, octets: bytes, window_octets: int) -> None:
        self._octets = np.frombuffer(octets, dtype=np.uint8)
        self._window_octets = window_octets
        self.size = len(octets)
        self.base = 0
        self.window: Any = self._octets[:window_octets].copy()

    def slide(self, position: int, needed: int) -> bool:
        self.base += position
        self.window = self._octets[self.base : self.base + max(needed, self._window_octets)].copy()
        return bool(self.window.size >= needed)

    def octets_read(self, position: int) -> int:
        return self.base + position

    def close(self) -> None:
        self.window = self._octets[:0]


def read_memory(
    module: ModuleType, octets: bytes, *, port: int | None, window_octets: int, batch_datagrams: int
) -> tuple[list[Row], CaptureStats]:
    """Scan octets with one implementation of the scanner, as far as they go."""
    capture = Capture(
        MemorySource(octets, window_octets),
        module.Scanner(port),
        "memory",
        lenient=True,
        batch_datagrams=batch_datagrams,
        side_octets=66_000,
    )
    return rows_of(capture), capture.stats
