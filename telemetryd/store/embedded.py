"""The embedded store: a directory of Parquet segments and a manifest, without a server.

One append is one commit: its segments are written and synced, then the manifest is replaced. What an
append returned for is on the disk; what it didn't return for is there whole or not at all. One
process writes (a lock on the file ``lock``), any number read meanwhile.

    STORE/MANIFEST.json           the live segments (telemetryd.store.manifest)
    STORE/segments/<id>.parquet   rows of one kind, level and bucket of time
    STORE/lock                    locked by the writer, holds its process id
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from telemetryd.counter_windows import CounterWindow
from telemetryd.errors import StoreError
from telemetryd.schema import UsageWindow
from telemetryd.store import columns, compact, intake
from telemetryd.store import manifest as manifests
from telemetryd.store.columns import QualityRow
from telemetryd.store.counter_columns import counter_table
from telemetryd.store.files import TEMPORARY_SUFFIX, Files
from telemetryd.store.levels import LEVELS, SECOND_NS, Level, level_of, with_retention
from telemetryd.store.lock import take_lock
from telemetryd.store.manifest import QUALITY, USAGE, Manifest, Retired, Segment
from telemetryd.store.migrate import VERSION
from telemetryd.store.reasons import reasons
from telemetryd.store.segment import SCHEMAS, merged_tables, write_segment

T = TypeVar("T")

SEGMENTS_NAME: Final = "segments"
LOCK_NAME: Final = "lock"
MAINTAIN_EVERY: Final = 8
GRACE_NS: Final = 120 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did.

    Attributes
    ----------
    batch:
        Number of the commit, 0 if there was nothing to write.
    rows:
        Usage rows written.
    skipped:
        Windows left out because the origin's windows were stored up to there already.
    """

    batch: int
    rows: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of a store, to read from: its live segments will stay for the grace period."""

    directory: Path
    manifest: Manifest

    def path(self, segment: Segment) -> Path:
        """Return where the segment's file is."""
        return self.directory / SEGMENTS_NAME / segment.file


