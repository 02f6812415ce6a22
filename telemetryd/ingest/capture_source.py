"""The octets of a capture file as a window that slides: mapped, or streamed and decompressed.

A window is one uint8 array; ``slide`` moves it forward. A mapped window is never copied and is
unmapped when the next one is, so that the resident memory stays bounded for a file of any size.
A regular file that another process truncates while it is mapped ends this process (SIGBUS), as
with every mapped file; one that grows is read up to the size it had when it was opened.
"""

from __future__ import annotations

import io
import mmap
import os
import stat
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
MAGIC_OCTETS: Final = 4
ZSTD_SKIPPABLE_MAGIC: Final = b"\x2a\x4d\x18"  # after a first octet 0x50..0x5f

MAPPED_WINDOW_OCTETS: Final = 64 * 1024 * 1024
STREAM_BLOCK_OCTETS: Final = 4 * 1024 * 1024
READ_OCTETS: Final = 64 * 1024
# Where a stream is damaged, what the same call had decompressed is lost: so much at a time and no more.
GZIP_PIECE_OCTETS: Final = 64 * 1024
# A zstd block of 4 octets may stand for 128 KiB, and the library has no bound for its output: so few
# octets at a time that a hostile file cannot ask for more than 16 MiB at once.
ZSTD_PIECE_OCTETS: Final = 512


class Source(Protocol):
    """A window over the octets of a capture.

    Attributes
    ----------
    window:
        The octets at hand, uint8 array of shape (octets,).
    base:
        Offset of the window in the capture (in the decompressed octets, where it is compressed).
    size:
        Octets of the file as it lies on disk, 0 where nobody knows (a pipe).
    damage:
        What ended the octets before their time, None while all is well.
    """

    window: NDArray[Any]
    base: int
    size: int
    damage: str | None
    is_compressed: bool

    def slide(self, position: int, needed: int) -> bool:
        """Begin the window at or before `position` (of the present one) and hold `needed` octets from there.

        Returns False where the capture ends before; the window then ends where the capture does.
        """

    def octets_read(self, position: int) -> int:
        """Tell how many octets of the file are consumed, with the scan at `position` of the window."""

    def close(self) -> None:
        """Let go of the window and the file."""


class MappedSource:
    """A regular file, mapped in a window that slides."""

    is_compressed = False

    def __init__(self, file: io.FileIO, window_octets: int = MAPPED_WINDOW_OCTETS) -> None:
        self._file = file
        self._window_octets = window_octets
        self.size = os.fstat(file.fileno()).st_size
        self.base = 0
        self.damage: str | None = None
        self.window: NDArray[Any] = np.zeros(0, dtype=np.uint8)
        self.slide(0, MAGIC_OCTETS)

    def slide(self, position: int, needed: int) -> bool:
        """Map the window anew; see :class:`Source`."""
        position += self.base
        self.base = position - position % mmap.ALLOCATIONGRANULARITY
        wanted = max(self._window_octets, position - self.base + needed)
        length = min(wanted, self.size - self.base)
        if length > 0:
            mapped = mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ, offset=self.base)
            self.window = np.frombuffer(mapped, dtype=np.uint8)
        else:
            self.window = np.zeros(0, dtype=np.uint8)
        return self.base + self.window.size - position >= needed

    def octets_read(self, position: int) -> int:
        """See :class:`Source`."""
        return self.base + position

    def close(self) -> None:
        """Close the file; its pages are unmapped once nobody refers to the window any more."""
        self.window = np.zeros(0, dtype=np.uint8)
        self._file.close()


class StreamSource:
    """A pipe or a compressed file, read in blocks into one buffer that is used again and again.

    Parameters
    ----------
    read:
        Gives the next octets, at most as many as asked for, ``b""`` at the end. Raises
        :class:`StreamDamageError` where the compressed octets are not what they should be.
    """

    def __init__(
        self,
        file: io.FileIO,
        read: Callable[[int], bytes],
        *,
        is_compressed: bool,
        block_octets: int = STREAM_BLOCK_OCTETS,
    ) -> None:
        self._file = file
        self._read = read
        self._block = np.empty(block_octets, dtype=np.uint8)
        self._fill_whole = file.seekable()  # a pipe gives what it has: its datagrams must not wait
        self.is_compressed = is_compressed
        self.size = os.fstat(file.fileno()).st_size
        self.base = 0
        self.damage: str | None = None
        self.window: NDArray[Any] = self._block[:0]
        self.slide(0, MAGIC_OCTETS)

    def slide(self, position: int, needed: int) -> bool:
        """Move what is left to the front and read on behind it; see :class:`Source`."""
        left = self.window[position:]
        block = self._block
        if needed > block.size:
            block = np.empty(max(needed, 2 * block.size), dtype=np.uint8)
        filled = left.size
        block[:filled] = left
        self._block = block
        self.base += position
        while filled < needed or (self._fill_whole and filled < block.size):
            octets = self._next(block.size - filled)
            if not octets:
                break
            block[filled : filled + len(octets)] = np.frombuffer(octets, dtype=np.uint8)
            filled += len(octets)
        self.window = block[:filled]
        return filled >= needed

    def _next(self, most: int) -> bytes:
        if self.damage is not None:
            return b""
        try:
            return self._read(most)
        except StreamDamageError as damage:
            self.damage = str(damage)
            return b""

    def octets_read(self, position: int) -> int:
        """See :class:`Source`."""
        return self._file.tell() if self._file.seekable() else self.base + position

    def close(self) -> None:
        """See :class:`Source`."""
        self.window = self._block = np.zeros(0, dtype=np.uint8)
        self._file.close()


