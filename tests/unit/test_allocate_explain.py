"""The answer to "why this rate?" names the constraint that binds and who holds the rest."""

from __future__ import annotations

import pytest

from telemetryd.allocate.divide import Phase
from telemetryd.allocate.explain import Bound, bounds_of, explain
from telemetryd.allocate.tree import MAX_BPS
from tests.trees import Case, Node
from tests.unit.test_allocate import ROOT

NODES = (
    ROOT,
    Node(0, floor=MAX_BPS, demand=10),
    Node(0, guarantee=500),
    Node(2, weight=3, guarantee=300, demand=600),
    Node(2, demand=400),
    Node(0, importance=2, guarantee=200, demand=500),
    Node(0, importance=3, guarantee=90, floor=50, demand=800),
)


def reasons(capacity: int, *nodes: Node) -> list[str]:
    """Return the bound of every node by its writer's number."""
    case = Case(nodes, capacity)
    return [str(bound) for bound in bounds_of(case.allocate())[case.tree.place]]


def test_every_node_has_its_reason() -> None:
    """The example of docs/allocation.md: whole, halved, and with room for everybody."""
    assert reasons(1000, *NODES) == ["capacity", "demand", "share", "share", "share", "importance", "importance"]
    assert reasons(500, *NODES) == ["capacity", "demand", "share", "share", "share", "importance", "importance"]
    assert set(reasons(5000, *NODES)) == {"demand"}


@pytest.mark.parametrize(
    ("capacity", "node", "expected"),
    [
        (100, Node(0, ceiling=10, demand=200), "ceiling"),
        (100, Node(0, guarantee=70, demand=200), "guarantee"),
        (100, Node(0, demand=20), "demand"),
        (100, Node(0, demand=200), "share"),
        (5, Node(0, floor=20, demand=200), "floor"),
    ],
)
def test_each_kind_of_reason(capacity: int, node: Node, expected: str) -> None:
    """Beside a sibling that wants everything."""
    assert reasons(capacity, ROOT, node, Node(0, demand=1000))[1] == expected


def test_the_chain_leads_from_the_leaf_to_what_binds() -> None:
    """Leaf, department, link: each with its level; the link's capacity binds, and the siblings hold the rest."""
    case = Case(NODES, 1000)
    steps = explain(case.allocate(), int(case.tree.place[4]))
    numbers = [int(case.tree.order[step.node]) for step in steps]
    assert numbers == [4, 2, 0]
    leaf, department, link = steps
    assert (leaf.bps, leaf.wanted_bps, leaf.bound) == (175, 400, Bound.SHARE)
    assert leaf.level == pytest.approx(175, rel=0.01)
    assert leaf.phase == Phase.EXCESS
    assert [(int(case.tree.order[h.node]), h.bps) for h in leaf.holders] == [(3, 525)]
    assert [(int(case.tree.order[h.node]), h.bps) for h in department.holders] == [(5, 200), (6, 90), (1, 10)]
    assert [step.binds for step in steps] == [False, False, True]
    assert (link.bound, link.level, link.holders) == (Bound.CAPACITY, None, ())


def test_a_ceiling_on_the_way_binds_before_the_link() -> None:
    """Where a department has its ceiling, more capacity would not help its applications."""
    case = Case((ROOT, Node(0, ceiling=50), Node(1, demand=100), Node(0, demand=100)), 100)
    steps = explain(case.allocate(), int(case.tree.place[2]))
    assert [(step.bound, step.binds) for step in steps] == [
        (Bound.SHARE, False),
        (Bound.CEILING, True),
        (Bound.CAPACITY, False),
    ]


def test_nothing_binds_who_is_sated() -> None:
    """A leaf that gets what it demands has no binding constraint."""
    case = Case(NODES, 1000)
    assert not any(step.binds for step in explain(case.allocate(), int(case.tree.place[1])))
