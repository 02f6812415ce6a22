"""Write UDP datagrams to a pcap file with nanosecond time stamps, whole batches at a time.

Used by the demo, the traffic generator and tests. A frame is Ethernet II, IPv4 (RFC 791) or IPv6
(RFC 8200), UDP (RFC 768); the 58 or 78 octets in front of each payload are filled as columns of one
array. UDP checksums are left out over IPv4, where 0 means "none", and computed over IPv6, which
demands them.
"""

from __future__ import annotations

import gzip
import ipaddress
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

import numpy as np
import zstandard
from numpy.typing import NDArray

from telemetryd.errors import CaptureError, InputError

LINK_ETHERNET: Final = 1
LINK_RAW: Final = 101

_MAGIC_NANOSECONDS: Final = 0xA1B23C4D
_SNAP_LENGTH: Final = 262_144
_FILE_HEADER: Final = np.dtype(
    [
        *[("magic", "<u4"), ("major", "<u2"), ("minor", "<u2"), ("zone", "<i4")],
        *[("accuracy", "<u4"), ("snap_length", "<u4"), ("link_type", "<u4")],
    ]
)
_RECORD: Final = [("seconds", "<u4"), ("nanoseconds", "<u4"), ("captured", "<u4"), ("original", "<u4")]
_ETHERNET: Final = [("destination_mac", "u1", 6), ("source_mac", "u1", 6), ("ether_type", ">u2")]
_IPV4: Final = [
    *[("version_ihl", "u1"), ("tos", "u1"), ("total_length", ">u2"), ("identification", ">u2")],
    *[("fragment", ">u2"), ("ttl", "u1"), ("protocol", "u1"), ("header_checksum", ">u2")],
    *[("source", ">u4"), ("destination", ">u4")],
]
_IPV6: Final = [
    *[("version_class_flow", ">u4"), ("payload_length", ">u2"), ("next_header", "u1"), ("hop_limit", "u1")],
    *[("source", "u1", 16), ("destination", "u1", 16)],
]
_UDP: Final = [
    *[("source_port", ">u2"), ("destination_port", ">u2"), ("udp_length", ">u2"), ("udp_checksum", ">u2")],
]
_RECORD_OCTETS: Final = 16
_IPV4_OCTETS: Final = 20
_UDP_OCTETS: Final = 8
_MOST_PAYLOAD_OCTETS: Final = 65_535 - _IPV4_OCTETS - _UDP_OCTETS
_ETHER_TYPE_IPV4: Final = 0x0800
_ETHER_TYPE_IPV6: Final = 0x86DD
_TTL: Final = 64
_PROTOCOL_UDP: Final = 17
_NS_PER_SECOND: Final = 1_000_000_000
# So few at a time that the frames stay in the cache between their making and their writing.
_CHUNK_DATAGRAMS: Final = 2048
# Locally administered, so that nobody's hardware is named.
_SOURCE_MAC: Final = (2, 0, 0, 0, 0, 1)
_DESTINATION_MAC: Final = (2, 0, 0, 0, 0, 2)

Address = str | NDArray[Any]
Port = int | NDArray[Any]


