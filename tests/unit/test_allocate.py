"""Dividing a capacity over a tree: worked examples that a reader can check by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from telemetryd.allocate import invariants
from telemetryd.allocate.divide import Phase, allocate
from telemetryd.allocate.tree import MAX_BPS, build
from tests.trees import Case, Node

ROOT = Node(-1)


def shares(capacity: int, *nodes: Node) -> list[int]:
    """Return what each node below the root gets, by its writer's number."""
    case = Case((ROOT, *nodes), capacity)
    allocation = case.allocate()
    assert invariants.check(allocation) == []
    return [int(share) for share in allocation.bps[case.tree.place]][1:]


def test_weights_share_what_nobody_is_sated_of() -> None:
    """3 : 1 by weight; who wants less than its share leaves the rest to the others."""
    assert shares(100, Node(0, weight=3, demand=200), Node(0, weight=1, demand=200)) == [75, 25]
    assert shares(100, Node(0, weight=3, demand=30), Node(0, weight=1, demand=200)) == [30, 70]


def test_a_guarantee_is_a_lower_bound_of_the_share_and_no_head_start() -> None:
    """A guarantee within the fair share changes nothing; one above it is served, and the others share the rest."""
    assert shares(100, Node(0, guarantee=40, demand=200), Node(0, demand=200)) == [50, 50]
    assert shares(100, Node(0, guarantee=70, demand=200), Node(0, demand=200)) == [70, 30]
    assert shares(100, Node(0, guarantee=70, demand=20), Node(0, demand=200)) == [20, 80]


def test_ceilings_bind_while_capacity_is_left() -> None:
    """A ceiling is kept on an idle link too."""
    assert shares(100, Node(0, ceiling=10, demand=200), Node(0, demand=30)) == [10, 30]


def test_importance_is_strict_for_the_excess_and_not_for_guarantees() -> None:
    """The less important get their guarantees before the more important get any excess, and nothing more."""
    nodes = Node(0, importance=1, demand=95), Node(0, importance=2, guarantee=30, demand=200)
    assert shares(100, *nodes) == [70, 30]
    assert shares(150, *nodes) == [95, 55]


def test_a_shortfall_takes_the_guarantees_of_the_least_important() -> None:
    """Where not all guarantees fit, the most important level's are whole, and floors stay for the others."""
    nodes = (
        Node(0, importance=1, guarantee=60, demand=200),
        Node(0, importance=2, guarantee=60, floor=10, demand=200),
        Node(0, importance=3, guarantee=60, floor=5, demand=200),
    )
    assert shares(100, *nodes) == [60, 35, 5]
    assert shares(70, *nodes) == [55, 10, 5]


def test_floors_and_protected_classes_come_first_and_are_scaled_together() -> None:
    """A protected class gets all of its demand like a floor without limit; if not even floors fit, all are scaled."""
    nodes = (
        Node(0, importance=9, floor=MAX_BPS, demand=30),
        Node(0, importance=1, guarantee=100, demand=200),
        Node(0, importance=5, floor=10, demand=200),
    )
    assert shares(100, *nodes) == [30, 60, 10]
    assert shares(20, *nodes) == [15, 0, 5]


def test_a_guarantee_that_is_not_lent_stays_idle() -> None:
    """`no_lend` keeps the guarantee for its owner, who then has more than it demands; others do without."""
    nodes = Node(0, guarantee=60, demand=10), Node(0, demand=200)
    assert shares(100, *nodes) == [10, 90]
    assert shares(100, Node(0, guarantee=60, demand=10, no_lend=True), nodes[1]) == [60, 40]


def test_a_department_keeps_its_guarantee_idle_above_its_applications() -> None:
    """An inner node's idle guarantee is its own: its children get what they want and no more."""
    assert shares(
        100, Node(0, guarantee=60, no_lend=True), Node(0, demand=200), Node(1, demand=5), Node(1, demand=7)
    ) == [60, 40, 5, 7]


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [(1000, [10, 700, 525, 175, 200, 90]), (500, [10, 440, 330, 110, 0, 50])],
)
def test_the_example_of_the_documentation(capacity: int, expected: list[int]) -> None:
    """docs/allocation.md, "A small example": the whole link and half of it."""
    nodes = (
        Node(0, floor=MAX_BPS, demand=10),
        Node(0, guarantee=500),
        Node(2, weight=3, guarantee=300, demand=600),
        Node(2, demand=400),
        Node(0, importance=2, guarantee=200, demand=500),
        Node(0, importance=3, guarantee=90, floor=50, demand=800),
    )
    assert shares(capacity, *nodes) == expected


