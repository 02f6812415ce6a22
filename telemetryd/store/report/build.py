"""Make the record of a month: every figure of every department, the city and its links, as plain data.

A record is made by one pass over the month's rows, one over those of the month before, and arithmetic.
All formats are rendered from it, and from nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from telemetryd import __version__
from telemetryd.config.retention import FLOOR_NS
from telemetryd.errors import InputError
from telemetryd.registry.load import registry_files
from telemetryd.registry.models import Registry
from telemetryd.store import cover
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.levels import DAY_NS, MINUTE_NS
from telemetryd.store.quality import GAP, LOST, RECEIVED
from telemetryd.store.report import bins
from telemetryd.store.report.compare import Brief, brief_of_record, brief_of_scan, compare
from telemetryd.store.report.history import before
from telemetryd.store.report.links import WAYS, groups, links, title_of, together
from telemetryd.store.report.look import Recall, has_data, look
from telemetryd.store.report.month import BIN_NS, Month
from telemetryd.store.report.usage import (
    DIRECTIONS,
    Found,
    Json,
    applications,
    billed,
    direction,
    gaps,
    plain,
    shortfalls,
    through,
)
from telemetryd.store.scan import UNKNOWN_DEPARTMENT
from telemetryd.store.when import format_time

SETTLE_NS: Final = 15 * MINUTE_NS
"""After the end of a month, until its last windows are stored for certain."""

LISTED_GAPS: Final = 20
LOSS_PREFIX: Final = "loss."


def build(store: Store, registry: Registry, month: Month, now_ns: int, recall: Recall) -> Json:
    """Make the record of a month.

    Parameters
    ----------
    now_ns:
        The present, ns since the epoch: a month that is not over is preliminary.
    recall:
        Gives frozen records of other months, to compare with and to forecast from.

    Raises
    ------
    InputError
        If the store holds nothing of the month, or only windows that are too coarse.
    StoreError
        If the store cannot be read.
    """
    return store.read(lambda snapshot: _build(snapshot, registry, month, now_ns, recall))


def is_over(month: Month, now_ns: int) -> bool:
    """Tell whether a month is over and its last windows are stored."""
    return now_ns >= month.to_ns + SETTLE_NS


def _build(snapshot: Snapshot, registry: Registry, month: Month, now_ns: int, recall: Recall) -> Json:
    held = _refuse_empty(snapshot, month)
    found = look(snapshot, month)
    if not found.scan.seen_s.any():
        raise InputError(f"the store {snapshot.directory} holds no traffic of {month.name}")
    scanned = {other.name: _earlier(snapshot, other, recall) for other in (month.previous, month.year_before)}
    names = _departments(registry, found)
    titles = {entity.name: title_of(entity) for entity in registry.applications}
    exits = [point.name for point in registry.metering_points if "exit" in point.counts]
    exit_octets = through(found.scan, exits, None)
    over = is_over(month, now_ns)
    record: Json = {
        "month": month.name,
        "revision": 1,
        "preliminary": not over,
        "made_at": format_time(now_ns // 10**9 * 10**9, month.zone),
        "made_by": f"telemetryd {__version__}",
        "time_zone": str(month.zone),
        "from": format_time(month.from_ns, month.zone),
        "to": format_time(month.to_ns, month.zone),
        "bin_s": month.bin_s,
        "confidence": bins.CONFIDENCE,
        "city": {"name": registry.city.name, "title": title_of(registry.city)},
        "registry_sha256": _digest(registry_files(registry.directory)),
        "samples": found.scan.samples,
        "retention": _retention(snapshot, month, held, now_ns),
        "quality": _quality(found, registry, now_ns),
        "total": _scope(found, [name for name, _ in names], None) | _used(found, None, titles),
        "exit": _exit(found, registry, exits, exit_octets),
        "departments": [
            _department(found, registry, name, is_registered, exits, exit_octets, titles)
            for name, is_registered in names
        ],
        "link_groups": groups(found, registry),
        "links": links(found, registry, before(snapshot, month, recall, scanned)),
    }
    now = brief_of_record(record)
    for key, other in (("previous_month", month.previous), ("previous_year", month.year_before)):
        earlier = scanned[other.name]
        then = None if earlier is None else _brief(earlier)
        for scope in (record["total"], *record["departments"]):
            compared = compare(now, then, scope["name"], is_over=over)
            scope.setdefault("comparison", {})[key] = {"month": other.name, **compared}
    return record


def _refuse_empty(snapshot: Snapshot, month: Month) -> tuple[int, int]:
    held = cover.data_range(snapshot.manifest)
    if held is None:
        raise InputError(f"the store {snapshot.directory} is empty: there is nothing to report")
    if not has_data(snapshot, month):
        begin, end = (format_time(moment, month.zone) for moment in held)
        raise InputError(f"the store {snapshot.directory} holds nothing of {month.name}: it holds {begin} to {end}")
    return held


def _earlier(snapshot: Snapshot, month: Month, recall: Recall) -> Json | Found | None:
    """Return the frozen record of an earlier month, or a scan of it, or None where nothing is known."""
    record = recall(month)
    if record is not None:
        return record
    if not has_data(snapshot, month):
        return None
    try:
        return look(snapshot, month, by_application=False)
    except InputError:
        # Retention has left only windows that are too coarse: nothing can be said of it.
        return None


def _brief(earlier: Json | Found) -> Brief:
    return brief_of_scan(earlier) if isinstance(earlier, Found) else brief_of_record(earlier)


def _departments(registry: Registry, found: Found) -> list[tuple[str, bool]]:
    """Return the departments of the registry in its order, then those that only the data name."""
    registered = [department.name for department in registry.departments]
    others = sorted(set(found.scan.department) - set(registered) - {UNKNOWN_DEPARTMENT})
    unknown = [UNKNOWN_DEPARTMENT] if UNKNOWN_DEPARTMENT in found.scan.department else []
    return [*((name, True) for name in registered), *((name, False) for name in (*others, *unknown))]


def _scope(found: Found, names: Iterable[str], contract: dict[str, int | None] | None) -> Json:
    """Return the figures of some departments together: bins are added up before anything is made of them."""
    names = list(names)
    lanes = {way: found.lane(found.scan.departments, [(name, stored) for name in names]) for way, stored in DIRECTIONS}
    limits = contract or dict.fromkeys(WAYS)
    directions = {way: direction(found, lane, limits[way]) for way, lane in lanes.items()}
    inside = found.lane(found.scan.departments, [(name, "internal") for name in names])
    return {
        "name": None,
        "title": None,
        "contract_bps": limits,
        "directions": directions,
        "p95_billed": billed(directions),
        "internal_octets": plain(bins.volume(float(inside.octets.sum()), float(inside.variance.sum()), inside.largest)),
        "shortfalls": {way: shortfalls(found, lanes[way], limit) for way, limit in limits.items() if limit},
    }


def _used(found: Found, department: str | None, titles: dict[str, Json | None]) -> Json:
    top, whole = applications(found.scan, department, titles)
    return {"applications": top, "all_applications": whole}


def _department(
    found: Found,
    registry: Registry,
    name: str,
    is_registered: bool,
    exits: list[str],
    exit_octets: bins.Estimate,
    titles: dict[str, Json | None],
) -> Json:
    entity = registry.department[name] if is_registered else None
    contract = entity.contract if entity is not None else None
    rates = {"in": contract.in_bps, "out": contract.out_bps} if contract is not None else None
    is_seen = name in found.scan.department
    samples = sum(
        float(found.scan.departments.samples[place])
        for (lane, _), place in found.scan.departments.places.items()
        if lane == name
    )
    result = _scope(found, [name], rates) | {
        "name": name,
        "title": title_of(entity) if entity is not None else None,
        "class": entity.department_class if entity is not None else None,
        "registered": is_registered,
        "samples": round(samples),
        "share_of_exit": plain(bins.part(through(found.scan, exits, name), exit_octets)),
    }
    if is_seen:
        return result | _used(found, name, titles)
    return result | {"applications": [], "all_applications": None}


def _exit(found: Found, registry: Registry, exits: list[str], octets: bins.Estimate) -> Json:
    """Return the figures of all exit metering points together, against the capacity of the exit links."""
    borders = [link for link in registry.links if link.kind == "exit"]
    # Ports towards firewalls are exit links too; the providers' are those under contract.
    limits = together(registry, [link for link in borders if link.contract] or borders)
    directions = {
        way: direction(found, found.lane(found.scan.points, [(point, stored) for point in exits]), limits[way])
        for way, stored in DIRECTIONS
    }
    return {
        "metering_points": exits,
        "capacity_bps": limits,
        "directions": directions,
        "p95_billed": billed(directions),
        "octets": plain(octets),
    }


def _quality(found: Found, registry: Registry, now_ns: int) -> Json:
    month, seen_s = found.month, found.scan.seen_s
    until = min(month.to_ns, max(now_ns, month.from_ns + 1))
    due = -(-(until - int(month.starts[0])) // month.bin_ns)
    is_seen = seen_s[:due] >= bins.SEEN_SHARE * month.bin_s
    unknown = sorted(gaps(found, due), key=lambda gap: gap[0] - gap[1])
    stated = float(found.scan.departments.stated.sum())
    samples = float(found.scan.departments.samples.sum())
    listed = [
        {"at": found.time(first), "seconds": (last - first + 1) * month.bin_s}
        for first, last in sorted(unknown[:LISTED_GAPS])
    ]
    figures = found.scan.quality
    sent = sum(sum(figures.get(metric, {}).values()) for metric in (RECEIVED, GAP))
    lost = sum(sum(figures.get(metric, {}).values()) for metric in LOST)
    return {
        "bins_due": due,
        "bins_seen": int(is_seen.sum()),
        "coverage": round(min(float(seen_s[:due].sum()) / ((until - month.from_ns) / 1e9), 1.0), 6),
        "gaps": {"count": len(unknown), "longest": listed},
        "stated_rate_share": round(stated / samples, 6) if samples else None,
        "loss": [
            {"metric": metric, "value": round(sum(sources.values()))}
            for metric, sources in sorted(figures.items())
            if metric.startswith(LOSS_PREFIX)
        ],
        "loss_share": round(lost / sent, 6) if sent else None,
        "is_loss_recorded": bool(figures),
        "metering_points": [
            {"name": point.name, "title": title_of(point), "bins_with_traffic": _bins_with_traffic(found, point.name)}
            for point in registry.metering_points
        ],
        "blind_ports": [
            {"port": f"{port.device}/{port.interface}", "reason": port.reason} for port in registry.blind_ports
        ],
    }


def _bins_with_traffic(found: Found, point: str) -> int:
    places = [place for (name, _), place in found.scan.points.places.items() if name == point]
    return int((found.scan.points.octets[places].sum(axis=0) > 0).sum())


def _retention(snapshot: Snapshot, month: Month, held: tuple[int, int], now_ns: int) -> Json:
    floor = snapshot.manifest.floors.get(BIN_NS, 0)
    return {
        "held_from": format_time(held[0], month.zone),
        "held_days": (min(now_ns, held[1]) - held[0]) // DAY_NS,
        "removed_before": format_time(floor, month.zone) if floor else None,
        "required_days": FLOOR_NS // DAY_NS,
    }


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
