"""The rows a question is about, summed by key: the only place that speaks SQL.

DuckDB runs in memory over the Parquet files of one snapshot; nothing of it is kept between questions.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from telemetryd.errors import InputError, StoreError
from telemetryd.store import cover
from telemetryd.store.columns import KEYS, TABLE_NAMES
from telemetryd.store.embedded import Snapshot
from telemetryd.store.manifest import USAGE, Manifest, Segment
from telemetryd.store.sums import SQL_SUMS, Sums

_NO_EXTENSIONS: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows a question is about.

    Attributes
    ----------
    table:
        ``totals`` or ``link_usage``.
    from_ns, to_ns:
        Half-open range of event time; None means from the first, up to the newest data.
    where:
        Key column -> the names that are accepted; no names accept all.
    confidence:
        Of the intervals.
    """

    table: str = "totals"
    from_ns: int | None = None
    to_ns: int | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Found:
    """Sums of the selected rows by key and bucket of time, in the order of both.

    Attributes
    ----------
    plan:
        The range answered and the windows it was read from.
    names:
        Names of the key columns, one tuple for each of the k keys, sorted.
    codes:
        The key of each entry as its place in ``names``, shape (e,).
    bucket_ns:
        Start of the bucket of each entry, shape (e,); 0 where no buckets were asked for.
    sums:
        The sums, e entries.
    """

    plan: cover.Plan
    names: list[tuple[str, ...]]
    codes: NDArray[np.intp]
    bucket_ns: NDArray[np.int64]
    sums: Sums

    def volumes(self) -> NDArray[np.float64]:
        """Return the octets of each key over all buckets, shape (k,)."""
        return np.bincount(self.codes, self.sums.octets, len(self.names)).astype(np.float64, copy=False)


def make_plan(snapshot: Snapshot, selection: Selection, bucket_ns: int | None) -> cover.Plan:
    """Choose what to read for a selection, in buckets of ``bucket_ns`` if given.

    Raises
    ------
    InputError
        If the table isn't known, the store or the range is empty, or the range is not held finely enough.
    """
    if selection.table not in TABLE_NAMES:
        raise InputError(f"there is no table {selection.table!r}: choose from {', '.join(TABLE_NAMES)}")
    held = cover.data_range(snapshot.manifest)
    if held is None:
        raise InputError(f"the store {snapshot.directory} is empty: fill it with `telemetryd replay`")
    from_ns = held[0] if selection.from_ns is None else selection.from_ns
    to_ns = held[1] if selection.to_ns is None else selection.to_ns
    if from_ns >= to_ns:
        raise InputError("the range is empty: it must begin before it ends, and before the newest data")
    return cover.plan(snapshot.manifest, from_ns, to_ns, lambda span_ns: bucket_ns is None or bucket_ns % span_ns == 0)


def sum_by(
    snapshot: Snapshot,
    by: Sequence[str],
    selection: Selection,
    bucket_ns: int | None = None,
    *,
    may_be_empty: bool = False,
) -> Found:
    """Sum the selected rows by the key columns ``by``, and by bucket of time where one is given.

    Raises
    ------
    InputError
        As :func:`make_plan`, and if a name that was asked for doesn't occur in the range, unless it ``may_be_empty``.
    OSError
        If a segment is gone, since it was replaced after the snapshot.
    StoreError
        If a segment is damaged.
    """
    plan = make_plan(snapshot, selection, bucket_ns)
    rows, parameters = _rows(snapshot, plan, selection.table, selection.where)
    if bucket_ns is None:
        bucket = "0"
    elif {piece.span_ns for piece in plan.pieces} == {bucket_ns}:
        bucket = "time"
    else:
        bucket = f"time - time % {int(bucket_ns)}"
    columns = ", ".join([*(f'"{key}"' for key in by), f"({bucket})::BIGINT AS bucket"])
    result = fetch(f"SELECT {columns}, {SQL_SUMS} FROM ({rows}) GROUP BY ALL HAVING count(*) > 0", parameters)
    if not len(result) and not may_be_empty:
        _refuse_unknown_names(snapshot, plan, selection)
    names, codes = _numbered([result[key] for key in by], len(result))
    buckets = result["bucket"].to_numpy()
    order = np.lexsort((buckets, codes))
    sums = Sums.of({name: result[name].to_numpy()[order] for name in result.column_names[len(by) + 1 :]})
    return Found(plan, names, codes[order], buckets[order], sums)


def _numbered(columns: list[pa.ChunkedArray], count: int) -> tuple[list[tuple[str, ...]], NDArray[np.intp]]:
    """Return the sorted distinct rows of some columns of text, and for each of ``count`` rows which of them it is."""
    packed = np.zeros(count, dtype=np.int64)
    words: list[list[str]] = []
    for column in columns:
        encoded = column.combine_chunks().dictionary_encode()
        known: list[str] = encoded.dictionary.to_pylist()
        words.append(sorted(known))
        places = {word: place for place, word in enumerate(words[-1])}
        ranks = np.array([places[word] for word in known], dtype=np.int64)
        if count:
            packed = packed * len(known) + ranks[encoded.indices.to_numpy()]
            # Of the product of many columns only few occur: numbered anew each time, it never overflows.
            if len(words) > 1:
                packed = np.unique(packed, return_inverse=True)[1]
    firsts, codes = np.unique(packed, return_index=True, return_inverse=True)[1:]
    texts = [column.take(pa.array(firsts)).to_pylist() for column in columns]
    return list(zip(*texts, strict=True)) if texts else [()] * len(firsts), codes


