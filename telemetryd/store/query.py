"""Questions to the embedded store: who uses how much, when, and how sure that is.

Every figure is made from sums that are kept with each key: a rate is the octets over the whole asked
range, its interval comes from the summed variance and the largest sample, never from adding intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.errors import InputError
from telemetryd.store import cover
from telemetryd.store.columns import KEYS
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.grid import Grid, bins, bucket_starts
from telemetryd.store.levels import HOUR_NS, MINUTE_NS, SECOND_NS
from telemetryd.store.select import Found, Selection, make_plan, sum_by
from telemetryd.store.sums import Sums

OTHER: Final = "other"
BILLING_BIN_NS: Final = 5 * MINUTE_NS
BILLED: Final = ("inbound", "outbound", "in", "out")
"""The directions of which the higher percentile is billed."""

_PAIRS: Final = {"zone_pair": ("source_zone", "destination_zone")}
GROUPINGS: Final = (*(key for key in KEYS if key != "table"), *_PAIRS)

# A series picks from these by itself, so that it has about this many points at most.
_AUTO_BUCKETS_NS: Final = tuple(
    n * unit for unit, counts in ((SECOND_NS, (1, 10)), (MINUTE_NS, (1, 5, 15)), (HOUR_NS, (1, 6))) for n in counts
)
_AUTO_POINTS: Final = 200

Row = dict[str, Any]
Name = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The figures asked for.

    Attributes
    ----------
    from_ns, to_ns:
        The range answered; wider than asked where only coarser windows are kept.
    spans_ns:
        Spans of the windows it was made from.
    by:
        The key columns of the rows.
    rows:
        One dict a row: the key columns, then the figures (:meth:`Sums.figures`). Key columns whose
        value ``"other"`` stands for all the rest are listed in ``folded``.
    total:
        The figures of everything selected; None where it has no meaning.
    bucket_ns:
        Width of the buckets of time, None where there are none.
    margins:
        Of a matrix: key column -> the rows of that key alone.
    """

    from_ns: int
    to_ns: int
    spans_ns: tuple[int, ...]
    by: Name
    rows: list[Row]
    total: Row | None = None
    bucket_ns: int | None = None
    margins: dict[str, list[Row]] = field(default_factory=dict)


def grouping(by: Sequence[str]) -> Name:
    """Return the key columns of a grouping, ``zone_pair`` as its two.

    Raises
    ------
    InputError
        If one isn't known or comes twice.
    """
    columns: list[str] = []
    for name in by:
        if name not in GROUPINGS:
            raise InputError(f"cannot group by {name!r}: choose from {', '.join(GROUPINGS)}")
        columns.extend(_PAIRS.get(name, (name,)))
    if len(set(columns)) < len(columns):
        raise InputError(f"cannot group twice by the same column: {', '.join(by)}")
    return tuple(columns)


def top(store: Store, by: Sequence[str], selection: Selection, n: int = 10) -> Answer:
    """Rank the keys ``by`` by volume: the first ``n``, the rest as ``other``, shares of the total."""
    columns = grouping(by)

    def answer(snapshot: Snapshot) -> Answer:
        found = sum_by(snapshot, columns, selection)
        ranks, order = rank_names(found.names, found.volumes(), n)
        span_ns = found.plan.to_ns - found.plan.from_ns
        total = _total(found.sums, span_ns, selection)
        folded = found.sums.fold(ranks[found.codes], len(order))
        figures = folded.figures(np.full(len(order), span_ns), selection.confidence)
        rows = [_row(columns, name, figure, total) for name, figure in zip(order, figures, strict=True)]
        return _answer(found, columns, rows, total)

    return store.read(answer)


