"""What one department, the exit or the whole city used in a month: figures out of the sums of a scan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.store.report import bins
from telemetryd.store.report.bins import Estimate, Floats, Lane
from telemetryd.store.report.month import Month
from telemetryd.store.scan import UNCLASSIFIED, Lanes, Scan
from telemetryd.store.when import format_time

Json = dict[str, Any]

DIRECTIONS: Final = (("in", "inbound"), ("out", "outbound"))
"""Direction of a report -> that of ``totals``: seen from the department, across the city's border."""

TOP_APPLICATIONS: Final = 10
BUSY_SHARE: Final = 0.8
AT_CONTRACT: Final = 0.95
"""From this part of the contract on, usage may have been held back by it."""

STRETCHES: Final = 10
SLOT_BINS: Final = 24
"""Bins of one point of a chart: two hours."""


@dataclass(frozen=True)
class Found:
    """A month and what a scan found in it."""

    month: Month
    scan: Scan

    def lane(self, lanes: Lanes, names: Iterable[tuple[str, str]]) -> Lane:
        """Add up some lanes, bin by bin, and take the seen bins of the sum."""
        places = [place for name in names if (place := lanes.places.get(name)) is not None]
        largest = float(lanes.largest[places].max(initial=0.0))
        octets, variance = lanes.octets[places].sum(axis=0), lanes.variance[places].sum(axis=0)
        return Lane.of(octets, variance, largest, self.scan.seen_s, self.month.bin_s)

    def time(self, place: int) -> str:
        """Write the start of a bin."""
        return format_time(int(self.month.starts[place]), self.month.zone)


def basic(lane: Lane) -> Json:
    """Return volume, mean and percentile of a lane: what months are compared by."""
    octets = bins.volume(float(lane.octets.sum()), float(lane.variance.sum()), lane.largest)
    seconds = float(lane.seconds.sum())
    mean = Estimate(*(value * 8 / seconds for value in octets)) if seconds else None
    return {"octets": plain(octets), "mean_bps": plain(mean), "p95_bps": plain(bins.percentile(lane))}


def direction(found: Found, lane: Lane, limit_bps: int | None) -> Json:
    """Return all figures of one lane; ``limit_bps`` is its contract or capacity."""
    result = basic(lane)
    peak = bins.highest(lane)
    result["peak_bps"] = plain(peak[0]) if peak else None
    result["peak_at"] = found.time(peak[1]) if peak else None
    result["busy_hour"] = busy_hour(found, lane)
    result["busy_hour_of_day"] = _busy_hour_of_day(found, lane)
    result["relative_error"] = _rounded(bins.relative_error(Estimate(**result["octets"])))
    result["over_80_percent"] = result["over_contract"] = None
    if limit_bps:
        result["over_80_percent"] = plain(bins.share_above(lane, BUSY_SHARE * limit_bps))
        result["over_contract"] = plain(bins.share_above(lane, limit_bps))
    result["chart_bps"] = chart(lane, len(found.month.starts))
    return result


def hourly(found: Found, lane: Lane) -> Lane:
    """Add up the bins of a lane by clock hour."""
    places, starts = found.month.hours
    own = places[lane.places]

    def add(values: Floats) -> Floats:
        return np.bincount(own, weights=values, minlength=len(starts)).astype(np.float64, copy=False)

    return Lane.of(add(lane.octets), add(lane.variance), lane.largest, add(lane.seconds), 3600)


def busy_hour(found: Found, lane: Lane) -> Json | None:
    """Return the clock hour with the highest mean, None where no hour was seen."""
    top = bins.highest(hourly(found, lane))
    if top is None:
        return None
    _, starts = found.month.hours
    return {"at": format_time(int(starts[top[1]]), found.month.zone), "mean_bps": plain(top[0])}


def daily_busy_hours(found: Found, lane: Lane) -> list[int | None]:
    """Return the highest hourly mean of each day of the month; None where less than half the day was seen."""
    hours = hourly(found, lane)
    days = found.month.day_of_hour[hours.places]
    count = len(found.month.days)
    seen = np.bincount(days, minlength=count)
    highest = np.zeros(count)
    np.maximum.at(highest, days, hours.rates)
    return [round(rate) if hours_seen >= 12 else None for rate, hours_seen in zip(highest, seen, strict=True)]


def _busy_hour_of_day(found: Found, lane: Lane) -> Json | None:
    own = found.month.hour_of_day[lane.places]
    octets, variance, seconds = (
        np.bincount(own, weights=values, minlength=24).astype(np.float64)
        for values in (lane.octets, lane.variance, lane.seconds)
    )
    top = bins.highest(Lane.of(octets, variance, lane.largest, seconds, 1.0))
    return None if top is None else {"hour": top[1], "mean_bps": plain(top[0])}


