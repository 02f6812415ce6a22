"""Where lines go that a server refuses for good: a file of JSON lines, bounded, for a person to look at.

Each record has ``time``, ``output``, ``status``, ``reason`` and ``line``. Full, the file gets the suffix ``.1`` and
replaces the one before, so that both together stay within the limit. Records are on the disk before the
lines leave the spool; a process that is killed in between writes them once more.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from telemetryd.errors import StoreError

LONGEST_REASON: Final = 500
ROTATED: Final = ".1"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Lines that were refused, and why: one line, or those of a piece that was not taken apart further."""

    lines: Sequence[bytes]
    status: int
    reason: str


class DeadLetters:
    """The file of one output; every call is whole, from any thread.

    Parameters
    ----------
    path:
        Of the file; its directory is made.
    limit_octets:
        Of the file and the one before together.
    clock:
        Wall clock in ns.
    """

    def __init__(self, path: Path, output: str, limit_octets: int, clock: Callable[[], int]) -> None:
        self.path = path
        self._output = output
        self._limit = limit_octets // 2
        self._clock = clock
        self._lock = threading.Lock()

    def add(self, rejected: Sequence[Rejected]) -> int:
        """Append lines and bring them to the disk; return how many there were.

        Raises
        ------
        StoreError
            If it cannot be written; some of the lines may be in the file.
        """
        time = datetime.fromtimestamp(self._clock() // 1_000_000 / 1000, UTC)
        stamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        records = [
            json.dumps(
                {
                    "time": stamp,
                    "output": self._output,
                    "status": one.status,
                    "reason": one.reason[:LONGEST_REASON],
                    "line": line.decode("utf-8", "backslashreplace").rstrip("\n"),
                },
                ensure_ascii=False,
            ).encode()
            + b"\n"
            for one in rejected
            for line in one.lines
        ]
        with self._lock:
            try:
                self._append(records)
            except OSError as error:
                raise StoreError(f"cannot write {self.path}: {error.strerror}") from error
        return len(records)

    def _append(self, records: Sequence[bytes]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("ab")
        try:
            size = file.tell()
            for record in records:
                if size and size + len(record) > self._limit:
                    _close(file)
                    self.path.replace(self.path.with_name(self.path.name + ROTATED))
                    file, size = self.path.open("ab"), 0
                size += file.write(record)
        finally:
            _close(file)


def _close(file: BinaryIO) -> None:
    """Bring what was written to the disk, and close the file in any case."""
    with file:
        if not file.closed:
            file.flush()
            os.fsync(file.fileno())
