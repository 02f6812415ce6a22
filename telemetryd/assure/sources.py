"""Where the traffic of a ruled link is counted, and which of it is elastic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from telemetryd.registry.models import Registry

#: DSCP values of real-time classes (RFC 4594): EF, CS5, AF4x, CS4, CS3. They do not come back for what was dropped.
REAL_TIME: Final = frozenset({46, 44, 40, 34, 36, 38, 32, 24})
_UDP: Final = 17
_INWARD: Final = {"in": "inbound", "out": "outbound"}


@dataclass(frozen=True, slots=True)
class Counted:
    """Which rows of the result tables tell a link's traffic.

    Attributes
    ----------
    table:
        ``totals`` or ``link_usage``.
    links:
        Metering points, or links.
    direction:
        As the table has it.
    """

    table: str
    links: tuple[str, ...]
    direction: str


def counted(registry: Registry, link: str, direction: str) -> Counted:
    """Return where the traffic of a link or group is counted.

    All contracted exits (or uplinks) together have their departments in ``totals``: the metering points lie inside NAT,
    where addresses still say whose they are. Any other link is read from ``link_usage``.
    """
    groups = registry.by_name("link_groups")
    members = groups[link].members if link in groups else (link,)
    for kind in ("exit", "uplink"):
        every = {one.name for one in registry.links if one.kind == kind and one.contract is not None}
        points = tuple(point.name for point in registry.metering_points if kind in point.counts)
        if every and every == set(members) and points:
            return Counted("totals", points, _INWARD[direction])
    return Counted("link_usage", tuple(members), direction)


def is_elastic(registry: Registry, application: str) -> bool:
    """Tell whether an application's traffic comes back for what it did not get.

    Not so the real-time service classes by their DSCP, and what is served over UDP alone.
    """
    known = registry.application.get(application)
    if known is None:
        return True
    own = registry.by_name("service_classes").get(known.service_class or "")
    if own is not None and own.dscp[0] in REAL_TIME:
        return False
    return not known.serves or any(serve.protocol_number != _UDP for serve in known.serves)
