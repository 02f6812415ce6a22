"""What a backup is: a directory laid out as a store, or one tar file of the same.

    DIR/MANIFEST.json                        as in a store, with ``backup`` set: nobody appends to it
    DIR/segments/<id>-<crc32>.parquet        the segments, each under a name that tells its content
    DIR/reports/2026-10.r1.json              frozen records of reports, as in a store; none is ever removed
    FILE.tar                                 the same members, MANIFEST.json first

Both are read here, by one interface. Every command that reads a store reads a backup directory as well.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Protocol

from telemetryd.config.units import format_size
from telemetryd.errors import InputError, StoreError
from telemetryd.store import manifest as manifests
from telemetryd.store.embedded import SEGMENTS_NAME
from telemetryd.store.files import TEMPORARY_SUFFIX, Files, NewFile
from telemetryd.store.manifest import MANIFEST_NAME, Manifest, Segment
from telemetryd.store.report import record as frozen
from telemetryd.store.segment import checksum

TAR_SUFFIX: Final = ".tar"
_BLOCK_OCTETS: Final = 1 << 20

Progress = Callable[[int, int], None]
"""Called with the octets that are done and those of all."""


class Archive(Protocol):
    """A backup that can be read."""

    manifest: Manifest

    def open(self, segment: Segment) -> IO[bytes]:
        """Open one of its segments."""

    def records(self) -> Iterator[tuple[str, bytes]]:
        """Yield the names and contents of the frozen records."""


class DirectoryArchive:
    """A backup in a directory, or a store that is read as one."""

    def __init__(self, path: Path) -> None:
        found = manifests.load(path)
        if found is None:
            raise InputError(
                f"there is no backup in {path}: make one with `telemetryd store backup {path} --store DIR`"
            )
        self.manifest = found
        self._path = path

    def open(self, segment: Segment) -> IO[bytes]:
        """Open one of its segments."""
        return (self._path / SEGMENTS_NAME / segment.file).open("rb")

    def records(self) -> Iterator[tuple[str, bytes]]:
        """Yield the names and contents of the frozen records."""
        return records_of(self._path)


class TarArchive:
    """A backup in a tar file."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self._path = path
        self._tar = tar
        try:
            text = self._member(MANIFEST_NAME).read().decode()
        except UnicodeDecodeError as error:
            raise StoreError(f"{path} is damaged ({error}): use another backup") from error
        self.manifest = manifests.parse(text, path / MANIFEST_NAME)

    def open(self, segment: Segment) -> IO[bytes]:
        """Open one of its segments."""
        return self._member(f"{SEGMENTS_NAME}/{segment.file}")

    def records(self) -> Iterator[tuple[str, bytes]]:
        """Yield the names and contents of the frozen records."""
        for member in self._tar.getnames():
            directory, _, name = member.rpartition("/")
            if directory == frozen.DIRECTORY and frozen.is_name(name):
                yield name, self._member(member).read()

    def _member(self, name: str) -> IO[bytes]:
        try:
            member = self._tar.extractfile(name)
        except (KeyError, tarfile.TarError) as error:
            raise StoreError(f"{self._path} holds no {name}: it is no backup of a store, or it is damaged") from error
        if member is None:
            raise StoreError(f"{self._path}: {name} is no file: use another backup")
        return member


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a backup, whichever of the two it is.

    Raises
    ------
    InputError
        If there is none.
    StoreError
        If it is damaged.
    """
    if path.is_dir():
        yield DirectoryArchive(path)
        return
    if not path.exists():
        raise InputError(f"there is no backup {path}: give a directory or a {TAR_SUFFIX} file")
    try:
        with tarfile.open(path, "r:") as tar:
            yield TarArchive(path, tar)
    except tarfile.TarError as error:
        raise StoreError(f"{path} is no tar file that can be read ({error}): use another backup") from error


class SegmentReader:
    """Read a segment to its end, and hold what was read against the manifest.

    Parameters
    ----------
    file:
        Open at its beginning.
    segment:
        What it should be.
    step:
        Called with the octets of each block.
    """

    def __init__(self, file: IO[bytes], segment: Segment, step: Callable[[int], None] = lambda octets: None) -> None:
        self._file = file
        self._segment = segment
        self._step = step
        self._octets = 0
        self._crc32 = 0

    def read(self, size: int = _BLOCK_OCTETS) -> bytes:
        """Read the next block, empty at the end."""
        block = self._file.read(min(size, _BLOCK_OCTETS))
        self._octets += len(block)
        self._crc32 = zlib.crc32(block, self._crc32)
        self._step(len(block))
        return block

    def check(self) -> None:
        """Raise StoreError if it is not what the manifest says; reads what is left first."""
        while self.read():
            pass
        if (self._octets, self._crc32) != (self._segment.octets, self._segment.crc32):
            raise StoreError(
                f"{self._segment.file} is not what was written (CRC-32): `telemetryd store verify` tells more"
            )


def copy_segment(files: Files, reader: SegmentReader, target: Path) -> None:
    """Copy one segment under its final name, synced, and read it back from the disk.

    Raises
    ------
    StoreError
        If it is not what the manifest says; then ``target`` is not there.
    """
    temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
    try:
        with NewFile(files, target) as sink:
            while block := reader.read():
                sink.write(block)
            reader.check()
            sink.publish()
    except Exception:
        files.unlink(temporary)
        raise
    drop_from_cache(target)
    if checksum(target) != sink.crc32:
        files.unlink(target)
        raise StoreError(f"{target} did not arrive as it was read: look at the disk (dmesg, smartctl)")


def records_of(store: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the frozen records of a store."""
    for name in frozen.names(store):
        yield name, (store / frozen.DIRECTORY / name).read_bytes()


def copy_records(files: Files, records: Iterator[tuple[str, bytes]], target: Path) -> int:
    """Copy the frozen records that ``target`` has not, or has not whole; return how many there are.

    Raises
    ------
    StoreError
        If one is damaged, and ``target`` has none in its place.
    """
    directory = target / frozen.DIRECTORY
    count = 0
    for name, text in records:
        count += 1
        path = directory / name
        if path.exists() and frozen.is_whole(path.read_bytes()):
            continue
        if not frozen.is_whole(text):
            raise StoreError(
                f"the frozen record {name} is damaged: bring it back from another backup, or make a new revision "
                "(telemetryd report monthly --refresh) and remove this one"
            )
        if not directory.is_dir():
            directory.mkdir()
            files.sync_directory(target)
        with NewFile(files, path) as sink:
            sink.write(text)
            sink.publish()
    if count:
        files.sync_directory(directory)
    return count


def drop_from_cache(path: Path) -> None:
    """Make the next reading of a file that was synced come from the disk."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def backup_name(segment: Segment) -> str:
    """Return the name of a segment in a backup: what was copied once is known by it."""
    number = Path(segment.file).stem.partition("-")[0]
    return f"{number}-{segment.crc32:08x}.parquet"


def refuse_too_little_room(path: Path, needed: int) -> None:
    """Raise StoreError if the disk of ``path`` has no room for so many octets more."""
    free = shutil.disk_usage(path).free
    if needed > free:
        raise StoreError(
            f"{path} has room for {format_size(free)} and {format_size(needed)} are needed: "
            "free some space, or choose another disk"
        )
