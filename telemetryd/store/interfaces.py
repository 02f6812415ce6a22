"""Interface counters of the store: those of earlier runs, and questions about them.

Windows of 10 s are stored, and their roll-ups of 1 min, 5 min and 1 h. Like usage (:mod:`telemetryd.store.cover`), a
range is read from the coarsest windows that lie in it, and from finer ones at its edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from telemetryd.aggregate.interface_rollup import SPANS_NS
from telemetryd.errors import InputError
from telemetryd.schema import InterfaceWindow
from telemetryd.store import cover, select
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.interface_columns import INTERFACE_SCHEMA, interface_windows
from telemetryd.store.levels import HOUR_NS, SECOND_NS
from telemetryd.store.manifest import INTERFACE, Manifest, Segment

TEN_NS: Final = 10 * SECOND_NS
#: Roll-ups that were left open are finished from the windows of so long at most.
LONGEST_NS: Final = 6 * HOUR_NS

_COUNTS: Final = tuple(f"{way}_{what}" for way in ("in", "out") for what in ("octets", "packets", "discards", "errors"))
Row = dict[str, Any]


def newest_ns(store: Store) -> int:
    """Return the end of the newest window of interface counters, 0 where there is none."""
    return max((segment.end_ns for segment in _segments(store.snapshot().manifest)), default=0)


def stored_until(path: Path) -> dict[int, int]:
    """Return span in ns -> end of the last window of interface counters that a store holds; empty where it has none.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    until: dict[int, int] = {}
    for segment in _segments(Store.open(path, "read").snapshot().manifest):
        until[segment.span_ns] = max(until.get(segment.span_ns, 0), segment.end_ns)
    return until


