"""One output's view of the spool: what waits for it, and what it has done."""

from __future__ import annotations

import errno
import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from telemetryd.errors import StoreError
from telemetryd.store.files import Files
from telemetryd.store.spool import cursor
from telemetryd.store.spool.cursor import Done
from telemetryd.store.spool.lanes import Lanes
from telemetryd.store.spool.segment import Pending, Segment, Waiting

#: A file that somebody removed, or a sector that cannot be read: waiting does not bring it back.
_GONE: Final = frozenset({errno.ENOENT, errno.EIO})


class SpoolReader:
    """Used by one sender; made by :meth:`telemetryd.store.spool.Spool.open`.

    Attributes
    ----------
    name:
        Of the output.
    spans:
        Spans of the entries that it takes, in ns.
    cursor_failure:
        Why the cursor could not be written the last time, None if it was.
    """

    def __init__(
        self,
        name: str,
        done: Done,
        lanes: Lanes,
        files: Files,
        directory: Path,
        release: Callable[[Sequence[Segment]], object],
    ) -> None:
        self.name = name
        self.spans: frozenset[int] = frozenset()
        self.cursor_failure: str | None = None
        self._done = done
        self._lanes = lanes
        self._files = files
        self._directory = directory
        self._release = release

    def pending(self) -> Pending:
        """Return what waits, without touching the disk."""
        with self._lanes.lock:
            return sum((self.pending_in(segment) for segment in self._lanes.segments(self.spans)), Pending())

    def peek(self, limit: int, *, newest: bool = False) -> list[Waiting]:
        """Return up to ``limit`` entries that wait, from the oldest on or from the newest back, without their payloads.

        It does not touch the disk.
        """
        with self._lanes.lock:
            gaps = list(self._done.gaps())
            entries = (one for gap in (reversed(gaps) if newest else gaps) for one in self._entries(gap, newest))
            return list(islice(entries, limit))

    def read(self, waiting: Waiting) -> bytes | None:
        """Read the payload of an entry; None where it was given up, or is damaged and is now counted as lost.

        Raises
        ------
        StoreError
            If the disk cannot be read now.
        """
        with self._lanes.lock:
            segment = self._lanes.find(waiting.span_ns, waiting.sequence)
            place = segment.place(waiting.sequence) if segment is not None else None
        if segment is None or place is None:
            return None
        try:
            payload = segment.read(place, waiting.sequence)
        except OSError as error:
            if error.errno not in _GONE:
                raise StoreError(f"cannot read {segment.path}: {error.strerror}") from error
            payload = None
        if payload is None:
            with self._lanes.lock:
                self._lanes.lost[self.name, waiting.span_ns, "damage"] += waiting.points
                self._done.add(waiting.sequence, waiting.sequence + 1)
        return payload

    def acknowledge(self, sequences: Sequence[int]) -> None:
        """Mark entries as done. Where the cursor cannot be written, :attr:`cursor_failure` says why.

        They are done in any case; should the process end before the cursor can be written, they are sent once more.
        """
        with self._lanes.lock:
            for sequence in sequences:
                self._done.add(sequence, sequence + 1)
            self._close_gaps()
            touched = [
                segment
                for segment in self._lanes.segments(self.spans)
                if any(sequence in segment for sequence in sequences)
            ]
        self._release(touched)
        try:
            self.save()
        except OSError as error:
            self.cursor_failure = f"cannot write the cursor {self._directory}/{self.name}: {error.strerror}"
        else:
            self.cursor_failure = None

    # --- what the spool asks, under the lock of the lanes --------------------------------------------------------

    def pending_in(self, segment: Segment) -> Pending:
        """Return what waits in a segment."""
        if segment.span_ns not in self.spans:
            return Pending()
        return sum((segment.sum(start, stop) for start, stop in self._done.gaps()), Pending())

    def needs(self, segment: Segment) -> bool:
        """Tell whether anything waits in a segment."""
        return segment.span_ns in self.spans and any(segment.between(*gap) for gap in self._done.gaps())

    def save(self) -> None:
        """Write the cursor; may raise OSError."""
        cursor.save(self._files, self._directory, self.name, self._done)

    def remove(self) -> None:
        """Remove the cursor; may raise OSError."""
        self._files.unlink(self._directory / (self.name + cursor.SUFFIX))
        self._files.sync_directory(self._directory)

    def _entries(self, gap: tuple[int, int], newest: bool) -> Iterator[Waiting]:
        """Yield the entries in a gap in the order of their numbers, or against it."""
        step = -1 if newest else 1

        def entries(span_ns: int) -> Iterator[Waiting]:
            for segment in self._lanes.lane(span_ns)[::step]:
                for place in segment.between(*gap)[::step]:
                    yield segment.item(place)

        return heapq.merge(*(entries(span_ns) for span_ns in self.spans), key=lambda one: one.sequence, reverse=newest)

    def _close_gaps(self) -> None:
        """Take numbers for done that no entry of this output has any more, so that the ranges stay few."""
        *closed, _ = self._done.gaps()
        for start, stop in closed:
            if not any(segment.between(start, stop) for segment in self._lanes.segments(self.spans)):
                self._done.add(start, stop)
