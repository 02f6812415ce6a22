"""Make a backup of a store while the daemon goes on writing it.

The manifest of one moment is the snapshot, and segments never change, so a backup is that manifest and its segments.
A directory is brought up to date by what is new; its manifest is replaced last, so that it holds the backup of before
or the new one at any moment, also after kill -9. What a run that was cut short has copied is used by the next one.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, cast

from telemetryd.errors import InputError, StoreError
from telemetryd.store import manifest as manifests
from telemetryd.store.archive import (
    TAR_SUFFIX,
    Progress,
    SegmentReader,
    backup_name,
    copy_records,
    copy_segment,
    drop_from_cache,
    open_archive,
    records_of,
    refuse_too_little_room,
)
from telemetryd.store.embedded import LOCK_NAME, SEGMENTS_NAME, Store
from telemetryd.store.files import TEMPORARY_SUFFIX, Files
from telemetryd.store.levels import SECOND_NS
from telemetryd.store.lock import take_lock
from telemetryd.store.manifest import MANIFEST_NAME, Backup, Manifest, Segment
from telemetryd.store.reasons import reasons
from telemetryd.store.report import record as frozen
from telemetryd.store.segment import checksum

_PASSES: Final = 20


@dataclass(frozen=True, slots=True)
class BackupDone:
    """What a backup did.

    Attributes
    ----------
    path:
        Directory or file.
    generation, segments, rows, octets:
        The state of the store it holds.
    copied, copied_octets:
        What was not there from earlier backups.
    removed:
        Segments that were taken out, since the store has them no longer.
    reports:
        Frozen records of reports that the store has.
    """

    path: Path
    generation: int
    segments: int
    rows: int
    octets: int
    copied: int
    copied_octets: int
    removed: int
    reports: int


def backup(
    store: Store,
    path: Path,
    *,
    hard_links: bool = False,
    clock: Callable[[], int] = time.time_ns,
    files: Files | None = None,
    progress: Progress = lambda done, of: None,
) -> BackupDone:
    """Back a store up into a directory (incrementally) or into a new ``.tar`` file.

    Parameters
    ----------
    store:
        Opened for reading; another process may write it.
    path:
        The directory, new or of an earlier backup of the same store; or the file.
    hard_links:
        Link the segments instead of copying them: no time and no space, and no help against a broken disk.

    Raises
    ------
    InputError
        If ``path`` holds something else.
    StoreError
        If a segment is damaged, or the backup cannot be written; an earlier backup in ``path`` stays whole.
    """
    source, target = store.path.resolve(), path.resolve()
    if target == source or source in target.parents:
        raise InputError(f"{path} lies inside the store: back up to another directory, best on another disk")
    files = files or Files()
    label = Backup(str(source), clock())
    if path.suffix == TAR_SUFFIX:
        return _to_tar(store, path, label, files, progress)
    with reasons(path, "write", "backup"):
        path.mkdir(parents=True, exist_ok=True)
        lock = take_lock(path / LOCK_NAME)
        try:
            return _Directory(store, path, label, files, progress, hard_links).update()
        finally:
            os.close(lock)


class _Directory:
    """A backup in a directory, while it is brought up to date."""

    def __init__(
        self, store: Store, path: Path, label: Backup, files: Files, progress: Progress, hard_links: bool
    ) -> None:
        self._store = store
        self._path = path
        self._segments = path / SEGMENTS_NAME
        self._label = label
        self._files = files
        self._progress = progress
        self._hard_links = hard_links
        self._ready: set[str] = set()  # names of segments that are there and right
        self._copied: list[Segment] = []

    def update(self) -> BackupDone:
        old = self._earlier()
        if not self._segments.is_dir():
            self._segments.mkdir()
            self._files.sync_directory(self._path)
        self._take_over(old)
        for _ in range(_PASSES):
            state = self._store.snapshot().manifest
            _refuse_another(old, state, self._path)
            if self._copy(state):
                break
        else:
            raise _too_fast(self._store)
        self._files.sync_directory(self._segments)
        reports = copy_records(self._files, records_of(self._store.path), self._path)
        held = in_backup(state, self._label)
        manifests.save(self._files, self._path, held)
        removed = self._remove_others(held)
        return _done(self._path, held, self._copied, removed, reports)

    def _earlier(self) -> Manifest | None:
        """Return the manifest of the backup that is there, None in a new directory."""
        old = manifests.load(self._path)
        if old is not None and old.backup is None:
            raise InputError(f"{self._path} holds a store, not a backup of one: give a directory of its own")
        own = (LOCK_NAME, SEGMENTS_NAME, frozen.DIRECTORY, MANIFEST_NAME, MANIFEST_NAME + TEMPORARY_SUFFIX)
        foreign = sorted(file.name for file in self._path.iterdir() if file.name not in own)
        if foreign:
            raise InputError(f"{self._path} holds other files ({foreign[0]}): give a directory of its own")
        return old

    def _take_over(self, old: Manifest | None) -> None:
        """Note which segments need no copying, and drop what a run that was cut short left half-written."""
        listed = {} if old is None else {segment.file: segment.octets for segment in old.segments}
        for file in sorted(self._segments.iterdir()):
            if file.suffix == TEMPORARY_SUFFIX:
                self._files.unlink(file)
            elif listed.get(file.name) == file.stat().st_size:
                self._ready.add(file.name)
            elif file.name not in listed and f"{checksum(file):08x}" == file.stem.partition("-")[2]:
                # Renamed to this name, but no manifest says that it arrived on the disk.
                self._ready.add(file.name)

    def _copy(self, state: Manifest) -> bool:
        """Copy what is missing; tell whether every segment was still there to be copied."""
        missing = [segment for segment in state.segments if backup_name(segment) not in self._ready]
        # The newest are the ones that compaction replaces next.
        missing.sort(key=lambda segment: segment.batches[1], reverse=True)
        total = sum(segment.octets for segment in missing)
        if not self._hard_links:
            refuse_too_little_room(self._path, total)
        done = 0

        def step(octets: int) -> None:
            nonlocal done
            done += octets
            self._progress(done, total)

        for segment in missing:
            source = self._store.path / SEGMENTS_NAME / segment.file
            target = self._segments / backup_name(segment)
            try:
                with source.open("rb") as file:
                    reader = SegmentReader(file, segment, step)
                    if self._hard_links:
                        reader.check()
                        self._files.unlink(target)
                        self._files.link(source, target)
                    else:
                        copy_segment(self._files, reader, target)
            except FileNotFoundError:
                if source.exists():
                    raise
                return False
            self._ready.add(target.name)
            self._copied.append(segment)
        return True

    def _remove_others(self, held: Manifest) -> int:
        listed = {segment.file for segment in held.segments}
        others = [file for file in sorted(self._segments.iterdir()) if file.name not in listed]
        for file in others:
            self._files.unlink(file)
        return len(others)


def in_backup(state: Manifest, label: Backup) -> Manifest:
    """Return a manifest as a backup holds it."""
    segments = tuple(replace(segment, file=backup_name(segment)) for segment in state.segments)
    return replace(state, segments=segments, retired=(), backup=label)


def _to_tar(store: Store, path: Path, label: Backup, files: Files, progress: Progress) -> BackupDone:
    with reasons(path, "write", "backup"):
        if path.exists():
            raise InputError(f"{path} exists: give a new name; it is a directory that can be brought up to date")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        try:
            for _ in range(_PASSES):
                state = store.snapshot().manifest
                if _write_tar(store, temporary, state, label, files, progress):
                    break
            else:
                raise _too_fast(store)
            drop_from_cache(temporary)
            with open_archive(temporary) as archive:
                for segment in archive.manifest.segments:
                    SegmentReader(archive.open(segment), segment).check()
                reports = sum(1 for _ in archive.records())
        except Exception:
            files.unlink(temporary)
            raise
        files.rename(temporary, path)
        files.sync_directory(path.parent)
    return _done(path, state, list(state.segments), 0, reports)


def _write_tar(store: Store, path: Path, state: Manifest, label: Backup, files: Files, progress: Progress) -> bool:
    """Write an archive of one state; tell whether every segment was still there."""
    total = sum(segment.octets for segment in state.segments)
    refuse_too_little_room(path.parent, total)
    done = 0

    def step(octets: int) -> None:
        nonlocal done
        done += octets
        progress(done, total)

    with files.create(path) as sink:
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
            text = in_backup(state, label).to_json().encode()
            tar.addfile(_member(MANIFEST_NAME, len(text), label), io.BytesIO(text))
            for segment in state.segments:
                try:
                    file = (store.path / SEGMENTS_NAME / segment.file).open("rb")
                except FileNotFoundError:
                    return False
                with file:
                    reader = SegmentReader(file, segment, step)
                    member = _member(f"{SEGMENTS_NAME}/{backup_name(segment)}", segment.octets, label)
                    tar.addfile(member, cast("IO[bytes]", reader))
                    reader.check()
            for name, record in records_of(store.path):
                tar.addfile(_member(f"{frozen.DIRECTORY}/{name}", len(record), label), io.BytesIO(record))
        files.sync(sink)
    return True


def _member(name: str, octets: int, label: Backup) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = octets, 0o644, label.made_ns // SECOND_NS
    return member


def _refuse_another(old: Manifest | None, state: Manifest, path: Path) -> None:
    # A store of version 1 that only readers have seen has no id yet.
    if old is not None and old.id and state.id and old.id != state.id:
        assert old.backup is not None
        raise InputError(f"{path} is the backup of another store ({old.backup.source}): give a directory of its own")


def _too_fast(store: Store) -> StoreError:
    return StoreError(f"the segments of {store.path} change faster than they can be copied: try again")


def _done(path: Path, state: Manifest, copied: list[Segment], removed: int, reports: int) -> BackupDone:
    return BackupDone(
        path=path,
        generation=state.generation,
        segments=len(state.segments),
        rows=sum(segment.rows for segment in state.segments),
        octets=sum(segment.octets for segment in state.segments),
        copied=len(copied),
        copied_octets=sum(segment.octets for segment in copied),
        removed=removed,
        reports=reports,
    )
