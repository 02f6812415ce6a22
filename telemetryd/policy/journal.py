"""The history of policies: who recorded or applied which version, when and why.

    DIR/policy-history/journal.jsonl        one record a line; each carries the SHA-256 of the line before it
    DIR/policy-history/objects/<sha256>     the files of all versions, once each

A version is the hash of its files' names and contents: policies and the calendars that they refer to. The chain of
hashes shows a line that was changed or taken out (not the loss of the last ones: a copy elsewhere does). A line that
was being written when the power failed is left out, and overwritten by the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from telemetryd.errors import InputError, TelemetrydError
from telemetryd.policy.loaded import Policies

_DIRECTORY: Final = "policy-history"
_JOURNAL: Final = "journal.jsonl"
_FIRST: Final = "0" * 64
_SHORT: Final = 12


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the history.

    Attributes
    ----------
    number:
        1, 2, 3 ...
    at:
        When, ISO 8601 with its offset.
    who, why:
        Who did it and for what reason.
    action:
        ``recorded``, or ``applied``.
    policies:
        Names of the policies.
    version:
        Hash of the files.
    files:
        (name, SHA-256) of each file, names relative to what they have in common.
    previous:
        SHA-256 of the line before.
    """

    number: int
    at: str
    who: str
    why: str
    action: str
    policies: tuple[str, ...]
    version: str
    files: tuple[tuple[str, str], ...]
    previous: str

    @property
    def short(self) -> str:
        """The first digits of the version, for people."""
        return self.version[:_SHORT]


class Journal:
    """The history below a state directory; it need not exist yet."""

    def __init__(self, state: Path) -> None:
        self.directory = state / _DIRECTORY
        self._path = self.directory / _JOURNAL

    def records(self) -> list[Record]:
        """Return all records, the oldest first.

        Raises
        ------
        TelemetrydError
            If a line was changed, or the journal cannot be read.
        """
        try:
            return self._parse(self._path.read_bytes())[0]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise TelemetrydError(f"{self._path} cannot be read: {error.strerror}") from error

    def find(self, text: str) -> Record:
        """Return the record of a number, or the last one of a version by its first digits.

        Raises
        ------
        InputError
            If there is none.
        """
        records = self.records()
        for record in reversed(records):
            if text == str(record.number) or (len(text) >= _SHORT and record.version.startswith(text)):
                return record
        known = f"1 to {len(records)}" if records else "none yet: telemetryd policy record"
        raise InputError(f"no version {text} in {self.directory} - there are {known}")

    def append(self, policies: Policies, *, at: datetime, who: str, why: str, action: str) -> tuple[Record, bool]:
        """Add a record of policies as they are in their files; return it, and whether it is a version of its own.

        The last record is returned, and nothing written, where it has the same version and action.

        Raises
        ------
        TelemetrydError
            If it cannot be written, or the journal was changed.
        """
        contents = self._contents(policies)
        files = tuple((name, hashlib.sha256(data).hexdigest()) for name, data in contents)
        listing = "".join(f"{digest}  {name}\n" for name, digest in files)
        version = hashlib.sha256(listing.encode()).hexdigest()
        try:
            with self._opened() as file:
                records, length, previous = self._parse(file.read())
                if records and (records[-1].version, records[-1].action) == (version, action):
                    return records[-1], False
                for (_, digest), (_, data) in zip(files, contents, strict=True):
                    self._keep(digest, data)
                record = Record(
                    number=len(records) + 1,
                    at=at.isoformat(timespec="seconds"),
                    who=who,
                    why=why,
                    action=action,
                    policies=tuple(policy.name for policy in policies.policies),
                    version=version,
                    files=files,
                    previous=previous,
                )
                file.truncate(length)
                file.seek(length)
                file.write(json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TelemetrydError(f"the history in {self.directory} cannot be written: {error.strerror}") from error
        return record, True

    def restore(self, record: Record, directory: Path) -> list[Path]:
        """Write the files of a record into a directory; those that are there already are replaced.

        Raises
        ------
        TelemetrydError
            If a file of the history is missing or was changed, or one cannot be written.
        """
        written = []
        for name, digest in record.files:
            source, target = self.directory / "objects" / digest, directory / name
            try:
                data = source.read_bytes()
                if hashlib.sha256(data).hexdigest() != digest:
                    raise TelemetrydError(f"{source} was changed: the history does not have version {record.number}")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            except OSError as error:
                raise TelemetrydError(f"version {record.number} cannot be written out: {error}") from error
            written.append(target)
        return written

    def _contents(self, policies: Policies) -> list[tuple[str, bytes]]:
        """Return name and content of every file of the policies, sorted by name."""
        paths = {Path(policy.document.file).resolve() for policy in policies.policies}
        paths |= {path for policy in policies.policies for path in policy.calendar_files}
        common = Path(os.path.commonpath([path.parent for path in paths]))
        try:
            return sorted((path.relative_to(common).as_posix(), path.read_bytes()) for path in paths)
        except OSError as error:
            raise TelemetrydError(f"a policy cannot be read: {error}") from error

    def _keep(self, digest: str, data: bytes) -> None:
        objects = self.directory / "objects"
        objects.mkdir(exist_ok=True)
        target = objects / digest
        if target.exists():
            return
        temporary = target.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync(objects)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """Open the journal for reading and appending, for one process at a time."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        _sync(self.directory)

    def _parse(self, data: bytes) -> tuple[list[Record], int, str]:
        """Return the records, how many octets of the file they are, and the hash of the last line."""
        length, previous = data.rfind(b"\n") + 1, _FIRST
        records: list[Record] = []
        for number, line in enumerate(data[:length].splitlines(), 1):
            try:
                document = json.loads(line)
                document["policies"] = tuple(document["policies"])
                document["files"] = tuple((name, digest) for name, digest in document["files"])
                record = Record(**document)
            except (ValueError, TypeError, KeyError) as error:
                raise TelemetrydError(f"{self._path}:{number}: is no record of the history: {error}") from error
            if record.previous != previous or record.number != number:
                raise TelemetrydError(f"{self._path}:{number}: does not follow from the line before: it was changed")
            previous = hashlib.sha256(line).hexdigest()
            records.append(record)
        return records, length, previous


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
