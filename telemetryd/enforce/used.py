"""What classes of a device use, as samples say, and what would become of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from telemetryd.assure.link_demand import LinkDemand
from telemetryd.enforce.control import Node, Promise
from telemetryd.enforce.shadow import Followed

#: Part of a class's usage by which something else must be allocated, for a verdict to tell of it.
TOLD: Final = 0.05


def used(demand: LinkDemand | None, classes: Mapping[Node, object]) -> dict[Node, tuple[int, int]]:
    """Return what samples say of classes in a period: bit/s and samples; nothing where they say nothing."""
    found: dict[Node, tuple[int, int]] = {}
    if demand is None or demand.stale:
        return found
    for leaf, usage, samples in zip(demand.nodes, demand.usage_bps.tolist(), demand.samples.tolist(), strict=True):
        depth = next((d for d in range(len(leaf), -1, -1) if leaf[:d] in classes), None)
        if depth is not None:
            bps, count = found.get(leaf[:depth], (0, 0))
            found[leaf[:depth]] = bps + round(usage), count + samples
    return found


def followed(
    promises: Mapping[tuple[str, str], Mapping[Node, Promise]],
    demands: Iterable[LinkDemand],
    places: Iterable[tuple[str, str]],
) -> list[Followed]:
    """Return what would become of the classes of some links that use something else now."""
    by_place = {(one.link, one.direction): one for one in demands}
    found = []
    for link, direction in sorted(places):
        promised = promises.get((link, direction), {})
        sampled = used(by_place.get((link, direction)), promised)
        for node, promise in promised.items():
            now, _ = sampled.get(node, (0, 0))
            would = min(promise.demand_bps, promise.allocation_bps)
            if abs(would - now) > TOLD * max(now, would):
                found.append(Followed(link, direction, node, now, would))
    return found
