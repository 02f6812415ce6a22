"""A file of records that shows whether it was changed: one JSON object a line, each with the hash of the one before.

Every record has ``number`` (1, 2, 3 ...) and ``previous`` (SHA-256 of the line before it). The chain shows a line that
was changed or taken out; not the loss of the last ones: a copy elsewhere does. Records are on the disk when
:meth:`Chain.append` returns. A line that was being written when the power failed is left out, and overwritten by the
next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from telemetryd.errors import TelemetrydError

FIRST: Final = "0" * 64
_BLOCK: Final = 64 << 10

Document = dict[str, Any]


class Chain:
    """Records in a file; it need not exist yet. Several processes may append.

    Parameters
    ----------
    path:
        The file; its directory is made with the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> list[Document]:
        """Return all records, the oldest first, each held against the one before.

        Raises
        ------
        TelemetrydError
            If a line was changed, or the file cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise TelemetrydError(f"{self.path} cannot be read: {error.strerror}") from error
        return list(self._parse(data[: data.rfind(b"\n") + 1]))

    def append(self, document: Mapping[str, Any]) -> Document:
        """Add a record and return it, with its number; only the last line is read.

        Raises
        ------
        TelemetrydError
            If it cannot be written, or the last line is no record.
        """
        return self.append_after(lambda _: document)[0]

    def append_after(self, make: Callable[[Document | None], Mapping[str, Any] | None]) -> tuple[Document, bool]:
        """Add what is made out of the last record, None where there is none yet; nobody appends meanwhile.

        Where nothing is made the last record is returned, and False.

        Raises
        ------
        TelemetrydError
            If it cannot be written, or the last line is no record.
        """
        try:
            with self._opened() as file:
                length, line = _last_line(file)
                last = self._read_line(line) if line is not None else None
                previous = hashlib.sha256(line).hexdigest() if line is not None else FIRST
                number = last["number"] + 1 if last is not None else 1
                made = make(last)
                if made is None:
                    return last or {}, False
                record = {**made, "number": number, "previous": previous}
                file.truncate(length)
                file.seek(length)
                file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TelemetrydError(f"{self.path} cannot be written: {error.strerror}") from error
        return record, True

    def _parse(self, data: bytes) -> Iterator[Document]:
        previous = FIRST
        for number, line in enumerate(data.splitlines(), 1):
            record = self._read_line(line, number)
            if record.get("previous") != previous or record.get("number") != number:
                raise TelemetrydError(f"{self.path}:{number}: does not follow from the line before: it was changed")
            previous = hashlib.sha256(line).hexdigest()
            yield record

    def _read_line(self, line: bytes, number: int | None = None) -> Document:
        where = f"{self.path}:{number}" if number is not None else f"{self.path}, the last line"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise TelemetrydError(f"{where}: is no record: {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("number"), int):
            raise TelemetrydError(f"{where}: is no record: it has no number")
        return record

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """Open the file for reading and appending, for one process at a time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        if is_new:
            sync_directory(self.path.parent)


def sync_directory(directory: Path) -> None:
    """Bring names of a directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file by another content, whole or not at all, on the disk when this returns.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _last_line(file: BinaryIO) -> tuple[int, bytes | None]:
    """Return where the last whole line ends, and that line."""
    at = file.seek(0, os.SEEK_END)
    tail, end = b"", -1
    while at > 0:
        step = min(at, _BLOCK)
        at -= step
        file.seek(at)
        tail = file.read(step) + tail
        if end < 0:
            newline = tail.rfind(b"\n")
            if newline < 0:
                tail = b""  # half a line: the next record takes its place
                continue
            end, tail = at + newline + 1, tail[:newline]
        start = tail.rfind(b"\n")
        if start >= 0:
            return end, tail[start + 1 :]
    return (end, tail) if end >= 0 else (0, None)
