"""The capture scanner in Python: the specification of ext/capture.pyx, and its twin.

Layouts (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; the byte order is the file's or the section's):

    pcap file:    magic u32, major u16, minor u16, zone u32, accuracy u32, snap length u32, link type u32
    pcap record:  seconds u32, fraction u32, captured u32, original u32 [8 octets more if magic is a1b2cd34]
    pcapng block: type u32, total length u32, body, total length u32
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from numpy.typing import NDArray

from telemetryd.ingest.capture_codes import (
    MOST_BLOCK_OCTETS,
    MOST_DATAGRAM_OCTETS,
    MOST_INTERFACES,
    MOST_RECORD_OCTETS,
    PCAP_MAGICS,
    PCAPNG_MAGIC,
    Damage,
    Skip,
    Status,
)
from telemetryd.ingest.capture_fragments import Partial, Reassembly
from telemetryd.ingest.capture_packet import (
    Datagram,
    Fragment,
    read_ipv6_chain,
    read_link,
)

MAGIC_NANOSECONDS: Final = 0xA1B23C4D
MAGIC_MODIFIED: Final = 0xA1B2CD34
PCAP_HEADER: Final = 24
PCAP_RECORD: Final = 16
PCAP_RECORD_MODIFIED: Final = 24
BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
BLOCK_FRAME: Final = 12
BLOCK_SECTION: Final = 0x0A0D0D0A
BLOCK_INTERFACE: Final = 1
BLOCK_PACKET: Final = 2  # obsolete
BLOCK_SIMPLE_PACKET: Final = 3
BLOCK_ENHANCED_PACKET: Final = 6
OPTION_END: Final = 0
OPTION_IF_TSRESOL: Final = 9
OPTION_IF_TSOFFSET: Final = 14

NS_PER_SECOND: Final = 1_000_000_000
INT64_LEAST: Final = -(2**63)
INT64_GREATEST: Final = 2**63 - 1


@dataclass(slots=True)
class Interface:
    """An interface of a pcapng section; `resolution` and `offset_s` are if_tsresol and if_tsoffset."""

    link_type: int
    snap_length: int
    resolution: int = 6
    offset_s: int = 0

    def time_ns(self, ticks: int) -> int:
        """Nanoseconds since the epoch of a time stamp, kept within int64."""
        exponent = self.resolution & 0x7F
        unit: int = 2**exponent if self.resolution & 0x80 else 10**exponent
        ns = ticks * NS_PER_SECOND // unit + self.offset_s * NS_PER_SECOND
        return min(max(ns, INT64_LEAST), INT64_GREATEST)


class _DamagedError(Exception):
    def __init__(self, damage: Damage) -> None:
        self.damage = damage


class _MoreError(Exception):
    def __init__(self, needed: int) -> None:
        self.needed = needed


class Scanner:
    """Find the UDP datagrams in the octets of one capture, window after window.

    Parameters
    ----------
    port:
        UDP destination port; None for every payload that starts like an sFlow v5 datagram.

    Attributes
    ----------
    position:
        Where in the buffer the last scan stopped; the next one begins there (moved with the window).
    needed:
        Octets from `position` on that the scan wants, where its status is MORE.
    rows:
        Datagrams that the last scan found.
    in_side:
        Whether their offsets count in the side buffer. A reassembled datagram lies in no window: it is
        copied to the side buffer, and so is what comes behind it in the same scan.
    damage:
        :class:`Damage` at `position`, where the status is DAMAGED.
    packets, datagrams, truncated, fragments, reassembled, skipped, first_ts_ns, last_ts_ns:
        Counts so far: see :class:`telemetryd.ingest.capture.CaptureStats`. `skipped` is a list by
        :class:`Skip`.
    """

    def __init__(self, port: int | None) -> None:
        self.position = self.needed = self.rows = 0
        self.in_side = False
        self.damage = int(Damage.NONE)
        self.packets = self.datagrams = self.truncated = self.fragments = self.reassembled = 0
        self.first_ts_ns = self.last_ts_ns = 0
        self.skipped = [0] * len(Skip)
        self._port = port
        self._format = ""
        self._order: Literal["big", "little"] = "little"
        self._ns_per_fraction = 1
        self._link_type = 0
        self._record_header = PCAP_RECORD
        self._most_captured = MOST_RECORD_OCTETS
        self._interfaces: list[Interface] = []
        self._packet_ts_ns = 0
        self._reassembly = Reassembly(self.skipped)
        self._pending: Partial | None = None  # complete, for the next scan to emit

    def scan(
        self,
        buffer: NDArray[Any],
        position: int,
        offsets: NDArray[Any],
        lengths: NDArray[Any],
        ts_ns: NDArray[Any],
        source_hi: NDArray[Any],
        source_lo: NDArray[Any],
        source_version: NDArray[Any],
        side: NDArray[Any],
    ) -> int:
        """Fill rows from `position` of `buffer` on until they are full or the octets end.

        Parameters
        ----------
        buffer:
            uint8 array: the window.
        offsets, lengths, ts_ns, source_hi, source_lo, source_version:
            Arrays of shape (n,), n >= 1, of uint64, uint32, int64, uint64, uint64, uint8: see
            :class:`telemetryd.ingest.capture.DatagramBatch`.
        side:
            uint8 array of at least 65,535 octets for reassembled datagrams.

        Returns
        -------
        int
            A :class:`Status`.
        """
        self._columns = (offsets, lengths, ts_ns, source_hi, source_lo, source_version)
        if len({len(column) for column in self._columns}) != 1 or not len(offsets):
            raise ValueError("the row arrays must have one length of at least 1")
        if len(side) < MOST_DATAGRAM_OCTETS:
            raise ValueError(f"the side buffer must hold {MOST_DATAGRAM_OCTETS} octets")
        if not 0 <= position <= len(buffer):
            raise ValueError("the position lies outside the buffer")
        self._buffer = memoryview(buffer.data)
        self._side = side
        self._side_used = 0
        self.position = position
        self.rows = self.needed = 0
        self.in_side = False
        try:
            if not self._format:
                self._read_file_header()
            if self._pending is not None:
                self.in_side = True
                self._emit_pending(self._pending)
            step = self._step_pcap if self._format == "pcap" else self._step_pcapng
            while not self._must_stop():
                step()
        except _MoreError as more:
            self.needed = more.needed
            return Status.MORE
        except _DamagedError as damaged:
            self.damage = int(damaged.damage)
            return Status.DAMAGED
        finally:
            # The window stays mapped as long as anybody refers to it.
            self._buffer = memoryview(b"")
        return Status.BATCH

    def finish(self) -> None:
        """Count the fragments that still wait, at the end of the capture."""
        self._reassembly.give_up_all()

    def _must_stop(self) -> bool:
        """Tell whether the next datagram might find no room."""
        return (
            self.rows == len(self._columns[0])
            or self._pending is not None
            or (self.in_side and len(self._side) - self._side_used < MOST_DATAGRAM_OCTETS)
        )

    def _u(self, offset: int, octets: int) -> int:
        return int.from_bytes(self._buffer[offset : offset + octets], self._order)

    def _want(self, octets: int) -> None:
        if len(self._buffer) - self.position < octets:
            raise _MoreError(octets)

    # --- pcap ------------------------------------------------------------------------------------------

    def _read_file_header(self) -> None:
        at = self.position
        self._want(4)
        if bytes(self._buffer[at : at + 4]) == PCAPNG_MAGIC:
            self._format = "pcapng"
            return
        self._order = "big" if int.from_bytes(self._buffer[at : at + 4], "big") in PCAP_MAGICS else "little"
        magic = self._u(at, 4)
        if magic not in PCAP_MAGICS:
            raise _DamagedError(Damage.NOT_A_CAPTURE)
        self._want(PCAP_HEADER)
        if self._u(at + 4, 2) != 2:
            raise _DamagedError(Damage.VERSION)
        snap_length = self._u(at + 16, 4)
        if MOST_RECORD_OCTETS < snap_length <= MOST_BLOCK_OCTETS:
            self._most_captured = snap_length
        # the upper half holds the length of the frame check sequence, which lies behind the IP packet
        self._link_type = self._u(at + 20, 4) & 0xFFFF
        self._ns_per_fraction = 1 if magic == MAGIC_NANOSECONDS else 1000
        self._record_header = PCAP_RECORD_MODIFIED if magic == MAGIC_MODIFIED else PCAP_RECORD
        self._format = "pcap"
        self.position += PCAP_HEADER

    def _step_pcap(self) -> None:
        at = self.position
        self._want(self._record_header)
        captured = self._u(at + 8, 4)
        if captured > self._most_captured:
            raise _DamagedError(Damage.RECORD_LENGTH)
        self._want(self._record_header + captured)
        self._packet_ts_ns = self._u(at, 4) * NS_PER_SECOND + self._u(at + 4, 4) * self._ns_per_fraction
        self.position += self._record_header + captured
        self._packet(at + self._record_header, captured, self._link_type)

    # --- pcapng ----------------------------------------------------------------------------------------

    def _step_pcapng(self) -> None:
        at = self.position
        self._want(BLOCK_FRAME)
        if bytes(self._buffer[at : at + 4]) == PCAPNG_MAGIC:
            if int.from_bytes(self._buffer[at + 8 : at + 12], "big") == BYTE_ORDER_MAGIC:
                self._order = "big"
            elif int.from_bytes(self._buffer[at + 8 : at + 12], "little") == BYTE_ORDER_MAGIC:
                self._order = "little"
            else:
                raise _DamagedError(Damage.BYTE_ORDER)
        length = self._u(at + 4, 4)
        if length < BLOCK_FRAME or length % 4 or length > MOST_BLOCK_OCTETS:
            raise _DamagedError(Damage.BLOCK_LENGTH)
        self._want(length)
        if self._u(at + length - 4, 4) != length:
            raise _DamagedError(Damage.BLOCK_TRAILER)
        kind = self._u(at, 4)
        if kind in (BLOCK_ENHANCED_PACKET, BLOCK_PACKET):
            self._packet_block(at, kind, length)
        elif kind == BLOCK_SIMPLE_PACKET:
            self._simple_packet_block(at, length)
        elif kind == BLOCK_INTERFACE:
            self._interface_block(at, length)
        elif kind == BLOCK_SECTION:
            if length < 28:
                raise _DamagedError(Damage.BLOCK_LENGTH)
            if self._u(at + 12, 2) != 1:
                raise _DamagedError(Damage.VERSION)
            self._interfaces.clear()
        self.position = at + length

    def _packet_block(self, at: int, kind: int, length: int) -> None:
        if length < 32:
            raise _DamagedError(Damage.BLOCK_LENGTH)
        number = self._u(at + 8, 4 if kind == BLOCK_ENHANCED_PACKET else 2)
        captured = self._u(at + 20, 4)
        if captured > length - 32:
            raise _DamagedError(Damage.PACKET_LENGTH)
        if number >= len(self._interfaces):
            self.packets += 1
            self.skipped[Skip.UNKNOWN_INTERFACE] += 1
            return
        interface = self._interfaces[number]
        self._packet_ts_ns = interface.time_ns(self._u(at + 12, 4) << 32 | self._u(at + 16, 4))
        self._packet(at + 28, captured, interface.link_type)

    def _simple_packet_block(self, at: int, length: int) -> None:
        """It has neither a captured length nor a time: the least of three bounds, and the packet before."""
        if length < 16:
            raise _DamagedError(Damage.BLOCK_LENGTH)
        if not self._interfaces:
            self.packets += 1
            self.skipped[Skip.UNKNOWN_INTERFACE] += 1
            return
        interface = self._interfaces[0]
        captured = min(self._u(at + 8, 4), interface.snap_length or MOST_BLOCK_OCTETS, length - 16)
        self._packet(at + 12, captured, interface.link_type)

    def _interface_block(self, at: int, length: int) -> None:
        if length < 20:
            raise _DamagedError(Damage.BLOCK_LENGTH)
        if len(self._interfaces) == MOST_INTERFACES:
            raise _DamagedError(Damage.INTERFACES)
        interface = Interface(link_type=self._u(at + 8, 2), snap_length=self._u(at + 12, 4))
        self._interfaces.append(interface)
        end = at + length - 4
        at += 16
        while end - at >= 4:
            code, size = self._u(at, 2), self._u(at + 2, 2)
            at += 4
            if code == OPTION_END or size > end - at:
                break
            if code == OPTION_IF_TSRESOL and size >= 1:
                interface.resolution = self._buffer[at]
            elif code == OPTION_IF_TSOFFSET and size >= 8:
                interface.offset_s = int.from_bytes(self._buffer[at : at + 8], self._order, signed=True)
            at += -(-size // 4) * 4

    # --- packets ---------------------------------------------------------------------------------------

    def _packet(self, start: int, captured: int, link_type: int) -> None:
        end = start + captured
        found = read_link(self._buffer, start, end, link_type, self._port)
        self.packets += 1
        if isinstance(found, Datagram):
            self._emit(found, self._buffer)
        elif isinstance(found, Fragment):
            self._pending = self._reassembly.keep(found, self._buffer, end, self._packet_ts_ns)
            if self._pending is not None:
                self.in_side = self.in_side or self.rows == 0
                if self.in_side:
                    self._emit_pending(self._pending)
        else:
            self.skipped[found] += 1

    def _emit(self, datagram: Datagram, octets: memoryview) -> None:
        offset = datagram.payload
        if self.in_side:
            offset = self._side_used
            self._side_used += datagram.length
            payload = octets[datagram.payload : datagram.payload + datagram.length]
            self._side[offset : self._side_used] = payload
        values = (
            offset,
            datagram.length,
            self._packet_ts_ns,
            datagram.source >> 64,
            datagram.source & 0xFFFF_FFFF_FFFF_FFFF,
            datagram.version,
        )
        for column, value in zip(self._columns, values, strict=True):
            column[self.rows] = value
        self.rows += 1
        self.truncated += datagram.truncated
        if not self.datagrams:
            self.first_ts_ns = self.last_ts_ns = self._packet_ts_ns
        self.first_ts_ns = min(self.first_ts_ns, self._packet_ts_ns)
        self.last_ts_ns = max(self.last_ts_ns, self._packet_ts_ns)
        self.datagrams += 1

    def _emit_pending(self, partial: Partial) -> None:
        """Emit a completed datagram into the side buffer, where `_must_stop` kept room for it."""
        self._pending = None
        octets = partial.octets()
        found = read_ipv6_chain(octets, 0, len(octets), partial.next_header, self._port)
        if isinstance(found, Datagram):
            found.version, found.source = partial.key.version, partial.key.source
            self.fragments += partial.packets
            self.reassembled += 1
            self._emit(found, octets)
        else:
            # a fragment header inside a fragment is not taken apart again
            reason = Skip.BAD_FRAGMENT if isinstance(found, Fragment) else found
            self.skipped[reason] += partial.packets