class StreamDamageError(Exception):
    """Compressed octets are not what they should be; the message says what."""


class Pipe:
    """The octets of a file that may not be able to seek, with those that were looked at put back."""

    def __init__(self, file: io.FileIO, head: bytes) -> None:
        self._file = file
        self._head = head

    def read(self, most: int) -> bytes:
        """Give at most `most` octets, ``b""`` at the end."""
        if self._head:
            octets, self._head = self._head[:most], self._head[most:]
            return octets
        return self._file.read(most) or b""


class GzipReader:
    """Decompress gzip (RFC 1952), member after member, zero padding behind the last allowed."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._member = zlib.decompressobj(wbits=31)
        self._input = b""

    def read(self, most: int) -> bytes:
        """Give at most `most` decompressed octets, ``b""`` at the end."""
        while True:
            if self._member.eof:
                self._input = self._member.unused_data.lstrip(b"\0")
                while not self._input:
                    octets = self._pipe.read(READ_OCTETS)
                    if not octets:
                        return b""
                    self._input = octets.lstrip(b"\0")
                self._member = zlib.decompressobj(wbits=31)
            if not self._input:
                self._input = self._pipe.read(READ_OCTETS)
            is_cut = not self._input
            try:
                octets = self._member.decompress(self._input, min(most, GZIP_PIECE_OCTETS))
            except zlib.error as error:
                raise StreamDamageError(f"the gzip file is damaged ({error})") from None
            self._input = self._member.unconsumed_tail
            if octets:
                return octets
            if is_cut:
                raise StreamDamageError("the gzip file ends before its end mark")


class ZstdReader:
    """Decompress Zstandard (RFC 8878), frame after frame."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._frame_has_input = False
        self._input = b""
        self._used = 0
        self._output = b""

    def read(self, most: int) -> bytes:
        """Give at most `most` decompressed octets, ``b""`` at the end."""
        while not self._output:
            if self._frame.eof:
                self._used -= len(self._frame.unused_data)
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._frame_has_input = False
            if self._used == len(self._input):
                self._input = self._pipe.read(READ_OCTETS)
                self._used = 0
                if not self._input:
                    if self._frame_has_input:
                        raise StreamDamageError("the zstd file ends before its end mark")
                    return b""
            piece = self._input[self._used : self._used + ZSTD_PIECE_OCTETS]
            self._used += len(piece)
            self._frame_has_input = True
            try:
                self._output = self._frame.decompress(piece)
            except zstandard.ZstdError as error:
                raise StreamDamageError(f"the zstd file is damaged ({error})") from None
        octets, self._output = self._output[:most], self._output[most:]
        return octets


def open_source(file: io.FileIO, *, window_octets: int | None = None) -> Source:
    """Choose how to read an open file, by its first octets and by whether it can be mapped.

    Parameters
    ----------
    window_octets:
        Octets of the window to map, or of the block to read into; None for the default of each.
    """
    head = b""
    while len(head) < MAGIC_OCTETS:
        octets = file.read(MAGIC_OCTETS - len(head))
        if not octets:
            break
        head += octets
    block = STREAM_BLOCK_OCTETS if window_octets is None else window_octets
    if head.startswith(GZIP_MAGIC):
        return StreamSource(file, GzipReader(Pipe(file, head)).read, is_compressed=True, block_octets=block)
    if head == ZSTD_MAGIC or (head[1:] == ZSTD_SKIPPABLE_MAGIC and head[0] >> 4 == 5):
        return StreamSource(file, ZstdReader(Pipe(file, head)).read, is_compressed=True, block_octets=block)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return MappedSource(file, MAPPED_WINDOW_OCTETS if window_octets is None else window_octets)
    return StreamSource(file, Pipe(file, head).read, is_compressed=False, block_octets=block)
