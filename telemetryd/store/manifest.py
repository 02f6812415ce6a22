"""The manifest: which segments are live, and how far each origin is stored.

It is one JSON file, replaced whole by every commit; what it doesn't list doesn't exist. Readers take
the manifest as their snapshot, so they see a commit wholly or not at all and never count a segment
and its compacted copy twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from telemetryd.counter_windows import COUNTER_WINDOWS
from telemetryd.errors import StoreError
from telemetryd.store.files import Files, NewFile
from telemetryd.store.migrate import VERSION, migrated

MANIFEST_NAME: Final = "MANIFEST.json"
FORMAT: Final = "telemetryd-store"
SEGMENT_SCHEMA: Final = 2
"""What new segments hold: 1, estimates with all their bits; 2, rounded (telemetryd.store.columns.KEPT_BITS)."""

USAGE: Final = "usage"
QUALITY: Final = "quality"
COUNTERS: Final = frozenset(COUNTER_WINDOWS)
"""The kinds of counters: ``interface``, ``queue``, ``component``; and ``demand``, ``enforcement``."""
COUNTERS_ORIGIN: Final = "counters:"
"""What the origins begin with whose windows hold no usage, but what counters say of it (store/reconciled.py)."""


def is_of_counters(origin: str) -> bool:
    """Tell whether the windows of an origin hold what counters say, and no usage."""
    return origin.startswith(COUNTERS_ORIGIN)


@dataclass(frozen=True, slots=True)
class Segment:
    """One live Parquet file: rows of one kind and one level, inside one bucket of time.

    Attributes
    ----------
    file:
        Name below the segment directory.
    kind:
        ``usage``, ``quality``, or one of :data:`COUNTERS`.
    span_ns, first_ns, end_ns:
        Span of its windows, start of the first and end of the last of them.
    rows, octets, crc32:
        Number of rows, size and CRC-32 of the file.
    origins:
        Origins of its rows, sorted.
    batches:
        First and last batch that wrote to it.
    schema:
        What its columns are (:data:`SEGMENT_SCHEMA`).
    """

    file: str
    kind: str
    span_ns: int
    first_ns: int
    end_ns: int
    rows: int
    octets: int
    crc32: int
    origins: tuple[str, ...]
    batches: tuple[int, int]
    schema: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of one (origin, span) was ever stored: windows from ``first_ns`` to ``until_ns``."""

    first_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Retired:
    """A segment that is no longer live, kept a while for readers of older snapshots.

    ``since_ns`` is wall-clock time.
    """

    file: str
    since_ns: int


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup is one of: the directory of the store, and when it was made by the wall clock."""

    source: str
    made_ns: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One state of a store.

    Attributes
    ----------
    id:
        Names the store for ever: its backups and what is restored from them have the same. Empty while only
        readers have brought a store of version 1 along.
    generation:
        Number of commits so far.
    next_id:
        Number of the next batch or segment; never used twice.
    segments:
        The live segments.
    retired:
        Segments to unlink once their grace period is over.
    extents:
        Origin -> span_ns -> extent; outlives compaction and retention.
    floors:
        span_ns -> time before which segments of that level were removed by retention.
    retention:
        span_ns -> how long the last writer kept windows, in ns.
    backup:
        Set in a backup, which nobody may append to.
    version:
        Version of the file it was read from; what is saved has the newest.
    """

    id: str = ""
    generation: int = 0
    next_id: int = 1
    segments: tuple[Segment, ...] = ()
    retired: tuple[Retired, ...] = ()
    extents: dict[str, dict[int, Extent]] = field(default_factory=dict)
    floors: dict[int, int] = field(default_factory=dict)
    retention: dict[int, int] = field(default_factory=dict)
    backup: Backup | None = None
    version: int = VERSION

    def newest_ns(self) -> int | None:
        """Return the end of the newest data at the finest level stored, None in an empty store.

        The finest level is asked, since the last window of a coarser one reaches beyond the data.
        """
        ends = [
            spans[min(spans)].until_ns for origin, spans in self.extents.items() if spans and not is_of_counters(origin)
        ]
        return max(ends, default=None)

    def to_json(self) -> str:
        """Render the manifest as the text of its file."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "id": self.id,
            "generation": self.generation,
            "next_id": self.next_id,
            "segments": [_plain(segment) for segment in self.segments],
            "retired": [_plain(retired) for retired in self.retired],
            "extents": {
                origin: {span_ns: _plain(extent) for span_ns, extent in spans.items()}
                for origin, spans in self.extents.items()
            },
            "floors": self.floors,
            "retention": self.retention,
            "backup": None if self.backup is None else _plain(self.backup),
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _plain(record: Segment | Retired | Extent | Backup) -> dict[str, Any]:
    # A tenth of the cost of dataclasses.asdict, which copies every value: this runs at every commit.
    return {name: getattr(record, name) for name in record.__slots__}


def parse(text: str, where: Path) -> Manifest:
    """Read a manifest from the text of its file.

    One of an older version is brought to this version, in memory only.

    Raises
    ------
    StoreError
        If it is damaged, or written by a newer version of telemetryd.
    """
    try:
        document: dict[str, Any] = json.loads(text)
        if document["format"] != FORMAT:
            raise StoreError(f"{where} is not the manifest of a telemetryd store")
        version, document = int(document["version"]), migrated(document, where)
        found = Manifest(
            id=str(document["id"]),
            generation=int(document["generation"]),
            next_id=int(document["next_id"]),
            segments=tuple(
                Segment(**{**item, "origins": tuple(item["origins"]), "batches": tuple(item["batches"])})
                for item in document["segments"]
            ),
            retired=tuple(Retired(**item) for item in document["retired"]),
            extents={
                origin: {int(span): Extent(**extent) for span, extent in spans.items()}
                for origin, spans in document["extents"].items()
            },
            floors={int(span): int(floor) for span, floor in document["floors"].items()},
            retention={int(span): int(keep) for span, keep in document["retention"].items()},
            backup=None if document["backup"] is None else Backup(**document["backup"]),
            version=version,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{where} is damaged ({error}): restore the store from a backup by `telemetryd store restore`, "
            "or start a new one elsewhere"
        ) from error
    for segment in found.segments:
        if segment.schema > SEGMENT_SCHEMA:
            raise StoreError(
                f"{where}: {segment.file} has schema {segment.schema} and this telemetryd reads up to "
                f"{SEGMENT_SCHEMA}: use the telemetryd that wrote the store, or a newer one"
            )
    return found


def load(directory: Path) -> Manifest | None:
    """Read the manifest of the store in ``directory``; None where there is none."""
    path = directory / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    return parse(text, path)


def save(files: Files, directory: Path, manifest: Manifest) -> None:
    """Replace the manifest of the store in ``directory``, atomically; may raise OSError."""
    with NewFile(files, directory / MANIFEST_NAME) as file:
        file.write(manifest.to_json().encode())
        file.publish()
    files.sync_directory(directory)
