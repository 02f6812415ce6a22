"""Frozen records: what was printed once is printed the same for ever.

    STORE/reports/2026-10.r1.json     {"format", "version", "sha256", "record"}
    STORE/reports/2026-10.r2.json     a later revision; the earlier ones stay

The SHA-256 is that of the record in canonical JSON. Retention never touches these files, nor does anything
but the making of a new revision.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import threading
from pathlib import Path
from typing import Any, Final

from telemetryd.errors import StoreError
from telemetryd.store.files import Files
from telemetryd.store.report.usage import Json

DIRECTORY: Final = "reports"
FORMAT: Final = "telemetryd-report"
VERSION: Final = 1
_NAME: Final = re.compile(r"(\d{4}-\d{2})\.r([1-9]\d*)\.json", re.ASCII)


def digest(record: Json) -> str:
    """Return the SHA-256 of a record's canonical JSON."""
    return hashlib.sha256(_canonical(record)).hexdigest()


def wrapped(record: Json) -> Json:
    """Return the document that holds a record, as it is stored."""
    return {"format": FORMAT, "version": VERSION, "sha256": digest(record), "record": record}


def _canonical(record: Json) -> bytes:
    return json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def revisions(store: Path, month: str) -> list[int]:
    """Return the numbers of the frozen revisions of a month, in order."""
    directory = store / DIRECTORY
    try:
        names = [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read {directory}: {error.strerror}") from error
    found = (_NAME.fullmatch(name) for name in names)
    return sorted(int(match[2]) for match in found if match is not None and match[1] == month)


def names(store: Path) -> list[str]:
    """Return the file names of all frozen records; may raise OSError."""
    directory = store / DIRECTORY
    return sorted(path.name for path in directory.iterdir() if is_name(path.name)) if directory.is_dir() else []


def is_name(name: str) -> bool:
    """Tell whether a file of this name is a frozen record."""
    return _NAME.fullmatch(name) is not None


def is_whole(text: bytes) -> bool:
    """Tell whether the content of a record's file is what was frozen."""
    try:
        document = json.loads(text)
        return bool(document["format"] == FORMAT and digest(document["record"]) == document["sha256"])
    except (ValueError, KeyError, TypeError):
        return False


def path_of(store: Path, month: str, revision: int) -> Path:
    """Return the file of a frozen record."""
    return store / DIRECTORY / f"{month}.r{revision}.json"


def load(store: Path, month: str, revision: int | None = None) -> Json | None:
    """Read a frozen record, the newest revision by default; None where there is none.

    Raises
    ------
    StoreError
        If it cannot be read, is damaged or was changed, or is of a newer version; with its name.
    """
    if revision is None:
        known = revisions(store, month)
        if not known:
            return None
        revision = known[-1]
    path = path_of(store, month, revision)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read the frozen record {path}: {error}") from error
    try:
        document: dict[str, Any] = json.loads(text)
        version, record, expected = document["version"], document["record"], document["sha256"]
        is_ours = document["format"] == FORMAT and isinstance(version, int)
        is_whole = digest(record) == expected and (record["month"], record["revision"]) == (month, revision)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"it is no record ({error})") from error
    if is_ours and version > VERSION:
        raise StoreError(
            f"the frozen record {path} has version {version}, newer than this telemetryd reads ({VERSION})"
        )
    if not is_ours or not is_whole:
        raise _damaged(path, "its content is not what was frozen")
    return dict(record)


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(
        f"the frozen record {path} is damaged: {what}; restore it from a backup, or make a new revision by --refresh"
    )


def freeze(store: Path, record: Json, files: Files | None = None) -> Json:
    """Store a record for good, as the next revision of its month; return it as it was stored.

    Raises
    ------
    StoreError
        If it cannot be written; then nothing is frozen.
    """
    files = files or Files()
    directory = store / DIRECTORY
    try:
        directory.mkdir(exist_ok=True)
        files.sync_directory(store)
        while True:
            known = revisions(store, record["month"])
            record = record | {"revision": (known[-1] if known else 0) + 1}
            if _publish(files, path_of(store, record["month"], record["revision"]), record):
                return record
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full: free some space and run it again"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"{reason}: run it as the user that owns the store"
        raise StoreError(f"cannot freeze the record of {record['month']} in {directory}: {reason}") from error


def _publish(files: Files, path: Path, record: Json) -> bool:
    """Write a record under its name, wholly or not at all; tell whether the name was still free."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with files.create(temporary) as file:
            text = json.dumps(wrapped(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            files.write(file, text.encode())
            files.sync(file)
        try:
            # A link, unlike a rename, does not replace what another process froze meanwhile.
            os.link(temporary, path)
        except FileExistsError:
            return False
        files.sync_directory(path.parent)
        return True
    finally:
        files.unlink(temporary)
