"""The daily busy hours of links, as far back as anything is known of them, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from telemetryd.errors import InputError
from telemetryd.registry.models import Registry
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.levels import HOUR_NS, SECOND_NS
from telemetryd.store.report import bins
from telemetryd.store.report import record as records
from telemetryd.store.report.links import WAYS, capacity, predict
from telemetryd.store.report.look import Recall, has_data, look, plan_of
from telemetryd.store.report.month import Month
from telemetryd.store.report.usage import Found, Json, daily_busy_hours
from telemetryd.store.when import format_time, parse_zone

MONTHS: Final = 12
"""How far back a report looks for links' history; the forecast by itself twice as far."""

Days = dict[tuple[str, str], dict[date, float]]
"""(link, direction) -> day -> busy hour in bit/s."""


def before(snapshot: Snapshot, month: Month, recall: Recall, scanned: Mapping[str, Json | Found | None]) -> Days:
    """Return the days before a month: from frozen records, months ``scanned`` anyway, or what is cheap to scan."""
    found: Days = {}
    other = month
    for _ in range(MONTHS):
        other = other.previous
        known = scanned[other.name] if other.name in scanned else recall(other)
        if isinstance(known, Found):
            _add(found, daily_links(known))
        elif known is not None:
            _add(found, known)
        elif has_data(snapshot, other) and _is_hourly(snapshot, other):
            _add(found, daily_links(look(snapshot, _by_hours(other), ("link_usage",), by_application=False)))
    return found


def forecasts(store: Store, registry: Registry, names: Sequence[str]) -> Json:
    """Forecast links from the store and the frozen records, the soonest to be full first.

    Raises
    ------
    InputError
        If the store is empty.
    StoreError
        If the store or a frozen record cannot be read.
    """
    zone = parse_zone(registry.city.time_zone)

    def read(snapshot: Snapshot) -> tuple[Days, int]:
        newest = snapshot.manifest.newest_ns()
        if newest is None:
            raise InputError(f"the store {snapshot.directory} is empty: there is nothing to forecast from")
        last = datetime.fromtimestamp((newest - 1) // SECOND_NS, zone)
        month = Month(last.year, last.month, zone)
        days: Days = {}
        for _ in range(2 * MONTHS):
            record = records.load(store.path, month.name)
            if record is not None and record["time_zone"] == str(zone):
                _add(days, record)
            elif has_data(snapshot, month):
                _add(days, daily_links(look(snapshot, _by_hours(month), ("link_usage",), by_application=False)))
            month = month.previous
        # The last day has not had its busy hour for certain.
        for known in days.values():
            known.pop(last.date(), None)
        return days, newest

    days, newest = store.read(read)
    rows: list[Json] = []
    for name in names:
        limits = dict(zip(WAYS, capacity(registry, registry.link[name]), strict=True))
        rows += [
            {
                "link": name,
                "direction": way,
                "capacity_bps": limits[way],
                "forecast": predict(days[name, way], limits[way]),
            }
            for way in WAYS
            if (name, way) in days
        ]
    seen = {row["link"] for row in rows}
    return {
        "until": format_time(newest, zone),
        "confidence": bins.CONFIDENCE,
        "rows": sorted(rows, key=_soonest),
        "unseen": [name for name in names if name not in seen],
    }


def daily_links(found: Found) -> Json:
    """Return the busy hours of a scanned month in the shape that a record has them in."""
    lanes = found.scan.links
    return {
        "month": found.month.name,
        "links": [
            {
                "name": name,
                "daily_bps": {way: daily_busy_hours(found, found.lane(lanes, [(name, way)])) for way in WAYS},
            }
            for name in sorted({name for name, way in lanes.places if way in WAYS})
        ],
    }


def _by_hours(month: Month) -> Month:
    return Month(month.year, month.number, month.zone, HOUR_NS)


def _is_hourly(snapshot: Snapshot, month: Month) -> bool:
    """Tell whether most of a month is held by the hour: finer windows cost twelve times as much."""
    try:
        pieces = plan_of(snapshot, _by_hours(month)).pieces
    except InputError:
        return False
    whole = sum(piece.to_ns - piece.from_ns for piece in pieces)
    return 2 * sum(piece.to_ns - piece.from_ns for piece in pieces if piece.span_ns == HOUR_NS) > whole


def _add(found: Days, record: Mapping[str, Any]) -> None:
    """Add the days of a month's record, or of what :func:`daily_links` makes."""
    first = date.fromisoformat(f"{record['month']}-01").toordinal()
    for link in record["links"]:
        for way, daily in link["daily_bps"].items():
            found.setdefault((link["name"], way), {}).update(
                (date.fromordinal(first + number), float(rate)) for number, rate in enumerate(daily) if rate is not None
            )


def _soonest(row: Json) -> tuple[str, str, str, str]:
    """Sort by the date of exhaustion, what has none last."""
    prediction = row["forecast"]
    never = "9999"
    return (prediction.get("exhaustion") or never, prediction.get("earliest") or never, row["link"], row["direction"])