def series(store: Store, by: Sequence[str], selection: Selection, bucket_ns: int | None = None, n: int = 5) -> Answer:
    """Follow the first ``n`` keys by volume, and the rest, through buckets of time.

    Every key has a row in every bucket, with its start in ns as ``time_ns``. The first and last bucket
    count only the time inside the range. Buckets lie on multiples of their width since the epoch, in UTC.
    A bucket without a sample of a key has the upper limit that the key's largest sample allows.
    Without ``bucket_ns`` a width is chosen that gives about 200 buckets at most.
    """
    columns = grouping(by)

    def answer(snapshot: Snapshot) -> Answer:
        width = bucket_ns or auto_bucket(snapshot, selection)
        found = sum_by(snapshot, columns, selection, width)
        from_ns, to_ns = found.plan.from_ns, found.plan.to_ns
        starts = bucket_starts(from_ns, to_ns, width)
        ranks, order = rank_names(found.names, found.volumes(), n)
        cells = Grid(found, width, starts).cells(ranks, len(order))
        seen_ns = np.minimum(starts + width, to_ns) - np.maximum(starts, from_ns)
        figures = cells.figures(np.tile(seen_ns, len(order)), selection.confidence)
        total = _total(found.sums, to_ns - from_ns, selection)
        rows = [
            {"time_ns": start, **_row(columns, name, figures[rank * len(starts) + place])}
            for place, start in enumerate(starts.tolist())
            for rank, name in enumerate(order)
        ]
        return _answer(found, columns, rows, total, width)

    return store.read(answer)


