"""Questions answered with the help of counters: usage whose classes sum to the counter of each link and direction.

Within a link (or metering point) and direction all classes are calibrated together
(:func:`telemetryd.aggregate.calibrate.calibrate`), those that were not asked for as one. Over several links estimates
add; of intervals, the squares of the half widths do, each side for itself (Zou and Donner, Statistics in Medicine 27,
2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.calibrate import calibrate, coverage_ratio
from telemetryd.aggregate.reconcile import SPAN_NS, Figures
from telemetryd.store.cover import data_range
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.query import OTHER, Name, Row, grouping, rank_names
from telemetryd.store.reconciled import figures_between
from telemetryd.store.select import Found, Selection, sum_by

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
        One dict a row, greatest first: the key columns, ``rate_bps``, ``low_bps``, ``high_bps`` and ``octets``
        calibrated, ``raw_rate_bps``, ``raw_octets``, ``samples``, ``share``, ``folded``.
    places:
        One dict for each link (or metering point) and direction: what its counter says, ``coverage`` with ``low``
        and ``high``, ``covered_s``, ``alarm_s``, ``estimator`` (``regression``, ``ratio`` or ``none``: no counter).
    """

    from_ns: int
    to_ns: int
    by: Name
    rows: list[Row]
    places: list[Row]


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
    keys = (*columns, *(name for name in PLACE if name not in columns))

    def answer(snapshot: Snapshot) -> CalibratedAnswer:
        found = sum_by(snapshot, keys, selection)
        only = {name: names for name, names in selection.where.items() if name in PLACE}
        whole = sum_by(
            snapshot,
            PLACE,
            Selection(selection.table, found.plan.from_ns, found.plan.to_ns, only, selection.confidence),
        )
        figures = figures_between(snapshot, *_whole_spans(snapshot, found.plan.from_ns, found.plan.to_ns))
        return _answer(found, whole, figures, columns, keys, selection.confidence, n)

    return store.read(answer)


def _whole_spans(snapshot: Snapshot, from_ns: int, to_ns: int) -> tuple[int, int]:
    """Widen a range that goes as far as the data to the spans of figures that hold its ends."""
    held = data_range(snapshot.manifest)
    if held is not None and from_ns <= held[0]:
        from_ns = from_ns // SPAN_NS * SPAN_NS
    if held is not None and to_ns >= held[1]:
        to_ns = -(-to_ns // SPAN_NS) * SPAN_NS
    return from_ns, to_ns


def _answer(
    found: Found, whole: Found, figures: Figures, columns: Name, keys: Name, confidence: float, n: int
) -> CalibratedAnswer:
    places = [(name[0], name[1]) for name in whole.names]
    number = {place: row for row, place in enumerate(places)}
    at = [keys.index(name) for name in PLACE]
    group = np.array([number[name[at[0]], name[at[1]]] for name in found.names], np.intp)[found.codes]
    sums, all_sums = found.sums, whole.sums.fold(whole.codes, len(places))
    of_place = [figures.get(place, {}) for place in places]
    counter, estimated, seconds, alarm_s = (
        np.array([one.get(name, 0.0) for one in of_place])
        for name in ("octets", "estimated_octets", "seconds", "alarm_seconds")
    )
    covered = np.clip(np.divide(estimated, all_sums.octets, out=np.zeros(len(places)), where=all_sums.octets > 0), 0, 1)
    total = np.maximum(all_sums.octets + counter - estimated, 0.0)
    # What was not asked for is one more class of each place.
    rest_octets, rest_variance = (
        np.maximum(getattr(all_sums, name) - np.bincount(group, getattr(sums, name), len(places)), 0.0)
        for name in ("octets", "octets_variance")
    )
    of_classes = calibrate(
        np.concatenate((sums.octets, rest_octets)),
        np.concatenate((sums.octets_variance, rest_variance)),
        np.concatenate((sums.octets_largest, np.where(rest_octets > 0, all_sums.octets_largest, 0.0))),
        np.concatenate((group, np.arange(len(places)))),
        total,
        alarm_s > 0,
        covered,
        confidence,
    )
    k = len(group)
    z, low, high = of_classes.octets[:k], of_classes.low[:k], of_classes.high[:k]
    wanted = [tuple(name[keys.index(column)] for column in columns) for name in found.names]
    # Volumes are those of the names, each once; of a name and its place there is one entry, as there are no buckets.
    of_name: Floats = np.bincount(found.codes, z, len(wanted)).astype(np.float64, copy=False)
    ranks, order = rank_names(wanted, of_name, n)
    lane = ranks[found.codes]
    rows = _rows(columns, order, lane, z, low, high, found, (found.plan.to_ns - found.plan.from_ns) / SECOND_NS)
    ratio, ratio_low, ratio_high = coverage_ratio(
        estimated, all_sums.octets_variance * covered, all_sums.octets_largest, counter, confidence
    )
    shown: list[Row] = []
    for row, place in enumerate(places):
        has_counter = bool(seconds[row] > 0)
        estimator = "none" if not has_counter else "ratio" if alarm_s[row] > 0 else "regression"
        has_ratio = has_counter and bool(counter[row] > 0)
        shown.append(
            {
                "link": place[0],
                "direction": place[1],
                "counter_octets": float(counter[row]) if has_counter else None,
                "estimated_octets": float(estimated[row]) if has_counter else None,
                "coverage": float(ratio[row]) if has_ratio else None,
                "low": float(ratio_low[row]) if has_ratio else None,
                "high": float(ratio_high[row]) if has_ratio else None,
                "covered_s": float(seconds[row]),
                "alarm_s": float(alarm_s[row]),
                "estimator": estimator,
            }
        )
    return CalibratedAnswer(found.plan.from_ns, found.plan.to_ns, columns, rows, shown)


def _rows(
    columns: Name,
    order: list[Name | None],
    lane: NDArray[np.intp],
    z: Floats,
    low: Floats,
    high: Floats,
    found: Found,
    seconds: float,
) -> list[Row]:
    def add(values: NDArray[Any]) -> Floats:
        return np.bincount(lane, values, len(order)).astype(np.float64, copy=False)

    octets, raw, samples = add(z), add(found.sums.octets), add(found.sums.samples)
    low_octets = np.maximum(octets - np.sqrt(add((z - low) ** 2)), 0.0)
    high_octets = octets + np.sqrt(add((high - z) ** 2))
    whole, scale = float(octets.sum()), 8.0 / seconds
    return [
        {
            **(dict.fromkeys(columns, OTHER) if name is None else dict(zip(columns, name, strict=True))),
            "rate_bps": float(octets[row]) * scale,
            "low_bps": float(low_octets[row]) * scale,
            "high_bps": float(high_octets[row]) * scale,
            "octets": float(octets[row]),
            "raw_rate_bps": float(raw[row]) * scale,
            "raw_octets": float(raw[row]),
            "samples": int(samples[row]),
            "share": float(octets[row]) / whole if whole else 0.0,
            "folded": list(columns) if name is None else [],
        }
        for row, name in enumerate(order)
    ]