def chart(lane: Lane, count: int) -> list[int | None]:
    """Return the highest rate of every two hours of a month of ``count`` bins; None where nothing is known."""
    slots = lane.places // SLOT_BINS
    highest = np.full(-(-count // SLOT_BINS), -1.0)
    np.maximum.at(highest, slots, lane.rates)
    return [None if rate < 0 else round(rate) for rate in highest.tolist()]


def billed(directions: Json) -> Json | None:
    """Return the higher one of the percentiles of both directions."""
    known = [(name, way["p95_bps"]) for name, way in directions.items() if way["p95_bps"] is not None]
    if not known:
        return None
    name, p95 = max(known, key=lambda item: item[1]["value"])
    return {"direction": name, **p95}


def applications(scan: Scan, department: str | None, titles: dict[str, Json | None]) -> tuple[list[Json], Json]:
    """Return the first applications by volume, and the volume of all; of all departments where none is named."""
    cube = scan.by_application
    rows = slice(None) if department is None else [scan.department[department]]
    octets = cube.octets[rows].sum(axis=0)
    variance = cube.variance[rows].sum(axis=0)
    largest = cube.largest[rows].max(axis=(0, 2), initial=0.0)
    names = list(scan.application)
    volumes = bins.volumes(octets.sum(axis=1), variance.sum(axis=1), largest)
    whole = bins.volume(float(octets.sum()), float(variance.sum()), float(largest.max(initial=0.0)))
    ranked = sorted((k for k in range(len(names)) if volumes[k].value), key=lambda k: (-volumes[k].value, names[k]))
    ways = {name: scan.direction.get(stored) for name, stored in DIRECTIONS}

    def row(k: int) -> Json:
        return {
            "name": names[k],
            "title": titles.get(names[k]),
            "octets": plain(volumes[k]),
            **{f"{way}_octets": 0 if at is None else round(float(octets[k, at])) for way, at in ways.items()},
            "share": plain(bins.part(volumes[k], whole)),
        }

    unclassified = volumes[scan.application[UNCLASSIFIED]] if UNCLASSIFIED in scan.application else Estimate(0, 0, 0)
    return [row(k) for k in ranked[:TOP_APPLICATIONS]], {
        "octets": plain(whole),
        "applications": len(ranked),
        "other_octets": round(sum(volumes[k].value for k in ranked[TOP_APPLICATIONS:])),
        "unclassified_share": plain(bins.part(unclassified, whole)),
    }


def through(scan: Scan, points: Sequence[str], department: str | None) -> Estimate:
    """Return what crossed some metering points, in and out; of all departments where none is named."""
    inside = {stored for _, stored in DIRECTIONS}
    totals = [
        total
        for (name, point, way), total in scan.by_point.items()
        if point in points and way in inside and department in (None, name)
    ]
    return bins.volume(
        sum(total.octets for total in totals),
        sum(total.variance for total in totals),
        max((total.largest for total in totals), default=0.0),
    )


def shortfalls(found: Found, lane: Lane, contract_bps: int) -> Json:
    """Return when usage stood at the contract: the demand may have been higher then, nobody can tell from usage."""
    all_ = bins.stretches(lane, AT_CONTRACT * contract_bps)
    longest = sorted(all_, key=lambda stretch: (stretch[0] - stretch[1], -stretch[2], stretch[0]))[:STRETCHES]
    return {
        "seconds": sum(last - first + 1 for first, last, _ in all_) * found.month.bin_s,
        "count": len(all_),
        "longest": [
            {"at": found.time(first), "seconds": (last - first + 1) * found.month.bin_s, "peak_bps": round(peak)}
            for first, last, peak in sorted(longest)
        ],
    }


def gaps(found: Found, until: int) -> list[tuple[int, int]]:
    """Return the stretches of unknown bins before bin ``until``: (first, last)."""
    unknown = np.flatnonzero(found.scan.seen_s[:until] < bins.SEEN_SHARE * found.month.bin_s)
    if not len(unknown):
        return []
    parts: list[NDArray[np.intp]] = np.split(unknown, np.flatnonzero(np.diff(unknown) > 1) + 1)
    return [(int(part[0]), int(part[-1])) for part in parts]


def plain(estimate: Estimate | None) -> Json | None:
    """Return an estimate as plain data: whole numbers from 100 on, six digits of smaller ones."""
    return None if estimate is None else {key: _rounded(value) for key, value in estimate._asdict().items()}


def _rounded(value: float | None) -> float | int | None:
    if value is None or not np.isfinite(value):
        return None
    return round(value) if abs(value) >= 100 else float(f"{value:.6g}")
