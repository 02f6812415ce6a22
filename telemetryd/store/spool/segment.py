"""One file of the spool: entries of one span in the order of their sequence numbers, and its index in memory."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from telemetryd.errors import StoreError
from telemetryd.store.files import Files
from telemetryd.store.spool.record import HEAD, HEADER_OCTETS, Entry, decode, encode, scan

NAME: Final = re.compile(r"(\d{1,19})-(\d{20})\.seg")


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry without its payload; ``octets`` are those of the payload."""

    sequence: int
    span_ns: int
    end_ns: int
    points: int
    octets: int


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits: ``oldest_ns`` is the end of the oldest windows of it, 0 where nothing waits."""

    entries: int = 0
    points: int = 0
    octets: int = 0
    oldest_ns: int = 0

    def __add__(self, other: Pending) -> Pending:
        oldest_ns = min(filter(None, (self.oldest_ns, other.oldest_ns)), default=0)
        return Pending(self.entries + other.entries, self.points + other.points, self.octets + other.octets, oldest_ns)


class Segment:
    """A file of entries; the index takes 40 octets an entry.

    Attributes
    ----------
    path, span_ns:
        The file, and the span of its entries.
    size:
        Octets up to the end of the last entry.
    first_stamp_ns, last_stamp_ns:
        When the first and the last entry were appended.
    """

    def __init__(self, path: Path, span_ns: int) -> None:
        self.path = path
        self.span_ns = span_ns
        self.size = 0
        self.first_stamp_ns = self.last_stamp_ns = 0
        self._sequences = array("Q")
        self._offsets = array("Q")
        self._lengths = array("Q")
        self._ends = array("q")
        self._points = array("Q")
        self._whole: Pending | None = None  # the sum of all entries, until they change
        self._file: BinaryIO | None = None

    @classmethod
    def create(cls, files: Files, directory: Path, span_ns: int, sequence: int) -> Segment:
        """Make a new file, open for appending; may raise OSError. The caller syncs the directory."""
        segment = cls(directory / f"{span_ns}-{sequence:020d}.seg", span_ns)
        segment._file = files.create(segment.path)
        try:
            files.write(segment._file, HEAD)
        except BaseException:
            segment.close()
            raise
        segment.size = len(HEAD)
        return segment

    @classmethod
    def load(cls, path: Path, *, check_payloads: bool) -> tuple[Segment, int, int]:
        """Read the index of a file; return it, the octets damaged within, and those of a torn tail.

        Raises
        ------
        StoreError
            If it was written by a newer version of telemetryd.
        OSError
            If it cannot be read.
        """
        match = NAME.fullmatch(path.name)
        assert match is not None
        segment = cls(path, int(match[1]))
        damaged = tail = 0
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
                    try:
                        for found in scan(view, check_payloads=check_payloads):
                            damaged += tail
                            tail = found if isinstance(found, int) else 0
                            if not isinstance(found, int):
                                entry = found.sequence, found.offset, found.length, found.end_ns, found.points
                                segment._add(entry, found.stamp_ns)
                    except StoreError as error:
                        raise StoreError(f"{path}: {error}") from None
        segment.size = length - tail
        return segment, damaged, tail

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: int) -> bool:
        return self.place(sequence) is not None

    @property
    def is_open(self) -> bool:
        """Whether entries can be appended."""
        return self._file is not None

    @property
    def last(self) -> int:
        """Sequence number of the last entry."""
        return self._sequences[-1]

    def close(self) -> None:
        """Append nothing more."""
        file, self._file = self._file, None
        if file is not None:
            # What a failed write left in the buffer may fail again; nothing of it was acknowledged.
            with contextlib.suppress(OSError):
                file.close()

    def write(self, files: Files, entries: Sequence[tuple[int, Entry]], stamp_ns: int) -> list[tuple[int, int]]:
        """Append entries with their numbers and bring them to the disk; return (offset, length) of each payload.

        They are in the index only after :meth:`publish`. May raise OSError; then the file has to be
        abandoned, since what it ends with is not known.
        """
        assert self._file is not None
        places = []
        offset = self.size
        for sequence, entry in entries:
            record = encode(entry, sequence, stamp_ns)
            files.write(self._file, record)
            places.append((offset + HEADER_OCTETS, len(entry.payload)))
            offset += len(record)
        files.sync(self._file)
        return places

    def publish(self, entries: Sequence[tuple[int, Entry]], places: Sequence[tuple[int, int]], stamp_ns: int) -> None:
        """Make entries that were written visible."""
        for (sequence, entry), (offset, length) in zip(entries, places, strict=True):
            self._add((sequence, offset, length, entry.end_ns, entry.points), stamp_ns)
            self.size = offset + length

    def abandon(self, files: Files) -> None:
        """Close the file and cut off what was not acknowledged, as far as the disk lets."""
        self.close()
        with contextlib.suppress(OSError):
            if len(self):
                files.truncate(self.path, self.size)
            else:
                files.unlink(self.path)

    def between(self, start: int, stop: int) -> range:
        """Return the places of the entries with numbers in [start, stop)."""
        return range(bisect_left(self._sequences, start), bisect_left(self._sequences, stop))

    def place(self, sequence: int) -> tuple[int, int] | None:
        """Return offset and length of an entry's payload, None if it is not there."""
        place = bisect_left(self._sequences, sequence)
        if place == len(self) or self._sequences[place] != sequence:
            return None
        return self._offsets[place], self._lengths[place]

    def item(self, place: int) -> Waiting:
        """Return the entry at a place, without its payload."""
        return Waiting(
            self._sequences[place], self.span_ns, self._ends[place], self._points[place], self._lengths[place]
        )

    def sum(self, start: int, stop: int) -> Pending:
        """Return what the entries with numbers in [start, stop) are together."""
        places = self.between(start, stop)
        if len(places) == len(self) and self._whole is not None:
            return self._whole
        chosen = slice(places.start, places.stop)
        ends = self._ends[chosen]
        found = Pending(len(places), sum(self._points[chosen]), sum(self._lengths[chosen]), min(ends, default=0))
        if len(places) == len(self):
            self._whole = found
        return found

    def read(self, place: tuple[int, int], sequence: int) -> bytes | None:
        """Return the payload at a place, None if it is damaged; may raise OSError."""
        offset, length = place
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # The header is read again: the checksums are in it.
            record = os.pread(descriptor, HEADER_OCTETS + length, offset - HEADER_OCTETS)
        finally:
            os.close(descriptor)
        header = decode(memoryview(record), 0)
        payload = record[HEADER_OCTETS:]
        if header is None or header.sequence != sequence or zlib.crc32(payload) != header.crc:
            return None
        return payload

    def _add(self, entry: tuple[int, int, int, int, int], stamp_ns: int) -> None:
        columns = (self._sequences, self._offsets, self._lengths, self._ends, self._points)
        for column, value in zip(columns, entry, strict=True):
            column.append(value)
        self._whole = None
        self.first_stamp_ns = self.first_stamp_ns or stamp_ns
        self.last_stamp_ns = max(self.last_stamp_ns, stamp_ns)
