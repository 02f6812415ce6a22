"""Records of the spool's files: what is written for one entry, and how a file is read after a crash.

    segment = "TDSPOOL" version:u8, record ...
    record  = header payload[length]
    header  = "TDSR" length:u32 sequence:u64 span_ns:i64 end_ns:i64 stamp_ns:i64 points:u32
              payload_crc:u32 header_crc:u32

All numbers are little-endian; the checksums are CRC-32, the header's over what stands before it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from telemetryd.errors import StoreError

MAGIC: Final = b"TDSPOOL"
VERSION: Final = 1
HEAD: Final = MAGIC + bytes([VERSION])

_MARK: Final = b"TDSR"
_BODY: Final = struct.Struct("<4sIQqqqII")
_CRC: Final = struct.Struct("<I")
HEADER_OCTETS: Final = _BODY.size + _CRC.size


@dataclass(frozen=True, slots=True)
class Entry:
    """What one request carries.

    Attributes
    ----------
    payload:
        Lines, compressed (telemetryd.store.influx.pieces).
    points:
        Number of lines.
    span_ns:
        Length of the windows that they are of: the finer, the sooner given up.
    end_ns:
        End of the newest of these windows.
    """

    payload: bytes
    points: int
    span_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of an entry; ``stamp_ns`` is when it was appended, ``offset`` where its payload is."""

    sequence: int
    span_ns: int
    end_ns: int
    stamp_ns: int
    points: int
    length: int
    crc: int
    offset: int


def encode(entry: Entry, sequence: int, stamp_ns: int) -> bytes:
    """Return the record of an entry."""
    crc = zlib.crc32(entry.payload)
    body = _BODY.pack(_MARK, len(entry.payload), sequence, entry.span_ns, entry.end_ns, stamp_ns, entry.points, crc)
    return body + _CRC.pack(zlib.crc32(body)) + entry.payload


def decode(data: memoryview, offset: int) -> Header | None:
    """Return the header at an offset, None if there is no whole record."""
    start = offset + HEADER_OCTETS
    if start > len(data):
        return None
    body = data[offset : offset + _BODY.size]
    if zlib.crc32(body) != _CRC.unpack_from(data, offset + _BODY.size)[0]:
        return None
    mark, length, sequence, span_ns, end_ns, stamp_ns, points, crc = _BODY.unpack(body)
    if mark != _MARK or start + length > len(data):
        return None
    return Header(sequence, span_ns, end_ns, stamp_ns, points, length, crc, start)


def scan(data: memoryview, *, check_payloads: bool) -> Iterator[Header | int]:
    """Yield the headers of a file in their order, and for each damaged stretch its number of octets.

    Behind a stretch that is damaged the next whole record is looked for, so that one bad sector costs what it
    held. A stretch that goes to the end is the torn tail that a crash leaves.

    Parameters
    ----------
    check_payloads:
        Whether a record with a damaged payload counts as damaged.

    Raises
    ------
    StoreError
        If it was written by a newer version of telemetryd.
    """
    if bytes(data[: len(MAGIC)]) == MAGIC and len(data) > len(MAGIC) and data[len(MAGIC)] > VERSION:
        raise StoreError(
            f"it has version {data[len(MAGIC)]} and this telemetryd reads versions up to {VERSION}: "
            "use the telemetryd that wrote it, or a newer one"
        )
    offset = good = len(HEAD) if bytes(data[: len(HEAD)]) == HEAD else 0
    while offset < len(data):
        header = decode(data, offset)
        if header is not None and check_payloads:
            payload = data[header.offset : header.offset + header.length]
            header = header if zlib.crc32(payload) == header.crc else None
        if header is None:
            offset = _find_mark(data, offset + 1)
            continue
        if offset > good:
            yield offset - good
        yield header
        offset = good = header.offset + header.length
    if len(data) > good:
        yield len(data) - good


def _find_mark(data: memoryview, offset: int) -> int:
    """Return where the next record may begin, the length of the data if nowhere."""
    found = bytes(data[offset:]).find(_MARK)
    return len(data) if found < 0 else offset + found
