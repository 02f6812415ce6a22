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
from numpy.typing import NDArray

from telemetryd.errors import InputError, StoreError
from telemetryd.store import cover
from telemetryd.store.columns import KEYS, TABLE_NAMES
from telemetryd.store.embedded import Snapshot
from telemetryd.store.manifest import USAGE, Segment
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
    """Sums of the selected rows by key and bucket of time, in a fixed order.

    Attributes
    ----------
    plan:
        The range answered and the windows it was read from.
    names:
        Names of the key columns, one tuple an entry.
    bucket_ns:
        Start of the bucket of each entry, shape (k,); 0 where no buckets were asked for.
    sums:
        The sums, k entries.
    """

    plan: cover.Plan
    names: list[tuple[str, ...]]
    bucket_ns: NDArray[np.int64]
    sums: Sums


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


def sum_by(snapshot: Snapshot, by: Sequence[str], selection: Selection, bucket_ns: int | None = None) -> Found:
    """Sum the selected rows by the key columns ``by``, and by bucket of time where one is given.

    Raises
    ------
    InputError
        As :func:`make_plan`, and if a name that was asked for doesn't occur in the range.
    OSError
        If a segment is gone, since it was replaced after the snapshot.
    StoreError
        If a segment is damaged.
    """
    plan = make_plan(snapshot, selection, bucket_ns)
    rows, parameters = _rows(snapshot, plan, selection.table, selection.where)
    bucket = "0" if bucket_ns is None else f"time - time % {int(bucket_ns)}"
    columns = ", ".join([*(f'"{key}"' for key in by), f"({bucket})::BIGINT AS bucket"])
    result = _fetch(
        f"SELECT {columns}, {SQL_SUMS} FROM ({rows}) GROUP BY ALL HAVING count(*) > 0 ORDER BY ALL", parameters
    )
    if not len(result["bucket"]):
        _refuse_unknown_names(snapshot, plan, selection)
    keys = [result[key].tolist() for key in by]
    return Found(
        plan,
        list(zip(*keys, strict=True)) if keys else [()] * len(result["bucket"]),
        np.asarray(result["bucket"], dtype=np.int64),
        Sums.of(result),
    )


def _rows(
    snapshot: Snapshot, plan: cover.Plan, table: str, where: Mapping[str, Sequence[str]]
) -> tuple[str, list[Any]]:
    """Write the SQL that yields each row of the plan's pieces once, and its parameters."""
    parts: list[str] = []
    parameters: list[Any] = []
    for span_ns in sorted({piece.span_ns for piece in plan.pieces}):
        pieces = {piece: origins for piece, origins in plan.pieces.items() if piece.span_ns == span_ns}
        segments = [s for s in snapshot.manifest.segments if s.kind == USAGE and _is_needed(s, pieces)]
        if not segments:
            continue
        parameters.append([str(snapshot.path(segment)) for segment in segments])
        present = {origin for segment in segments for origin in segment.origins}
        stretches = []
        for piece, origins in pieces.items():
            stretch = "time >= ? AND time < ?"
            parameters += [piece.from_ns, piece.to_ns]
            if not present <= set(origins):
                stretch += " AND list_contains(?, origin)"
                parameters.append(list(origins))
            stretches.append(f"({stretch})")
        conditions = [f"({' OR '.join(stretches)})", '"table" = ?']
        parameters.append(table)
        for key, names in where.items():
            if names:
                conditions.append(f'list_contains(?, "{key}")')
                parameters.append(list(names))
        parts.append(f"SELECT * FROM read_parquet(?) WHERE {' AND '.join(conditions)}")
    if not parts:
        # No segment holds anything of it: the same columns, no rows.
        sums = "0 AS samples, 0 AS octets, 0 AS packets, 0 AS octets_variance, 0 AS octets_largest"
        keys = ", ".join(f"'' AS \"{key}\"" for key in KEYS)
        return f"SELECT 0 AS time, {keys}, {sums}, 0 AS stated_rate_samples WHERE false", []
    return " UNION ALL ".join(parts), parameters


def _is_needed(segment: Segment, pieces: Mapping[cover.Piece, tuple[str, ...]]) -> bool:
    return any(
        segment.span_ns == piece.span_ns
        and segment.first_ns < piece.to_ns
        and piece.from_ns < segment.end_ns
        and not set(segment.origins).isdisjoint(origins)
        for piece, origins in pieces.items()
    )


def _fetch(sql: str, parameters: list[Any]) -> dict[str, NDArray[Any]]:
    with duckdb.connect(":memory:", config=_NO_EXTENSIONS) as connection:
        try:
            result: dict[str, NDArray[Any]] = connection.execute(sql, parameters).fetchnumpy()
        except duckdb.IOException as error:
            # Files of an old snapshot go once their grace period is over: the caller tries a new one.
            raise OSError(str(error)) from error
        except duckdb.Error as error:
            # The first line is the reason, the others show the query.
            raise StoreError(f"cannot read the store: {str(error).splitlines()[0]}") from error
    return result


def _refuse_unknown_names(snapshot: Snapshot, plan: cover.Plan, selection: Selection) -> None:
    """Raise InputError if nothing was found because a name doesn't occur in the range at all."""
    for key, names in selection.where.items():
        if not names:
            continue
        rows, parameters = _rows(snapshot, plan, selection.table, {})
        known = _fetch(f'SELECT DISTINCT "{key}" FROM ({rows})', parameters)[key].tolist()
        for name in names:
            if known and name not in known:
                near = difflib.get_close_matches(name, known, n=3) or sorted(known)[:5]
                raise InputError(f"no {key} {name!r} in {selection.table} in this range; there is {', '.join(near)}")
