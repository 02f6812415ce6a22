"""Dividing a link over departments and applications: CPU time of one thread, beside one numpy sort of the leaves."""

from __future__ import annotations

import numpy as np

from benchmarks.report import Figure, cpu_seconds
from telemetryd.allocate import invariants, network, network_invariants, waterfill_reference
from telemetryd.allocate.divide import Allocation, allocate
from telemetryd.allocate.tree import MAX_BPS, Tree, build

#: Departments, applications of each, limit in ms (None: no promise).
SHAPES = ((60, 700, 20.0), (1000, 1000, 1000.0), (1, 1_000_000, 1000.0))
#: Demands, links, limit in ms.
NETWORK = (42_000, 200, 1000.0)


def run(short: bool) -> list[Figure]:
    """Measure trees of two levels below the link, then a network; ``short`` takes the first tree, once."""
    figures = []
    for departments, applications, limit_ms in SHAPES[: 1 if short else None]:
        figures += _measure_tree(departments, applications, limit_ms, repeats=1 if short else 7)
    if not short:
        figures += _measure_network(*NETWORK)
    return figures


def _tree(departments: int, applications: int) -> tuple[Tree, np.ndarray]:
    """Return a tree with every kind of promise, and its demands: three decades of rates, some of them guaranteed."""
    rng = np.random.default_rng(7)
    leaves = departments * applications
    n = 1 + departments + leaves
    parent = np.concatenate(([-1], np.zeros(departments, int), np.repeat(np.arange(departments), applications) + 1))
    demand = rng.lognormal(13.0, 2.0, n).astype(np.int64)
    ceiling = np.where(rng.random(n) < 0.1, demand // 2, MAX_BPS)
    guarantee = np.minimum((demand * rng.random(n) * (rng.random(n) < 0.2)).astype(np.int64), ceiling)
    guarantee[: departments + 1], ceiling[: departments + 1] = 0, MAX_BPS
    tree = build(
        parent,
        weight=rng.integers(1, 10, n).astype(np.float64),
        guarantee=guarantee,
        ceiling=ceiling,
        floor=np.where(rng.random(n) < 0.01, 64_000, 0),
        importance=rng.integers(1, 6, n),
    )
    return tree, demand[tree.order]


def _measure_tree(departments: int, applications: int, limit_ms: float, repeats: int) -> list[Figure]:
    tree, demand = _tree(departments, applications)
    leaves = demand[tree.is_leaf].astype(np.float64)
    capacity = int(leaves.sum() * 0.6)
    _verify(allocate(tree, demand, capacity), leaves=len(leaves))
    allocate_ms = cpu_seconds(lambda: allocate(tree, demand, capacity), repeats) * 1e3
    check_ms = cpu_seconds(lambda: invariants.check(allocate(tree, demand, capacity)), 1) * 1e3 - allocate_ms
    sort_ms = cpu_seconds(lambda: np.sort(leaves), repeats) * 1e3
    assert allocate_ms <= limit_ms, f"{allocate_ms:.1f} ms for {len(leaves):,} leaves, the limit is {limit_ms} ms"
    what = f"{departments:,} x {applications:,} leaves"
    return [
        Figure(f"{what}: allocate", allocate_ms, "ms", f"limit {limit_ms:g} ms"),
        Figure(f"{what}: one numpy sort of the leaves", sort_ms, "ms"),
        Figure(f"{what}: allocate / sort", allocate_ms / sort_ms, "x"),
        Figure(f"{what}: check every invariant", check_ms, "ms"),
    ]


def _verify(allocation: Allocation, leaves: int) -> None:
    """Hold the answer to its invariants, and the shares of one node's children to the numpy twin."""
    assert invariants.check(allocation) == []
    tree = allocation.tree
    assert allocation.bps[tree.is_leaf].sum() == allocation.capacity_bps
    assert np.count_nonzero(allocation.bps < allocation.bounds.wanted) > leaves // 10, "nobody had to do without"
    weight, low, high = invariants.low_and_high(allocation)
    start, stop = tree.groups[:-1][-1:], tree.groups[1:][-1:]
    shares, level = np.empty(len(tree), np.int64), np.empty(1)
    target = allocation.bps[start[0] : stop[0]].sum(keepdims=True)
    waterfill_reference.fill(start, stop, target, weight.astype(np.float64), low, high, shares, level)
    assert (shares[start[0] : stop[0]] == allocation.bps[start[0] : stop[0]]).all()


def _measure_network(count: int, links: int, limit_ms: float) -> list[Figure]:
    """Divide links of 40 to 110 % of their load among demands that cross 2 to 5 of them."""
    rng = np.random.default_rng(8)
    paths = [[rng.choice(links, rng.integers(2, 6), replace=False).tolist()] for _ in range(count)]
    demand = rng.lognormal(13.0, 2.0, count).astype(np.int64)
    load = np.zeros(links)
    for (path,), rate in zip(paths, demand, strict=True):
        load[path] += rate
    capacity = (load * rng.uniform(0.4, 1.1, links)).astype(np.int64)
    figures = []
    for what, importance in (("one importance", np.ones(count, int)), ("5 importances", rng.integers(1, 6, count))):
        wanted = network.demands(
            paths,
            demand,
            weight=rng.integers(1, 10, count).astype(np.float64),
            guarantee=(demand * 0.3 * (rng.random(count) < 0.2)).astype(np.int64),
            importance=importance,
        )
        allocation = network.allocate(capacity, wanted)
        assert network_invariants.check(allocation) == []
        full = np.count_nonzero(allocation.used == capacity)
        elapsed_ms = cpu_seconds(lambda wanted=wanted: network.allocate(capacity, wanted), 5) * 1e3
        assert elapsed_ms <= limit_ms, f"{elapsed_ms:.0f} ms for the network, the limit is {limit_ms} ms"
        note = f"limit {limit_ms:g} ms; {full} links are full"
        figures.append(Figure(f"{count:,} demands x {links} links, {what}", elapsed_ms, "ms", note))
    return figures
