"""Bring a store back from a backup: in place, verified before it counts, in one commit.

The segments are copied into the store's own directory under numbers that were never given away, and read whole.
Then the manifest is replaced: until that moment the store is what it was, from then on it is what the backup holds, and
a run that was cut short has changed nothing that a reader sees. Frozen records of reports are added to those that are
there: a whole one never changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from telemetryd.errors import InputError, StoreError
from telemetryd.store import manifest as manifests
from telemetryd.store.archive import (
    Archive,
    Progress,
    SegmentReader,
    copy_records,
    copy_segment,
    open_archive,
    refuse_too_little_room,
)
from telemetryd.store.embedded import LOCK_NAME, SEGMENTS_NAME, Snapshot
from telemetryd.store.files import TEMPORARY_SUFFIX, Files
from telemetryd.store.lock import take_lock
from telemetryd.store.manifest import MANIFEST_NAME, Manifest, Segment
from telemetryd.store.reasons import reasons
from telemetryd.store.report import record as frozen
from telemetryd.store.segment import segment_name, segment_number
from telemetryd.store.verify import Fault, manifest_faults, segment_faults


@dataclass(frozen=True, slots=True)
class Restored:
    """What was brought back.

    Attributes
    ----------
    path:
        Directory of the store.
    source, made_ns:
        The store that the backup was made of, and when by the wall clock; None where a store was given in its place.
    segments, rows, octets:
        What the store holds now.
    replaced:
        Segments that it held before.
    reports:
        Frozen records of reports in the backup.
    """

    path: Path
    source: str | None
    made_ns: int | None
    segments: int
    rows: int
    octets: int
    replaced: int
    reports: int


def restore(
    backup: Path,
    path: Path,
    *,
    replaces: bool = False,
    files: Files | None = None,
    progress: Progress = lambda done, of: None,
) -> Restored:
    """Make the store in the directory ``path`` what a backup holds.

    Parameters
    ----------
    backup:
        Directory or ``.tar`` file of :func:`telemetryd.store.backup.backup`.
    path:
        A new or empty directory; one that holds a store, sound or damaged, if ``replaces``. Nobody may
        write it meanwhile.

    Raises
    ------
    InputError
        If there is no backup, or the directory holds something that is not to be replaced.
    StoreError
        If the backup is damaged, or the store cannot be written or is being written; it stays what it was.
    """
    files = files or Files()
    if backup.resolve() == path.resolve():
        raise InputError(f"{path} is the backup itself: restore into another directory")
    with reasons(backup, "read", "backup"), open_archive(backup) as archive, reasons(path, "write"):
        path.mkdir(parents=True, exist_ok=True)
        lock = take_lock(path / LOCK_NAME)
        try:
            return _Restoration(archive, path, files, progress, replaces).run()
        finally:
            os.close(lock)


class _Restoration:
    def __init__(self, archive: Archive, path: Path, files: Files, progress: Progress, replaces: bool) -> None:
        self._archive = archive
        self._path = path
        self._segments = path / SEGMENTS_NAME
        self._files = files
        self._progress = progress
        self._replaces = replaces

    def run(self) -> Restored:
        old = self._present()
        if not self._segments.is_dir():
            self._segments.mkdir()
        if not (self._path / MANIFEST_NAME).exists() and not any(self._segments.iterdir()):
            # From here on the directory is a store, so that what a run leaves behind is known for what it is.
            self._files.sync_directory(self._path)
            manifests.save(self._files, self._path, Manifest())
        wanted = self._archive.manifest
        refuse_too_little_room(self._path, sum(segment.octets for segment in wanted.segments))
        numbers = [segment_number(file.name.removesuffix(TEMPORARY_SUFFIX)) or 0 for file in self._segments.iterdir()]
        first = max(old.next_id, wanted.next_id, *(number + 1 for number in numbers))
        new = [replace(segment, file=segment_name(number)) for number, segment in enumerate(wanted.segments, first)]
        state = replace(
            wanted,
            segments=tuple(new),
            retired=(),
            generation=max(old.generation, wanted.generation) + 1,
            next_id=first + len(new),
            backup=None,
        )
        try:
            self._copy(wanted.segments, new)
            _refuse(manifest_faults(Snapshot(self._path, state)))
            self._files.sync_directory(self._segments)
            reports = copy_records(self._files, self._archive.records(), self._path)
        except Exception:
            for segment in new:
                self._files.unlink(self._segments / segment.file)
            raise
        manifests.save(self._files, self._path, state)
        self._remove_others(state)
        source = wanted.backup
        return Restored(
            path=self._path,
            source=None if source is None else source.source,
            made_ns=None if source is None else source.made_ns,
            segments=len(new),
            rows=sum(segment.rows for segment in new),
            octets=sum(segment.octets for segment in new),
            replaced=len(old.segments),
            reports=reports,
        )

    def _present(self) -> Manifest:
        """Return the state of the store that is there, as far as it can be told; an empty one if there is none."""
        own = (LOCK_NAME, SEGMENTS_NAME, frozen.DIRECTORY, MANIFEST_NAME, MANIFEST_NAME + TEMPORARY_SUFFIX)
        foreign = sorted(file.name for file in self._path.iterdir() if file.name not in own)
        if foreign:
            raise InputError(f"{self._path} holds other files ({foreign[0]}): give a directory of its own")
        damage: StoreError | None = None
        try:
            old = manifests.load(self._path)
        except StoreError as error:
            old, damage = None, error
        if old is not None and old.backup is not None:
            raise InputError(f"{self._path} is a backup of {old.backup.source}: restore into another directory")
        has_segments = self._segments.is_dir() and any(self._segments.iterdir())
        is_store = damage is not None or (has_segments if old is None else bool(old.segments or old.extents))
        if is_store and not self._replaces:
            raise InputError(
                f"{self._path} holds a store: give a new directory, or --replace, which takes the place of what is "
                "there once the backup is copied and verified"
            )
        return old or Manifest()

    def _copy(self, segments: tuple[Segment, ...], new: list[Segment]) -> None:
        total = sum(segment.octets for segment in segments)
        done = 0

        def step(octets: int) -> None:
            nonlocal done
            done += octets
            self._progress(done, total)

        for segment, named in zip(segments, new, strict=True):
            with self._archive.open(segment) as file:
                copy_segment(self._files, SegmentReader(file, segment, step), self._segments / named.file)
            _refuse(segment_faults(self._segments / named.file, named))

    def _remove_others(self, state: Manifest) -> None:
        listed = {segment.file for segment in state.segments}
        for file in sorted(self._segments.iterdir()):
            if file.name not in listed:
                self._files.unlink(file)


def _refuse(faults: Iterator[Fault]) -> None:
    for fault in faults:
        raise StoreError(f"the backup is damaged: {fault.file}: {fault.what}; use another one")
