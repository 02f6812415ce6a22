"""The promises of a division over several links, for any network."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import linprog

from telemetryd.allocate import network_invariants
from tests.networks import Flow, Network, networks
from tests.trees import Case, Node, for_any

UNIT = 10**6


@for_any(networks())
def test_a_division_is_sound(network: Network) -> None:
    """Feasible, Pareto-optimal, and everyone who is short has a bottleneck that certifies it."""
    assert network_invariants.check(network.allocate()) == []


@for_any(networks(), st.integers(0, 10**6), st.integers(1, 1000))
def test_asking_for_more_never_lowers_oneself(network: Network, number: int, more: int) -> None:
    """Own demand up: never less, whatever happens to the others. (With one path each; the bits of rounding aside.)"""
    flows = [Flow(f.paths[:1], f.demand, f.weight, f.guarantee, f.floor, f.importance) for f in network.flows]
    number %= len(flows)
    before = Network(network.capacity, tuple(flows)).allocate()
    flow = flows[number]
    flows[number] = Flow(flow.paths, flow.demand + more, flow.weight, flow.guarantee, flow.floor, flow.importance)
    after = Network(network.capacity, tuple(flows)).allocate()
    assert after.bps[number] >= before.bps[number] - len(flows)


@for_any(networks(is_plain=True))
def test_one_link_is_a_tree_of_one_level(network: Network) -> None:
    """With one link it is the tree's answer, to the bit."""
    flows = tuple(Flow(((0,),), flow.demand, flow.weight) for flow in network.flows)
    nodes = [Node(-1)] + [Node(0, weight=flow.weight, demand=flow.demand) for flow in flows]
    tree = Case(tuple(nodes), network.capacity[0])
    assert Network(network.capacity[:1], flows).allocate().bps.tolist() == tree.allocate().bps[1:].tolist()


def solve(network: Network) -> np.ndarray:
    """Return the weighted max-min solution by linear programs: raise the least share, freeze who cannot go on, repeat."""
    n = len(network.flows)
    weight = np.array([flow.weight for flow in network.flows])
    demand = np.array([flow.demand for flow in network.flows], float)
    crosses = np.zeros((len(network.capacity), n))
    for number, flow in enumerate(network.flows):
        crosses[list(flow.paths[0]), number] = 1.0
    capacity = np.array(network.capacity, float)
    frozen: dict[int, float] = {number: 0.0 for number in range(n) if not demand[number]}
    while len(frozen) < n:
        free = [number for number in range(n) if number not in frozen]
        load = crosses @ np.array([frozen.get(number, 0.0) for number in range(n)])
        slopes = crosses[:, free] @ weight[free]
        limits = [1.0] + [(capacity[link] - load[link]) for link in range(len(capacity))]
        # One variable, the level: max L s.t. slopes L <= what the links have left, w L <= demand.
        rows = np.concatenate((slopes, weight[free]))[:, None]
        bounds = np.concatenate((np.maximum(limits[1:], 0.0), demand[free]))
        answer = linprog([-1.0], A_ub=rows, b_ub=bounds, method="highs")
        assert answer.success, answer.message
        level = answer.x[0]
        slack = 1e-6 * UNIT
        full = {
            link
            for link in range(len(capacity))
            if slopes[link] * level >= max(limits[link + 1], 0.0) - slack and slopes[link]
        }
        stopped = {
            number
            for number in free
            if weight[number] * level >= demand[number] - slack or full & set(network.flows[number].paths[0])
        }
        assert stopped
        frozen |= {number: weight[number] * level for number in stopped}
    return np.array([frozen[number] for number in range(n)])


@for_any(networks(is_plain=True, unit=UNIT), long=1500)
def test_it_is_what_linear_programs_find(network: Network) -> None:
    """HiGHS, solving for one level after the other, finds the same shares, up to rounding."""
    np.testing.assert_allclose(network.allocate().bps, solve(network), atol=10.0 * len(network.flows))


SMALL = st.builds(
    lambda capacity, masks, demand: Network(
        tuple(rate * UNIT for rate in capacity),
        tuple(
            Flow((tuple(link for link in range(len(capacity)) if (mask + 1) >> link & 1) or (0,),), wanted * UNIT)
            for mask, wanted in zip(masks, demand, strict=True)
        ),
    ),
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
    st.lists(st.integers(0, 6), min_size=3, max_size=3),
    st.lists(st.integers(0, 6), min_size=3, max_size=3),
)


@for_any(SMALL, long=3000)
def test_no_other_division_is_lexicographically_better(network: Network) -> None:
    """Of all feasible divisions in sixths of a unit none has a better least share, or then a better next one, and so on."""
    got = np.sort(network.allocate().bps)
    step = UNIT // 6
    ranges = [range(0, flow.demand + 1, step) for flow in network.flows]
    grid = np.array(list(itertools.product(*ranges)))
    feasible = np.ones(len(grid), np.bool_)
    for link, capacity in enumerate(network.capacity):
        crossing = [number for number, flow in enumerate(network.flows) if link in flow.paths[0]]
        feasible &= grid[:, crossing].sum(axis=1) <= capacity
    slack = 10
    for other in np.sort(grid[feasible], axis=1):
        for mine, theirs in zip(got.tolist(), other.tolist(), strict=True):
            assert theirs <= mine + slack
            if theirs < mine - slack:
                break