def _rows(
    snapshot: Snapshot, plan: cover.Plan, table: str, where: Mapping[str, Sequence[str]]
) -> tuple[str, list[Any]]:
    """Write the SQL that yields each row of the plan's pieces once, and its parameters."""
    parts: list[str] = []
    parameters: list[Any] = []
    for span_ns in sorted({piece.span_ns for piece in plan.pieces}):
        pieces = {piece: origins for piece, origins in plan.pieces.items() if piece.span_ns == span_ns}
        segments = segments_of(snapshot.manifest, pieces, USAGE)
        # Most segments lie inside the range as a whole: there is no need to look at the time of each row.
        whole = [segment for segment in segments if _is_wanted_whole(segment, pieces)]
        cut = [segment for segment in segments if segment not in whole]
        for chosen, is_cut in ((whole, False), (cut, True)):
            if not chosen:
                continue
            conditions = ['"table" = ?']
            parameters += [[str(snapshot.path(segment)) for segment in chosen], table]
            if is_cut:
                conditions.append(_stretches(pieces, chosen, parameters))
            for key, names in where.items():
                if names:
                    conditions.append(f'"{key}" IN ({_marks(names)})')
                    parameters += names
            parts.append(f"SELECT * FROM read_parquet(?) WHERE {' AND '.join(conditions)}")
    if not parts:
        # No segment holds anything of it: the same columns, no rows.
        sums = "0 AS samples, 0 AS octets, 0 AS packets, 0 AS octets_variance, 0 AS octets_largest"
        keys = ", ".join(f"'' AS \"{key}\"" for key in KEYS)
        return f"SELECT 0 AS time, {keys}, {sums}, 0 AS stated_rate_samples WHERE false", []
    return " UNION ALL ".join(parts), parameters


def _stretches(
    pieces: Mapping[cover.Piece, tuple[str, ...]], segments: Sequence[Segment], parameters: list[Any]
) -> str:
    """Write the condition that a row lies in one of the pieces, and append its parameters."""
    present = {origin for segment in segments for origin in segment.origins}
    stretches = []
    for piece, origins in pieces.items():
        stretch = "time >= ? AND time < ?"
        parameters += [piece.from_ns, piece.to_ns]
        if not present <= set(origins):
            stretch += f" AND origin IN ({_marks(origins)})"
            parameters += origins
        stretches.append(f"({stretch})")
    return f"({' OR '.join(stretches)})"


def _marks(values: Sequence[str]) -> str:
    # IN, unlike a function over a list, is decided before the other columns are decoded.
    return ", ".join("?" * len(values))


def _is_wanted_whole(segment: Segment, pieces: Mapping[cover.Piece, tuple[str, ...]]) -> bool:
    return any(
        piece.from_ns <= segment.first_ns and segment.end_ns <= piece.to_ns and set(segment.origins) <= set(origins)
        for piece, origins in pieces.items()
    )


def segments_of(manifest: Manifest, pieces: Mapping[cover.Piece, tuple[str, ...]], kind: str) -> list[Segment]:
    """Return the segments of one kind that may hold rows of the pieces, whose values are their origins."""

    def is_needed(segment: Segment) -> bool:
        return segment.kind == kind and any(
            segment.span_ns == piece.span_ns
            and segment.first_ns < piece.to_ns
            and piece.from_ns < segment.end_ns
            and not set(segment.origins).isdisjoint(origins)
            for piece, origins in pieces.items()
        )

    return [segment for segment in manifest.segments if is_needed(segment)]


def fetch(sql: str, parameters: list[Any]) -> pa.Table:
    """Return the rows of a question; OSError where a file is gone, StoreError where it cannot be read."""
    with duckdb.connect(":memory:", config=_NO_EXTENSIONS) as connection:
        try:
            return connection.sql(sql, params=parameters).to_arrow_table()
        except duckdb.IOException as error:
            # Files of an old snapshot go once their grace period is over: the caller tries a new one.
            raise OSError(str(error)) from error
        except duckdb.Error as error:
            # The first line is the reason, the others show the query.
            raise StoreError(f"cannot read the store: {str(error).splitlines()[0]}") from error


def _refuse_unknown_names(snapshot: Snapshot, plan: cover.Plan, selection: Selection) -> None:
    """Raise InputError if nothing was found because a name doesn't occur in the range at all."""
    for key, names in selection.where.items():
        if not names:
            continue
        rows, parameters = _rows(snapshot, plan, selection.table, {})
        known = fetch(f'SELECT DISTINCT "{key}" FROM ({rows})', parameters)[key].to_pylist()
        for name in names:
            if known and name not in known:
                near = difflib.get_close_matches(name, known, n=3) or sorted(known)[:5]
                raise InputError(f"no {key} {name!r} in {selection.table} in this range; there is {', '.join(near)}")
