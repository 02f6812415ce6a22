"""Which two links are the ends of one cable, from the paths of the registry.

A path lists ports in the order in which packets pass them. Two that follow each other on different devices are the ends
of a cable: what leaves by one comes in by the other, whoever's it is.
"""

from __future__ import annotations

from itertools import pairwise

from telemetryd.registry.fields import split_port
from telemetryd.registry.models import Registry


def cables(registry: Registry) -> dict[str, str]:
    """Return the link at one end -> the link at the other, both ways, by the names that usage has.

    A link that paths give several other ends is left out: it is no cable.
    """
    names = {(link.device, link.interface): link.name for link in registry.links}
    bundles = {
        (device.name, port.name): port.bundle
        for device in registry.devices
        for port in device.interfaces
        if port.bundle is not None
    }

    def link(reference: str) -> str:
        device, port = split_port(reference)
        if (device, port) not in names:
            port = bundles.get((device, port), port)
        return names.get((device, port), f"{device}/{port}")

    found: dict[str, set[str]] = {}
    for path in registry.paths:
        for one, other in pairwise(path.via):
            if split_port(one)[0] != split_port(other)[0]:
                found.setdefault(link(one), set()).add(link(other))
                found.setdefault(link(other), set()).add(link(one))
    sole = {one: others.pop() for one, others in found.items() if len(others) == 1}
    return {one: other for one, other in sole.items() if sole.get(other) == one}
