"""How good the figures of a time are: what came, and what was lost by cause, kept beside the usage of each window.

A figure is a count of one (metric, source) in the time of one window; docs/store.md lists the metrics. Counts add
up, so the coarser levels hold sums, as those of usage do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from telemetryd.aggregate.rollup import SPANS_NS
from telemetryd.schema import UsageWindow
from telemetryd.store import columns
from telemetryd.store.columns import QualityRow
from telemetryd.store.cover import Piece, Plan
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.manifest import QUALITY
from telemetryd.store.select import Selection, make_plan

#: (metric, source).
Key = tuple[str, str]
Figures = Mapping[Key, float]

#: The source of what belongs to no agent, sender or socket.
NO_SOURCE: Final = "-"
OTHER: Final = "other"
COVERAGE: Final = "coverage.seconds"
RECEIVED: Final = "received.datagrams"
GAP: Final = "loss.sequence_gap"
#: What an agent's datagrams were lost by. The first is what did not arrive, so that `RECEIVED` does not hold it.
LOST: Final = (GAP, "loss.shed", "loss.capped")

Row = dict[str, Any]
_Place = tuple[int, str, str]  # start of the bucket, metric, source


def quality_rows(window: UsageWindow, figures: Figures) -> list[QualityRow]:
    """Make the rows of one window's figures."""
    return [
        QualityRow(window.start_ns, window.span_ns, metric, source, value)
        for (metric, source), value in figures.items()
    ]


def stored_figures(store: Store, origin: str, span_ns: int, from_ns: int, to_ns: int) -> dict[int, dict[Key, float]]:
    """Read back the figures of one origin and span, by the start of their windows."""
    piece = Piece(span_ns, from_ns, to_ns)
    table = store.read(lambda snapshot: read_figures(snapshot, piece, [origin]))
    figures: dict[int, dict[Key, float]] = {}
    for row in table.to_pylist():
        figures.setdefault(row["time"], {})[row["metric"], row["source"]] = row["value"]
    return figures


