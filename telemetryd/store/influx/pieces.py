"""Line protocol in pieces: what one request carries, compressed by gzip (RFC 1952) at its fastest level."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Final

from telemetryd.errors import StoreError

#: InfluxData's advice for the size of a batch; about 250 KB compressed, well under every server's limit.
LINES: Final = 5000
LEVEL: Final = 1


def cut(text: bytes, lines: int = LINES) -> Iterator[tuple[int, bytes]]:
    """Yield (number of lines, their octets) for pieces of at most ``lines`` lines; every line ends with LF."""
    start, count = 0, text.count(b"\n")
    while count > lines:
        end = start
        for _ in range(lines):
            end = text.index(b"\n", end) + 1
        yield lines, text[start:end]
        start, count = end, count - lines
    if count:
        yield count, text[start:]


def pack(text: bytes) -> bytes:
    """Compress lines; the same lines make the same octets."""
    return gzip.compress(text, LEVEL, mtime=0)


def unpack(payload: bytes) -> list[bytes]:
    """Return the lines of a piece, each with its LF.

    Raises
    ------
    StoreError
        If it is not what :func:`pack` made.
    """
    try:
        text = gzip.decompress(payload)
    except (OSError, EOFError, zlib.error) as error:
        raise StoreError(f"a piece of the spool is damaged: {error}") from error
    if not text:
        raise StoreError("a piece of the spool is damaged: it is empty")
    return [line + b"\n" for line in text.removesuffix(b"\n").split(b"\n")]
