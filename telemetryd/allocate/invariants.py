"""What always holds of an allocation over a tree; checked in tests, and by the daemon on what it is about to apply.

:func:`check` looks at one allocation:

    feasible      0 <= x <= U; the root has min(capacity, U); children have what their parent has, up to what they want
    conserving    the same equality: nothing is left while somebody wants it
    Pareto        who gets less than it demands is under a ceiling, or under a root without capacity left
    certificate   each node has one phase and each group one level L, and x is clamp(weight x L, low, high)
    importance    a level gets more than its low bounds only where every more important level has its high bounds
    floor         a floor is broken only where the capacity is less than all floors
    guarantee     a guarantee is broken only where the capacity of a node is less than its children's

The others compare two allocations and say which nodes break the rule: more capacity never lowers anyone; more demand,
weight or guarantee of one's own never lowers oneself, and never raises another. They hold to the last bit, with one
exception that is marked: where the floors are scaled down, others may gain the bits of the rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.divide import Allocation, Phase


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold, with the places of the nodes where."""

    rule: str
    nodes: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.rule}: nodes {', '.join(map(str, self.nodes[:5]))}{' ...' if len(self.nodes) > 5 else ''}"


def check(allocation: Allocation) -> list[Violation]:
    """Return every rule that an allocation breaks; an empty list for a sound one."""
    found = {
        "feasible": _infeasible(allocation),
        "Pareto": _not_pareto(allocation),
        "certificate": _uncertified(allocation),
        "importance": _out_of_order(allocation),
        "floor": _below(allocation, Phase.GUARANTEES, allocation.bounds.floor),
        "guarantee": _below(allocation, Phase.EXCESS, allocation.bounds.guarantee),
    }
    return [Violation(rule, tuple(map(int, nodes))) for rule, nodes in found.items() if len(nodes)]


def is_admitted(allocation: Allocation) -> bool:
    """Tell whether all guarantees fit: into the capacity, and into the ceilings above them."""
    tree, bounds = allocation.tree, allocation.bounds
    fits = tree.sum_children(bounds.guarantee) <= bounds.want[tree.inner]
    return bool(fits.all()) and allocation.capacity_bps >= int(bounds.guarantee[0])


def losers(less: Allocation, more: Allocation) -> list[int]:
    """Return the nodes that lose when the capacity grows: none."""
    return _places(more.bps < less.bps)


def gainers(before: Allocation, after: Allocation, node: int) -> list[int]:
    """Return the nodes that gain when `node` asks for more: none but itself and its ancestors."""
    family = np.zeros(len(before.tree), np.bool_)
    while node >= 0:
        family[node] = True
        node = int(before.tree.parent[node])
    return _places((after.bps > before.bps) & ~family)


def is_scaled(allocation: Allocation) -> bool:
    """Tell whether floors are scaled down somewhere, where rules about others hold up to rounding only."""
    return bool((allocation.phase == Phase.FLOORS).any())


def low_and_high(allocation: Allocation) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return weight, low and high bound of each node in the phase of its parent, shape (n,)."""
    tree, bounds = allocation.tree, allocation.bounds
    phase = allocation.phase[tree.parent]
    is_short, scaled = phase == Phase.GUARANTEES, phase == Phase.FLOORS
    low = np.where(scaled, 0, np.where(is_short, bounds.floor, bounds.guarantee))
    high = np.where(scaled, bounds.floor, np.where(is_short, bounds.guarantee, bounds.want))
    weight = np.where(scaled, bounds.floor, tree.weight)
    low[0] = high[0] = allocation.bps[0]
    return weight, low, high


def _places(mask: NDArray[np.bool_]) -> list[int]:
    return [int(place) for place in np.flatnonzero(mask)]


def _infeasible(allocation: Allocation) -> list[int]:
    tree, bounds, bps = allocation.tree, allocation.bounds, allocation.bps
    bad = (bps < 0) | (bps > bounds.want)
    bad[0] |= bps[0] != min(allocation.capacity_bps, int(bounds.want[0]))
    bad[tree.inner] |= tree.sum_children(bps) != np.minimum(bps, bounds.wanted)[tree.inner]
    return _places(bad)


def _not_pareto(allocation: Allocation) -> list[int]:
    tree, bounds, bps = allocation.tree, allocation.bounds, allocation.bps
    full = (bps == bounds.want) & (bps < bounds.wanted)
    full[0] |= bps[0] == allocation.capacity_bps
    for first, last in zip(tree.depths[1:-1], tree.depths[2:], strict=True):
        full[first:last] |= full[tree.parent[first:last]]
    return _places(tree.is_leaf & (bps < bounds.wanted) & ~full)


def _uncertified(allocation: Allocation) -> list[int]:
    tree, bounds, bps, level = allocation.tree, allocation.bounds, allocation.bps, allocation.level
    weight, low, high = low_and_high(allocation)
    with np.errstate(invalid="ignore", over="ignore"):  # 0 x inf where low is high; the root has no level
        least = np.rint(weight * np.nextafter(level, 0.0))
        most = np.rint(weight * level)
    for place, function in tree.functions.items():
        if allocation.phase[tree.parent[place]] != Phase.FLOORS:
            least[place] = round(function.at(float(np.nextafter(level[place], 0.0))))
            most[place] = round(function.at(float(level[place])))
    bad = (bps < np.clip(least, low, high)) | (bps > np.clip(most, low, high))
    bad[1:] |= (level[1:] != level[:-1]) & _same_group(allocation)
    bad |= (bps < low) | (bps > high)
    available = np.minimum(bps, bounds.wanted)[tree.inner]
    floors = available < tree.sum_children(bounds.floor)
    guarantees = available < tree.sum_children(bounds.guarantee)
    phase = np.where(floors, Phase.FLOORS, np.where(guarantees, Phase.GUARANTEES, Phase.EXCESS))
    bad[tree.inner] |= allocation.phase[tree.inner] != phase
    return _places(bad)


def _same_group(allocation: Allocation) -> NDArray[np.bool_]:
    """Whether a node shares the water level of the node before it, for nodes 1 to n - 1."""
    tree = allocation.tree
    same_parent = np.diff(tree.parent) == 0
    scaled = allocation.phase[tree.parent[1:]] == Phase.FLOORS
    same: NDArray[np.bool_] = same_parent & ((np.diff(tree.importance) == 0) | scaled)
    return same


def _out_of_order(allocation: Allocation) -> list[int]:
    tree = allocation.tree
    if len(tree) == 1:
        return []
    _, low, high = low_and_high(allocation)
    wants_more = tree.sum_groups(high - allocation.bps) > 0
    has_more = tree.sum_groups(allocation.bps - low) > 0
    owner = tree.parent[tree.groups[:-1]]
    follows = np.diff(owner) == 0
    unserved = np.zeros(len(owner), np.bool_)  # whether a level before this one of the same node wants more
    for group in np.flatnonzero(follows):
        unserved[group + 1] = unserved[group] | wants_more[group]
    scaled = allocation.phase[owner] == Phase.FLOORS
    return [int(place) for place in tree.groups[:-1][unserved & has_more & ~scaled]]


def _below(allocation: Allocation, phase: Phase, promised: NDArray[np.int64]) -> list[int]:
    """Return the nodes with less than promised though their parent reached the phase that serves it."""
    reached = allocation.phase[allocation.tree.parent] >= phase
    reached[0] = False
    return _places(reached & (allocation.bps < promised))