class CaptureWriter:
    """Append UDP datagrams to a new capture; ``.gz`` and ``.zst`` compress.

    Parameters
    ----------
    path:
        File to write; one that exists is replaced.
    link_type:
        :data:`LINK_ETHERNET` or :data:`LINK_RAW` (no link header).

    Raises
    ------
    InputError
        If `path` cannot be written.
    """

    def __init__(self, path: str | PathLike[str], link_type: int = LINK_ETHERNET) -> None:
        if link_type not in (LINK_ETHERNET, LINK_RAW):
            raise ValueError(f"link type {link_type} cannot be written")
        self._name = fspath(path)
        self._link_type = link_type
        self._identification = 0
        try:
            self._raw: BinaryIO = Path(path).open("wb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise InputError(f"{self._name}: cannot write the capture: {error.strerror}") from None
        self._file: BinaryIO = self._raw
        if self._name.endswith(".gz"):
            # no file name and no time of day inside: the same datagrams give the same file
            self._file = cast(BinaryIO, gzip.GzipFile("", "wb", 6, self._raw, mtime=0))
        elif self._name.endswith(".zst"):
            self._file = zstandard.ZstdCompressor().stream_writer(self._raw, closefd=False)
        header = np.array((_MAGIC_NANOSECONDS, 2, 4, 0, 0, _SNAP_LENGTH, link_type), dtype=_FILE_HEADER)
        self._put(header.tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(
        self,
        buffer: NDArray[Any],
        offsets: NDArray[Any],
        lengths: NDArray[Any],
        ts_ns: NDArray[Any],
        *,
        source: Address = "192.0.2.1",
        destination: Address = "192.0.2.2",
        source_port: Port = 6343,
        destination_port: Port = 6343,
    ) -> None:
        """Append n datagrams.

        Parameters
        ----------
        buffer:
            uint8 array that holds the payloads.
        offsets, lengths, ts_ns:
            uint64, uint32 and int64 arrays of shape (n,): where each payload lies, its octets (at most
            65,507) and its time, ns since the epoch (1970 to 2106).
        source, destination:
            IPv4 addresses as a text or a uint32 array of shape (n,), or IPv6 addresses as texts.
        source_port, destination_port:
            One number or a uint16 array of shape (n,).

        Raises
        ------
        CaptureError
            If the file cannot be written.
        """
        n = len(offsets)
        if not n:
            return
        if int(np.max(lengths)) > _MOST_PAYLOAD_OCTETS:
            raise ValueError("a payload is longer than a UDP datagram can be")
        if int(np.max(np.add(offsets, lengths, dtype=np.uint64))) > buffer.size:
            raise ValueError("a payload lies outside the buffer")
        seconds, nanoseconds = np.divmod(ts_ns, _NS_PER_SECOND)
        if int(np.min(seconds)) < 0 or int(np.max(seconds)) >= 2**32:
            raise ValueError("a time stamp does not fit into 32 bits of seconds")
        payloads = memoryview(np.ascontiguousarray(buffer).data)
        for first in range(0, n, _CHUNK_DATAGRAMS):
            rows = slice(first, first + _CHUNK_DATAGRAMS)
            self._write_chunk(
                [
                    payloads[start : start + length]
                    for start, length in zip(offsets[rows].tolist(), lengths[rows].tolist(), strict=True)
                ],
                seconds[rows],
                nanoseconds[rows],
                lengths[rows],
                source[rows] if isinstance(source, np.ndarray) else source,
                destination[rows] if isinstance(destination, np.ndarray) else destination,
                source_port[rows] if isinstance(source_port, np.ndarray) else source_port,
                destination_port[rows] if isinstance(destination_port, np.ndarray) else destination_port,
            )

    def _write_chunk(
        self,
        payloads: list[memoryview],
        seconds: NDArray[Any],
        nanoseconds: NDArray[Any],
        lengths: NDArray[Any],
        source: Address,
        destination: Address,
        source_port: Port,
        destination_port: Port,
    ) -> None:
        n = len(payloads)
        is_ipv6 = isinstance(source, str) and ":" in source
        link = _ETHERNET if self._link_type == LINK_ETHERNET else []
        frames = np.zeros(n, dtype=[*_RECORD, *link, *(_IPV6 if is_ipv6 else _IPV4), *_UDP])
        octets = frames.dtype.itemsize
        frames["seconds"] = seconds
        frames["nanoseconds"] = nanoseconds
        frames["captured"] = frames["original"] = lengths + np.uint32(octets - _RECORD_OCTETS)
        frames["source_port"] = source_port
        frames["destination_port"] = destination_port
        frames["udp_length"] = lengths + np.uint32(_UDP_OCTETS)
        if link:
            frames["source_mac"] = _SOURCE_MAC
            frames["destination_mac"] = _DESTINATION_MAC
            frames["ether_type"] = _ETHER_TYPE_IPV6 if is_ipv6 else _ETHER_TYPE_IPV4
        if is_ipv6:
            _fill_ipv6(frames, source, destination, payloads)
        else:
            self._fill_ipv4(frames, source, destination)
        headers = memoryview(frames.tobytes())
        pieces = [headers] * (2 * n)
        pieces[0::2] = [headers[start : start + octets] for start in range(0, n * octets, octets)]
        pieces[1::2] = payloads
        self._put(b"".join(pieces))

    def _fill_ipv4(self, frames: NDArray[Any], source: Address, destination: Address) -> None:
        n = len(frames)
        frames["version_ihl"] = 0x45
        frames["total_length"] = frames["udp_length"] + np.uint16(_IPV4_OCTETS)
        frames["identification"] = np.arange(self._identification, self._identification + n) & 0xFFFF
        self._identification = (self._identification + n) & 0xFFFF
        frames["ttl"] = _TTL
        frames["protocol"] = _PROTOCOL_UDP
        frames["source"] = _ipv4(source)
        frames["destination"] = _ipv4(destination)
        total = np.full(n, 0x4500 + (_TTL << 8 | _PROTOCOL_UDP), dtype=np.uint64)
        total += frames["total_length"]
        total += frames["identification"]
        for name in ("source", "destination"):
            total += (frames[name] >> 16) + (frames[name] & 0xFFFF)
        total = (total >> 16) + (total & 0xFFFF)
        total = (total >> 16) + (total & 0xFFFF)
        frames["header_checksum"] = total ^ 0xFFFF

    def _put(self, octets: bytes) -> None:
        try:
            self._file.write(octets)
        except OSError as error:
            raise CaptureError(f"{self._name}: cannot write the capture: {error.strerror}") from None

    def close(self) -> None:
        """Finish the file.

        Raises
        ------
        CaptureError
            If the rest cannot be written.
        """
        try:
            if self._file is not self._raw:
                self._file.close()
            self._raw.close()
        except OSError as error:
            raise CaptureError(f"{self._name}: cannot write the capture: {error.strerror}") from None


def _ipv4(address: Address) -> NDArray[Any] | int:
    return int(ipaddress.IPv4Address(address)) if isinstance(address, str) else address


def _fill_ipv6(frames: NDArray[Any], source: Address, destination: Address, payloads: list[memoryview]) -> None:
    if not isinstance(source, str) or not isinstance(destination, str):
        raise TypeError("IPv6 addresses are texts, both of them")
    ends = [ipaddress.IPv6Address(address).packed for address in (source, destination)]
    frames["version_class_flow"] = 6 << 28
    frames["payload_length"] = frames["udp_length"]
    frames["next_header"] = _PROTOCOL_UDP
    frames["hop_limit"] = _TTL
    for name, octets in zip(("source", "destination"), ends, strict=True):
        frames[name] = np.frombuffer(octets, dtype=np.uint8)
    # RFC 768: the ones' complement sum of 16-bit words is the value modulo 65535
    fixed = int.from_bytes(b"".join(ends), "big") + _PROTOCOL_UDP
    for row, payload in enumerate(payloads):
        frame = frames[row]
        words = int.from_bytes(bytes(payload) + b"\0" * (len(payload) % 2), "big")
        header = int(frame["source_port"]) + int(frame["destination_port"]) + 2 * int(frame["udp_length"])
        frame["udp_checksum"] = (~((fixed + header + words) % 0xFFFF) & 0xFFFF) or 0xFFFF
