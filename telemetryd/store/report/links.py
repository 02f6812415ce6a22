"""The links of a month: use, what is blind, and when they will be full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

import numpy as np

from telemetryd.assure.forecast import CannotTell, Forecast, forecast
from telemetryd.registry.models import Link, Registry
from telemetryd.store.report import bins
from telemetryd.store.report.usage import Found, Json, basic, busy_hour, daily_busy_hours, plain

WAYS: Final = ("in", "out")
Days = Mapping[date, float]
"""Day -> its busy hour in bit/s."""


def links(found: Found, registry: Registry, earlier: Mapping[tuple[str, str], Days]) -> list[Json]:
    """Return the figures of every link of the registry.

    Parameters
    ----------
    earlier:
        (link, direction) -> the busy hours of the days before the month, as far as they are known.
    """
    blind = {(port.device, port.interface): port.reason or "" for port in registry.blind_ports}
    return [_link(found, registry, link, blind, earlier) for link in registry.links]


def _link(
    found: Found,
    registry: Registry,
    link: Link,
    blind: Mapping[tuple[str, str], str],
    earlier: Mapping[tuple[str, str], Days],
) -> Json:
    capacities = dict(zip(WAYS, capacity(registry, link), strict=True))
    result: Json = {
        "name": link.name,
        "title": title_of(link),
        "kind": link.kind,
        "port": f"{link.device}/{link.interface}",
        "capacity_bps": capacities,
        "state": "observed",
        "reason": None,
        "directions": {},
        "daily_bps": {},
    }
    place = link.device, link.interface
    if place in blind:
        return result | {"state": "blind", "reason": blind[place]}
    present = [way for way in WAYS if (link.name, way) in found.scan.links.places]
    if not present:
        return result | {"state": "unseen"}
    for way in WAYS:
        lane = found.lane(found.scan.links, [(link.name, way)])
        figures = basic(lane)
        peak = bins.highest(lane)
        figures["peak_bps"] = plain(peak[0]) if peak else None
        figures["busy_hour"] = busy_hour(found, lane)
        limit = capacities[way]
        figures["utilisation"] = _utilisation(figures["p95_bps"], limit)
        daily = daily_busy_hours(found, lane)
        own = {day: float(rate) for day, rate in zip(found.month.days, daily, strict=True) if rate is not None}
        figures["forecast"] = predict({**earlier.get((link.name, way), {}), **own}, limit)
        result["directions"][way] = figures
        result["daily_bps"][way] = daily
    return result


def capacity(registry: Registry, link: Link) -> tuple[int | None, int | None]:
    """Return a link's capacity (in, out) in bit/s, None where neither the port nor a contract tells one."""
    known = registry.capacity_bps(link)
    return tuple(bps if bps < 2**62 else None for bps in known)  # type: ignore[return-value]


def together(registry: Registry, members: Sequence[Link]) -> dict[str, int | None]:
    """Return the capacity of links together by direction, None where that of one isn't known."""
    both = [capacity(registry, link) for link in members]
    sides = {way: [one[side] for one in both] for side, way in enumerate(WAYS)}
    return {way: sum(bps for bps in own if bps) if own and all(own) else None for way, own in sides.items()}


def groups(found: Found, registry: Registry) -> list[Json]:
    """Return the figures of every link group: the rates of its members are added up in every bin first.

    Of a group with a member that nobody saw, nothing is said.
    """
    lanes = found.scan.links
    seen = {name for name, _ in lanes.places}
    result = []
    for group in registry.link_groups:
        limits = together(registry, [registry.link[name] for name in group.members])
        directions = {}
        unseen = [name for name in group.members if name not in seen]
        if not unseen:
            for way in WAYS:
                figures = basic(found.lane(lanes, [(name, way) for name in group.members]))
                directions[way] = figures | {"utilisation": _utilisation(figures["p95_bps"], limits[way])}
        result.append(
            {
                "name": group.name,
                "title": title_of(group),
                "members": list(group.members),
                "unseen": unseen,
                "capacity_bps": limits,
                "directions": directions,
            }
        )
    return result


def _utilisation(p95: Json | None, limit: int | None) -> Json | None:
    return plain(bins.Estimate(*(value / limit for value in p95.values()))) if limit and p95 else None


def predict(days: Days, capacity_bps: int | None) -> Json:
    """Return the forecast of one direction of a link as plain data."""
    if not capacity_bps:
        return {"cannot_tell": "capacity"}
    if not days:
        return {"cannot_tell": "history", "days": 0, "needed": CannotTell(0).needed}
    first = min(days)
    values = np.full((max(days) - first).days + 1, np.nan)
    for day, rate in days.items():
        values[(day - first).days] = rate
    result = forecast(first, values, capacity_bps)
    if isinstance(result, CannotTell):
        return {"cannot_tell": "history", "days": result.days, "needed": result.needed}
    return _plain(result)


def _plain(result: Forecast) -> Json:
    estimate = bins.Estimate

    def text(day: date | None) -> str | None:
        return None if day is None else day.isoformat()

    return {
        "cannot_tell": None,
        "days": result.days,
        "growth_a_year": plain(estimate(result.growth, result.growth_low, result.growth_high)),
        "busy_hour_bps": plain(estimate(result.level_bps, result.level_low_bps, result.level_high_bps)),
        "exhaustion": text(result.exhaustion),
        "earliest": text(result.earliest),
        "latest": text(result.latest),
    }


def title_of(entity: Any) -> Json | None:
    """Return an entity's names for people."""
    title = entity.title
    return None if title is None else {"en": title.en, "zh": title.zh}
