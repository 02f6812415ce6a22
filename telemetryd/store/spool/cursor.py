"""What an output has done: ranges of sequence numbers, kept in a small file that is replaced whole."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from telemetryd.errors import StoreError
from telemetryd.store.files import Files, NewFile

FORMAT: Final = "telemetryd-spool-cursor"
VERSION: Final = 1
SUFFIX: Final = ".json"
#: Behind every sequence number.
END: Final = 1 << 64


class DamagedCursorError(StoreError):
    """A cursor that cannot be read."""


class Done:
    """A set of sequence numbers, as ranges [start, stop): few, since what is done is mostly what is old."""

    def __init__(self, ranges: list[tuple[int, int]] | None = None) -> None:
        self._ranges = ranges or []

    def __contains__(self, sequence: int) -> bool:
        place = bisect_right(self._ranges, (sequence, END)) - 1
        return place >= 0 and sequence < self._ranges[place][1]

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The ranges in their order; none touches the next."""
        return tuple(self._ranges)

    @property
    def stop(self) -> int:
        """The number behind the last that is done."""
        return self._ranges[-1][1] if self._ranges else 0

    def add(self, start: int, stop: int) -> None:
        """Add the numbers in [start, stop)."""
        first = bisect_right(self._ranges, (start, -1))
        if first and self._ranges[first - 1][1] >= start:
            first -= 1
            start = self._ranges[first][0]
        behind = first
        while behind < len(self._ranges) and self._ranges[behind][0] <= stop:
            stop = max(stop, self._ranges[behind][1])
            behind += 1
        self._ranges[first:behind] = [(start, stop)]

    def gaps(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges that are not done; the last one has no end."""
        start = 0
        for first, stop in self._ranges:
            if first > start:
                yield start, first
            start = stop
        yield start, END


def save(files: Files, directory: Path, name: str, done: Done) -> None:
    """Write the cursor of an output, whole; may raise OSError."""
    document = {"format": FORMAT, "version": VERSION, "output": name, "done": done.ranges}
    with NewFile(files, directory / (name + SUFFIX)) as file:
        file.write(json.dumps(document).encode() + b"\n")
        file.publish()
    files.sync_directory(directory)


def load(path: Path) -> Done:
    """Read the cursor of an output.

    Raises
    ------
    DamagedCursorError
        If it is damaged.
    StoreError
        If it was written by a newer version of telemetryd.
    OSError
        If it cannot be read.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise ValueError("not a cursor")
        if document["version"] > VERSION:
            raise StoreError(
                f"{path} has version {document['version']} and this telemetryd reads versions up to {VERSION}: "
                "use the telemetryd that wrote it, or a newer one"
            )
        done = Done()
        for start, stop in document["done"]:
            if not 0 <= start < stop < END:
                raise ValueError("not a range")
            done.add(start, stop)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCursorError(f"{path} is damaged: {error}") from None
    return done