class Store:
    """An embedded store, opened by :meth:`open`; a context manager that closes itself.

    Attributes
    ----------
    path:
        The directory.
    maintenance_failure:
        Why the last compaction or retention that an append (or :meth:`tend`) started failed, None when it did not;
        the append itself is not affected and the next one tries again.
    """

    def __init__(
        self,
        path: Path,
        lock: int | None,
        files: Files,
        levels: Mapping[int, Level] | None,
        clock: Callable[[], int],
    ) -> None:
        self.path = path
        self.maintenance_failure: str | None = None
        self._lock = lock
        self._files = files
        self._given = levels
        self._levels = LEVELS if levels is None else levels
        self._clock = clock
        self._state: Manifest | None = None
        self._commits = 0

    @classmethod
    def open(
        cls,
        path: Path | str,
        mode: Literal["write", "read"] = "write",
        *,
        levels: Mapping[int, Level] | None = None,
        clock: Callable[[], int] = time.time_ns,
        files: Files | None = None,
    ) -> Store:
        """Open the store in the directory ``path``.

        Parameters
        ----------
        mode:
            ``"write"`` makes the store if there is none, takes the writer's lock and removes what a
            crash left over; ``"read"`` never writes.
        levels:
            Retention and compaction by span in ns; left out, what the last writer kept, or the defaults.
        clock:
            Wall clock in ns; for the grace period of files that readers may still use.
        files:
            The file operations, for tests.

        Raises
        ------
        StoreError
            If there is no store to read, another process writes, the directory holds something else,
            or the manifest is damaged or of a newer version.
        """
        directory = Path(path)
        if mode == "read":
            store = cls(directory, None, files or Files(), levels, clock)
            store.snapshot()
            return store
        with reasons(directory, "open"):
            directory.mkdir(parents=True, exist_ok=True)
            lock = take_lock(directory / LOCK_NAME)
        store = cls(directory, lock, files or Files(), levels, clock)
        try:
            with reasons(directory, "open"):
                store._recover()
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the writer's lock back; everything appended is on the disk already."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- reading -----------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Take the state of the store as the last commit left it.

        Raises
        ------
        StoreError
            If there is no store in the directory.
        """
        state = manifests.load(self.path)
        if state is None:
            raise StoreError(
                f"there is no telemetryd store in {self.path}: "
                "fill one with `telemetryd replay FILE --registry DIR --store PATH`, or give its place "
                "by --store or TELEMETRYD_STORE"
            )
        return Snapshot(self.path, state)

    def stored_until(self, origin: str, span_ns: int) -> int:
        """Return the end in ns of the last window stored of one origin and span, 0 if there is none."""
        extent = self._current().extents.get(origin, {}).get(span_ns)
        return 0 if extent is None else extent.until_ns

    def scan(self, kind: str = USAGE, span_ns: int | None = None) -> pa.Table:
        """Read all rows of one kind (and span), as one Arrow table with the columns of the disk."""
        schema = SCHEMAS[kind]

        def read(snapshot: Snapshot) -> pa.Table:
            tables = [
                pq.read_table(snapshot.path(segment), schema=schema, partitioning=None)
                for segment in snapshot.manifest.segments
                if segment.kind == kind and span_ns in (None, segment.span_ns)
            ]
            return pa.concat_tables(tables) if tables else schema.empty_table()

        return self.read(read)

    def windows(self, origin: str, span_ns: int, from_ns: int) -> Iterator[UsageWindow]:
        """Read windows back in the order of their time, from ``from_ns`` on, one segment at a time.

        Windows without traffic leave nothing on disk and don't come back.
        """
        state = self._current()
        segments = [
            segment
            for segment in state.segments
            if (segment.kind, segment.span_ns) == (USAGE, span_ns)
            and origin in segment.origins
            and segment.end_ns > from_ns
        ]
        bucket_ns = level_of(self._levels, span_ns).bucket_ns
        for _, group in groupby(
            sorted(segments, key=lambda segment: segment.first_ns),
            key=lambda segment: segment.first_ns // bucket_ns,
        ):
            paths = [self.path / SEGMENTS_NAME / segment.file for segment in group]
            with reasons(self.path, "read"):
                table = pa.concat_tables(pq.read_table(path, schema=columns.USAGE_SCHEMA) for path in paths)
            yield from columns.usage_windows(table, origin, from_ns)

    def read(self, reader: Callable[[Snapshot], T]) -> T:
        """Call ``reader`` with a snapshot; once more with a new one if a file is gone meanwhile."""
        snapshot = self.snapshot()
        with reasons(self.path, "read"):
            try:
                return reader(snapshot)
            except OSError:
                again = self.snapshot()
                if again.manifest.generation == snapshot.manifest.generation:
                    raise
                return reader(again)

    # --- writing -----------------------------------------------------------------------------------------

    def append(
        self,
        windows: Sequence[UsageWindow],
        origin: str,
        quality: Iterable[QualityRow] = (),
        counters: Sequence[CounterWindow] = (),
    ) -> Appended:
        """Store windows of any spans, and what is known of their quality, in one atomic commit.

        Windows that end at or before ``stored_until(origin, span_ns)`` are left out with their quality
        rows, so a replay that was killed may simply run again. Windows of one span come in order from
        one append to the next. A quality row belongs to a window of the same append.

        Parameters
        ----------
        origin:
            One capture, or one run of a collector: whoever starts with empty roll-ups takes an origin of
            its own, for its first window of an hour is not the one that an earlier run stored.
        counters:
            Windows of counters, of any kinds and spans; whoever hands them over sees to it that none comes twice.

        Raises
        ------
        StoreError
            If it cannot be written (the reason says why) or a window is not valid; then nothing of it
            is stored and the store is as it was.
        """
        state = self._writable()
        fresh, skipped = intake.select(windows, lambda span_ns: self.stored_until(origin, span_ns))
        rows = intake.belonging(quality, windows, fresh)
        if not fresh and not counters:
            return Appended(0, 0, skipped)
        with self._commit():
            new = list(self._write(state, fresh, rows, counters, origin))
            extents = dict(state.extents)
            if fresh:
                extents[origin] = intake.extend(extents.get(origin, {}), fresh)
            self._save(
                replace(
                    state,
                    next_id=state.next_id + len(new) + 1,
                    segments=(*state.segments, *new),
                    extents=extents,
                )
            )
        self._commits += 1
        if self._commits % MAINTAIN_EVERY == 0:
            self.tend()
        written = sum(segment.rows for segment in new if segment.kind == USAGE)
        return Appended(state.next_id, written, skipped)

    def maintain(self) -> None:
        """Remove what is past its retention, merge small segments, unlink what no reader needs.

        Appends do this themselves every few commits.

        Raises
        ------
        StoreError
            If it cannot be written; the store holds the same data as before.
        """
        state = self._writable()
        gone = compact.expired(state, self._levels, self._clock())
        if gone:
            floors = dict(state.floors)
            for segment in gone:
                floors[segment.span_ns] = max(floors.get(segment.span_ns, 0), segment.end_ns)
            with self._commit():
                self._save(replace(self._replaced(state, gone, []), floors=floors))
        for group in compact.merges(self._writable(), self._levels):
            self._merge(group)
        self._unlink_retired()

    def _merge(self, group: list[Segment]) -> None:
        state = self._writable()
        directory = self.path / SEGMENTS_NAME
        with self._commit():
            merged = write_segment(
                self._files,
                directory,
                state.next_id,
                group[0].kind,
                (min(s.batches[0] for s in group), max(s.batches[1] for s in group)),
                merged_tables(directory, group),
            )
            self._files.sync_directory(directory)
            self._save(replace(self._replaced(state, group, [merged]), next_id=state.next_id + 1))

    def tend(self) -> None:
        """Maintain, and note in ``maintenance_failure`` why that was not possible; it does not raise."""
        try:
            self.maintain()
            self.maintenance_failure = None
        except StoreError as error:
            # The append is stored already: the failure is a state to show, and the next turn tries again.
            self.maintenance_failure = str(error)

    def _replaced(self, state: Manifest, old: list[Segment], new: list[Segment]) -> Manifest:
        names = {segment.file for segment in old}
        now_ns = self._clock()
        return replace(
            state,
            segments=(*(s for s in state.segments if s.file not in names), *new),
            retired=(*state.retired, *(Retired(segment.file, now_ns) for segment in old)),
        )

    def _unlink_retired(self) -> None:
        state = self._writable()
        deadline = self._clock() - GRACE_NS
        due = [retired for retired in state.retired if retired.since_ns <= deadline]
        if not due:
            return
        with self._commit():
            self._save(replace(state, retired=tuple(r for r in state.retired if r.since_ns > deadline)))
            for retired in due:
                self._files.unlink(self.path / SEGMENTS_NAME / retired.file)

    def _write(
        self,
        state: Manifest,
        windows: list[UsageWindow],
        rows: list[QualityRow],
        counters: Sequence[CounterWindow],
        origin: str,
    ) -> Iterator[Segment]:
        """Write the segments of one append: one per kind, level and bucket."""
        batch = state.next_id
        usage_parts: dict[tuple[int, int], list[UsageWindow]] = {}
        for window in windows:
            if len(window.columns["samples"]):
                usage_parts.setdefault(self._part(window.start_ns, window.span_ns), []).append(window)
        quality_parts: dict[tuple[int, int], list[QualityRow]] = {}
        for row in rows:
            quality_parts.setdefault(self._part(row.time_ns, row.span_ns), []).append(row)
        tables = [(USAGE, columns.usage_table(part, origin)) for part in usage_parts.values()]
        tables += [(QUALITY, columns.quality_table(part, origin)) for part in quality_parts.values()]
        counter_parts: dict[tuple[str, int, int], list[CounterWindow]] = {}
        for one in counters:
            if one.names:
                key = one.layout.kind, *self._part(one.start_ns, one.span_ns)
                counter_parts.setdefault(key, []).append(one)
        tables += [(kind, counter_table(part, origin)) for (kind, *_), part in counter_parts.items()]
        directory = self.path / SEGMENTS_NAME
        for number, (kind, table) in enumerate(tables, batch + 1):
            yield write_segment(self._files, directory, number, kind, (batch, batch), [table])
        if tables:
            self._files.sync_directory(directory)

    def _part(self, time_ns: int, span_ns: int) -> tuple[int, int]:
        return span_ns, time_ns // level_of(self._levels, span_ns).bucket_ns

    def _save(self, state: Manifest) -> None:
        state = replace(state, generation=state.generation + 1)
        manifests.save(self._files, self.path, state)
        self._state = state

    @contextmanager
    def _commit(self) -> Iterator[None]:
        """Turn failures into StoreError and forget the state in memory, for the disk may have either."""
        try:
            with reasons(self.path, "write"):
                yield
        except BaseException:
            self._state = None
            raise

    def _current(self) -> Manifest:
        return self.snapshot().manifest if self._lock is None else self._writable()

    def _writable(self) -> Manifest:
        if self._lock is None:
            raise StoreError(f"the store {self.path} is not open for writing")
        if self._state is None:
            with reasons(self.path, "recover"):
                self._recover()
        assert self._state is not None
        return self._state

    def _recover(self) -> None:
        """Take the state from the disk, starting a new store if there is none, and remove strays."""
        segments = self.path / SEGMENTS_NAME
        state = manifests.load(self.path)
        if state is None:
            foreign = [
                path.name
                for path in (*self.path.iterdir(), *(segments.iterdir() if segments.is_dir() else ()))
                if path.name not in (LOCK_NAME, SEGMENTS_NAME, manifests.MANIFEST_NAME + TEMPORARY_SUFFIX)
            ]
            if foreign:
                raise StoreError(
                    f"{self.path} holds other files ({min(foreign)}) and no {manifests.MANIFEST_NAME}: "
                    "give an empty directory or one that does not exist"
                )
            segments.mkdir(exist_ok=True)
            self._files.sync_directory(self.path)
            state = Manifest(version=0)
        if state.backup is not None:
            raise StoreError(
                f"{self.path} is a backup of {state.backup.source}, nobody writes to it: make a store of it by "
                f"`telemetryd store restore {self.path} --store DIR`"
            )
        state = self._brought_along(state)
        known = {segment.file for segment in state.segments}
        present = {path.name: path.stat().st_size for path in segments.iterdir()}
        for segment in state.segments:
            if present.get(segment.file) != segment.octets:
                raise StoreError(
                    f"{segments / segment.file} is missing or has another size than was written: "
                    "restore the store from a backup"
                )
        known |= {retired.file for retired in state.retired}
        for name in sorted(present.keys() - known):
            self._files.unlink(segments / name)
        self._files.unlink(self.path / (manifests.MANIFEST_NAME + TEMPORARY_SUFFIX))
        self._state = state

    def _brought_along(self, state: Manifest) -> Manifest:
        """Make last what a migration brought, and note the retention that holds from now on."""
        if self._given is None:
            self._levels = with_retention(state.retention)
        retention = {span_ns: level.keep_ns for span_ns, level in self._levels.items()}
        wanted = replace(state, id=state.id or uuid.uuid4().hex, retention=retention, version=VERSION)
        if wanted != state:
            manifests.save(self._files, self.path, wanted)
        return wanted
