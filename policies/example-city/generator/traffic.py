"""What flows: each application's peak, day pattern, path and clients, and the dated events."""

from __future__ import annotations

from typing import Any, Final

from .plan import INTERNET, OVERLAP, City, Department, Entity, table
from .services import Application, Hosting, behind_waf

PROVINCE: Final = ("198.19.192.0/20", "2001:db8:f000::/36")
#: Owners whose applications every department uses, not only their own counterparts.
FOR_ALL: Final = ("govoffice", "data", "offaffairs", "organisation")
_PEERS: Final = 5  # other departments that take part in an exchange between departments

#: Share of an application's octets that flows from client to server.
REQUEST_SHARE: Final = {
    "inbound": 0.08,
    "outbound": 0.1,
    "district": 0.15,
    "datacentre": 0.97,
    "uplink": 0.4,
    "lateral": 0.3,
}
_SENDING: Final = {"SURV": 0.97, "VOICE": 0.5, "VCONF": 0.5}  # cameras send; people talk both ways
_SIZES: Final = {"SURV": "video", "VCONF": "video", "VOICE": "voice", "BULK": "bulk"}


def patterns() -> dict[str, Entity]:
    """Return the day patterns: 24 hourly shares of the peak, and what a day off leaves of it."""
    shapes = table("day-shapes")
    return {
        row["pattern"]: {
            "hours": [int(hour[row["shape"]]) / 100 for hour in shapes],
            "weekend": float(row["weekend"]),
        }
        for row in sorted(table("patterns"), key=lambda row: row["pattern"])
    }


def _offices(departments: list[Department]) -> list[str]:
    return [str(next(department.block.subnets(prefixlen_diff=1))) for department in departments]


def _users(application: Application, city: City, hosting: Hosting) -> list[str]:
    """Return the prefixes that an application's clients have."""
    owner, district, kind = application.owner, application.district, application.row["exchange"]
    districts = [district] if district else city.districts_of("districts", application.copy)
    if application.row["scope"] in ("urban", "rural") and not district:
        districts = city.districts_of(application.row["scope"], application.copy)
    if kind == "inbound":
        return list(INTERNET)
    if kind == "outbound":
        who = city.departments if owner.name == "data" else [owner]
        return [str(list(department.block.subnets(new_prefix=24))[3]) for department in who]
    if kind == "datacentre":
        return hosting.sources[owner.name]
    if application.zone == "dc-video":
        return [one.cameras(owner) for one in districts]
    if application.instance.startswith("vpn-"):
        branches = [one.branch(owner) for one in districts] if owner.overlaps else []
        if district:
            return branches
        own = [owner.private]
        if application.row["scope"] == "department":
            return [*own, OVERLAP] if owner.overlaps else own
        return own + branches
    if kind == "uplink" and application.zone != "province":
        return list(PROVINCE)
    if district:
        return [str(district.counterpart(owner)), district.counterpart6(owner)]
    if kind == "lateral":
        others = [(owner.number + 11 * k) % len(city.departments) for k in range(1, _PEERS + 1)]
        return _offices([owner, *(city.departments[number] for number in others)])
    offices = _offices(city.departments if owner.name in FOR_ALL else [owner])
    if application.row["scope"] == "city" and kind == "district":
        offices += [str(one.counterpart(owner)) for one in districts]
    return [*offices, f"2001:db8:{owner.number}::/48"]


def applications(city: City, hosting: Hosting) -> list[Entity]:
    """Return one entry an application."""
    idle = {row["pattern"]: float(row["outside_events"]) for row in table("patterns")}
    found: list[Entity] = []
    for application in hosting.applications:
        row = application.row
        kind, service_class, pattern = row["exchange"], row["service_class"], row["pattern"]
        sizes = _SIZES.get(service_class) or {"datacentre": "bulk", "uplink": "interactive"}.get(kind, "web")
        if pattern == "IO":
            sizes = "interactive"
        entry: Entity = {
            "application": application.name,
            "pattern": pattern,
            "peak": f"{max(0.001, round(application.peak_mbps, 3)):g} Mbit/s",
            "path": "uplink" if kind == "uplink" else kind,
            "users": _users(application, city, hosting),
            "request_share": _SENDING.get(service_class, REQUEST_SHARE[kind]),
            "packet_sizes": sizes,
        }
        if idle[pattern] < 1:
            entry["idle"] = idle[pattern]
        if behind_waf(application):
            entry["shared_service"] = "waf-443"
        found.append(entry)
    return found


def events() -> list[Entity]:
    """Return the dated events, in the city's own time."""
    return [
        {
            "name": row["event"],
            "application": row["application"],
            "factor": float(row["factor"]),
            "start": row["start"],
            "end": row["end"],
        }
        for row in table("events")
    ]


def sections(city: City, hosting: Hosting) -> dict[str, Any]:
    """Return the sections of the traffic file."""
    return {
        "sampling": {"10 Gbit/s": 4096, "1 Gbit/s": 1024, "exit": 2048},
        "patterns": patterns(),
        "applications": applications(city, hosting),
        "events": events(),
    }
