"""Random trees to allocate over, as hypothesis strategies and as the allocator takes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetryd.allocate.divide import Allocation, allocate
from telemetryd.allocate.tree import MAX_BPS, Tree, build

#: Cases of each property: in every run, and in `make long`.
SHORT: Final = 60
LONG: Final = 15_000


def for_any(
    *strategies: st.SearchStrategy[Any], long: int = LONG
) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """Make a test of a rule that holds for whatever the strategies give: in a short form and a long one."""

    def decorate(rule: Callable[..., None]) -> Callable[[int], None]:
        hold = given(*strategies)(rule)

        def test(examples: int) -> None:
            health = [HealthCheck.too_slow]
            settings(max_examples=examples, deadline=None, suppress_health_check=health)(hold)()

        test.__name__, test.__doc__ = rule.__name__, rule.__doc__
        forms = [SHORT, pytest.param(long, marks=[pytest.mark.long, pytest.mark.timeout(7200)])]
        return pytest.mark.parametrize("examples", forms)(test)

    return decorate


@dataclass(frozen=True)
class Node:
    """A node as its writer numbers it; the parent is an earlier one."""

    parent: int
    weight: float = 1.0
    guarantee: int = 0
    ceiling: int = MAX_BPS
    floor: int = 0
    importance: int = 1
    no_lend: bool = False
    demand: int = 0


@dataclass(frozen=True)
class Case:
    """A tree with its demands and a capacity."""

    nodes: tuple[Node, ...]
    capacity: int
    tree: Tree = field(init=False)

    def __post_init__(self) -> None:
        columns: dict[str, Any] = {
            name: [getattr(node, name) for node in self.nodes]
            for name in ("parent", "weight", "guarantee", "ceiling", "floor", "importance", "no_lend")
        }
        object.__setattr__(self, "tree", build(columns.pop("parent"), **columns))

    @property
    def demand(self) -> np.ndarray:
        """Demands in the tree's order."""
        return np.array([self.nodes[number].demand for number in self.tree.order], np.int64)

    def allocate(self) -> Allocation:
        return allocate(self.tree, self.demand, self.capacity)

    def with_node(self, number: int, **changes: Any) -> Case:
        """Return the case with one node changed."""
        nodes = list(self.nodes)
        nodes[number] = replace(nodes[number], **changes)
        return Case(tuple(nodes), self.capacity)

    def scaled(self, factor: int) -> Case:
        """Return the case with all rates multiplied."""
        nodes = (
            replace(
                node,
                guarantee=node.guarantee * factor,
                ceiling=MAX_BPS if node.ceiling == MAX_BPS else node.ceiling * factor,
                floor=MAX_BPS if node.floor == MAX_BPS else node.floor * factor,
                demand=node.demand * factor,
            )
            for node in self.nodes
        )
        return Case(tuple(nodes), self.capacity * factor)

    @property
    def leaves(self) -> list[int]:
        """Numbers of the nodes without children."""
        return sorted(set(range(len(self.nodes))) - {node.parent for node in self.nodes})


WEIGHTS = (1.0, 2.0, 3.0, 0.5, 7.25, 100.0)
#: How many values each field of a node has; the product is what one drawn number spans.
RADICES = (2**20, len(WEIGHTS), 2, 1001, 2, 1501, 5, 301, 3, 4, 1501)
SPAN = math.prod(RADICES)


def node_of(number: int) -> Node:
    """Read a node off one number: one draw a node is ten times as fast as one a field, and 0 is the plainest node."""
    digits = []
    for radix in RADICES:
        number, digit = divmod(number, radix)
        digits.append(digit)
    parent, weight, has_guarantee, guarantee, has_ceiling, ceiling, floor_kind, floor, importance, lends, demand = (
        digits
    )
    return Node(
        parent=parent,
        weight=WEIGHTS[weight],
        guarantee=guarantee if has_guarantee else 0,
        ceiling=ceiling if has_ceiling else MAX_BPS,
        floor=(0, floor, 0, 0, MAX_BPS)[floor_kind],
        importance=importance + 1,
        no_lend=lends == 3,
        demand=demand,
    )


def cases(most_nodes: int = 10, *, no_lend: bool = True) -> st.SearchStrategy[Case]:
    """Generate trees of up to `most_nodes` nodes below the root."""

    def make(drawn: list[int], root: int, capacity: int) -> Case:
        nodes = [replace(node_of(root), parent=-1)]
        for number in drawn:
            node = node_of(number)
            nodes.append(replace(node, parent=node.parent % len(nodes), no_lend=node.no_lend and no_lend))
        return Case(tuple(nodes), capacity)

    number = st.integers(0, SPAN - 1)
    return st.builds(make, st.lists(number, max_size=most_nodes), number, st.integers(0, 5000))
