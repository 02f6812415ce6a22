"""Whether a store is what its manifest says: every segment read whole, and the manifest held against itself.

Finds flipped bits, cut and missing files, rows that are not what was written, and a manifest whose parts contradict
each other. Reads only; a writer may go on meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from telemetryd.store.embedded import SEGMENTS_NAME, Snapshot, Store
from telemetryd.store.files import TEMPORARY_SUFFIX
from telemetryd.store.manifest import COUNTERS, MANIFEST_NAME, SEGMENT_SCHEMA, Manifest, Segment
from telemetryd.store.report import record as frozen
from telemetryd.store.segment import SCHEMAS, checksum, segment_number

RESTORE: Final = "bring the store back from a backup: telemetryd store restore BACKUP --store DIR --replace"
COPY_AGAIN: Final = "remove this file from the backup and run telemetryd store backup again, or use another backup"

Progress = Callable[[int, int], None]
"""Called with the octets that are done and those of all."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong, in which file, and what to do about it."""

    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what} - {self.remedy}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found.

    Attributes
    ----------
    segments, rows, octets:
        Live segments and what they should hold.
    faults:
        What is damaged, sorted by file.
    strays:
        Files that no manifest lists: left by a crash, or being written just now. They are no damage.
    """

    segments: int
    rows: int
    octets: int
    faults: tuple[Fault, ...]
    strays: tuple[str, ...]


def verify(store: Store, progress: Progress = lambda done, of: None) -> Verdict:
    """Read every live segment of a store and hold it against the manifest.

    Raises
    ------
    StoreError
        If the manifest cannot be read.
    """
    snapshot = store.snapshot()
    faults = list(manifest_faults(snapshot))
    octets = sum(segment.octets for segment in snapshot.manifest.segments)
    remedy = RESTORE if snapshot.manifest.backup is None else COPY_AGAIN
    done = 0
    for segment in snapshot.manifest.segments:
        found = list(segment_faults(snapshot.path(segment), segment, remedy))
        if found and _is_replaced(store, segment):
            # Compaction or retention took it since the snapshot, and the grace period is over.
            found = []
        faults += found
        done += segment.octets
        progress(done, octets)
    faults += record_faults(snapshot.directory, remedy)
    listed = {segment.file for segment in snapshot.manifest.segments}
    listed |= {retired.file for retired in snapshot.manifest.retired}
    strays = sorted(
        path.name
        for path in (snapshot.directory / SEGMENTS_NAME).iterdir()
        if path.name not in listed and not _is_newer(path.name, snapshot.manifest)
    )
    rows = sum(segment.rows for segment in snapshot.manifest.segments)
    return Verdict(len(snapshot.manifest.segments), rows, octets, tuple(sorted(faults)), tuple(strays))


def record_faults(store: Path, remedy: str) -> Iterator[Fault]:
    """Read every frozen record of a report and say which are damaged."""
    for name in frozen.names(store):
        path = store / frozen.DIRECTORY / name
        try:
            if not frozen.is_whole(path.read_bytes()):
                yield Fault(str(path), "the content is not what was frozen (SHA-256)", remedy)
        except OSError as error:
            yield Fault(str(path), f"cannot be read: {error.strerror or error}", remedy)


def segment_faults(path: Path, segment: Segment, remedy: str = RESTORE) -> Iterator[Fault]:
    """Read one segment whole and say what is wrong with it; the first fault that spoils the others ends it."""

    def fault(what: str) -> Fault:
        return Fault(str(path), what, remedy)

    try:
        octets = path.stat().st_size
        if octets != segment.octets:
            yield fault(f"has {octets:,} octets instead of {segment.octets:,}")
            return
        if checksum(path) != segment.crc32:
            yield fault("the content is not what was written (CRC-32)")
            return
        yield from map(fault, _content_faults(path, segment))
    except FileNotFoundError:
        yield fault("is missing")
    except OSError as error:
        yield fault(f"cannot be read: {error.strerror or error}")
    except pa.ArrowException as error:
        yield fault(f"is no Parquet file that can be read: {str(error).splitlines()[0]}")


def _content_faults(path: Path, segment: Segment) -> Iterator[str]:
    schema = SCHEMAS[segment.kind]
    # Decodes every column: a checksum that fits says that the octets are those that were written, not that
    # what wrote them was sound.
    with pq.ParquetFile(path) as file:
        found = {field.name: field.type for field in file.schema_arrow}
        wanted = {field.name: _plain_type(field.type) for field in schema}
        if found != wanted:
            yield f"has other columns than schema {segment.schema} of {segment.kind}: {_difference(found, wanted)}"
            return
        rows, first_ns, last_ns = 0, None, 0
        spans: set[int] = set()
        origins: set[str] = set()
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            times = group["time"].to_numpy()
            rows += len(times)
            first_ns = int(times.min()) if first_ns is None else min(first_ns, int(times.min()))
            last_ns = max(last_ns, int(times.max()))
            spans.update(np.unique(group["span_ns"].to_numpy()).tolist())
            origins.update(group["origin"].unique().to_pylist())
    if rows != segment.rows:
        yield f"has {rows:,} rows instead of {segment.rows:,}"
    if spans - {segment.span_ns}:
        yield f"has windows of other spans than {segment.span_ns} ns"
    if (first_ns, last_ns + segment.span_ns) != (segment.first_ns, segment.end_ns):
        yield "has other times than the manifest says"
    if origins != set(segment.origins):
        yield "has other origins than the manifest says"


def manifest_faults(snapshot: Snapshot) -> Iterator[Fault]:
    """Hold the parts of a manifest against each other."""
    state = snapshot.manifest
    where = str(snapshot.directory / MANIFEST_NAME)

    def fault(what: str) -> Fault:
        return Fault(where, what, RESTORE)

    for name, count in Counter(segment.file for segment in state.segments).items():
        if count > 1:
            yield fault(f"lists {name} {count} times")
    for name in sorted({s.file for s in state.segments} & {r.file for r in state.retired}):
        yield fault(f"lists {name} as live and as retired")
    for segment in state.segments:
        yield from map(fault, _entry_faults(segment, state))


def _entry_faults(segment: Segment, state: Manifest) -> Iterator[str]:
    name = segment.file
    if segment.kind not in SCHEMAS or not 1 <= segment.schema <= SEGMENT_SCHEMA:
        yield f"{name} is of the unknown kind {segment.kind!r}, schema {segment.schema}"
    if segment.rows <= 0 or segment.span_ns <= 0 or segment.first_ns >= segment.end_ns or not segment.origins:
        yield f"{name} is said to hold nothing"
    number = segment_number(name)
    if number is not None and state.backup is None and number >= state.next_id:
        yield f"{name} has a number that was not given away yet (next_id {state.next_id})"
    if segment.kind in COUNTERS:
        return  # extents are those of usage
    extents = [state.extents.get(origin, {}).get(segment.span_ns) for origin in segment.origins]
    known = [extent for extent in extents if extent is not None]
    if len(known) < len(extents):
        yield f"{name} holds an origin of which no extent of {segment.span_ns} ns is known"
    elif known and (
        segment.first_ns < min(extent.first_ns for extent in known)
        or segment.end_ns > max(extent.until_ns for extent in known)
    ):
        yield f"{name} reaches beyond the extents of its origins"


def _plain_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    return ", ".join(f"{name} is {found.get(name, 'missing')}" for name in names) or "in another order"


def _is_replaced(store: Store, segment: Segment) -> bool:
    return all(segment.file != live.file for live in store.snapshot().manifest.segments)


def _is_newer(name: str, state: Manifest) -> bool:
    """Tell whether a file was begun after the snapshot, by the writer that goes on meanwhile."""
    number = segment_number(name.removesuffix(TEMPORARY_SUFFIX))
    return number is not None and number >= state.next_id
