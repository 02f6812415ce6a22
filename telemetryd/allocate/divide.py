"""Divide a capacity over a tree: the semantics "clamp" of docs/allocation.md.

Upwards, each node gets three rates, all of them up to its demand: the survival floor F, the guarantee G and the want U.
Downwards, what a node got is divided among its children in one of three phases:

    floors      not even the floors fit: all are scaled together
    guarantees  floors are served; guarantees, the most important level's first
    excess      guarantees are served; the rest, strictly by importance

In a phase each child has a low and a high bound, (0, F), (F, G) or (G, U). A level of importance gets what the more
important levels' shares and the less important levels' low bounds leave, and is filled to one water level L:
x = clamp(weight x L, low, high), or clamp(B(L), low, high) for a node with a bandwidth function B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from telemetryd.allocate.bandwidth import BandwidthFunction, fill
from telemetryd.allocate.tree import MAX_BPS, MAX_SUM_BPS, Tree


class Phase(IntEnum):
    """How far the capacity of a node reaches."""

    FLOORS = 0
    GUARANTEES = 1
    EXCESS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """What each node of a tree may claim, up to its demand, in bit/s, shape (n,) each; floor <= guarantee <= want.

    Attributes
    ----------
    floor, guarantee, want:
        F, G and U of the module's text.
    wanted:
        Demand of a leaf, sum of the children's wants of an inner node: U before ceiling and reservation.
    """

    floor: NDArray[np.int64]
    guarantee: NDArray[np.int64]
    want: NDArray[np.int64]
    wanted: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """Who gets how much, and the certificate of it; places are those of the tree.

    Attributes
    ----------
    tree, capacity_bps, bounds:
        What was divided.
    bps:
        bit/s of each node, shape (n,). The children of a node get what it has, up to the sum of their wants.
    level:
        Water level among the siblings of the same importance, bit/s per unit of weight, shape (n,); inf where all have
        their high bound, 0 where all have their low one. In the phase of the floors the unit of weight is the floor.
    phase:
        :class:`Phase` in which a node's share was divided among its children; excess for a leaf, shape (n,).
    """

    tree: Tree
    capacity_bps: int
    bounds: Bounds
    bps: NDArray[np.int64]
    level: NDArray[np.float64]
    phase: NDArray[np.int8]


def allocate(tree: Tree, demand: ArrayLike, capacity_bps: int) -> Allocation:
    """Divide a capacity.

    Parameters
    ----------
    tree:
        Who is promised what.
    demand:
        bit/s of each node, in the tree's order, shape (n,); those of inner nodes are ignored.
    capacity_bps:
        What there is.

    Raises
    ------
    ValueError
        If a demand or the capacity is negative or too large (:data:`telemetryd.allocate.tree.MAX_BPS`).
    """
    if not 0 <= capacity_bps <= MAX_BPS:
        raise ValueError(f"the capacity must lie between 0 and {MAX_BPS} bit/s")
    bounds = bound(tree, demand)
    n = len(tree)
    bps, level, phase = np.empty(n, np.int64), np.empty(n), np.full(n, Phase.EXCESS, np.int8)
    bps[0] = min(capacity_bps, int(bounds.want[0]))
    level[0] = np.inf
    for depth in range(len(tree.depths) - 2):
        _divide(tree, depth, bounds, bps, level, phase)
    return Allocation(tree, capacity_bps, bounds, bps, level, phase)


def bound(tree: Tree, demand: ArrayLike) -> Bounds:
    """Return what each node may claim; see :func:`allocate`."""
    given = np.asarray(demand)
    if given.shape != (len(tree),) or not np.issubdtype(given.dtype, np.integer):
        raise ValueError("demands are whole bit/s, one a node")
    wanted = given.astype(np.int64)
    wanted[tree.inner] = 0
    if wanted.min() < 0 or wanted.max() > MAX_BPS:
        raise ValueError(f"a demand must lie between 0 and {MAX_BPS} bit/s")
    reserved = np.where(tree.no_lend, np.minimum(tree.guarantee, tree.ceiling), 0)
    want = np.maximum(np.minimum(wanted, tree.ceiling), reserved)
    if float(want.sum(dtype=np.float64)) > MAX_SUM_BPS:
        raise ValueError("the demands are too large together")
    floor = np.minimum(tree.floor, want)
    guarantee = np.minimum(np.maximum(tree.guarantee, tree.floor), want)
    for depth in reversed(range(len(tree.depths) - 2)):
        children, nodes, offsets = tree.family(depth)
        sums = np.add.reduceat(want[children], offsets)
        wanted[nodes] = sums
        want[nodes] = top = np.maximum(np.minimum(sums, tree.ceiling[nodes]), reserved[nodes])
        sums = np.add.reduceat(floor[children], offsets)
        floor[nodes] = np.minimum(np.maximum(sums, tree.floor[nodes]), top)
        sums = np.add.reduceat(guarantee[children], offsets)
        own = np.maximum(tree.guarantee[nodes], floor[nodes])
        guarantee[nodes] = np.minimum(np.maximum(sums, own), top)
    return Bounds(floor, guarantee, want, wanted)


def _divide(
    tree: Tree, depth: int, bounds: Bounds, bps: NDArray[np.int64], level: NDArray[np.float64], phase: NDArray[np.int8]
) -> None:
    """Divide what the nodes of one depth got among their children."""
    children, nodes, offsets = tree.family(depth)
    counts = np.diff(np.append(offsets, children.stop - children.start))
    floor, guarantee, want = bounds.floor[children], bounds.guarantee[children], bounds.want[children]
    available = np.minimum(bps[nodes], bounds.wanted[nodes])
    of_node = np.where(available < np.add.reduceat(guarantee, offsets), Phase.GUARANTEES, Phase.EXCESS)
    of_node[available < np.add.reduceat(floor, offsets)] = Phase.FLOORS
    phase[nodes] = of_node
    in_excess = np.repeat(of_node == Phase.EXCESS, counts)
    low, high = np.where(in_excess, guarantee, floor), np.where(in_excess, want, guarantee)
    share, water = bps[children], np.empty(children.stop - children.start)

    # Groups: a level of importance gets what the levels before it leave of the room above all low bounds.
    first, last = tree.inner_depths[depth], tree.inner_depths[depth + 1]
    edges = tree.groups[tree.first_group[first] : tree.first_group[last] + 1] - children.start
    start, stop = edges[:-1], edges[1:]
    groups = np.diff(tree.first_group[first : last + 1])
    first_group = np.cumsum(groups) - groups
    group_low = np.add.reduceat(low, start)
    span = np.add.reduceat(high, start) - group_low
    before = np.cumsum(span) - span
    before -= np.repeat(before[first_group], groups)
    room = available - np.add.reduceat(group_low, first_group)
    target = group_low + np.clip(np.repeat(room, groups) - before, 0, span)
    is_filled = np.repeat(of_node != Phase.FLOORS, groups)
    functions = {
        place - children.start: function
        for place, function in tree.functions.items()
        if children.start <= place < children.stop
    }
    _fill(
        start[is_filled], stop[is_filled], target[is_filled], tree.weight[children], low, high, share, water, functions
    )  # fmt: skip

    # Where not even the floors fit, importance does not count: the floors are weights and high bounds.
    scaled = of_node == Phase.FLOORS
    if scaled.any():
        none = np.zeros_like(floor)
        _fill(
            offsets[scaled], (offsets + counts)[scaled], available[scaled], floor.astype(np.float64), none, floor,
            share, water, {},
        )  # fmt: skip
    level[children] = water


def _fill(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    target: NDArray[np.int64],
    weight: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    share: NDArray[np.int64],
    water: NDArray[np.float64],
    functions: Mapping[int, BandwidthFunction],
) -> None:
    """Fill segments, and note each one's water level at its members."""
    levels = np.empty(len(start))
    fill(start, stop, target, weight, low, high, share, levels, functions)
    counts = stop - start
    rows: Any = slice(None)
    if counts.sum() != len(water):
        rows = np.repeat(start - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    water[rows] = np.repeat(levels, counts)
