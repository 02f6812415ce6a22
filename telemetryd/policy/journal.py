"""The history of policies: who recorded or applied which version, when and why.

    DIR/policy-history/journal.jsonl        one record a line; each carries the SHA-256 of the line before it
    DIR/policy-history/objects/<sha256>     the files of all versions, once each

A version is the hash of its files' names and contents: policies and the calendars that they refer to. The chain of
hashes shows a line that was changed or taken out (not the loss of the last ones: a copy elsewhere does). A line that
was being written when the power failed is left out, and overwritten by the next one.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from telemetryd.errors import InputError, TelemetrydError
from telemetryd.observe.chain import Chain, Document, write_whole
from telemetryd.policy.loaded import Policies

_DIRECTORY: Final = "policy-history"
_JOURNAL: Final = "journal.jsonl"
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
        self._chain = Chain(self.directory / _JOURNAL)

    def records(self) -> list[Record]:
        """Return all records, the oldest first.

        Raises
        ------
        TelemetrydError
            If a line was changed, or the journal cannot be read.
        """
        return [self._record(document) for document in self._chain.records()]

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
        self._chain.records()  # a changed line is found before anything is added to it
        contents = _contents(policies)
        files, version = _version(contents)

        def make(last: Document | None) -> dict[str, Any] | None:
            if last is not None and (last.get("version"), last.get("action")) == (version, action):
                return None
            for (_, digest), (_, data) in zip(files, contents, strict=True):
                self._keep(digest, data)
            return {
                "at": at.isoformat(timespec="seconds"),
                "who": who,
                "why": why,
                "action": action,
                "policies": [policy.name for policy in policies.policies],
                "version": version,
                "files": files,
            }

        document, is_new = self._chain.append_after(make)
        return self._record(document), is_new

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

    def _keep(self, digest: str, data: bytes) -> None:
        target = self.directory / "objects" / digest
        if target.exists():
            return
        try:
            write_whole(target, data)
        except OSError as error:
            raise TelemetrydError(f"the history in {self.directory} cannot be written: {error.strerror}") from error

    def _record(self, document: Document) -> Record:
        try:
            known = {
                **document,
                "policies": tuple(document["policies"]),
                "files": tuple((name, digest) for name, digest in document["files"]),
            }
            return Record(**known)
        except (ValueError, TypeError, KeyError) as error:
            where = f"{self._chain.path}:{document['number']}"
            raise TelemetrydError(f"{where}: is no record of the history: {error}") from error


def version_of(policies: Policies) -> str:
    """Return the version of policies as they are in their files."""
    return _version(_contents(policies))[1]


def _version(contents: list[tuple[str, bytes]]) -> tuple[tuple[tuple[str, str], ...], str]:
    files = tuple((name, hashlib.sha256(data).hexdigest()) for name, data in contents)
    listing = "".join(f"{digest}  {name}\n" for name, digest in files)
    return files, hashlib.sha256(listing.encode()).hexdigest()


def _contents(policies: Policies) -> list[tuple[str, bytes]]:
    """Return name and content of every file of the policies, sorted by name."""
    paths = {Path(policy.document.file).resolve() for policy in policies.policies}
    paths |= {path for policy in policies.policies for path in policy.calendar_files}
    common = Path(os.path.commonpath([path.parent for path in paths]))
    try:
        return sorted((path.relative_to(common).as_posix(), path.read_bytes()) for path in paths)
    except OSError as error:
        raise TelemetrydError(f"a policy cannot be read: {error}") from error
