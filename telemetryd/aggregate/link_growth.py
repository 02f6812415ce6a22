"""From what counters of interfaces grew by to what those of links did: the names and corrections of the registry.

A link of usage is an interface, or the bundle (LAG) that it is a member of; where the registry does not name it, it
is "DEVICE/INTERFACE". The counters of a bundle are its own: those of its members are read at other times, and are not
added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.reconcile import Growth, Point
from telemetryd.registry.models import Registry
from telemetryd.schema import GrowthFlag, LinkDirection

Place = tuple[str, str]  # device, interface


@dataclass(frozen=True, slots=True)
class Links:
    """What the registry knows of links and metering points, by their interfaces.

    Attributes
    ----------
    names:
        (device, interface) -> the link's name, where the registry gives it one.
    members:
        Interfaces that are members of a bundle, and no links of their own.
    blind:
        Interfaces that nothing samples.
    points:
        Metering point -> its link.
    """

    names: Mapping[Place, str] = field(default_factory=dict)
    members: frozenset[Place] = frozenset()
    blind: frozenset[Place] = frozenset()
    points: Mapping[str, Point] = field(default_factory=dict)

    @classmethod
    def of(cls, registry: Registry) -> Links:
        """Take them out of a registry."""
        names = {(link.device, link.interface): link.name for link in registry.links}
        members = {
            (device.name, port.name)
            for device in registry.devices
            for port in device.interfaces
            if port.bundle is not None and (device.name, port.name) not in names
        }
        blind = {(port.device, port.interface) for port in registry.blind_ports}
        found = cls(names, frozenset(members), frozenset(blind))
        points = {
            point.name: Point(found.name((point.device, point.interface)), point.faces == "outside")
            for point in registry.metering_points
        }
        return cls(names, frozenset(members), frozenset(blind), points)

    def name(self, place: Place) -> str:
        """Return the name of the link at an interface, as usage has it."""
        return self.names.get(place) or f"{place[0]}/{place[1]}"


def link_growths(
    growth: Mapping[str, NDArray[Any]],
    places: list[Place],
    corrections: NDArray[Any],
    ranks: NDArray[Any],
    links: Links,
) -> list[Growth]:
    """Return what links grew by, in the order of the rows.

    Parameters
    ----------
    growth:
        The columns of :data:`telemetryd.schema.DIRECTION_GROWTH_COLUMNS`, each of shape (n,).
    places:
        (device, interface) of each row, n of them.
    corrections, ranks:
        Octets to add to each packet, and how good the source of the counters is, shape (n,).
    links:
        Of the registry.
    """
    uncertain = np.uint8(GrowthFlag.RESET | GrowthFlag.AMBIGUOUS)
    found = []
    rows = zip(*(growth[name].tolist() for name in _COLUMNS), places, corrections.tolist(), ranks.tolist(), strict=True)
    for direction, start_ns, end_ns, octets, packets, has_packets, flags, place, correction, rank in rows:
        if place in links.members:
            continue
        found.append(
            Growth(
                link=links.name(place),
                direction=LinkDirection(direction),
                start_ns=start_ns,
                end_ns=end_ns,
                octets=octets,
                packets=packets if has_packets else None,
                correction=float(correction),
                is_certain=not flags & uncertain,
                is_expected=place in links.names and place not in links.blind,
                rank=rank,
            )
        )
    return found


_COLUMNS = ("direction", "start_ns", "end_ns", "octets", "packets", "has_packets", "flags")
