"""Build sFlow datagrams by hand, octet by octet, independently of the code under test."""

import socket
import struct
from typing import Any

from telemetryd.ingest.sflow.decode import decode_datagram

HEADER_OCTETS = 28  # of a datagram with an IPv4 agent
SAMPLE_FIXED = {"flow": 32, "counter": 12}  # fixed part with the record count


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def xdr(content: bytes) -> bytes:
    """opaque<>: count, content, padding that is not zero."""
    return words(len(content)) + content + b"\xee" * (-len(content) % 4)


def datagram(samples: list[tuple[int, bytes]]) -> bytes:
    head = words(5, 1) + socket.inet_aton("192.0.2.1") + words(7, 8, 9, len(samples))
    return head + b"".join(words(tag, len(body)) + body for tag, body in samples)


def sample_of(space: str, records: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    """One compact flow sample or counters sample around records."""
    body = b"".join(words(tag, len(record)) + record for tag, record in records)
    if space == "flow":
        return 1, words(11, 2 << 24 | 12, 256, 1000, 3, 4, 5, len(records)) + body
    return 2, words(11, 2 << 24 | 12, len(records)) + body


def record_of(space: str, tag: int, body: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Decode one record in a datagram; return it with the errors."""
    decoded = decode_datagram(datagram([sample_of(space, [(tag, body)])]))
    ((record,),) = ([*sample["records"]] for sample in decoded["samples"])
    return record, decoded["errors"]
