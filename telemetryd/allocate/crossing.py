"""Divide the links of policies among demands that cross several of them: from policies to :mod:`.network` and back.

Network-wide max-min knows no hierarchy. A flow has the terms of its leaf on each managed link that it crosses: the
importance, weight and bandwidth function on the first, and the least guarantee, floor and ceiling of all. Where flows
on different ways share a leaf, its weight and rates are split by their demands. A guarantee that is not lent stays
idle. What inner nodes are promised does not count here, and is named (:func:`not_considered`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from telemetryd.allocate.bandwidth import BandwidthFunction
from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.divide import Phase
from telemetryd.allocate.network import NO_LINK, NetworkAllocation, allocate, demands
from telemetryd.allocate.network_invariants import check
from telemetryd.allocate.place import SHARE_BPS, Placed, Placer, Placers
from telemetryd.allocate.tree import MAX_BPS
from telemetryd.errors import InputError, Problem, TelemetrydError
from telemetryd.policy.loaded import Policies
from telemetryd.policy.outline import Rule
from telemetryd.registry.models import Registry


@dataclass(slots=True)
class Flow:
    """Traffic of one department and application on one way.

    Attributes
    ----------
    demand:
        The first demand of it.
    links:
        Numbers of the managed links that it crosses, in their order.
    leaves:
        Its leaf on each.
    bps:
        bit/s demanded.
    """

    demand: Demand
    links: tuple[int, ...]
    leaves: tuple[int, ...]
    bps: int = 0


@dataclass(frozen=True, slots=True)
class Crossing:
    """A network-wide division.

    Attributes
    ----------
    links:
        The managed links, each with its policy.
    flows, allocation:
        Who crosses them, and what each gets, in the same order.
    unmanaged:
        Demands that cross no managed link.
    """

    links: list[Placed]
    flows: list[Flow]
    allocation: NetworkAllocation
    unmanaged: list[Demand] = field(default_factory=list)


def divide_network(policies: Policies, registry: Registry, wanted: Iterable[Demand], at: datetime) -> Crossing:
    """Divide all links of the policies at once; arguments as for :func:`telemetryd.allocate.place.place`.

    Raises
    ------
    InputError
        If the demands are too large together to be added up.
    TelemetrydError
        If an invariant is broken: a mistake of this program, and nothing to apply.
    """
    placers = Placers(policies, registry, at)
    every = list(placers)
    numbers = {id(placer): number for number, placer in enumerate(every)}
    flows: dict[tuple[tuple[int, ...], tuple[int, ...]], Flow] = {}
    unmanaged = []
    for demand in wanted:
        crossed = placers.crossed(demand)
        if not crossed:
            unmanaged.append(demand)
            continue
        links = tuple(numbers[id(placer)] for placer in crossed)
        leaves = tuple(placer.add(demand) for placer in crossed)
        flow = flows.setdefault((links, leaves), Flow(demand, links, leaves))
        flow.bps = min(flow.bps + demand.bps, MAX_BPS)
    chosen = [*flows.values(), *_reserved(every)]
    try:
        allocation = _allocate(every, chosen)
    except ValueError as error:
        raise InputError(f"the demands cannot be divided: {error}") from None
    if broken := check(allocation):
        raise TelemetrydError(f"the network-wide allocation is not sound: {broken[0]}")
    return Crossing([placer.placed for placer in every], chosen, allocation, unmanaged)


def _allocate(placers: list[Placer], flows: list[Flow]) -> NetworkAllocation:
    totals: dict[tuple[int, int], int] = {}
    for flow in flows:
        for place in zip(flow.links, flow.leaves, strict=True):
            totals[place] = totals.get(place, 0) + flow.bps

    def least(flow: Flow, name: str) -> int:
        """Return the least of a rate over the links, split by the demands of its leaf."""
        rates = []
        for link, leaf in zip(flow.links, flow.leaves, strict=True):
            rate, total = int(getattr(placers[link].placed.rules[leaf], name)), totals[link, leaf]
            if name == "ceiling_bps" and rate >= placers[link].placed.capacity_bps:
                rate = MAX_BPS  # the link's capacity is what is divided, and no ceiling
            # A floor without limit protects all of the demand, however it is split.
            rates.append(rate if rate >= MAX_BPS or not total else rate * flow.bps // total)
        return min(min(rates), MAX_BPS)

    def no_lend(flow: Flow) -> bool:
        return any(placers[link].placed.rules[leaf].no_lend for link, leaf in zip(flow.links, flow.leaves, strict=True))

    def function(flow: Flow) -> BandwidthFunction | None:
        knots, total = first(flow).function, totals[flow.links[0], flow.leaves[0]]
        if knots is None:
            return None
        rates = knots.bps if not total else tuple(bps * flow.bps // total for bps in knots.bps)
        return BandwidthFunction(tuple(share * SHARE_BPS for share in knots.shares), rates)

    def first(flow: Flow) -> Rule:
        return placers[flow.links[0]].placed.rules[flow.leaves[0]]

    def weight(flow: Flow) -> float:
        total = totals[flow.links[0], flow.leaves[0]]
        return max(first(flow).weight * (flow.bps / total if total else 1.0), 1e-9)

    guarantees = [least(flow, "guarantee_bps") for flow in flows]
    functions = {number: found for number, flow in enumerate(flows) if (found := function(flow)) is not None}
    wanted = demands(
        [[flow.links] for flow in flows],
        np.array(
            [
                max(flow.bps, guarantee) if no_lend(flow) else flow.bps
                for flow, guarantee in zip(flows, guarantees, strict=True)
            ],
            np.int64,
        ),
        weight=np.array([weight(flow) for flow in flows]),
        guarantee=np.array(guarantees, np.int64),
        ceiling=np.array([least(flow, "ceiling_bps") for flow in flows], np.int64),
        floor=np.array([least(flow, "floor_bps") for flow in flows], np.int64),
        importance=np.array([first(flow).importance for flow in flows], np.int64),
        functions=functions,
    )
    return allocate(np.array([placer.placed.capacity_bps for placer in placers], np.int64), wanted)


def _reserved(placers: list[Placer]) -> Iterator[Flow]:
    """Yield a flow without a demand for each leaf whose guarantee is kept idle, and that nobody has."""
    for number, placer in enumerate(placers):
        placed = placer.placed
        placer.add_reserved(placer.root, 0)
        inner = set(placed.parents)
        for leaf, rule in enumerate(placed.rules):
            if rule.no_lend and rule.guarantee_bps and leaf not in inner and leaf not in placed.demands:
                names = {str(placed.rules[node].level): placed.rules[node].name for node in _above(placed, leaf)}
                department, application = names.get("department", ""), names.get("application", "")
                yield Flow(Demand(placed.link, placed.direction, department, application, 0), (number,), (leaf,))


def _above(placed: Placed, node: int) -> Iterator[int]:
    """Yield a node and those above it, without the link."""
    while node > 0:
        yield node
        node = placed.parents[node]


def not_considered(crossing: Crossing) -> list[Problem]:
    """Return a warning for each term of an inner node that the network-wide division does not look at."""
    found: list[Problem] = []
    for placed in crossing.links:
        inner = set(placed.parents)
        for number, rule in enumerate(placed.rules):
            if number == 0 or rule.path is None or number not in inner:
                continue
            above = placed.rules[placed.parents[number]]
            terms = {
                "guarantee": rule.guarantee_bps > 0,
                "floor": rule.floor_bps > 0,
                "ceiling": rule.ceiling_bps < above.ceiling_bps,
                "weight": rule.weight != 1.0,
                "function": rule.function is not None,
                "no_lend": rule.no_lend,
            }
            named = [name for name, is_there in terms.items() if is_there]
            if named:
                where = placed.policy.document.where(rule.path)
                name = "/".join(placed.names[number])
                message = f"{name} on {placed.link}: of it these do not count network-wide: {', '.join(named)}"
                found.append(
                    Problem(*where, message, "what is below it has its own terms there; say them at the applications")
                )
    return list(dict.fromkeys(found))


def crossing_rows(crossing: Crossing) -> dict[str, list[dict[str, Any]]]:
    """Return ``flows``, with the certificate of each, and ``links``, with what is used of them, for tables and JSON."""
    allocation = crossing.allocation
    wanted = allocation.demands
    where = [{"link": placed.link, "direction": placed.direction} for placed in crossing.links]
    flows = []
    for number, flow in enumerate(crossing.flows):
        bottleneck, level = int(allocation.bottleneck[number]), float(allocation.level[number])
        flows.append(
            {
                "department": flow.demand.department,
                "application": flow.demand.application,
                "crosses": [where[link] for link in flow.links],
                "importance": int(wanted.importance[number]),
                "weight": float(wanted.weight[number]),
                "demand_bps": flow.bps,
                "floor_bps": int(min(wanted.floor[number], flow.bps)),
                "guarantee_bps": int(wanted.guarantee[number]),
                "ceiling_bps": None if wanted.ceiling[number] >= MAX_BPS else int(wanted.ceiling[number]),
                "allocation_bps": int(allocation.bps[number]),
                "bottleneck": None if bottleneck == NO_LINK else where[bottleneck],
                "level_bps": None if bottleneck == NO_LINK or not np.isfinite(level) else level,
                "phase": None if bottleneck == NO_LINK else Phase(int(allocation.phase[number])).name.lower(),
            }
        )
    links = [
        {**one, "policy": placed.policy.name, "capacity_bps": placed.capacity_bps, "used_bps": int(used)}
        for one, placed, used in zip(where, crossing.links, allocation.used, strict=True)
    ]
    return {"flows": flows, "links": links}
