"""Questions answered with the help of counters: usage whose classes sum to the counter of each link and direction.

Within a link (or metering point), direction and bucket of time all classes are calibrated together
(:func:`telemetryd.aggregate.calibrate.calibrate`), those that were not asked for as one. Over several links estimates
add; of intervals, the squares of the half widths do, each side for itself (Zou and Donner, Statistics in Medicine 27,
2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.calibrate import calibrate, coverage_ratio
from telemetryd.aggregate.reconcile import SPAN_NS
from telemetryd.errors import InputError
from telemetryd.store.cover import data_range
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.grid import Grid, bucket_starts
from telemetryd.store.query import OTHER, Name, Row, auto_bucket, grouping, matrix_axes, rank_names
from telemetryd.store.reconciled import figures_by
from telemetryd.store.select import Found, Selection, sum_by
from telemetryd.store.sums import Sums

Floats = NDArray[np.float64]

SECOND_NS: Final = 1_000_000_000
PLACE: Final = ("link", "direction")


@dataclass(frozen=True, slots=True)
class CalibratedAnswer:
    """Calibrated figures of a range.

    Attributes
    ----------
    from_ns, to_ns:
        The range answered.
    by:
        The key columns of the rows.
    rows:
        One dict a row: the key columns, ``rate_bps``, ``low_bps``, ``high_bps`` and ``octets`` calibrated,
        ``raw_rate_bps``, ``raw_octets``, ``samples``, ``share``, ``folded``; of a series ``time_ns``.
    places:
        One dict for each link (or metering point) and direction: what its counter says, ``coverage`` with ``low``
        and ``high``, ``covered_s``, ``alarm_s``, ``estimator`` (``regression``, ``ratio`` or ``none``: no counter).
    bucket_ns:
        Width of the buckets of time, None where there are none.
    margins:
        Of a matrix: key column -> the rows of that key alone.
    """

    from_ns: int
    to_ns: int
    by: Name
    rows: list[Row]
    places: list[Row]
    bucket_ns: int | None = None
    margins: dict[str, list[Row]] = field(default_factory=dict)


def top(store: Store, by: Sequence[str], selection: Selection, n: int = 10) -> CalibratedAnswer:
    """Rank the keys ``by`` by calibrated volume: the first ``n``, the rest as ``other``, shares of all.

    Raises
    ------
    InputError
        As :func:`telemetryd.store.query.top`.
    StoreError
        If the store cannot be read.
    """
    columns = grouping(by)

    def answer(snapshot: Snapshot) -> CalibratedAnswer:
        entries = _calibrated(snapshot, columns, selection, None)
        ranks, order = rank_names(entries.names(columns), entries.volumes(), n)
        figures = entries.fold(ranks[entries.found.codes], np.full(len(order), entries.seconds))
        whole = float(entries.octets.sum())
        rows = [_row(columns, name, figure, whole) for name, figure in zip(order, figures, strict=True)]
        return entries.answer(columns, rows)

    return store.read(answer)


def series(
    store: Store, by: Sequence[str], selection: Selection, bucket_ns: int | None = None, n: int = 5
) -> CalibratedAnswer:
    """Follow the first ``n`` keys by calibrated volume, and the rest, through buckets of a multiple of 10 s.

    Rows are as those of :func:`telemetryd.store.query.series`. Every bucket is calibrated by what counters say of its
    own time. A bucket without a sample of a key is 0 with the upper limit that samples alone give.

    Raises
    ------
    InputError
        As :func:`telemetryd.store.query.series`, and if the buckets are no multiple of 10 s.
    StoreError
        If the store cannot be read.
    """
    columns = grouping(by)

    def answer(snapshot: Snapshot) -> CalibratedAnswer:
        width = bucket_ns or max(auto_bucket(snapshot, selection), SPAN_NS)
        if width % SPAN_NS:
            raise InputError("what counters say is kept in windows of 10 s: ask for buckets of a multiple of that")
        entries = _calibrated(snapshot, columns, selection, width)
        found = entries.found
        from_ns, to_ns = found.plan.from_ns, found.plan.to_ns
        starts = bucket_starts(from_ns, to_ns, width)
        seen_ns = np.minimum(starts + width, to_ns) - np.maximum(starts, from_ns)
        ranks, order = rank_names(entries.names(columns), entries.volumes(), n)
        place = ((found.bucket_ns - starts[0]) // width).astype(np.intp)
        lanes = ranks[found.codes] * len(starts) + place
        figures = entries.fold(lanes, np.tile(seen_ns, len(order)) / SECOND_NS)
        alone = Grid(found, width, starts).cells(ranks, len(order))
        bounds = alone.figures(np.tile(seen_ns, len(order)), selection.confidence)
        for figure, bound in zip(figures, bounds, strict=True):
            if not figure["samples"]:
                figure["high_bps"] = bound["high_bps"]
        whole = float(entries.octets.sum())
        rows = [
            {"time_ns": start, **_row(columns, name, figures[rank * len(starts) + at], whole)}
            for at, start in enumerate(starts.tolist())
            for rank, name in enumerate(order)
        ]
        return entries.answer(columns, rows, width)

    return store.read(answer)


def matrix(
    store: Store, row_key: str, column_key: str, selection: Selection, n: int = 10, columns: int = 10
) -> CalibratedAnswer:
    """Cross two keys by calibrated volume, as :func:`telemetryd.store.query.matrix` does by that of the samples.

    Raises
    ------
    InputError
        As there.
    StoreError
        If the store cannot be read.
    """
    axes = matrix_axes(row_key, column_key)

    def answer(snapshot: Snapshot) -> CalibratedAnswer:
        entries = _calibrated(snapshot, axes, selection, None)
        names, volumes, codes = entries.names(axes), entries.volumes(), entries.found.codes
        sides = [
            rank_names([(name[side],) for name in names], volumes, limit) for side, limit in enumerate((n, columns))
        ]
        (row_ranks, row_order), (column_ranks, column_order) = sides
        width, whole = len(column_order), float(entries.octets.sum())
        lanes = (row_ranks * width + column_ranks)[codes]
        rows = []
        for at, figure in enumerate(entries.fold(lanes, np.full(len(row_order) * width, entries.seconds))):
            if figure["samples"]:
                row = _row(axes, (OTHER, OTHER), figure, whole)
                for axis, name in zip(axes, (row_order[at // width], column_order[at % width]), strict=True):
                    row |= {axis: name[0]} if name else {"folded": [*row["folded"], axis]}
                rows.append(row)
        margins = {
            axis: [
                _row((axis,), name, figure, whole)
                for name, figure in zip(
                    order, entries.fold(ranks[codes], np.full(len(order), entries.seconds)), strict=True
                )
            ]
            for axis, (ranks, order) in zip(axes, sides, strict=True)
        }
        return entries.answer(axes, rows, margins=margins)

    return store.read(answer)


@dataclass(frozen=True, slots=True)
class _Entries:
    """Calibrated sums by key, place and bucket of time.

    Attributes
    ----------
    found:
        What the samples say, e entries.
    keys:
        The key columns of its names.
    octets, low, high:
        Calibrated, with the limits of the interval, shape (e,) each.
    places:
        As of the answer.
    """

    found: Found
    keys: Name
    octets: Floats
    low: Floats
    high: Floats
    places: list[Row]

    @property
    def seconds(self) -> float:
        """Length of the range."""
        return (self.found.plan.to_ns - self.found.plan.from_ns) / SECOND_NS

    def names(self, columns: Name) -> list[Name]:
        """Return what each key is called by some of its columns."""
        at = [self.keys.index(column) for column in columns]
        return [tuple(name[place] for place in at) for name in self.found.names]

    def volumes(self) -> Floats:
        """Return the octets of each key."""
        return _added(self.found.codes, self.octets, len(self.found.names))

    def fold(self, lanes: NDArray[np.intp], seconds: Floats) -> list[Row]:
        """Return the figures of lanes, of which each entry, shape (e,), is in one and each is so many seconds long."""
        count = len(seconds)
        octets, raw, samples = (
            _added(lanes, values, count) for values in (self.octets, self.found.sums.octets, self.found.sums.samples)
        )
        low = np.maximum(octets - np.sqrt(_added(lanes, (self.octets - self.low) ** 2, count)), 0.0)
        high = octets + np.sqrt(_added(lanes, (self.high - self.octets) ** 2, count))
        scale = 8.0 / seconds
        return [
            {
                "rate_bps": float(octets[lane] * scale[lane]),
                "low_bps": float(low[lane] * scale[lane]),
                "high_bps": float(high[lane] * scale[lane]),
                "octets": float(octets[lane]),
                "raw_rate_bps": float(raw[lane] * scale[lane]),
                "raw_octets": float(raw[lane]),
                "samples": int(samples[lane]),
            }
            for lane in range(count)
        ]

    def answer(
        self,
        by: Name,
        rows: list[Row],
        bucket_ns: int | None = None,
        margins: dict[str, list[Row]] | None = None,
    ) -> CalibratedAnswer:
        """Make the answer of rows."""
        plan = self.found.plan
        return CalibratedAnswer(plan.from_ns, plan.to_ns, by, rows, self.places, bucket_ns, margins or {})


def _calibrated(snapshot: Snapshot, columns: Name, selection: Selection, bucket_ns: int | None) -> _Entries:
    keys = (*columns, *(name for name in PLACE if name not in columns))
    found = sum_by(snapshot, keys, selection, bucket_ns)
    only = {name: names for name, names in selection.where.items() if name in PLACE}
    plan = found.plan
    everything = Selection(selection.table, plan.from_ns, plan.to_ns, only, selection.confidence)
    whole = sum_by(snapshot, PLACE, everything, bucket_ns)
    figures = figures_by(snapshot, *_whole_spans(snapshot, plan.from_ns, plan.to_ns), bucket_ns)
    at = [keys.index(name) for name in PLACE]
    # A group is a place in a bucket: an entry of `whole`.
    number = {
        (whole.names[code], bucket): row
        for row, (code, bucket) in enumerate(zip(whole.codes.tolist(), whole.bucket_ns.tolist(), strict=True))
    }
    place_of = [(name[at[0]], name[at[1]]) for name in found.names]
    group = np.array(
        [
            number[place_of[code], bucket]
            for code, bucket in zip(found.codes.tolist(), found.bucket_ns.tolist(), strict=True)
        ],
        np.intp,
    )
    of_group = [figures.get(bucket, {}).get(_place(name), {}) for name, bucket in number]
    counter, estimated, seconds, alarm_s = (
        np.array([one.get(name, 0.0) for one in of_group])
        for name in ("octets", "estimated_octets", "seconds", "alarm_seconds")
    )
    n, sums, all_sums = len(number), found.sums, whole.sums
    covered = np.clip(np.divide(estimated, all_sums.octets, out=np.zeros(n), where=all_sums.octets > 0), 0, 1)
    # What was not asked for is one more class of each group.
    rest_octets, rest_variance = (
        np.maximum(getattr(all_sums, name) - _added(group, getattr(sums, name), n), 0.0)
        for name in ("octets", "octets_variance")
    )
    of_classes = calibrate(
        np.concatenate((sums.octets, rest_octets)),
        np.concatenate((sums.octets_variance, rest_variance)),
        np.concatenate((sums.octets_largest, np.where(rest_octets > 0, all_sums.octets_largest, 0.0))),
        np.concatenate((group, np.arange(n))),
        np.maximum(all_sums.octets + counter - estimated, 0.0),
        alarm_s > 0,
        covered,
        selection.confidence,
    )
    e = len(group)
    places = _places(whole, counter, estimated, seconds, alarm_s, selection.confidence)
    return _Entries(found, keys, of_classes.octets[:e], of_classes.low[:e], of_classes.high[:e], places)


def _places(
    whole: Found, counter: Floats, estimated: Floats, seconds: Floats, alarm_s: Floats, confidence: float
) -> list[Row]:
    """Tell of each place what its counter says in all buckets together."""
    n = len(whole.names)
    counter, estimated, seconds, alarm_s = (
        _added(whole.codes, values, n) for values in (counter, estimated, seconds, alarm_s)
    )
    sums: Sums = whole.sums.fold(whole.codes, n)
    covered = np.clip(np.divide(estimated, sums.octets, out=np.zeros(n), where=sums.octets > 0), 0, 1)
    ratio, low, high = coverage_ratio(
        estimated, sums.octets_variance * covered, sums.octets_largest, counter, confidence
    )
    shown: list[Row] = []
    for row, (link, direction) in enumerate(map(_place, whole.names)):
        has_counter = bool(seconds[row] > 0)
        has_ratio = has_counter and bool(counter[row] > 0)
        shown.append(
            {
                "link": link,
                "direction": direction,
                "counter_octets": float(counter[row]) if has_counter else None,
                "estimated_octets": float(estimated[row]) if has_counter else None,
                "coverage": float(ratio[row]) if has_ratio else None,
                "low": float(low[row]) if has_ratio else None,
                "high": float(high[row]) if has_ratio else None,
                "covered_s": float(seconds[row]),
                "alarm_s": float(alarm_s[row]),
                "estimator": "none" if not has_counter else "ratio" if alarm_s[row] > 0 else "regression",
            }
        )
    return shown


def _whole_spans(snapshot: Snapshot, from_ns: int, to_ns: int) -> tuple[int, int]:
    """Widen a range that goes as far as the data to the spans of figures that hold its ends."""
    held = data_range(snapshot.manifest)
    if held is not None and from_ns <= held[0]:
        from_ns = from_ns // SPAN_NS * SPAN_NS
    if held is not None and to_ns >= held[1]:
        to_ns = -(-to_ns // SPAN_NS) * SPAN_NS
    return from_ns, to_ns


def _place(name: Name) -> tuple[str, str]:
    return name[0], name[1]


def _added(lanes: NDArray[np.intp], values: NDArray[Any], count: int) -> Floats:
    return np.bincount(lanes, values, count).astype(np.float64, copy=False)


def _row(columns: Name, name: Name | None, figure: Row, whole: float) -> Row:
    """Make a row of a key (None: all the rest), with its share of the whole."""
    keys = dict.fromkeys(columns, OTHER) if name is None else dict(zip(columns, name, strict=True))
    share = figure["octets"] / whole if whole else 0.0
    return {**keys, **figure, "share": share, "folded": list(columns) if name is None else []}
