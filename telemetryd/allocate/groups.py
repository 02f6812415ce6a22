"""Capacity of a group of links, whole and with members down.

Traffic is spread over the members in some measured split, which need not be that of their capacities. A group is
full when its first member is, so that its usable capacity is the least capacity / share of the members that are up.
What a member carried that is down spreads over the others in proportion to their shares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from telemetryd.allocate.divide import Allocation, allocate
from telemetryd.allocate.tree import Tree


@dataclass(frozen=True, slots=True)
class Member:
    """A link of a group.

    Attributes
    ----------
    name:
        The link.
    capacity_bps:
        What it carries at most.
    share:
        Its part of the group's traffic as measured, in any unit; None: traffic follows the capacities.
    """

    name: str
    capacity_bps: int
    share: float | None = None


def usable_bps(members: Sequence[Member], down: Collection[str] = ()) -> int:
    """Return what a group carries before its first member is full.

    Parameters
    ----------
    members:
        The links; shares are measured for all of them or for none.
    down:
        Names of the members that are down.

    Raises
    ------
    ValueError
        If shares are negative, or known for some members only.
    """
    up = [member for member in members if member.name not in down]
    shares = [member.share for member in members]
    if all(share is None for share in shares):
        return sum(member.capacity_bps for member in up)
    if any(share is None or share < 0 for share in shares):
        raise ValueError("the split of a group is known for all of its members or for none")
    parts = [(member.capacity_bps, Fraction(member.share or 0)) for member in up]
    whole = sum(part for _, part in parts)
    if not whole:
        return sum(capacity for capacity, _ in parts)
    return int(min(capacity * whole / part for capacity, part in parts if part))


def failure_states(members: Sequence[Member]) -> dict[str, frozenset[str]]:
    """Return the states to check a group in: the loss of each single member, by the name ``<member> down``."""
    return {f"{member.name} down": frozenset({member.name}) for member in members}


def allocate_states(
    tree: Tree, demand: ArrayLike, members: Sequence[Member], states: Mapping[str, Collection[str]]
) -> dict[str, Allocation]:
    """Divide a group's capacity in every state; what the whole group promises must be seen with members down.

    Parameters
    ----------
    tree, demand:
        As for :func:`telemetryd.allocate.divide.allocate`.
    states:
        Name of a state -> members that are down in it, such as :func:`failure_states`.

    Returns
    -------
    dict
        By state, with "all up" first. Where a state breaks guarantees :func:`broken_guarantees` names them.
    """
    every = {"all up": frozenset(), **states}
    return {name: allocate(tree, demand, usable_bps(members, down)) for name, down in every.items()}


def broken_guarantees(allocation: Allocation) -> NDArray[np.int64]:
    """Return by how many bit/s each node's guarantee, up to its demand, is missed, shape (n,)."""
    missed: NDArray[np.int64] = np.maximum(allocation.bounds.guarantee - allocation.bps, 0)
    return missed
