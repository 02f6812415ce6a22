"""Divide a capacity over a tree in exact rational numbers: the specification of :mod:`telemetryd.allocate.divide`.

Written from the semantics alone, node by node, without a thought for speed. Shares are fractions of a bit/s; the whole
bit/s of the fast version differ by its rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from telemetryd.allocate.tree import Tree


def water_level(
    weight: Sequence[Fraction], low: Sequence[Fraction], high: Sequence[Fraction], target: Fraction
) -> Fraction:
    """Return the least L with sum of clamp(weight x L, low, high) = target.

    Parameters
    ----------
    weight, low, high:
        Per member; a weight of 0 only where low is high.
    target:
        Between the sums of low and of high.
    """
    knots = {Fraction(0)}
    for w, least, most in zip(weight, low, high, strict=True):
        if w:
            knots |= {least / w, most / w}
    below = Fraction(0)
    for above in sorted(knots):
        reached = sum(fill_to(above, weight, low, high))
        if reached >= target:
            # Between two knots the sum is linear.
            start = sum(fill_to(below, weight, low, high))
            return below if reached == start else below + (above - below) * (target - start) / (reached - start)
        below = above
    raise ValueError("the target is out of reach")


def fill_to(
    level: Fraction, weight: Sequence[Fraction], low: Sequence[Fraction], high: Sequence[Fraction]
) -> list[Fraction]:
    """Return clamp(weight x level, low, high) of every member."""
    return [min(max(w * level, least), most) for w, least, most in zip(weight, low, high, strict=True)]


def allocate(tree: Tree, demand: Sequence[Fraction | int], capacity_bps: Fraction | int) -> list[Fraction]:
    """Return the share of every node, in the tree's order.

    Parameters
    ----------
    demand:
        Per node, in the tree's order; those of inner nodes are ignored.
    """
    rates = {
        "guarantee": [Fraction(int(value)) for value in tree.guarantee],
        "ceiling": [Fraction(int(value)) for value in tree.ceiling],
        "floor": [Fraction(int(value)) for value in tree.floor],
    }
    weight = [Fraction(float(value)) for value in tree.weight]
    return divide(tree, weight, rates, [Fraction(value) for value in demand], Fraction(capacity_bps))


def divide(
    tree: Tree,
    weight: Sequence[Fraction],
    rates: dict[str, list[Fraction]],
    demand: Sequence[Fraction],
    capacity: Fraction,
) -> list[Fraction]:
    """Do the work of :func:`allocate` with exact weights and rates (the tree's columns, by name)."""
    children: list[range] = [tree.children(node) for node in range(len(tree))]
    floor, guarantee, want, wanted = ([Fraction(0)] * len(tree) for _ in range(4))
    for v in reversed(range(len(tree))):
        below = children[v]
        wanted[v] = sum((want[c] for c in below), Fraction(0)) if below else demand[v]
        want[v] = min(wanted[v], rates["ceiling"][v])
        if tree.no_lend[v]:
            want[v] = max(want[v], min(rates["guarantee"][v], rates["ceiling"][v]))
        floor[v] = min(want[v], max(rates["floor"][v], sum((floor[c] for c in below), Fraction(0))))
        promised = sum((guarantee[c] for c in below), Fraction(0))
        guarantee[v] = min(want[v], max(rates["guarantee"][v], promised, floor[v]))
    share = [Fraction(0)] * len(tree)
    share[0] = min(capacity, want[0])
    for v, below in enumerate(children):
        if not below:
            continue
        available = min(share[v], wanted[v])
        floors = sum(floor[c] for c in below)
        if available < floors:
            for c in below:
                share[c] = floor[c] * available / floors
            continue
        is_short = available < sum(guarantee[c] for c in below)
        low, high = (floor, guarantee) if is_short else (guarantee, want)
        room = available - sum((low[c] for c in below), Fraction(0))
        for importance in sorted({int(tree.importance[c]) for c in below}):
            members = [c for c in below if tree.importance[c] == importance]
            bounds = [low[c] for c in members], [high[c] for c in members]
            weights = [weight[c] for c in members]
            base = sum(bounds[0], Fraction(0))
            extra = min(room, sum(bounds[1]) - base)
            level = water_level(weights, *bounds, base + extra)
            for c, x in zip(members, fill_to(level, weights, *bounds), strict=True):
                share[c] = x
            room -= extra
    return share
