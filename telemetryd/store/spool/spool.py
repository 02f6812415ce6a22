"""A queue on the disk in front of several outputs, each of which reads and acknowledges for itself.

    DIR/lock                          locked by the process that uses it; holds its process id
    DIR/segments/<span>-<first>.seg   entries of one span (record.py)
    DIR/cursors/<output>.json         what an output has done (cursor.py)

An acknowledged append is on the disk: every file that it wrote is synced, and the directory where a file is new.
What an output acknowledges is done at once, and a file goes when no output needs anything of it; a process that
is killed before the cursor is written sends some entries once more, which changes nothing in a database.

What does not fit is given up by its worth: the oldest file of the finest span first. An entry is never given up
for one of a finer span: where only coarser spans are left, the new entry is what is lost.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from telemetryd.errors import StoreError
from telemetryd.observe.log import Log
from telemetryd.store.files import TEMPORARY_SUFFIX, Files
from telemetryd.store.lock import take_lock
from telemetryd.store.spool import cursor
from telemetryd.store.spool.cursor import DamagedCursorError, Done
from telemetryd.store.spool.lanes import Lanes, Lost
from telemetryd.store.spool.reader import SpoolReader
from telemetryd.store.spool.record import HEADER_OCTETS, Entry
from telemetryd.store.spool.segment import NAME, Segment

#: A segment takes a 64th of the space, so that giving one up costs little, and this at most.
SEGMENT_OCTETS: Final = 16 << 20
SEGMENTS: Final = 64
#: ... and entries of a 16th of the longest age, so that what is too old is told apart.
AGES: Final = 16
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Spool:
    """The queue; any thread may use it. Make one with :meth:`open`.

    Attributes
    ----------
    torn_octets, damaged_octets:
        What could not be read when it was opened: at the ends of files, where a crash cut a record off that was
        never acknowledged, and in between.
    """

    def __init__(
        self, path: Path, size: int, age_ns: int, files: Files, clock: Callable[[], int], descriptor: int
    ) -> None:
        self.path = path
        self.torn_octets = self.damaged_octets = 0
        self._size = size
        self._age_ns = age_ns
        self._files = files
        self._clock = clock
        self._descriptor = descriptor
        self._segment_octets = min(SEGMENT_OCTETS, size // SEGMENTS)
        self._log = Log("spool")
        self._writing = threading.Lock()  # held while entries are written or given up
        self._lanes = Lanes()
        self._readers: dict[str, SpoolReader] = {}
        self._next = 1

    @classmethod
    def open(
        cls,
        path: Path,
        outputs: Mapping[str, Collection[int]],
        *,
        size: int,
        age_ns: int,
        files: Files | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> Spool:
        """Open a spool, or make one; what a crash left over is put in order.

        Parameters
        ----------
        outputs:
            Name of each output -> the spans that it takes, in ns. An output that is not named loses its cursor.
        size:
            Octets on the disk at most.
        age_ns:
            Entries that wait longer are given up.
        files:
            File operations, for tests.
        clock:
            Wall clock in ns.

        Raises
        ------
        StoreError
            If another process uses it, or it cannot be read or written.
        """
        files = files or Files()
        try:
            for directory in (path / "segments", path / "cursors"):
                directory.mkdir(parents=True, exist_ok=True)
            files.sync_directory(path)
            files.sync_directory(path.absolute().parent)
            descriptor = take_lock(path / "lock", "give this one a spool of its own")
        except OSError as error:
            raise StoreError(f"cannot open the spool {path}: {error.strerror}") from error
        spool = cls(path, size, age_ns, files, clock, descriptor)
        try:
            spool._load_segments()
            spool._load_cursors()
            spool._set_outputs(outputs)
        except OSError as error:
            spool.close()
            raise StoreError(f"cannot open the spool {path}: {error.strerror}") from error
        except BaseException:
            spool.close()
            raise
        return spool

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files and give the lock back."""
        with self._writing:
            for segment in self._lanes.segments():
                segment.close()
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    @property
    def octets(self) -> int:
        """Octets of all files of entries."""
        with self._lanes.lock:
            return self._lanes.octets

    @property
    def lost(self) -> Lost:
        """Points that were given up since the spool was opened."""
        with self._lanes.lock:
            return self._lanes.lost.copy()

    def reader(self, output: str) -> SpoolReader:
        """Return the reader of an output."""
        return self._readers[output]

    def set_outputs(self, outputs: Mapping[str, Collection[int]]) -> None:
        """Give each output its reader: a new one begins behind what is there, one that is gone loses its cursor.

        Raises
        ------
        StoreError
            If a cursor cannot be written or removed.
        """
        try:
            self._set_outputs(outputs)
        except OSError as error:
            raise StoreError(f"cannot change the outputs of the spool {self.path}: {error.strerror}") from error

    def append(self, entries: Iterable[Entry]) -> int:
        """Append entries, and return how many of them were not taken for want of room: lost, and counted.

        The others are on the disk when this returns, and the readers see them.

        Raises
        ------
        StoreError
            If the disk refuses; some of the entries may have been appended.
        """
        by_span: dict[int, list[Entry]] = {}
        for entry in entries:
            by_span.setdefault(entry.span_ns, []).append(entry)
        refused = 0
        with self._writing:
            stamp_ns = self._clock()
            self._expire(stamp_ns)
            # The coarsest first: it is worth most.
            for span_ns in sorted(by_span, reverse=True):
                if not self._append(span_ns, by_span[span_ns], stamp_ns):
                    refused += len(by_span[span_ns])
            self._collect()
        return refused

    def maintain(self) -> None:
        """Give up what is too old, also while nothing is appended."""
        with self._writing:
            self._expire(self._clock())
            self._collect()

    # --- appending, under self._writing ---------------------------------------------------------------------

    def _append(self, span_ns: int, entries: Sequence[Entry], stamp_ns: int) -> bool:
        """Append entries of one span; return False if they had to be given up."""
        octets = sum(HEADER_OCTETS + len(entry.payload) for entry in entries)
        while self.octets + octets > self._size:
            if not self._make_room(span_ns, "size"):
                return self._lose(span_ns, entries, "size")
        freed = 0
        while True:
            # Numbers are not used again after a failure: what it left in the file might be read one day.
            numbered = list(enumerate(entries, self._next))
            self._next += len(entries)
            try:
                segment = self._segment(span_ns, numbered[0][0], stamp_ns)
                places = segment.write(self._files, numbered, stamp_ns)
            except OSError as error:
                self._abandon(span_ns)
                if error.errno not in _FULL:
                    raise StoreError(f"cannot write to the spool {self.path}: {error.strerror}") from error
                # Where somebody else takes what is freed, nothing more is given up for these entries.
                room = self._make_room(span_ns, "disk") if freed <= 2 * octets else 0
                if not room:
                    return self._lose(span_ns, entries, "disk")
                freed += room
                continue
            with self._lanes.lock:
                segment.publish(numbered, places, stamp_ns)
            return True

    def _segment(self, span_ns: int, sequence: int, stamp_ns: int) -> Segment:
        """Return the segment to append to, a new one where the last is full; may raise OSError."""
        lane = self._lanes.lane(span_ns)
        if lane and lane[-1].is_open:
            last = lane[-1]
            if last.size < self._segment_octets and stamp_ns - last.first_stamp_ns <= self._age_ns // AGES:
                return last
            last.close()
        segment = Segment.create(self._files, self.path / "segments", span_ns, sequence)
        with self._lanes.lock:
            self._lanes.add(segment)
        self._files.sync_directory(self.path / "segments")
        return segment

    def _abandon(self, span_ns: int) -> None:
        """Append no more to a file that a write failed on: what it ends with is not known."""
        for segment in self._lanes.lane(span_ns)[-1:]:
            if segment.is_open:
                segment.abandon(self._files)
                if not len(segment):
                    with self._lanes.lock:
                        self._lanes.remove(segment)

    def _make_room(self, span_ns: int, why: str) -> int:
        """Remove what nobody needs, else the oldest segment of the finest span up to this; return its octets."""
        if octets := self._collect(include_open=True):
            return octets
        finest = self._lanes.spans[:1]
        if not finest or finest[0] > span_ns:
            return 0
        segment = self._lanes.lane(finest[0])[0]
        self._give_up(segment, why)
        return segment.size

    def _expire(self, now_ns: int) -> None:
        for segment in list(self._lanes.segments()):
            if segment.last_stamp_ns < now_ns - self._age_ns:
                self._give_up(segment, "age")

    def _give_up(self, segment: Segment, why: str) -> None:
        with self._lanes.lock:
            lost = {
                name: points for name, reader in self._readers.items() if (points := reader.pending_in(segment).points)
            }
            for name, points in lost.items():
                self._lanes.lost[name, segment.span_ns, why] += points
            self._lanes.remove(segment)
        self._unlink([segment])
        for name, points in lost.items():
            self._log.error("points are lost", output=name, why=why, span_s=segment.span_ns / 1e9, points=points)

    def _lose(self, span_ns: int, entries: Sequence[Entry], why: str) -> bool:
        """Count new entries that are not taken; return False."""
        points = sum(entry.points for entry in entries)
        with self._lanes.lock:
            for name, reader in self._readers.items():
                if span_ns in reader.spans:
                    self._lanes.lost[name, span_ns, why] += points
        self._log.error("new points are lost", why=why, span_s=span_ns / 1e9, points=points)
        return False

    def _collect(self, *, include_open: bool = False) -> int:
        """Remove the segments that nobody needs; return their octets."""
        with self._lanes.lock:
            segments = [one for one in self._lanes.segments() if include_open or not one.is_open]
        return self._release(segments, include_open=include_open)

    def _release(self, segments: Sequence[Segment], *, include_open: bool = False) -> int:
        """Remove those of some segments that nobody needs; return their octets. Any thread may call it."""
        with self._lanes.lock:
            useless = [
                segment
                for segment in segments
                if (include_open or not segment.is_open)
                and not any(reader.needs(segment) for reader in self._readers.values())
            ]
            for segment in useless:
                self._lanes.remove(segment)
        self._unlink(useless)
        return sum(segment.size for segment in useless)

    def _unlink(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            segment.close()
            try:
                self._files.unlink(segment.path)
            except OSError as error:
                # It takes space until the spool is opened again: then it is looked at anew.
                self._log.error("a file cannot be removed", file=segment.path, reason=error.strerror)

    # --- opening; all of it may raise OSError ---------------------------------------------------------------------

    def _load_segments(self) -> None:
        directory = self.path / "segments"
        for file in directory.iterdir():
            if file.name.endswith(TEMPORARY_SUFFIX):
                self._files.unlink(file)
        found = sorted((int(m[1]), int(m[2]), file) for file in directory.iterdir() if (m := NAME.fullmatch(file.name)))
        newest = {span_ns: first for span_ns, first, _ in found}
        for span_ns, first, file in found:
            # Only what was written last may be there without having been synced, with holes.
            segment, damaged, torn = Segment.load(file, check_payloads=newest[span_ns] == first)
            self.damaged_octets += damaged
            self.torn_octets += torn
            if damaged or torn:
                self._log.warning("a file was damaged", file=file, octets=damaged, torn_octets=torn)
            self._next = max(self._next, first)
            if not len(segment):
                self._unlink([segment])
                continue
            if torn:
                self._files.truncate(file, segment.size)
            self._lanes.add(segment)
            self._next = max(self._next, segment.last + 1)

    def _load_cursors(self) -> None:
        for file in sorted((self.path / "cursors").iterdir()):
            if file.name.endswith(TEMPORARY_SUFFIX):
                self._files.unlink(file)
            elif file.name.endswith(cursor.SUFFIX):
                try:
                    done = cursor.load(file)
                except DamagedCursorError as error:
                    # What is sent once more changes nothing in a database; what is left out is missing.
                    self._log.error("a cursor is damaged: all that is in the spool is sent", reason=error)
                    done = Done()
                self._add_reader(file.name.removesuffix(cursor.SUFFIX), done)
                self._next = max(self._next, done.stop)

    def _set_outputs(self, outputs: Mapping[str, Collection[int]]) -> None:
        with self._writing:
            for name in self._readers.keys() - outputs.keys():
                reader = self._readers[name]
                points = reader.pending().points
                reader.remove()
                with self._lanes.lock:
                    del self._readers[name]
                self._log.warning("an output is gone, and its place in the spool", output=name, points_not_sent=points)
            for name, spans in outputs.items():
                if name not in self._readers:
                    self._add_reader(name, Done([(0, self._next)])).save()
                self._readers[name].spans = frozenset(spans)
            self._collect()

    def _add_reader(self, name: str, done: Done) -> SpoolReader:
        reader = SpoolReader(name, done, self._lanes, self._files, self.path / "cursors", self._release)
        with self._lanes.lock:
            self._readers[name] = reader
        return reader
