"""The way of packets through a city's devices, from the registry's paths, links and interfaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from telemetryd.registry.fields import split_port
from telemetryd.registry.models import Device, Registry

_TOWNS: Final = "-towns"
_TOWARDS: Final = "to "  # interfaces that lead to another device say so in their alias


@dataclass(frozen=True, slots=True)
class Step:
    """One device on the way: the interface that packets enter by, and the one they leave by."""

    device: Device
    enter: str
    leave: str

    def reverse(self) -> Step:
        """Return the step of packets that go the other way."""
        return Step(self.device, self.leave, self.enter)


class Routes:
    """Ways between places of a city.

    A path of the registry gives the devices; a data-centre core stands for all of its site. Between
    neighbours whose aliases name each other, the parallel links share the flows. The first device is
    that of the user's access link (``access-NAME`` of a department or district, or an interface bound
    to the routing instance), the last one's way out is the port towards the server's leaf.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._paths: dict[tuple[str, str], list[tuple[str, ...]]] = {}
        for path in registry.paths:
            self._paths.setdefault((path.from_site, path.to_site), []).append(path.via)
        self._towards: dict[tuple[str, str], list[str]] = {}
        self._leaf_ports: dict[str, list[str]] = {}
        roles = {device.name: device.role for device in registry.devices}
        for device in registry.devices:
            for interface in device.interfaces:
                if not (interface.alias or "").startswith(_TOWARDS):
                    continue
                neighbour = (interface.alias or "").removeprefix(_TOWARDS)
                self._towards.setdefault((device.name, neighbour), []).append(interface.name)
                if roles.get(neighbour) == "leaf":
                    self._leaf_ports.setdefault(device.name, []).append(interface.name)
        self._access = {link.name: (link.device, link.interface) for link in registry.links if link.kind == "access"}
        # a district's offices and towns share its access links; its VPN has one of its own
        self._offices: dict[str, list[tuple[str, str]]] = {}
        for name, port in self._access.items():
            self._offices.setdefault(name.partition(_TOWNS)[0], []).append(port)
        self._centres: dict[str | None, list[str]] = {}
        for device in registry.devices:
            if device.role == "dc":
                self._centres.setdefault(device.site, []).append(device.name)
        self._bound = {i.name: [split_port(port) for port in i.interfaces] for i in registry.instances}

    def access(
        self, department: str, region: str, instance: str, is_district: bool, choice: int
    ) -> tuple[str, str] | None:
        """Return (device, interface) where a user's packets enter the network, None where none is known."""
        if not is_district:
            if self._bound.get(instance):
                return self._bound[instance][0]
            return self._access.get(f"access-{department}")
        offices = self._offices.get(f"access-{region}")
        return offices[choice % len(offices)] if offices else None

    def way(self, start: str, end: str, access: tuple[str, str] | None, choice: int) -> tuple[Step, ...] | None:
        """Return the steps from the user's site ``start`` to the server's site ``end``; None without a path.

        ``choice`` picks among equal ways: providers, parallel links, leafs.
        """
        forward = self._paths.get((start, end), [])
        backward = self._paths.get((end, start), [])
        if not forward and not backward:
            return None
        if forward:
            devices = _group(forward[choice % len(forward)])
        else:
            devices = [(name, ports[::-1]) for name, ports in reversed(_group(backward[choice % len(backward)]))]
        names = self._spread([name for name, _ in devices], choice)
        enters: list[str | None] = [ports[0] if number else None for number, (_, ports) in enumerate(devices)]
        leaves: list[str | None] = [ports[-1] for _, ports in devices[:-1]] + [None]
        if len(devices[0][1]) == 2:
            enters[0] = devices[0][1][0]
        if len(devices[-1][1]) == 2:
            leaves[-1] = devices[-1][1][1]
        if access is not None:
            names[0], enters[0] = access
        for number, (here, there) in enumerate(pairwise(names)):
            out, back = self._towards.get((here, there)), self._towards.get((there, here))
            if out and back:
                member = choice % min(len(out), len(back))
                leaves[number], enters[number + 1] = out[member], back[member]
        for ports, number in ((enters, 0), (leaves, -1)):
            if ports[number] is None:
                leafs = self._leaf_ports.get(names[number])
                if leafs is None:
                    return None
                ports[number] = leafs[choice % len(leafs)]
        known = self._registry.device
        return tuple(
            Step(known[name], str(enter), str(leave)) for name, enter, leave in zip(names, enters, leaves, strict=True)
        )

    def _spread(self, names: list[str], choice: int) -> list[str]:
        """Return the path's devices with the data-centre cores that this flow takes."""
        spread = []
        for name in names:
            device = self._registry.device[name]
            centre = self._centres.get(device.site, [name]) if device.role == "dc" else [name]
            spread.append(centre[choice // 2 % len(centre)])
        changes = zip(pairwise(names), pairwise(spread), strict=True)
        is_way = all(new == old or new in self._towards for old, new in changes)
        return spread if is_way else names


def _group(via: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Return the devices of a path with the one or two ports that it names of each."""
    devices: list[tuple[str, list[str]]] = []
    for device, port in _ports(via):
        if devices and devices[-1][0] == device:
            devices[-1][1].append(port)
        else:
            devices.append((device, [port]))
    return devices


def _ports(via: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return (split_port(reference) for reference in via)