def stored_parts(path: Path, until_ns: Mapping[int, int]) -> list[InterfaceWindow]:
    """Return the windows that are part of a longer one which is not stored yet.

    Parameters
    ----------
    until_ns:
        What :func:`stored_until` said.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    newest = until_ns.get(TEN_NS, 0)

    def read(snapshot: Snapshot) -> list[InterfaceWindow]:
        parts: list[InterfaceWindow] = []
        for span_ns, longer_ns in pairwise((TEN_NS, *SPANS_NS)):
            from_ns = max(until_ns.get(longer_ns, 0), newest - LONGEST_NS)
            tables = [
                pq.read_table(snapshot.path(segment), schema=INTERFACE_SCHEMA, partitioning=None)
                for segment in _segments(snapshot.manifest)
                if segment.span_ns == span_ns and segment.end_ns > from_ns
            ]
            if tables:
                table = pa.concat_tables(tables)
                parts += interface_windows(table.filter(pc.greater_equal(table["time"], from_ns)))
        return parts

    return Store.open(path, "read").read(read)


@dataclass(frozen=True, slots=True)
class InterfaceAnswer:
    """Interface counters of a range.

    Attributes
    ----------
    from_ns, to_ns, spans_ns:
        The range answered, and the spans of the windows that it was read from.
    rows:
        One dict a row: ``time_ns`` where buckets were asked for, ``device``, ``interface``, the counts, ``covered_s``,
        ``in_bps`` and ``out_bps`` over the time that is covered, ``capacity_bps`` (None: unknown), ``in_share`` and
        ``out_share`` of it, ``up`` (None: unknown), ``flags``. The busiest interfaces come first.
    bucket_ns:
        Width of the buckets of time, None where there are none.
    """

    from_ns: int
    to_ns: int
    spans_ns: tuple[int, ...]
    rows: list[Row]
    bucket_ns: int | None = None


def interfaces(
    store: Store,
    from_ns: int | None = None,
    to_ns: int | None = None,
    *,
    devices: Sequence[str] = (),
    names: Sequence[str] = (),
    bucket_ns: int | None = None,
    n: int | None = None,
) -> InterfaceAnswer:
    """Sum the counters of interfaces over a range, in buckets of time if asked for.

    Parameters
    ----------
    from_ns, to_ns:
        Half-open range; None means from the first, up to the newest window. It is widened to windows of 10 s.
    devices, names:
        Devices and interfaces; none takes all.
    n:
        How many interfaces, the busiest; None for all.

    Raises
    ------
    InputError
        If the store has no interface counters, the range is empty, or the buckets are no multiple of 10 s.
    StoreError
        If the store cannot be read.
    """
    if bucket_ns is not None and bucket_ns % TEN_NS:
        raise InputError("interface counters are kept in windows of 10 s: ask for buckets of a multiple of that")

    def answer(snapshot: Snapshot) -> InterfaceAnswer:
        held = _held(snapshot.manifest)
        if not held:
            raise InputError(
                f"the store {snapshot.directory} has no interface counters: docs/gnmi.md says how they come"
            )
        begin = min(level.first_ns for level in held) if from_ns is None else from_ns // TEN_NS * TEN_NS
        end = max(level.until_ns for level in held if level.span_ns == held[-1].span_ns)
        end = end if to_ns is None else -(-to_ns // TEN_NS) * TEN_NS
        if begin >= end:
            raise InputError("the range is empty: it must begin before it ends, and before the newest data")
        usable = [level for level in held if bucket_ns is None or bucket_ns % level.span_ns == 0]
        pieces = cover.cover(begin, end, usable)
        rows = _sums(snapshot, pieces, devices, names, bucket_ns)
        busiest: dict[tuple[str, str], int] = {}
        for row in rows:
            key = row["device"], row["interface"]
            busiest[key] = busiest.get(key, 0) + row["in_octets"] + row["out_octets"]
        shown = set(sorted(busiest, key=lambda key: (-busiest[key], key))[:n])
        rows = [_finished(row) for row in rows if (row["device"], row["interface"]) in shown]
        rows.sort(key=lambda row: (row.get("time_ns", 0), -busiest[row["device"], row["interface"]], row["device"]))
        spans = tuple(sorted({piece.span_ns for piece in pieces}))
        return InterfaceAnswer(begin, end, spans, rows, bucket_ns)

    return store.read(answer)


def _segments(manifest: Manifest) -> list[Segment]:
    return [segment for segment in manifest.segments if segment.kind == INTERFACE]


def _held(manifest: Manifest) -> list[cover.Holding]:
    """Return what is held, the coarsest level first."""
    spans: dict[int, tuple[int, int]] = {}
    for segment in _segments(manifest):
        first, until = spans.get(segment.span_ns, (segment.first_ns, segment.end_ns))
        spans[segment.span_ns] = min(first, segment.first_ns), max(until, segment.end_ns)
    return [cover.Holding(span_ns, *ends) for span_ns, ends in sorted(spans.items(), reverse=True)]


def _sums(
    snapshot: Snapshot,
    pieces: Sequence[cover.Piece],
    devices: Sequence[str],
    names: Sequence[str],
    bucket_ns: int | None,
) -> list[Row]:
    parts, parameters = [], list[Any]()
    for piece in pieces:
        files = [
            str(snapshot.path(segment))
            for segment in _segments(snapshot.manifest)
            if segment.span_ns == piece.span_ns and segment.first_ns < piece.to_ns and piece.from_ns < segment.end_ns
        ]
        if files:
            parts.append("SELECT * FROM read_parquet(?) WHERE time >= ? AND time < ?")
            parameters += [files, piece.from_ns, piece.to_ns]
    if not parts:
        return []
    conditions = []
    for column, wanted in (("device", devices), ("interface", names)):
        if wanted:
            conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            parameters += wanted
    bucket = "0" if bucket_ns is None else f"time - time % {int(bucket_ns)}"
    counts = ", ".join(f"sum({name})::UBIGINT AS {name}" for name in _COUNTS)
    result = select.fetch(
        f"SELECT ({bucket})::BIGINT AS time_ns, device, interface, {counts}, sum(covered_ns)::BIGINT AS covered_ns, "
        "arg_max(capacity_bps, time) AS capacity_bps, arg_max(up, time) AS up, bit_or(flags) AS flags "
        f"FROM ({' UNION ALL '.join(parts)}){' WHERE ' if conditions else ''}{' AND '.join(conditions)} GROUP BY ALL",
        parameters,
    )
    rows: list[Row] = result.to_pylist()
    if bucket_ns is None:
        for row in rows:
            del row["time_ns"]
    return rows


def _finished(row: Row) -> Row:
    covered_s = row.pop("covered_ns") / SECOND_NS
    capacity = row.pop("capacity_bps") or None
    up, flags = row.pop("up"), row.pop("flags")
    row |= {"covered_s": covered_s}
    for way in ("in", "out"):
        row[f"{way}_bps"] = rate = 8 * row[f"{way}_octets"] / covered_s if covered_s else None
        row[f"{way}_share"] = rate / capacity if capacity and rate is not None else None
    return row | {"capacity_bps": capacity, "up": None if up not in (0, 1) else bool(up), "flags": flags}
