"""The tree that a link's capacity is divided over, as flat arrays by depth.

Node 0 is the root, the link itself. The nodes of one depth are contiguous, so are the children of one node, and among
them those of one importance, the most important first. A *group* is the children of one node with one importance: they
share one water level.

All rates are whole bit/s below :data:`MAX_BPS`, so that sums are exact in int64 and single rates in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from telemetryd.policy.fields import MAX_BPS as MAX_BPS  # as a ceiling it means none, as a floor all of the demand

if TYPE_CHECKING:
    from telemetryd.allocate.bandwidth import BandwidthFunction

MAX_SUM_BPS: Final = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """What is promised to whom, for n nodes in k groups below i inner nodes.

    Attributes
    ----------
    order:
        The number that the caller of :func:`build` gave to the node at each place, shape (n,).
    place:
        The place of each of the caller's nodes, shape (n,): ``order[place[j]] == j``.
    parent:
        Place of the parent, -1 for the root, shape (n,).
    weight:
        Share among siblings of the same importance, > 0, shape (n,).
    guarantee, ceiling, floor:
        bit/s, shape (n,). A survival floor of :data:`MAX_BPS` protects a class: all of its demand comes first.
    importance:
        Level of importance among siblings, 1 is the most important, shape (n,).
    no_lend:
        Whether the guarantee stays idle for its owner, shape (n,).
    depths:
        Place of the first node of each depth, and n at the end.
    inner:
        Places of the nodes that have children, shape (i,).
    first_child:
        Place of the first child of each inner node, and n at the end, shape (i + 1,).
    inner_depths:
        Number of the first inner node of each depth, and i at the end.
    groups:
        Place of the first node of each group, and n at the end, shape (k + 1,).
    first_group:
        Number of the first group of each inner node, and k at the end, shape (i + 1,).
    functions:
        Place -> bandwidth function, of the nodes that have one instead of a weight.
    """

    order: NDArray[np.int64]
    place: NDArray[np.int64]
    parent: NDArray[np.int64]
    weight: NDArray[np.float64]
    guarantee: NDArray[np.int64]
    ceiling: NDArray[np.int64]
    floor: NDArray[np.int64]
    importance: NDArray[np.int64]
    no_lend: NDArray[np.bool_]
    depths: NDArray[np.int64]
    inner: NDArray[np.int64]
    first_child: NDArray[np.int64]
    inner_depths: NDArray[np.int64]
    groups: NDArray[np.int64]
    first_group: NDArray[np.int64]
    functions: Mapping[int, BandwidthFunction] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Whether a node has no children, shape (n,)."""
        leaf = np.ones(len(self), np.bool_)
        leaf[self.inner] = False
        return leaf

    def sum_children(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sum over the children of each inner node, shape (i,)."""
        return _segment_sums(values[1:], self.first_child[:-1] - 1)

    def sum_groups(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sum over the members of each group, shape (k,)."""
        return _segment_sums(values[1:], self.groups[:-1] - 1)

    def family(self, depth: int) -> tuple[slice, NDArray[np.int64], NDArray[np.int64]]:
        """Return the places of all children of a depth's nodes, those nodes, and where each one's children begin."""
        first, last = self.inner_depths[depth], self.inner_depths[depth + 1]
        begin = self.depths[depth + 1]
        children = slice(int(begin), int(self.depths[depth + 2]))
        return children, self.inner[first:last], self.first_child[first:last] - begin

    def children(self, node: int) -> range:
        """Return the places of a node's children."""
        number = int(np.searchsorted(self.inner, node))
        if number == len(self.inner) or self.inner[number] != node:
            return range(0)
        return range(int(self.first_child[number]), int(self.first_child[number + 1]))


def build(
    parent: ArrayLike,
    *,
    weight: ArrayLike = 1.0,
    guarantee: ArrayLike = 0,
    ceiling: ArrayLike = MAX_BPS,
    floor: ArrayLike = 0,
    importance: ArrayLike = 1,
    no_lend: ArrayLike = False,
    functions: Mapping[int, BandwidthFunction] | None = None,
) -> Tree:
    """Lay out a tree; the nodes come in any order, and a single value stands for all of them.

    Parameters
    ----------
    parent:
        Number of each node's parent, -1 for the root, shape (n,).
    weight, guarantee, ceiling, floor, importance, no_lend:
        See :class:`Tree`.
    functions:
        Number of a node -> its bandwidth function, in place of its weight; it bounds the ceiling too.

    Raises
    ------
    ValueError
        If it is no tree, or a value is out of its range.

    Examples
    --------
    >>> tree = build([-1, 0, 0], weight=[1, 3, 1], ceiling=[MAX_BPS, 600, MAX_BPS])
    """
    above = np.asarray(parent, np.int64)
    n = len(above)
    levels = _column(importance, n, np.int64, "an importance", 1, 2**31)
    order, depths, counts = _order(above, levels)
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    inner = np.flatnonzero(counts)
    firsts = np.concatenate(([1], 1 + np.cumsum(counts[inner])))
    sorted_parent = np.where(above[order] < 0, -1, place[above[order]])
    sorted_levels = levels[order]
    starts = np.flatnonzero((np.diff(sorted_parent) != 0) | (np.diff(sorted_levels) != 0)) + 1
    groups = np.append(starts, n) if n > 1 else np.array([n])
    placed = {int(place[number]): function for number, function in (functions or {}).items()}
    most = _column(ceiling, n, np.int64, "a ceiling", 0, MAX_BPS)[order]
    for position, function in placed.items():
        most[position] = min(most[position], function.most_bps)
    return Tree(
        order=order,
        place=place,
        parent=sorted_parent,
        weight=_column(weight, n, np.float64, "a weight", 1e-9, 1e9)[order],
        guarantee=_column(guarantee, n, np.int64, "a guarantee", 0, MAX_BPS)[order],
        ceiling=most,
        floor=_column(floor, n, np.int64, "a floor", 0, MAX_BPS)[order],
        importance=sorted_levels,
        no_lend=_column(no_lend, n, np.bool_, "no_lend", 0, 1)[order],
        depths=depths,
        inner=inner,
        first_child=firsts,
        inner_depths=np.searchsorted(inner, depths),
        groups=groups,
        first_group=np.searchsorted(groups, firsts),
        functions=placed,
    )


def _segment_sums(values: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.add.reduceat(values, offsets) if len(offsets) else np.empty(0, np.int64)


def _column(values: ArrayLike, n: int, dtype: Any, name: str, least: float, most: float) -> NDArray[Any]:
    given = np.asarray(values)
    if given.shape not in ((), (n,)):
        raise ValueError(f"{name} is given for {given.shape} nodes of {n}")
    if given.size and not (np.min(given) >= least and np.max(given) <= most):
        raise ValueError(f"{name} must lie between {least:g} and {most:g}")
    if np.issubdtype(dtype, np.integer) and not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"{name} must be a whole number")
    return np.broadcast_to(given.astype(dtype), (n,))


def _order(
    parent: NDArray[np.int64], importance: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the nodes by depth, the first place of each depth, and how many children the node at each place has."""
    n = len(parent)
    roots = np.flatnonzero(parent < 0)
    if len(roots) != 1 or (parent >= n).any():
        raise ValueError("a tree has one root, and parents are nodes of it")
    by_parent = np.argsort(parent, kind="stable")
    starts = np.searchsorted(parent[by_parent], np.arange(n + 1))
    current = roots
    order, counts, depths = [roots], [], [0, 1]
    while len(current):
        count = starts[current + 1] - starts[current]
        counts.append(count)
        offsets = np.repeat(starts[current] - np.cumsum(count) + count, count)
        children = by_parent[offsets + np.arange(count.sum())]
        ranks = np.repeat(np.arange(len(current)), count)
        current = children[np.lexsort((importance[children], ranks))]
        if len(current):
            order.append(current)
            depths.append(depths[-1] + len(current))
    if depths[-1] != n:
        raise ValueError("some nodes hang on no root: their parents form a circle")
    return np.concatenate(order), np.array(depths), np.concatenate(counts)