class QualityRollUp:
    """Add the figures of windows of 1 s up to those of the longer ones; use beside a RollUp of usage."""

    def __init__(self, spans_ns: Sequence[int] = SPANS_NS) -> None:
        self._open: dict[int, dict[int, dict[Key, float]]] = {span_ns: {} for span_ns in spans_ns}

    def add(self, start_ns: int, figures: Figures) -> None:
        """Add the figures of the window of 1 s that begins at ``start_ns``."""
        for span_ns, spans in self._open.items():
            add_figures(spans.setdefault(start_ns // span_ns * span_ns, {}), figures)

    def close(self, window: UsageWindow) -> list[QualityRow]:
        """Return the rows of a longer window that is complete."""
        return quality_rows(window, self._open[window.span_ns].pop(window.start_ns, {}))


def add_figures(sums: dict[Key, float], figures: Figures) -> None:
    """Add figures to sums, in place."""
    for key, value in figures.items():
        sums[key] = sums.get(key, 0.0) + value


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the figures of a range are.

    Attributes
    ----------
    from_ns, to_ns, spans_ns:
        The range answered, and the spans of the windows it was read from (as :class:`telemetryd.store.query.Answer`).
    rows:
        One dict a row: ``time_ns`` where buckets were asked for, ``metric``, ``source``, ``value``, ``share``
        (of the datagrams that the agent sent; None where that is not known), ``folded`` (True for ``other``).
    covered_s:
        Seconds of the range that have a window.
    loss_share:
        Part of the agents' datagrams that no figure holds; None where none were sent.
    bucket_ns:
        Width of the buckets of time, None where there are none.
    """

    from_ns: int
    to_ns: int
    spans_ns: tuple[int, ...]
    rows: list[Row]
    covered_s: float
    loss_share: float | None
    bucket_ns: int | None = None


def quality(
    store: Store,
    selection: Selection,
    metrics: Sequence[str] = (),
    sources: Sequence[str] = (),
    bucket_ns: int | None = None,
    n: int | None = None,
) -> Quality:
    """Sum what is known of a range by metric and source, in buckets of time if asked for.

    Parameters
    ----------
    selection:
        Only its range counts.
    metrics:
        Names, or their beginnings such as ``loss``; none takes all.
    sources:
        Names; none takes all. Shares and coverage are of all that is selected by source.
    n:
        Sources shown of each metric, by value; the rest is one more, ``other``. None shows all.

    Raises
    ------
    InputError
        As :func:`telemetryd.store.select.make_plan`.
    StoreError
        If the store cannot be read.
    """

    def answer(snapshot: Snapshot) -> Quality:
        plan = make_plan(snapshot, selection, bucket_ns)
        sums = _sums(snapshot, plan, sources, bucket_ns)
        wanted = {key: value for key, value in sums.items() if not metrics or _is_one_of(key[1], metrics)}
        sent = _sent(sums)
        rows = []
        for bucket, metric, source, value, is_folded in _ranked(wanted, n):
            row: Row = {} if bucket_ns is None else {"time_ns": bucket}
            row |= {"metric": metric, "source": source, "value": value, "share": None, "folded": is_folded}
            if metric in LOST and not is_folded and sent.get((bucket, source)):
                row["share"] = value / sent[bucket, source]
            rows.append(row)
        whole = sum(sent.values())
        lost = sum(value for (_, metric, _), value in sums.items() if metric in LOST)
        covered_s = sum(value for (_, metric, _), value in sums.items() if metric == COVERAGE)
        spans = tuple(sorted({piece.span_ns for piece in plan.pieces}))
        loss_share = lost / whole if whole else None
        return Quality(plan.from_ns, plan.to_ns, spans, rows, covered_s, loss_share, bucket_ns)

    return store.read(answer)


def _sums(snapshot: Snapshot, plan: Plan, sources: Sequence[str], bucket_ns: int | None) -> dict[_Place, float]:
    sums: dict[_Place, float] = defaultdict(float)
    for piece, origins in plan.pieces.items():
        table = read_figures(snapshot, piece, origins)
        if sources:
            # What belongs to nobody is of everybody: the coverage.
            table = table.filter(pc.is_in(table["source"], pa.array([*sources, NO_SOURCE])))
        times = table["time"].to_numpy()
        buckets = times - times % bucket_ns if bucket_ns is not None else times * 0
        grouped = (
            table.append_column("bucket", pa.array(buckets, pa.int64()))
            .group_by(["bucket", "metric", "source"])
            .aggregate([("value", "sum")])
        )
        for row in grouped.to_pylist():
            sums[row["bucket"], row["metric"], row["source"]] += row["value_sum"]
    return sums


def read_figures(snapshot: Snapshot, piece: Piece, origins: Sequence[str]) -> pa.Table:
    """Read the rows of one piece of a plan, names as plain text."""
    tables = []
    for segment in snapshot.manifest.segments:
        is_inside = segment.first_ns < piece.to_ns and piece.from_ns < segment.end_ns
        if (segment.kind, segment.span_ns) != (QUALITY, piece.span_ns) or not is_inside:
            continue
        if set(segment.origins).isdisjoint(origins):
            continue
        table = pq.read_table(snapshot.path(segment), schema=columns.QUALITY_SCHEMA, partitioning=None)
        tables.append(table.select(["time", "origin", "metric", "source", "value"]))
    if not tables:
        return columns.QUALITY_SCHEMA.empty_table().select(["time", "metric", "source", "value"])
    table = pa.concat_tables(tables)
    for name in ("origin", "metric", "source"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.string()))
    is_in_time = pc.and_(pc.greater_equal(table["time"], piece.from_ns), pc.less(table["time"], piece.to_ns))
    wanted = pc.and_(is_in_time, pc.is_in(table["origin"], pa.array(list(origins))))
    return table.filter(wanted).drop_columns(["origin"])


def _is_one_of(metric: str, names: Sequence[str]) -> bool:
    return any(metric == name or metric.startswith(f"{name}.") for name in names)


def _sent(sums: Mapping[_Place, float]) -> dict[tuple[int, str], float]:
    """Return how many datagrams each agent sent, as far as their numbers tell, by bucket."""
    sent: dict[tuple[int, str], float] = defaultdict(float)
    for (bucket, metric, source), value in sums.items():
        if metric in (RECEIVED, GAP):
            sent[bucket, source] += value
    return sent


def _ranked(sums: Mapping[_Place, float], n: int | None) -> list[tuple[int, str, str, float, bool]]:
    """Put the sums in order: by time and metric, the greatest first, those after the first ``n`` as one."""
    groups: dict[tuple[int, str], list[tuple[float, str]]] = defaultdict(list)
    for (bucket, metric, source), value in sums.items():
        groups[bucket, metric].append((-value, source))
    rows = []
    for (bucket, metric), members in sorted(groups.items()):
        members.sort()
        rows += [(bucket, metric, source, -value, False) for value, source in members[:n]]
        if n is not None and len(members) > n:
            rows.append((bucket, metric, OTHER, -sum(value for value, _ in members[n:]), True))
    return rows
