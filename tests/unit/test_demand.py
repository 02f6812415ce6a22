"""Demand apart from usage: headroom, throttling by its causes, probing, folding; and that the loop finds the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from telemetryd.allocate.demand import Cause, DemandEstimate, DemandSettings, Seen, causes_of, estimate
from telemetryd.allocate.divide import allocate
from telemetryd.allocate.tree import MAX_BPS, Tree, build

M = 1_000_000
SETTINGS = DemandSettings(window=3, headroom=1.2, near=0.9, growth=1.5, least_bps=M, few_samples=0)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float64) * M


def follow(
    tree: Tree, steps: list[Seen], settings: DemandSettings = SETTINGS, capacity: int = 1000 * M
) -> list[DemandEstimate]:
    """Return the estimates of one step after the other."""
    found: list[DemandEstimate] = []
    for seen in steps:
        found.append(estimate(tree, seen, found[-1].state if found else None, capacity, settings))
    return found


def test_the_highest_usage_of_the_window_counts_with_headroom() -> None:
    """A peak is remembered for three steps; a class without traffic demands nothing, one with little the least."""
    tree = build([-1, 0, 0])
    found = follow(tree, [Seen(floats(0, usage, 0)) for usage in (10, 50, 20, 20, 20)])
    assert [one.demand_bps[1] / M for one in found] == pytest.approx([12, 60, 60, 60, 24])
    assert found[0].demand_bps[2] == 0
    assert follow(tree, [Seen(floats(0, 0.1, 0))])[0].demand_bps.tolist() == [M, M, 0]
    assert not any(one.censored.any() for one in found)


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (Seen(floats(0, 95)), Cause.NONE),
        (Seen(floats(0, 95), dropped=np.array([False, True])), Cause.DROPS),
        (Seen(floats(0, 0), dropped=np.array([False, True])), Cause.DROPS),
        (Seen(floats(0, 95), allocation_bps=np.array([0, 100 * M])), Cause.NONE),
        (Seen(floats(0, 95), allocation_bps=np.array([0, 100 * M]), is_full=True), Cause.SHARE),
        (Seen(floats(0, 85), allocation_bps=np.array([0, 100 * M]), is_full=True), Cause.NONE),
        (Seen(floats(0, 85), allocation_bps=np.array([0, -1]), is_full=True), Cause.LINK),
        (Seen(floats(0, 85), is_full=True), Cause.LINK),
        (Seen(floats(0, 0), is_full=True), Cause.NONE),
        (Seen(floats(0, 95), ceiling_bps=np.array([MAX_BPS, 100 * M])), Cause.CEILING),
        (Seen(floats(0, 95), ceiling_bps=np.array([MAX_BPS, MAX_BPS])), Cause.NONE),
    ],
)
def test_what_throttles(seen: Seen, cause: Cause) -> None:
    """An allocation binds on a full link only; a ceiling always; who sends nothing is throttled by drops alone."""
    assert causes_of(seen, SETTINGS).tolist() == [0, cause]


def test_a_throttled_class_asks_for_more_and_stays_marked() -> None:
    """Its demand grows by the factor up to the capacity; the mark stays while a throttled step is in the window."""
    tree = build([-1, 0])
    dropped = np.array([False, True])
    steps = [Seen(floats(0, 100), dropped=dropped) for _ in range(8)] + [Seen(floats(0, 100)) for _ in range(4)]
    found = follow(tree, steps, capacity=500 * M)
    assert [round(one.demand_bps[1] / M) for one in found[:6]] == [120, 180, 270, 405, 500, 500]
    assert [bool(one.causes[1]) for one in found] == [True] * 8 + [False] * 4
    assert [bool(one.censored[1]) for one in found] == [True] * 10 + [False] * 2
    assert [bool(one.censored[0]) for one in found] == [True] * 10 + [False] * 2
    assert found[8].demand_bps[1] == pytest.approx(120 * M)


def test_children_that_do_not_peak_together_share_the_peak_of_their_sum() -> None:
    """Two children with peaks of 100 whose sum never exceeds 100: the burstiness is 2, each keeps what it uses now."""
    tree = build([-1, 0, 1, 1])
    steps = [Seen(floats(0, 0, 100, 0)), Seen(floats(0, 0, 0, 100))]
    (_, found) = follow(tree, steps, replace(SETTINGS, least_bps=0))
    assert found.demand_bps.tolist() == pytest.approx([120 * M, 120 * M, 0, 120 * M])
    assert found.burstiness.tolist() == pytest.approx([1, 2, 1, 1])


def test_a_throttled_child_is_not_scaled_down() -> None:
    """Its estimate is a lower bound: the parent has that beside the peak of the others."""
    tree = build([-1, 0, 1, 1])
    dropped = np.array([False, False, True, False])
    found = follow(
        tree, [Seen(floats(0, 0, 100, 100)), *(Seen(floats(0, 0, 100, 10), dropped=dropped) for _ in range(2))]
    )[-1]
    assert found.demand_bps[2] == pytest.approx(120 * 1.5**2 * M)
    assert found.demand_bps[3] == pytest.approx(120 * M)
    assert found.demand_bps[1] == pytest.approx(390 * M)


def test_classes_with_few_samples_are_estimated_together() -> None:
    """The rest's peak is that of the sum; its members go by their mean usage; with enough samples one leaves the rest."""
    tree = build([-1, 0, 0, 0])
    settings = replace(SETTINGS, few_samples=20, least_bps=0)
    samples = np.array([0, 5, 5, 100])
    steps = [Seen(floats(0, 10, 0, 50), samples), Seen(floats(0, 0, 10, 50), samples)]
    found = follow(tree, steps, settings)[-1]
    assert found.folded.tolist() == [False, True, True, False]
    assert found.demand_bps[1:].tolist() == pytest.approx([M, 11 * M, 60 * M])
    many = Seen(floats(0, 0, 10, 50), np.array([0, 5, 60, 100]))
    assert follow(tree, [*steps, many], settings)[-1].folded.tolist() == [False, True, False, False]
    # 20 samples in the window would do for a class that is apart already, and not for one in the rest.
    apart = Seen(floats(0, 10, 10, 50), np.array([0, 25, 25, 100]))
    few = Seen(floats(0, 10, 10, 50), np.array([0, 0, 0, 100]))
    assert not follow(tree, [apart, few, few], settings)[-1].folded.any()
    assert follow(tree, [few, few, replace(few, samples=np.array([0, 25, 25, 100]))], settings)[-1].folded.any()


