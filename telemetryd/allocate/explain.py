"""Why a node gets what it gets: the chain from it to the root, which constraint binds, and who holds the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.divide import Allocation, Phase


class Bound(StrEnum):
    """What keeps a node from more."""

    DEMAND = "demand"  # it wants no more
    CEILING = "ceiling"  # its own ceiling
    SHARE = "share"  # weight x level, beside siblings of the same importance
    GUARANTEE = "guarantee"  # it has its guarantee, and a share would be less
    FLOOR = "floor"  # it has its survival floor only, or a part of it
    IMPORTANCE = "importance"  # more important siblings took the rest
    CAPACITY = "capacity"  # the root: the link has no more


@dataclass(frozen=True, slots=True)
class Holder:
    """A sibling that has a part of what somebody would like to have.

    Attributes
    ----------
    node:
        Its place in the tree.
    bps:
        What it has.
    bound:
        Why it has no more than that.
    """

    node: int
    bps: int
    bound: Bound


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the chain, the leaf first.

    Attributes
    ----------
    node:
        Place in the tree.
    bps, wanted_bps, guarantee_bps, floor_bps:
        What it has; what it would take without its ceiling; its guarantee and floor, up to its demand.
    level:
        Water level of its siblings of the same importance, bit/s per unit of weight; None where no level applies, since
        all of them have their high bound, or their low one.
    phase:
        Phase in which its parent's share was divided; of the root, excess.
    bound:
        What keeps it from more.
    binds:
        Whether a change would have to relax this one first: the first ceiling on the way up, or the link's capacity.
    holders:
        Its siblings that have anything, those with most first.
    """

    node: int
    bps: int
    wanted_bps: int
    guarantee_bps: int
    floor_bps: int
    level: float | None
    phase: Phase
    bound: Bound
    binds: bool
    holders: tuple[Holder, ...]


def bounds_of(allocation: Allocation) -> NDArray[np.str_]:
    """Return the :class:`Bound` of every node, shape (n,)."""
    tree, bounds, bps, level = allocation.tree, allocation.bounds, allocation.bps, allocation.level
    phase = allocation.phase[tree.parent]
    is_first = np.ones(len(tree), np.bool_)  # of the most important group of its parent
    is_first[1:] = tree.importance[1:] == np.repeat(tree.importance[tree.first_child[:-1]], np.diff(tree.first_child))
    low = np.where(phase == Phase.EXCESS, bounds.guarantee, bounds.floor)
    outranked = (level == 0.0) & ~is_first
    held = np.where(phase == Phase.EXCESS, Bound.GUARANTEE.value, Bound.FLOOR.value)
    found = np.where(bps > low, Bound.SHARE.value, np.where(outranked, Bound.IMPORTANCE.value, held))
    found[(phase == Phase.GUARANTEES) & (bps == bounds.guarantee)] = Bound.GUARANTEE.value
    found[phase == Phase.FLOORS] = Bound.FLOOR.value
    is_sated = bps == bounds.want
    found[is_sated] = np.where(bounds.want < bounds.wanted, Bound.CEILING.value, Bound.DEMAND.value)[is_sated]
    if not is_sated[0]:
        found[0] = Bound.CAPACITY.value
    return found


def explain(allocation: Allocation, node: int) -> list[Step]:
    """Return the chain from a node to the root, the node first.

    Parameters
    ----------
    node:
        Its place in the tree.
    """
    tree, bounds = allocation.tree, allocation.bounds
    reasons = bounds_of(allocation)
    chain = [node]
    while tree.parent[chain[-1]] >= 0:
        chain.append(int(tree.parent[chain[-1]]))
    binding = _binding(chain, reasons)
    steps = []
    for place in chain:
        parent = int(tree.parent[place])
        siblings = [other for other in tree.children(parent) if other != place] if parent >= 0 else []
        siblings.sort(key=lambda other: (-int(allocation.bps[other]), other))
        level = float(allocation.level[place])
        steps.append(
            Step(
                node=place,
                bps=int(allocation.bps[place]),
                wanted_bps=int(bounds.wanted[place]),
                guarantee_bps=int(bounds.guarantee[place]),
                floor_bps=int(bounds.floor[place]),
                level=level if 0.0 < level < np.inf else None,
                phase=Phase(int(allocation.phase[parent])) if parent >= 0 else Phase.EXCESS,
                bound=Bound(str(reasons[place])),
                binds=place == binding,
                holders=tuple(
                    Holder(other, int(allocation.bps[other]), Bound(str(reasons[other])))
                    for other in siblings
                    if allocation.bps[other]
                ),
            )
        )
    return steps


def _binding(chain: list[int], reasons: NDArray[np.str_]) -> int | None:
    """Return the first node upwards that is at its ceiling or is the full link; None if the leaf is sated."""
    if reasons[chain[0]] == Bound.DEMAND:
        return None
    return next((place for place in chain if reasons[place] in (Bound.CEILING, Bound.CAPACITY)), None)
