"""The promises of an allocation over a tree, for any tree (docs/allocation.md names them by the same numbers)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from random import Random

from hypothesis import strategies as st

from telemetryd.allocate import invariants, reference
from tests.trees import Case, cases, for_any

numbers = st.integers(0, 10**6)


@for_any(cases())
def test_an_allocation_is_sound(case: Case) -> None:
    """1-5: feasible, work-conserving, Pareto-optimal, certified, guarantees and floors kept while they fit."""
    allocation = case.allocate()
    assert invariants.check(allocation) == []
    if invariants.is_admitted(allocation):
        assert (allocation.bps >= allocation.bounds.guarantee).all()


@for_any(cases())
def test_it_is_the_reference_rounded(case: Case) -> None:
    """The exact rational solution and the whole bit/s differ by the rounding alone: less than a bit/s a node."""
    case = case.scaled(10**6)
    exact = reference.allocate(case.tree, case.demand.tolist(), case.capacity)
    for fast, slow in zip(case.allocate().bps.tolist(), exact, strict=True):
        assert abs(fast - slow) <= len(case.nodes)


@for_any(cases(), st.integers(0, 2000))
def test_more_capacity_lowers_nobody(case: Case, more: int) -> None:
    """6: nobody loses a bit when the capacity grows."""
    assert invariants.losers(case.allocate(), Case(case.nodes, case.capacity + more).allocate()) == []


CHANGES = ("demand", "weight", "guarantee", "demand and guarantee")


@for_any(st.sampled_from(CHANGES), cases(), numbers, st.integers(1, 1000))
def test_asking_for_more_helps_oneself_only(what: str, case: Case, number: int, more: int) -> None:
    """7, 8: own demand, weight or guarantee up never lowers one's own share, and never raises another's."""
    number = case.leaves[number % len(case.leaves)]
    node = case.nodes[number]
    changes: dict[str, float] = {}
    if "demand" in what:
        changes["demand"] = node.demand + more
    if "guarantee" in what:
        changes["guarantee"] = node.guarantee + more
    if what == "weight":
        changes["weight"] = node.weight * more
    before, changed = case.allocate(), case.with_node(number, **changes)
    after = changed.allocate()
    # The importance is the same, and so is the order of the tree.
    place = int(case.tree.place[number])
    slack = len(case.nodes) if invariants.is_scaled(before) or invariants.is_scaled(after) else 0
    assert after.bps[place] >= before.bps[place] - slack
    for gainer in invariants.gainers(before, after, place):
        assert after.bps[gainer] <= before.bps[gainer] + slack


@for_any(cases(no_lend=False))
def test_who_demands_what_it_got_gets_it_again(case: Case) -> None:
    """9: demand := share changes nothing. A guarantee that is not lent claims more than is demanded, so it has none here."""
    first = case.allocate()
    got = {int(case.tree.order[place]): int(share) for place, share in enumerate(first.bps)}
    again = Case(tuple(replace(node, demand=got[number]) for number, node in enumerate(case.nodes)), case.capacity)
    leaves = case.tree.is_leaf
    assert (again.allocate().bps[leaves] == first.bps[leaves]).all()


def exact(case: Case, factor: Fraction = Fraction(1)) -> dict[int, Fraction]:
    """Return the exact share of every node by its writer's number, all rates multiplied by the factor."""
    rates = {
        name: [Fraction(int(v)) * factor for v in getattr(case.tree, name)]
        for name in ("guarantee", "ceiling", "floor")
    }
    demand = [Fraction(int(value)) * factor for value in case.demand]
    weight = [Fraction(float(value)) for value in case.tree.weight]
    shares = reference.divide(case.tree, weight, rates, demand, case.capacity * factor)
    return {int(number): share for number, share in zip(case.tree.order, shares, strict=True)}


@for_any(cases())
def test_the_unit_does_not_matter(case: Case) -> None:
    """10: three times all rates give three times all shares, exactly; in whole bit/s up to the rounding."""
    once, thrice = exact(case), exact(case, Fraction(3))
    assert all(thrice[number] == 3 * share for number, share in once.items())
    big = case.scaled(10**6)
    assert abs(big.scaled(3).allocate().bps - 3 * big.allocate().bps).max() <= 4 * len(case.nodes)


@for_any(cases(), st.randoms(use_true_random=False))
def test_the_order_of_siblings_does_not_matter(case: Case, random: Random) -> None:
    """11: numbering the nodes otherwise gives everyone the same, exactly; in whole bit/s up to who gets the odd bit."""
    numbers = list(range(1, len(case.nodes)))
    random.shuffle(numbers)
    new_of = {old: new for new, old in enumerate([0, *numbers])}
    nodes = [replace(case.nodes[old], parent=new_of.get(case.nodes[old].parent, -1)) for old in [0, *numbers]]
    other = Case(tuple(nodes), case.capacity)
    shares, shuffled = exact(case), exact(other)
    assert all(shuffled[new_of[number]] == share for number, share in shares.items())
    bps, other_bps = case.allocate().bps, other.allocate().bps
    for old, new in new_of.items():
        assert abs(int(bps[case.tree.place[old]]) - int(other_bps[other.tree.place[new]])) <= len(case.nodes)


@for_any(cases(), numbers)
def test_splitting_a_leaf_into_halves_changes_nothing(case: Case, number: int) -> None:
    """12: two leaves with half the weight, guarantee, ceiling, floor and demand get together what the one got."""
    number = case.leaves[number % len(case.leaves)]
    if number == 0:
        return
    case = case.scaled(2)
    node = case.nodes[number]
    half = replace(
        node,
        weight=node.weight / 2,
        guarantee=node.guarantee // 2,
        ceiling=node.ceiling // 2,
        floor=node.floor // 2,
        demand=node.demand // 2,
    )
    nodes = list(case.nodes)
    nodes[number] = half
    split = Case((*nodes, half), case.capacity)
    whole, halves = exact(case), exact(split)
    assert halves[number] + halves[len(case.nodes)] == whole[number]
    for other in range(len(case.nodes)):
        if other != number:
            assert halves[other] == whole[other]
