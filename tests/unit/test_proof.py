"""Proof of guarantees on simulated truth: noise breaks none, a shortfall is found, a low usage is no excuse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from telemetryd.assure.proof import (
    CONFIDENCE,
    FALSE_ALARM,
    Demand,
    Usage,
    Verdict,
    demand_of,
    judge,
    noise_windows,
    shortest_period_s,
    shortfalls,
    summarise,
)
from telemetryd.store.proof import EXAMINED, examined

RATE = 2000
SIZE = 900.0
WINDOW_S = 300.0
GUARANTEE = 100e6


def sampled(delivered_bps, seed=1, window_s=WINDOW_S):
    """Sample what was delivered, 1 in :data:`RATE` frames of :data:`SIZE` octets."""
    delivered_bps = np.asarray(delivered_bps, float)
    frames = delivered_bps * window_s / 8 / SIZE
    samples = np.random.default_rng(seed).poisson(frames / RATE)
    variance = RATE * (RATE - 1) * SIZE * SIZE * samples
    shape = len(delivered_bps)
    largest = np.full(shape, np.sqrt(RATE * (RATE - 1)) * SIZE)
    return Usage(np.full(shape, window_s), RATE * SIZE * samples, variance.astype(float), largest)


def wanted(windows, bps=np.inf, free=False):
    """Make a demand that is known, beyond a full link unless it is free."""
    return Demand(np.full(windows, bps), np.full(windows, bps), np.full(windows, free))


def verdicts(usage, guarantee=GUARANTEE, demand=None):
    windows = len(usage.octets)
    return judge(usage, np.full(windows, guarantee), demand or wanted(windows))


def test_a_guarantee_kept_to_the_bit_looks_missed_in_a_fortieth_of_the_windows():
    """Exactly the guarantee is delivered, the worst case for noise: 2.5 % of 40,000 windows may look missed."""
    missed = np.count_nonzero(verdicts(sampled(np.full(40_000, GUARANTEE))) == Verdict.MISSED)
    assert missed <= 40_000 * 0.025 + 4 * np.sqrt(40_000 * 0.025 * 0.975)
    assert missed > 0


def test_noise_breaks_no_guarantee():
    """Of 300 days in which exactly the guarantee was delivered 0.2 % may be called broken: at most 5 of them here."""
    broken = 0
    for seed in range(300):
        usage = sampled(np.full(288, GUARANTEE), seed)
        summary = summarise(usage, np.full(288, GUARANTEE), verdicts(usage))
        broken += summary.broken > 0
    # Two chances of FALSE_ALARM each: too many missed windows, or one that is certain.
    assert broken <= binom.ppf(0.9999, 300, 2 * FALSE_ALARM)


def test_a_shortfall_is_found_in_the_shortest_period():
    """At the shortest period the interval is as wide as the margin, so a shortfall of twice that is missed mostly."""
    one = sampled(np.full(200, GUARANTEE))
    period_s = shortest_period_s(one.octets.sum(), one.variance.sum(), GUARANTEE, margin=0.1)
    usage = sampled(np.full(4000, 0.8 * GUARANTEE), window_s=period_s)
    assert np.mean(verdicts(usage) == Verdict.MISSED) > 0.95
    longer = sampled(np.full(4000, 0.9 * GUARANTEE), window_s=period_s)
    assert 0.3 < np.mean(verdicts(longer) == Verdict.MISSED) < 0.75


def test_half_an_hour_of_shortfall_in_a_month_is_found_at_its_place():
    delivered = np.full(31 * 288, 1.3 * GUARANTEE)
    delivered[5000:5006] = 0.6 * GUARANTEE
    usage = sampled(delivered)
    guarantee = np.full(len(delivered), GUARANTEE)
    found = verdicts(usage)
    summary = summarise(usage, guarantee, found)
    (run,) = shortfalls(usage, guarantee, found)
    assert (run.first, run.last) == (5000, 5006)
    assert summary.certain == 6
    assert summary.missed_s == 1800
    truth = 0.4 * GUARANTEE * 1800 / 8
    assert run.octets_low <= truth <= run.octets_high
    assert run.octets == pytest.approx(truth, rel=0.05)
    assert summary.verdict(0.99) == "kept"
    assert summary.verdict(0.9999) == "broken"


def test_a_low_usage_is_idle_only_where_nothing_held_it_back():
    usage = sampled([0.2 * GUARANTEE] * 4)
    is_free = np.array([True, True, False, False])
    assert judge(usage, np.full(4, GUARANTEE), demand_of(usage, is_free, hold=3)).tolist() == [
        Verdict.IDLE,
        Verdict.IDLE,
        Verdict.CANNOT_TELL,
        Verdict.CANNOT_TELL,
    ]


def test_a_demand_that_was_there_before_the_link_filled_is_held():
    usage = sampled([1.4 * GUARANTEE, 0.4 * GUARANTEE, 0.4 * GUARANTEE, 0.4 * GUARANTEE])
    is_free = np.array([True, False, False, False])
    assert judge(usage, np.full(4, GUARANTEE), demand_of(usage, is_free, hold=2)).tolist() == [
        Verdict.MET,
        Verdict.MISSED,
        Verdict.MISSED,
        Verdict.CANNOT_TELL,
    ]


def test_a_known_demand_below_the_guarantee_is_idle_on_a_full_link():
    assert set(verdicts(sampled(np.full(50, 0.5 * GUARANTEE)), demand=wanted(50, 0.6 * GUARANTEE))) == {Verdict.IDLE}


def test_a_known_demand_that_does_not_arrive_is_missed_on_a_free_link_too():
    assert set(verdicts(sampled(np.full(50, 0.5 * GUARANTEE)), demand=wanted(50, 2 * GUARANTEE, free=True))) == {
        Verdict.MISSED
    }


def test_near_the_guarantee_a_free_link_never_misses():
    usage = sampled(np.full(2000, GUARANTEE))
    found = judge(usage, np.full(2000, GUARANTEE), demand_of(usage, np.ones(2000, bool), hold=3))
    assert set(found.tolist()) == {Verdict.MET, Verdict.IDLE}


def test_what_was_measured_ahead_of_the_queue_proves_nothing_while_the_link_is_full():
    usage = sampled([1.5 * GUARANTEE, 1.5 * GUARANTEE, 0.5 * GUARANTEE])
    is_free = np.array([True, False, False])
    demand = demand_of(usage, is_free, hold=2, is_ahead=True)
    assert judge(usage, np.full(3, GUARANTEE), demand, is_ahead=True).tolist() == [
        Verdict.MET,
        Verdict.CANNOT_TELL,
        Verdict.IDLE,
    ]


def test_a_window_that_nothing_was_collected_in_is_unseen():
    usage = sampled(np.full(3, 2 * GUARANTEE))
    usage.seconds[1] = 0
    usage.octets[1] = usage.variance[1] = 0
    found = verdicts(usage)
    assert found.tolist() == [Verdict.MET, Verdict.UNSEEN, Verdict.MET]
    assert summarise(usage, np.full(3, GUARANTEE), found).attainment == (1.0, 1.0)


def test_without_a_guarantee_there_is_nothing_to_keep():
    usage = sampled(np.full(3, GUARANTEE))
    found = verdicts(usage, 0.0)
    assert set(found.tolist()) == {Verdict.IDLE}
    summary = summarise(usage, np.zeros(3), found)
    assert summary.attainment is None
    assert summary.verdict(0.99) == "no demand"


@pytest.mark.parametrize("judged", [0, 1, 7, 288, 8928])
def test_noise_is_the_quantile_of_the_binomial_distribution(judged):
    expected = binom.ppf(1 - FALSE_ALARM, judged, (1 - CONFIDENCE) / 2) if judged else 0
    assert noise_windows(judged) == expected


def test_exact_counts_leave_no_doubt():
    """At 1 in 1 nothing is estimated: the guarantee to the bit is met, a bit less is missed."""
    octets = np.array([GUARANTEE, GUARANTEE - 8]) / 8 * WINDOW_S
    usage = Usage(np.full(2, WINDOW_S), octets, np.zeros(2), np.zeros(2))
    assert verdicts(usage).tolist() == [Verdict.MET, Verdict.MISSED]
    assert shortest_period_s(octets.sum(), 0.0, GUARANTEE) == 0.0


@pytest.mark.parametrize("missed", [[7], [0, 1, 2], list(range(100, 130)), list(range(288)), [0, 5, 280, 287]])
def test_the_windows_that_are_examined_are_spread_and_shared(missed):
    """Up to 20 of them, all where there are fewer, none twice; guarantees that missed about the same share most."""
    found = examined(np.array(missed), 288).tolist()
    assert found == sorted(set(found)) and set(found) <= set(missed)
    assert len(found) == min(EXAMINED, len(missed))
    other = [window for window in missed if window % 97]
    if len(other) > EXAMINED:
        assert len(set(found) & set(examined(np.array(other), 288).tolist())) >= EXAMINED - 5
