"""Dividing several links: the published example, bottlenecks that can be checked by hand, groups with members down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from telemetryd.allocate import network_invariants
from telemetryd.allocate.bandwidth import BandwidthFunction, add
from telemetryd.allocate.divide import Phase
from telemetryd.allocate.groups import Member, allocate_states, broken_guarantees, failure_states, usable_bps
from telemetryd.allocate.network import NO_LINK, allocate, demands
from telemetryd.allocate.tree import build
from tests.networks import Flow, Network

GBPS = 10**9


def shares(capacity: tuple[int, ...], *flows: Flow) -> list[int]:
    """Return what each demand gets, after holding the division to its invariants."""
    allocation = Network(capacity, flows).allocate()
    assert network_invariants.check(allocation) == []
    return allocation.bps.tolist()


def test_the_example_of_b4() -> None:
    """B4 (SIGCOMM 2013), section 4.3: the second flow group's link fills at 0.9, its next one at 3.33."""
    ab, ac, cb, ad, dc = range(5)
    group1 = add([BandwidthFunction((0, 1.5), (0, 15 * GBPS)), BandwidthFunction((0, 5), (0, 5 * GBPS))])
    group2 = BandwidthFunction((0, 20), (0, 10 * GBPS))
    paths = [[[ab], [ac, cb], [ad, dc, cb]], [[ac], [ad, dc]]]
    wanted = demands(paths, [20 * GBPS, 10 * GBPS], functions={0: group1, 1: group2})
    allocation = allocate([10 * GBPS, 10 * GBPS, 10 * GBPS, 5 * GBPS, 5 * GBPS], wanted)
    assert network_invariants.check(allocation) == []
    in_gbps = {number: [share / GBPS for share in on_paths] for number, on_paths in allocation.path_bps.items()}
    assert in_gbps[0] == pytest.approx([10, 8.333, 1.667], abs=0.001)
    assert in_gbps[1] == pytest.approx([1.667, 3.333], abs=0.001)


def test_the_tighter_link_decides_and_leaves_the_rest_to_others() -> None:
    """A demand over two links gets what the tighter one gives; on the other one the rest goes to its rivals."""
    flows = Flow(((0, 1),), 100), Flow(((0,),), 100), Flow(((1,),), 100)
    assert shares((20, 100), *flows) == [10, 10, 90]
    allocation = Network((20, 100), flows).allocate()
    assert allocation.bottleneck.tolist() == [0, 0, 1]
    assert allocation.level.tolist() == pytest.approx([10, 10, 90], rel=0.05)
    assert (allocation.phase == Phase.EXCESS).all()


def test_who_gets_all_it_wants_has_no_bottleneck() -> None:
    """No level and no link bind a satisfied demand."""
    allocation = Network((20,), (Flow(((0,),), 5),)).allocate()
    assert allocation.bottleneck.tolist() == [NO_LINK]
    assert allocation.level.tolist() == [np.inf]


def test_guarantees_floors_and_importance_hold_across_links() -> None:
    """As on one link: floors, then guarantees, then the excess, each by importance."""
    flows = (
        Flow(((0, 1),), 100, guarantee=30, importance=2),
        Flow(((0,),), 100, importance=1),
        Flow(((1,),), 100, guarantee=80, floor=10, importance=3),
    )
    assert shares((100, 200), *flows) == [30, 70, 100]
    assert shares((100, 90), *flows) == [30, 70, 60]
    assert shares((100, 20), *flows) == [10, 90, 10]
    assert shares((100, 5), *flows) == [0, 100, 5]


def test_more_demand_of_one_may_cost_another_on_a_network() -> None:
    """The documented counter-example: why monotonicity is promised for trees and not for networks."""
    paths, wanted = [(0, 2), (2,), (1,), (0, 1, 2), (0, 1, 2)], [9, 15, 12, 21, 14]

    def divide(b: int) -> list[float]:
        flows = [Flow((path,), rate * 10**6) for path, rate in zip(paths, wanted, strict=True)]
        return [share / 10**6 for share in shares((14 * 10**6, b * 10**6, 17 * 10**6), *flows)]

    less, more = divide(10), divide(15)
    assert less[:2] == pytest.approx([5.167, 5.167], abs=0.001)
    assert more[:2] == pytest.approx([4.25, 4.25], abs=0.001)


