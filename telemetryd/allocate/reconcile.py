"""Make the demands of children and of their parents agree, in a tree of estimates made one by one.

Children do not peak together: the sum of their peaks is more than the peak of their sum, by the *burstiness factor*
of BwE. What is divided downwards should be the parent's demand. So a child that is not throttled gives up a part
of what it has above what it surely demands (usage with headroom), all of a parent by the same part:

    r = u + k (d - u)      with the one k per parent, 0 <= k <= 1, at which the children have what the parent has

A throttled child's estimate is a lower bound already and is not reduced; the parent has these, and the peak of the sum
of the others. Usage of the throttled says nothing about their parent: it is as censored as theirs. Hence u <= r <= d
for everyone, r = d for the throttled, and exact sums.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.tree import Tree

Floats = NDArray[np.float64]


def sum_up(tree: Tree, leaves: Floats) -> Floats:
    """Return the values of leaves with those of inner nodes, the sums of their children, shape (n,) or (h, n)."""
    values = leaves.copy()
    for depth in reversed(range(len(tree.depths) - 2)):
        children, nodes, offsets = tree.family(depth)
        values[..., nodes] = np.add.reduceat(values[..., children], offsets, axis=-1)
    return values


def reconcile(tree: Tree, sure: Floats, demand: Floats, throttled: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return reconciled demands and burstiness factors, shape (n,) each.

    Parameters
    ----------
    sure:
        What each node surely demands in bit/s, sums in inner nodes, shape (n,).
    demand:
        Estimates, shape (n,): of a leaf; of an inner node made of the summed usage of the leaves below it that are not
        throttled.
    throttled:
        Whether a leaf is throttled; those of inner nodes are ignored, shape (n,).
    """
    wanted, fixed, free = demand.copy(), throttled.copy(), np.where(tree.is_leaf & throttled, 0.0, demand)
    burstiness = np.ones(len(tree))
    for depth in reversed(range(len(tree.depths) - 2)):
        children, nodes, offsets = tree.family(depth)
        child_wanted, child_fixed = wanted[children], fixed[children]
        peaks = np.add.reduceat(child_wanted, offsets)
        least = np.add.reduceat(np.where(child_fixed, child_wanted, sure[children]), offsets)
        held = np.add.reduceat(np.where(child_fixed, child_wanted, 0.0), offsets)
        counted = np.add.reduceat(np.where(child_fixed, free[children], 0.0), offsets)
        wanted[nodes] = np.clip(held + free[nodes] - counted, least, peaks)
        fixed[nodes] = np.add.reduceat(child_fixed.astype(np.int64), offsets) > 0
        own = wanted[nodes]
        burstiness[nodes] = np.divide(peaks, own, out=np.ones(len(own)), where=own > 0)
    result = wanted.copy()
    for depth in range(len(tree.depths) - 2):
        children, nodes, offsets = tree.family(depth)
        counts = np.diff(np.append(offsets, children.stop - children.start))
        child_wanted = wanted[children]
        low = np.where(fixed[children], child_wanted, sure[children])
        above = child_wanted - low
        room, span = result[nodes] - np.add.reduceat(low, offsets), np.add.reduceat(above, offsets)
        part = np.clip(np.divide(room, span, out=np.zeros(len(span)), where=span > 0), 0.0, 1.0)
        result[children] = low + np.repeat(part, counts) * above
    return result, burstiness
