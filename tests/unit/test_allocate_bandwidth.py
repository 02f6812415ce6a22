"""Bandwidth functions: the published examples, and that a weight is the function with one slope."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd.allocate import invariants
from telemetryd.allocate.bandwidth import BandwidthFunction, add
from telemetryd.allocate.divide import allocate
from telemetryd.allocate.tree import build
from tests.trees import Case, Node

MBPS = 10**6


def function(*knots: tuple[float, float]) -> BandwidthFunction:
    """Make a function of knots in Mbit/s."""
    return BandwidthFunction(tuple(share for share, _ in knots), tuple(round(rate * MBPS) for _, rate in knots))


FG1 = function((0, 0), (2, 0), (2.5, 10), (3.5, 15))
FG2 = function((0, 0), (1, 10), (2, 10), (3, 20))


@pytest.mark.parametrize(
    ("capacity", "expected"), [(10, [0, 10]), (25, [10, 15]), (32.5, [12.5, 20]), (35, [15, 20]), (50, [15, 20])]
)
def test_the_example_of_bwe(capacity: float, expected: list[float]) -> None:
    """BwE (SIGCOMM 2015), table 1: two flow groups on one link."""
    tree = build([-1, 0, 0], functions={1: FG1, 2: FG2})
    allocation = allocate(tree, np.full(3, 100 * MBPS), round(capacity * MBPS))
    assert invariants.check(allocation) == []
    assert (allocation.bps[1:] / MBPS).tolist() == expected


@pytest.mark.parametrize("capacity", [3, 10, 17.5, 25, 32.5])
def test_a_parent_with_a_function_divides_as_the_mapped_children_would(capacity: float) -> None:
    """Children's functions mapped to their parent's, child'(S) = b_c(b^-1(B(S))), give what the tree gives."""
    parent, other = function((0, 0), (1, 20), (4, 35)), function((0, 0), (4, 40))
    tree = build([-1, 0, 0, 1, 1], functions={1: parent, 2: other, 3: FG1, 4: FG2})
    allocation = allocate(tree, np.full(5, 100 * MBPS), round(capacity * MBPS))
    assert invariants.check(allocation) == []
    share = float(allocation.level[tree.place[1]])
    assert allocation.bps[tree.place[1]] == pytest.approx(parent.at(share), abs=1)
    low, high = 0.0, 10.0  # b^-1: the level at which the children reach the parent's rate
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if add([FG1, FG2]).at(middle) >= parent.at(share) else (middle, high)
    for number, child in ((3, FG1), (4, FG2)):
        assert allocation.bps[tree.place[number]] == pytest.approx(child.at(high), abs=2)


def test_functions_add_up() -> None:
    """B4 (SIGCOMM 2013), figure 4: two applications make a flow group, with the knots of both."""
    group = add([function((0, 0), (1.5, 15)), function((0, 0), (5, 5))])
    assert group.shares == (0, 1.5, 5)
    assert group.bps == (0, 16_500_000, 20_000_000)
    assert group.at(0.5) == pytest.approx(5.5 * MBPS)
    assert group.at(100) == 20 * MBPS


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.sampled_from([1, 2, 3, 7]), min_size=1, max_size=5),
    demand=st.integers(0, 1000),
    capacity=st.integers(0, 3000),
)
def test_a_weight_is_a_function_with_one_slope(weights: list[int], demand: int, capacity: int) -> None:
    """To the bit, beside nodes with plain weights, with guarantees, ceilings and importance as ever."""
    nodes = [Node(-1)]
    for number, weight in enumerate(weights):
        importance = 1 + number % 2
        nodes.append(Node(0, weight=weight, guarantee=number * 20, demand=demand + number, importance=importance))
    plain = Case(tuple(nodes), capacity)
    slopes = {n: BandwidthFunction((0, 2.0**20), (0, w * 2**20)) for n, w in enumerate(weights, start=1) if n % 3 != 2}
    tree = build(
        [node.parent for node in nodes],
        weight=[node.weight for node in nodes],
        guarantee=[node.guarantee for node in nodes],
        importance=[node.importance for node in nodes],
        functions=slopes,
    )
    allocation = allocate(tree, plain.demand, capacity)
    assert invariants.check(allocation) == []
    assert allocation.bps.tolist() == plain.allocate().bps.tolist()


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        ([(0, 0)], "two knots or more"),
        ([(1, 0), (2, 1)], "the first at"),
        ([(0, 0), (1, 1), (1, 2)], "increase from knot to knot"),
        ([(0, 0), (1, 2), (2, 1)], "never decrease"),
    ],
)
def test_what_is_no_function_is_refused(knots: list[tuple[float, float]], message: str) -> None:
    """Knots go up and to the right from the origin."""
    with pytest.raises(ValueError, match=message):
        function(*knots)
