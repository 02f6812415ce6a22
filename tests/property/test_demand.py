"""What always holds of estimated demands, for any tree and any course of usage."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from telemetryd.allocate.demand import DemandEstimate, DemandSettings, Seen, estimate
from tests.trees import Case, cases, for_any

CAPACITY = 3000
SETTINGS = DemandSettings(window=3, least_bps=5, few_samples=8)

courses = st.tuples(cases(8), st.integers(0, 2**32 - 1), st.integers(1, 7))


def seen_at(case: Case, random: np.random.Generator, factor: int = 1) -> Seen:
    """Return a step in which anything may have happened."""
    n = len(case.nodes)
    usage = random.integers(0, 2000, n) * random.integers(0, 2, n)
    return Seen(
        usage_bps=usage * float(factor),
        samples=random.integers(0, 12, n),
        allocation_bps=random.integers(-500, 2000, n) * factor,
        ceiling_bps=random.integers(1, 3000, n) * factor,
        dropped=random.random(n) < 0.2,
        is_full=bool(random.random() < 0.5),
    )


def course(case: Case, seed: int, steps: int, factor: int = 1) -> list[DemandEstimate]:
    random = np.random.default_rng(seed)
    settings = replace(SETTINGS, least_bps=SETTINGS.least_bps * factor)
    found: list[DemandEstimate] = []
    for _ in range(steps):
        state = found[-1].state if found else None
        found.append(estimate(case.tree, seen_at(case, random, factor), state, CAPACITY * factor, settings))
    return found


@for_any(courses)
def test_children_demand_together_what_their_parent_does(drawn: tuple[Case, int, int]) -> None:
    """Exact sums up to the rounding of float64; nobody below its usage; the burstiness is never below 1."""
    case, seed, steps = drawn
    for found in course(case, seed, steps):
        for node in case.tree.inner.tolist():
            children = case.tree.children(node)
            total = found.demand_bps[children.start : children.stop].sum()
            assert abs(total - found.demand_bps[node]) <= 1e-6
            assert abs(found.usage_bps[children.start : children.stop].sum() - found.usage_bps[node]) <= 1e-6
        assert (found.demand_bps >= found.usage_bps - 1e-6).all()
        assert (found.burstiness >= 1 - 1e-12).all()


@for_any(courses)
def test_a_throttled_class_never_asks_for_less(drawn: tuple[Case, int, int]) -> None:
    """From step to step its demand grows, up to the capacity, and stays marked; reconciling takes nothing from it."""
    case, seed, steps = drawn
    found = course(case, seed, steps)
    for before, after in pairwise(found):
        alone = (after.causes > 0) & ~after.folded & ~before.folded
        low = np.minimum(before.state.demand_bps, CAPACITY)
        assert (after.demand_bps >= low - 1e-6)[alone].all()
    for number, one in enumerate(found):
        recent = found[max(number + 1 - SETTINGS.window, 0) : number + 1]
        assert (
            one.censored[case.tree.is_leaf] == np.any([step.causes > 0 for step in recent], axis=0)[case.tree.is_leaf]
        ).all()


@for_any(courses, st.integers(2, 1000))
def test_the_unit_does_not_matter(drawn: tuple[Case, int, int], factor: int) -> None:
    """In another unit of rates the same comes out."""
    case, seed, steps = drawn
    for one, other in zip(course(case, seed, steps), course(case, seed, steps, factor), strict=True):
        np.testing.assert_allclose(other.demand_bps, one.demand_bps * factor, rtol=1e-9, atol=1e-6)
        assert (one.causes == other.causes).all()


@for_any(courses)
def test_steady_usage_is_a_fixed_point(drawn: tuple[Case, int, int]) -> None:
    """A class with a share of its demand is not taken for throttled, so that nothing changes while its usage does not."""
    case, seed, _ = drawn
    usage = np.random.default_rng(seed).integers(0, 2000, len(case.nodes)).astype(np.float64)
    settings = replace(SETTINGS, few_samples=0, least_bps=0)
    seen = Seen(usage)
    first = estimate(case.tree, seen, None, CAPACITY, settings)
    # Reconciled demands are not below usage x headroom where all children peak together, as they do here.
    full = Seen(usage, allocation_bps=np.floor(first.demand_bps).astype(np.int64) + 1, is_full=True)
    again = estimate(case.tree, full, first.state, CAPACITY, settings)
    assert not again.causes[usage > 100].any()
    np.testing.assert_allclose(again.demand_bps[usage > 100], first.demand_bps[usage > 100])