def test_broken_divisions_are_found() -> None:
    """The invariants see a link overrun, capacity left over, and a share above the level that certifies the others."""
    flows = Flow(((0,),), 100), Flow(((0,),), 100), Flow(((0,),), 100, importance=2)

    def rules(changes: list[int]) -> set[str]:
        allocation = Network((50,), flows).allocate()
        allocation.bps += np.array(changes)
        allocation.used[0] += sum(changes)
        return {violation.rule for violation in network_invariants.check(allocation)}

    assert rules([0, 0, 0]) == set()
    assert "feasible" in rules([1, 0, 0])
    assert "Pareto" in rules([-1, 0, 0])
    assert rules([-3, 3, 0]) == {"certificate"}
    assert rules([-3, 0, 3]) == {"certificate"}


@pytest.mark.parametrize(
    ("paths", "columns", "message"),
    [
        ([[[0, 0]]], {}, "crosses a link once"),
        ([[]], {}, "has a path"),
        ([[[0]]], {"weight": 0}, "a weight must lie"),
        ([[[0]]], {"demand": -1}, "whole numbers between"),
        ([[[0]]], {"guarantee": 0.5}, "whole numbers between"),
        ([[[3]]], {}, "does not exist"),
    ],
)
def test_what_is_no_network_is_refused(paths: Any, columns: dict[str, Any], message: str) -> None:
    """Mistakes of a caller are errors with a reason."""
    with pytest.raises(ValueError, match=message):
        allocate([10], demands(paths, **{"demand": 5, **columns}))


EXIT = (Member("isp1", 4 * GBPS), Member("isp2", 2 * GBPS), Member("isp3", 2 * GBPS))


def test_a_group_is_full_when_its_first_member_is() -> None:
    """Without a measured split the capacities add up; with one, the member that fills first decides."""
    assert usable_bps(EXIT) == 8 * GBPS
    assert usable_bps(EXIT, {"isp1"}) == 4 * GBPS
    split = [Member("a", 4 * GBPS, 60), Member("b", 2 * GBPS, 40)]
    assert usable_bps(split) == 5 * GBPS
    assert usable_bps(split, {"a"}) == 2 * GBPS
    assert usable_bps(split, {"a", "b"}) == 0
    with pytest.raises(ValueError, match="known for all"):
        usable_bps([Member("a", 1, 0.5), Member("b", 1)])


def test_guarantees_are_checked_with_each_member_lost() -> None:
    """What fits into the whole group may not fit with a member down: which guarantee breaks, and by how much."""
    tree = build([-1, 0, 0], guarantee=[0, 3 * GBPS, 2 * GBPS], importance=[1, 1, 2])
    states = allocate_states(tree, np.full(3, 10 * GBPS), EXIT, failure_states(EXIT))
    missed = {name: broken_guarantees(allocation)[1:].tolist() for name, allocation in states.items()}
    assert missed == {
        "all up": [0, 0],
        "isp1 down": [0, GBPS],
        "isp2 down": [0, 0],
        "isp3 down": [0, 0],
    }


@pytest.mark.parametrize("ways", [((0,), (2, 3)), ((2, 3),)])
def test_links_that_are_full_at_the_same_level_do_not_overfill_each_other(ways):
    """89 and 88 bit/s are both full at the level 14.5, at which two demands of weight 3 jump to 44: one may."""
    found = allocate(
        [0, 0, 89, 88],
        demands(
            [[(2, 3), (1, 2, 3)], list(ways), [(2, 3), (0, 1, 3)]], [1, 782, 943], weight=np.array([1.0, 3.0, 3.0])
        ),
    )
    assert found.used.tolist() == [0, 0, 88, 88] and sorted(found.bps.tolist()) == [1, 43, 44]
    assert network_invariants.check(found) == []
