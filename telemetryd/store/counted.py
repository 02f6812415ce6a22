"""Counters of the store: those of earlier runs, and sums over a range, whatever the kind.

Windows of 10 s are stored, and their roll-ups of 1 min, 5 min and 1 h. Like usage (:mod:`telemetryd.store.cover`), a
range is read from the coarsest windows that lie in it, and from finer ones at its edges.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from telemetryd.aggregate.counter_rollup import SPANS_NS
from telemetryd.counter_windows import COUNTER_WINDOWS, CounterWindow
from telemetryd.errors import InputError
from telemetryd.store import cover, select
from telemetryd.store.counter_columns import COUNTER_SCHEMAS, windows_of
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.levels import HOUR_NS, SECOND_NS
from telemetryd.store.manifest import Manifest, Segment

TEN_NS: Final = 10 * SECOND_NS
#: Roll-ups that were left open are finished from the windows of so long at most.
LONGEST_NS: Final = 6 * HOUR_NS

Row = dict[str, Any]
Level = tuple[str, int]
"""Kind and span in ns."""


def newest_ns(store: Store, kind: str) -> int:
    """Return the end of the newest window of a kind, 0 where there is none."""
    return max((segment.end_ns for segment in _segments(store.snapshot().manifest, kind)), default=0)


def stored_until(path: Path, kinds: Collection[str]) -> dict[Level, int]:
    """Return kind and span in ns -> end of the last window that a store holds; empty where it has none.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    until: dict[Level, int] = {}
    for segment in Store.open(path, "read").snapshot().manifest.segments:
        if segment.kind in kinds:
            level = segment.kind, segment.span_ns
            until[level] = max(until.get(level, 0), segment.end_ns)
    return until


def stored_parts(path: Path, kinds: Collection[str], until_ns: Mapping[Level, int]) -> list[CounterWindow]:
    """Return the windows that are part of a longer one which is not stored yet.

    Parameters
    ----------
    kinds:
        Of what.
    until_ns:
        What :func:`stored_until` said.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """

    def read(snapshot: Snapshot) -> list[CounterWindow]:
        parts: list[CounterWindow] = []
        for kind in kinds:
            newest = until_ns.get((kind, TEN_NS), 0)
            for span_ns, longer_ns in pairwise((TEN_NS, *SPANS_NS)):
                from_ns = max(until_ns.get((kind, longer_ns), 0), newest - LONGEST_NS)
                tables = [
                    pq.read_table(snapshot.path(segment), schema=COUNTER_SCHEMAS[kind], partitioning=None)
                    for segment in _segments(snapshot.manifest, kind)
                    if segment.span_ns == span_ns and segment.end_ns > from_ns
                ]
                if tables:
                    table = pa.concat_tables(tables)
                    parts += windows_of(kind, table.filter(pc.greater_equal(table["time"], from_ns)))
        return parts

    return Store.open(path, "read").read(read)