def test_levels_and_phases_are_the_certificate() -> None:
    """Each group of siblings has one level; x is weight x level between the bounds."""
    case = Case((ROOT, Node(0, weight=2, demand=200), Node(0, demand=200), Node(0, importance=2, demand=50)), 90)
    allocation = case.allocate()
    assert allocation.level[case.tree.place[1:]].tolist() == [pytest.approx(30, rel=0.01)] * 2 + [0.0]
    assert allocation.phase[0] == Phase.EXCESS


def test_the_last_bit_is_given_away_and_never_twice() -> None:
    """Thirds of 100 bit/s: the sum is the capacity, the odd bit goes to the first."""
    assert sorted(shares(100, *[Node(0, demand=200)] * 3), reverse=True) == [34, 33, 33]


def test_a_single_node_is_a_tree() -> None:
    """A link without any policy below it."""
    tree = build([-1], ceiling=50)
    assert allocate(tree, np.array([80]), 100).bps.tolist() == [50]


def test_places_follow_depth_parent_and_importance() -> None:
    """However the nodes are numbered, the layout is by depth, and siblings stand by importance."""
    tree = build([2, 2, -1, 0, 0], importance=[2, 1, 1, 5, 4])
    assert tree.order.tolist() == [2, 1, 0, 4, 3]
    assert tree.parent.tolist() == [-1, 0, 0, 2, 2]
    assert tree.groups.tolist() == [1, 2, 3, 4, 5]
    assert [list(tree.children(place)) for place in range(5)] == [[1, 2], [], [3, 4], [], []]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parent": [-1, -1]}, "one root"),
        ({"parent": [0]}, "one root"),
        ({"parent": [-1, 2, 1]}, "circle"),
        ({"parent": [-1, 7]}, "nodes of it"),
        ({"parent": [-1, 0], "weight": 0}, "a weight must lie between"),
        ({"parent": [-1, 0], "weight": float("nan")}, "a weight must lie between"),
        ({"parent": [-1, 0], "guarantee": -1}, "a guarantee must lie between"),
        ({"parent": [-1, 0], "ceiling": 1.5}, "a ceiling must be a whole number"),
        ({"parent": [-1, 0], "floor": [1, 2, 3]}, "a floor is given for"),
        ({"parent": [-1, 0], "importance": 0}, "an importance must lie between"),
    ],
)
def test_what_is_no_tree_is_refused(arguments: dict[str, Any], message: str) -> None:
    """Mistakes of a caller are errors with a reason, not wrong figures."""
    with pytest.raises(ValueError, match=message):
        build(**arguments)


@pytest.mark.parametrize(
    ("demand", "capacity", "message"),
    [
        ([0, -1], 10, "a demand must lie between"),
        ([0, 2**51], 10, "a demand must lie between"),
        ([0], 10, "one a node"),
        ([0, 0.5], 10, "whole bit/s"),
        ([0, 1], -1, "the capacity must lie between"),
    ],
)
def test_what_cannot_be_divided_is_refused(demand: list[float], capacity: int, message: str) -> None:
    """Demands and capacities out of range are refused."""
    with pytest.raises(ValueError, match=message):
        allocate(build([-1, 0]), np.array(demand), capacity)


def test_sums_stay_exact_or_are_refused() -> None:
    """Demands whose sum would not fit an int64 are refused before anything is added up."""
    tree = build([-1] + [0] * 5000)
    with pytest.raises(ValueError, match="too large together"):
        allocate(tree, np.full(5001, MAX_BPS), 100)


def test_broken_allocations_are_found() -> None:
    """The invariants see a share too much, a share taken from another, a false level and a broken guarantee."""
    nodes = ROOT, Node(0, guarantee=40, demand=200), Node(0, demand=200), Node(0, importance=2, demand=50)

    def rules(place: int, *, bps: int = 0, level: float | None = None) -> set[str]:
        allocation = Case(nodes, 90).allocate()
        allocation.bps[place] += bps
        if level is not None:
            allocation.level[place] = level
        return {violation.rule for violation in invariants.check(allocation)}

    assert rules(1) == set()
    assert "feasible" in rules(1, bps=1)
    assert {"guarantee", "feasible"} <= rules(1, bps=-30)
    assert "importance" in rules(3, bps=10)
    assert rules(2, level=7.0) == {"certificate"}
    unsated = Case(nodes, 1000).allocate()
    unsated.bps[2] -= 1
    assert "Pareto" in {violation.rule for violation in invariants.check(unsated)}
    assert str(invariants.check(unsated)[0]).startswith("feasible: nodes ")