def matrix(store: Store, row_key: str, column_key: str, selection: Selection, n: int = 10, columns: int = 10) -> Answer:
    """Cross two keys: the first ``n`` of one by the first ``columns`` of the other, and the rest of each.

    Cells without traffic are left out; ``margins`` has the rows of each key alone.
    """
    axes = matrix_axes(row_key, column_key)

    def answer(snapshot: Snapshot) -> Answer:
        found = sum_by(snapshot, axes, selection)
        span_ns = found.plan.to_ns - found.plan.from_ns
        total = _total(found.sums, span_ns, selection)
        sides = [
            rank_names([(name[side],) for name in found.names], found.volumes(), limit)
            for side, limit in enumerate((n, columns))
        ]
        (row_ranks, row_order), (column_ranks, column_order) = sides

        def fold(ranks: NDArray[np.intp], count: int) -> list[Row]:
            folded = found.sums.fold(ranks[found.codes], count)
            return folded.figures(np.full(count, span_ns), selection.confidence)

        width = len(column_order)
        figures = fold(row_ranks * width + column_ranks, len(row_order) * width)
        rows = []
        for place, figure in enumerate(figures):
            if figure["samples"]:
                row = _row(axes, (OTHER, OTHER), figure, total)
                pair = row_order[place // width], column_order[place % width]
                for axis, name in zip(axes, pair, strict=True):
                    row |= {axis: name[0]} if name else {"folded": [*row["folded"], axis]}
                rows.append(row)
        margins = {
            axis: [
                _row((axis,), name, figure, total) for name, figure in zip(order, fold(ranks, len(order)), strict=True)
            ]
            for axis, (ranks, order) in zip(axes, sides, strict=True)
        }
        return replace(_answer(found, axes, rows, total), margins=margins)

    return store.read(answer)


def percentile(
    store: Store,
    by: Sequence[str],
    selection: Selection,
    percent: float = 95.0,
    bin_ns: int = BILLING_BIN_NS,
    n: int = 10,
) -> Answer:
    """Bill by percentile: the rate that ``percent`` of the bins don't exceed, per key and direction.

    Rates of the bins are sorted and the nearest rank is taken: of 100 bins the 95th, without
    interpolation. Members of a key are summed before. Only whole bins inside the range count, those
    without traffic as zero. A row has the percentile as ``rate_bps``, also ``mean_bps``, ``peak_bps``,
    ``bins``, and ``is_highest`` where its direction has the higher percentile of the billed two.

    The limits are the same percentile of the bins' lower and upper limits: wherever those hold in each
    bin, these hold.

    Raises
    ------
    InputError
        If ``percent`` isn't in (0, 100], or no whole bin lies in the range.
    """
    keys = tuple(key for key in grouping(by) if key != "direction")
    if not 0 < percent <= 100:
        raise InputError(f"a percentile is more than 0 and at most 100, not {percent:g}")

    def answer(snapshot: Snapshot) -> Answer:
        grid = bins(snapshot, (*keys, "direction"), selection, bin_ns)
        found, starts = grid.found, grid.starts
        from_ns, to_ns = found.plan.from_ns, found.plan.to_ns
        ranks, order = rank_names([name[:-1] for name in found.names], found.volumes(), n)
        directions = sorted({name[-1] for name in found.names})
        billed = np.array([place for place, name in enumerate(directions) if name in BILLED], dtype=np.intp)
        places = {direction: place for place, direction in enumerate(directions)}
        lanes = ranks * len(directions) + np.array([places[name[-1]] for name in found.names], dtype=np.intp)
        limits = grid.rates(selection.confidence, lanes, len(order) * len(directions))
        nearest = max(math.ceil(percent * len(starts) / 100 - 1e-9), 1) - 1
        rate, low, high = (np.sort(values, axis=1)[:, nearest] for values in limits)
        folded = found.sums.fold(lanes[found.codes], len(rate))
        sums = folded.figures(np.full(len(rate), to_ns - from_ns), selection.confidence)
        total = _total(found.sums, to_ns - from_ns, selection)
        rows = []
        for lane in range(len(rate)):
            if not sums[lane]["samples"]:
                continue
            rank, place = divmod(lane, len(directions))
            others = rate[rank * len(directions) + billed]
            rows.append(
                {
                    **_row(keys, order[rank], sums[lane], total),
                    "direction": directions[place],
                    "rate_bps": float(rate[lane]),
                    "low_bps": float(low[lane]),
                    "high_bps": float(high[lane]),
                    "mean_bps": sums[lane]["rate_bps"],
                    "peak_bps": float(limits[0][lane].max()),
                    "bins": len(starts),
                    "is_highest": directions[place] in BILLED and bool(rate[lane] == others.max()),
                }
            )
        return _answer(found, (*keys, "direction"), rows, None, bin_ns)

    return store.read(answer)


def matrix_axes(row_key: str, column_key: str) -> Name:
    """Return the key columns of a matrix.

    Raises
    ------
    InputError
        If one isn't known, or is of two columns, or both are the same.
    """
    axes = grouping((row_key, column_key))
    if len(axes) > len(_PAIRS["zone_pair"]):
        raise InputError("a matrix has one column a side: take source_zone and destination_zone for zones")
    return axes


def auto_bucket(snapshot: Snapshot, selection: Selection) -> int:
    """Choose the narrowest width that the range is held in and that gives a readable series."""
    plan = make_plan(snapshot, selection, None)
    coarsest = cover.finest_span(snapshot.manifest, plan.from_ns, plan.to_ns)
    for width in _AUTO_BUCKETS_NS:
        if width % coarsest == 0 and (plan.to_ns - plan.from_ns) <= _AUTO_POINTS * width:
            return width
    return 24 * HOUR_NS


def rank_names(names: list[Name], octets: NDArray[np.float64], n: int) -> tuple[NDArray[np.intp], list[Name | None]]:
    """Rank names by their octets.

    Returns the rank of each name, shape (k,), and the names in order: at most ``n``, and None for all
    the rest if there is one. Equal volumes rank by name, so that an answer repeats exactly.
    """
    volumes: dict[Name, float] = {}
    for name, value in zip(names, octets.tolist(), strict=True):
        volumes[name] = volumes.get(name, 0.0) + value
    order: list[Name | None] = [*sorted(volumes, key=lambda name: (-volumes[name], name))[:n]]
    places = {name: place for place, name in enumerate(order)}
    ranks = np.array([places.get(name, len(order)) for name in names], dtype=np.intp)
    if len(volumes) > len(order):
        order.append(None)
    return ranks, order


def _total(sums: Sums, span_ns: int, selection: Selection) -> Row:
    whole = sums.fold(np.zeros(len(sums.samples), dtype=np.intp), 1)
    return whole.figures(np.array([span_ns]), selection.confidence)[0]


def _row(by: Name, name: Name | None, figure: Row, total: Row | None = None) -> Row:
    """Make a row of a key (None: all the rest), with its share of the total where one is given."""
    keys = dict.fromkeys(by, OTHER) if name is None else dict(zip(by, name, strict=True))
    row = {**keys, **figure, "folded": list(by) if name is None else []}
    if total is not None:
        row["share"] = figure["octets"] / total["octets"] if total["octets"] else 0.0
    return row


def _answer(found: Found, by: Name, rows: list[Row], total: Row | None, bucket_ns: int | None = None) -> Answer:
    spans = tuple(sorted({piece.span_ns for piece in found.plan.pieces}))
    return Answer(found.plan.from_ns, found.plan.to_ns, spans, by, rows, total, bucket_ns)