@dataclass(frozen=True, slots=True)
class CounterAnswer:
    """Counters of one kind in a range.

    Attributes
    ----------
    from_ns, to_ns, spans_ns:
        The range answered, and the spans of the windows that it was read from.
    rows:
        One dict a row: ``time_ns`` where buckets were asked for, the parts of the name, and what was asked for.
    bucket_ns:
        Width of the buckets of time, None where there are none.
    """

    from_ns: int
    to_ns: int
    spans_ns: tuple[int, ...]
    rows: list[Row]
    bucket_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the counters of a kind.

    Attributes
    ----------
    figures:
        Column of the answer -> how DuckDB makes it of the rows of a name.
    where:
        Part of the name -> which of them; none of a part takes all.
    called:
        What they are called in what is said to people.
    origin:
        The document that says where they come from.
    """

    kind: str
    figures: Mapping[str, str]
    where: Mapping[str, Sequence[str]]
    called: str
    origin: str = "docs/gnmi.md"


def ask(
    store: Store, question: Question, from_ns: int | None, to_ns: int | None, bucket_ns: int | None
) -> CounterAnswer:
    """Answer a question over a range, in buckets of time if asked for; rows come in no order.

    Parameters
    ----------
    from_ns, to_ns:
        Half-open range; None means from the first, up to the newest window. It is widened to windows of 10 s.

    Raises
    ------
    InputError
        If the store has none of the kind, the range is empty, or the buckets are no multiple of 10 s.
    StoreError
        If the store cannot be read.
    """
    if bucket_ns is not None and bucket_ns % TEN_NS:
        raise InputError(
            f"counters of {question.called} are kept in windows of 10 s: ask for buckets of a multiple of that"
        )

    def answer(snapshot: Snapshot) -> CounterAnswer:
        held = _held(snapshot.manifest, question.kind)
        if not held:
            raise InputError(
                f"the store {snapshot.directory} has no counters of {question.called}: {question.origin} says how they "
                "come"
            )
        begin = min(level.first_ns for level in held) if from_ns is None else from_ns // TEN_NS * TEN_NS
        end = max(level.until_ns for level in held if level.span_ns == held[-1].span_ns)
        end = end if to_ns is None else -(-to_ns // TEN_NS) * TEN_NS
        if begin >= end:
            raise InputError("the range is empty: it must begin before it ends, and before the newest data")
        usable = [level for level in held if bucket_ns is None or bucket_ns % level.span_ns == 0]
        pieces = cover.cover(begin, end, usable)
        rows = _rows(snapshot, question, pieces, bucket_ns)
        return CounterAnswer(begin, end, tuple(sorted({piece.span_ns for piece in pieces})), rows, bucket_ns)

    return store.read(answer)


def rows_between(snapshot: Snapshot, question: Question, from_ns: int, to_ns: int, bucket_ns: int) -> list[Row] | None:
    """Answer a question over a range of a snapshot, in buckets; None where it holds nothing of the kind there.

    May raise OSError where a segment is gone, since it was replaced after the snapshot.
    """
    held = [level for level in _held(snapshot.manifest, question.kind) if level.first_ns < to_ns]
    begin, end = from_ns // TEN_NS * TEN_NS, -(-to_ns // TEN_NS) * TEN_NS
    if not any(level.until_ns > begin for level in held):
        return None
    usable = [level for level in held if bucket_ns % level.span_ns == 0]
    return _rows(snapshot, question, cover.cover(begin, end, usable), bucket_ns) if usable else None


def _segments(manifest: Manifest, kind: str) -> list[Segment]:
    return [segment for segment in manifest.segments if segment.kind == kind]


def _held(manifest: Manifest, kind: str) -> list[cover.Holding]:
    """Return what is held, the coarsest level first."""
    spans: dict[int, tuple[int, int]] = {}
    for segment in _segments(manifest, kind):
        first, until = spans.get(segment.span_ns, (segment.first_ns, segment.end_ns))
        spans[segment.span_ns] = min(first, segment.first_ns), max(until, segment.end_ns)
    return [cover.Holding(span_ns, *ends) for span_ns, ends in sorted(spans.items(), reverse=True)]


def _rows(snapshot: Snapshot, question: Question, pieces: Sequence[cover.Piece], bucket_ns: int | None) -> list[Row]:
    parts, parameters = [], list[Any]()
    for piece in pieces:
        files = [
            str(snapshot.path(segment))
            for segment in _segments(snapshot.manifest, question.kind)
            if segment.span_ns == piece.span_ns and segment.first_ns < piece.to_ns and piece.from_ns < segment.end_ns
        ]
        if files:
            parts.append("SELECT * FROM read_parquet(?) WHERE time >= ? AND time < ?")
            parameters += [files, piece.from_ns, piece.to_ns]
    if not parts:
        return []
    conditions = []
    for column, wanted in question.where.items():
        if wanted:
            conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            parameters += wanted
    names = ", ".join(COUNTER_WINDOWS[question.kind].layout.names)
    figures = ", ".join(f"{text} AS {name}" for name, text in question.figures.items())
    bucket = "0" if bucket_ns is None else f"time - time % {int(bucket_ns)}"
    result = select.fetch(
        f"SELECT ({bucket})::BIGINT AS time_ns, {names}, {figures} FROM ({' UNION ALL '.join(parts)})"
        f"{' WHERE ' if conditions else ''}{' AND '.join(conditions)} GROUP BY ALL",
        parameters,
    )
    rows: list[Row] = result.to_pylist()
    if bucket_ns is None:
        for row in rows:
            del row["time_ns"]
    return rows
