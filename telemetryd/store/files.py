"""The few file operations a store is made of, in one place so that tests can break each of them.

A file becomes visible only whole: it is written under a temporary name, synced, renamed, and the
directory that holds it is synced.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO, Final

TEMPORARY_SUFFIX: Final = ".tmp"
_BLOCK_OCTETS: Final = 1 << 20


class Files:
    """Durable operations on files; every one may raise OSError."""

    def create(self, path: Path) -> BinaryIO:
        """Open a new file for writing, emptying one of the same name."""
        return path.open("wb")

    def write(self, file: BinaryIO, data: bytes | bytearray) -> None:
        """Write all of ``data``."""
        file.write(data)

    def sync(self, file: BinaryIO) -> None:
        """Bring what was written to the disk."""
        file.flush()
        os.fsync(file.fileno())

    def truncate(self, path: Path, octets: int) -> None:
        """Cut a file that nobody writes off after so many octets, and bring that to the disk."""
        with path.open("r+b") as file:
            file.truncate(octets)
            os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        """Give ``source`` the name ``target``, replacing what had it."""
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name."""
        target.hardlink_to(source)

    def sync_directory(self, path: Path) -> None:
        """Bring the names inside a directory to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        """Remove a name; one that is gone already is no error."""
        path.unlink(missing_ok=True)


class NewFile:
    """A file-like sink that becomes visible under its final name only by :meth:`publish`.

    Counts and checksums (CRC-32) what passes through, and passes it on in large blocks. As a context
    manager it closes the file; what was not published keeps its temporary name until the next open for
    writing. The caller syncs the directory, once for all files of a commit.
    """

    def __init__(self, files: Files, path: Path) -> None:
        self._files = files
        self._path = path
        self._temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        self._file = files.create(self._temporary)
        self._held = bytearray()
        self.octets = 0
        self.crc32 = 0

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        """Tell whether the file was closed (asked by pyarrow)."""
        return self._file.closed

    def write(self, data: bytes) -> int:
        """Append ``data`` and return its length in octets."""
        self._held += data
        self.octets += len(data)
        if len(self._held) >= _BLOCK_OCTETS:
            self._pass_on()
        return len(data)

    def _pass_on(self) -> None:
        self.crc32 = zlib.crc32(self._held, self.crc32)
        self._files.write(self._file, self._held)
        self._held = bytearray()

    def tell(self) -> int:
        """Return the number of octets written."""
        return self.octets

    def flush(self) -> None:
        """Do nothing: :meth:`publish` brings everything to the disk at once (asked by pyarrow)."""

    def publish(self) -> None:
        """Sync the content and give the file its final name; ``crc32`` is complete from then on."""
        self._pass_on()
        self._files.sync(self._file)
        self._file.close()
        self._files.rename(self._temporary, self._path)