@pytest.mark.parametrize(
    "changes",
    [{"headroom": 1.05, "near": 0.95}, {"window": 0}, {"growth": 1.0}, {"near": 0.4}, {"few_samples": -1}],
)
def test_settings_out_of_their_range_are_refused(changes: dict[str, float]) -> None:
    """Also a headroom by which a class that has all it wants would seem throttled."""
    with pytest.raises(ValueError, match=r"must|not negative"):
        replace(DemandSettings(), **changes)  # type: ignore[arg-type]


def test_a_state_of_another_tree_and_impossible_usages_are_refused() -> None:
    """A mistake of the caller, not a wrong estimate."""
    first = estimate(build([-1, 0]), Seen(floats(0, 1)), None, M, SETTINGS)
    with pytest.raises(ValueError, match="another tree"):
        estimate(build([-1, 0, 0]), Seen(floats(0, 1, 1)), first.state, M, SETTINGS)
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="usage"):
            estimate(build([-1, 0]), Seen(floats(0, bad)), None, M, SETTINGS)


@pytest.mark.parametrize("delay", [0, 2])
def test_the_loop_finds_who_wants_what(delay: int) -> None:
    """Estimate, divide, send, measure: starting from nothing, each class gets what it would get if all was known.

    The link enforces the shares of `delay` steps ago, and lends what is unused. Truth is never shown to the estimator.
    """
    tree = build(
        [-1, 0, 0, 0, 0, 0],
        weight=[1, 4, 1, 1, 1, 1],
        guarantee=[0, 0, 200 * M, 0, 0, 0],
        importance=[1, 1, 1, 1, 2, 2],
    )
    truth = np.array([0, 900, 300, 50, 400, 5]) * M
    capacity = 1000 * M
    settings = DemandSettings(window=5, few_samples=0)
    known = allocate(tree, truth, capacity).bps
    shares = [np.zeros(6, np.int64)] * (delay + 1)
    state = None
    for _ in range(60):
        # What the device does: nobody below its share if it has the traffic, the rest lent by weight.
        device = build([-1, 0, 0, 0, 0, 0], weight=tree.weight, guarantee=shares[-1 - delay])
        sent = allocate(device, truth, capacity).bps
        seen = Seen(sent.astype(np.float64), allocation_bps=shares[-1 - delay], is_full=sent[0] >= 0.99 * capacity)
        found = estimate(tree, seen, state, capacity, settings)
        state = found.state
        shares.append(allocate(tree, found.whole_bps, capacity).bps)
    assert found.censored.tolist() == [True, True, True, False, True, True]
    # Who is short has what it would have, less the headroom of those who are not.
    slack = 0.1 * truth[[3, 5]].sum() + 6
    assert (np.abs(shares[-1] - known)[[1, 2]] <= slack).all()
    assert (shares[-1][[3]] >= truth[[3]]).all()
    assert (np.abs(sent - known) <= slack).all()
    assert (shares[-1] == shares[-2]).all()
