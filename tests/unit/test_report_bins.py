"""Statistics over bins, against plain Python, and whether their intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from telemetryd.aggregate.interval import interval
from telemetryd.store.report import bins
from telemetryd.store.report.bins import Estimate, Lane

RATE, SIZE = 1000.0, 700.0
WEIGHT = math.sqrt(RATE * (RATE - 1)) * SIZE


def lane_of(samples: np.ndarray, seconds: np.ndarray | None = None) -> Lane:
    count = len(samples)
    seen = np.full(count, 300.0) if seconds is None else seconds
    return Lane.of(RATE * SIZE * samples, RATE * (RATE - 1) * SIZE**2 * samples, WEIGHT, seen, 300.0)


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 100, 101, 8928])
def test_the_percentile_is_the_nearest_rank(count: int) -> None:
    """Of 100 bins the 95th in order, without interpolation; the interval holds it."""
    samples = np.random.default_rng(count).poisson(40, count)
    ordered = sorted((RATE * SIZE * samples * 8 / 300).tolist())
    found = bins.percentile(lane_of(samples))
    assert found is not None
    assert found.value == pytest.approx(ordered[math.ceil(0.95 * count) - 1], rel=1e-12)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("mean", [0.3, 3, 40, 2000])
def test_limits_of_the_percentile_are_that_of_the_bins_limits(mean: float) -> None:
    """Working out the limits next to the rank only gives what working out all of them gives."""
    samples = np.random.default_rng(7).poisson(mean, 3000)
    lane = lane_of(samples)
    low, high = interval(lane.octets, lane.variance, np.full(3000, WEIGHT))
    rank = math.ceil(0.95 * 3000) - 1
    found = bins.percentile(lane)
    assert found is not None
    assert found.low == pytest.approx(np.sort(low)[rank] * 8 / 300, rel=2e-3, abs=1)
    assert found.high == pytest.approx(np.sort(high)[rank] * 8 / 300, rel=2e-3)


def test_unseen_bins_are_unknown_not_zero() -> None:
    """Bins of which less than half was collected do not count; the others count by their collected seconds."""
    samples = np.array([10, 10, 10, 0])
    lane = lane_of(samples, np.array([300.0, 150.0, 149.0, 300.0]))
    assert lane.places.tolist() == [0, 1, 3]
    assert lane.rates.tolist() == [RATE * SIZE * 10 * 8 / s if s else 0.0 for s in (300, 150)] + [0.0]
    share = bins.share_above(lane, 1.0)
    assert share is not None
    assert share.value == pytest.approx(450 / 750)
    empty = lane_of(samples, np.zeros(4))
    assert bins.percentile(empty) is bins.highest(empty) is bins.share_above(empty, 1.0) is None


def test_everything_is_exact_where_every_packet_was_seen() -> None:
    """Without variance all limits are the figure."""
    octets = np.arange(1.0, 201.0)
    lane = Lane.of(octets, np.zeros(200), 0.0, np.full(200, 300.0), 300.0)
    for found in (bins.percentile(lane), bins.highest(lane)[0], bins.share_above(lane, 2.0)):  # type: ignore[index]
        assert found is not None
        assert found.low == found.value == found.high
    assert bins.volume(7.0, 0.0, 0.0) == Estimate(7.0, 7.0, 7.0)


def test_stretches_are_whole() -> None:
    """Neighbouring bins at the limit are one stretch with its highest rate; an unknown bin ends one."""
    samples = np.array([5, 9, 9, 2, 9, 9, 9, 9])
    seconds = np.full(8, 300.0)
    seconds[6] = 0.0
    lane = lane_of(samples, seconds)
    limit = RATE * SIZE * 9 * 8 / 300
    assert bins.stretches(lane, limit) == [(1, 2, limit), (4, 5, limit), (7, 7, limit)]


def truths(kind: str, random: np.random.Generator, count: int) -> np.ndarray:
    """Make the true mean of samples in each bin."""
    if kind == "constant":
        return np.full(count, 25.0)
    if kind == "few samples":
        return random.gamma(1.0, 1.5, count)
    hour = np.arange(count) / 12 % 24
    return 60 * (1 + 0.7 * np.sin(hour / 24 * 2 * np.pi)) * random.gamma(20, 1 / 20, count)


@pytest.mark.parametrize("kind", ["constant", "few samples", "daily"])
def test_intervals_of_percentile_and_peak_hold_the_truth(kind: str) -> None:
    """Of months of sampled traffic, at least 19 of 20 intervals hold the true percentile and the true peak."""
    held = {"p95": 0, "peak": 0}
    biased = 0.0
    rounds, count = 60, 2016
    for seed in range(rounds):
        random = np.random.default_rng([seed, len(kind)])
        mean = truths(kind, random, count)
        lane = lane_of(random.poisson(mean))
        rates = np.sort(RATE * SIZE * mean * 8 / 300)
        p95, peak = bins.percentile(lane), bins.highest(lane)
        assert p95 is not None and peak is not None
        true = rates[math.ceil(0.95 * count) - 1]
        held["p95"] += p95.low <= true <= p95.high
        held["peak"] += peak[0].low <= rates[-1] <= peak[0].high
        biased += p95.value / true - 1
    assert biased > 0  # noise makes upper bins too high: the lower limit is there for it
    assert held["p95"] >= 0.95 * rounds
    assert held["peak"] >= 0.95 * rounds


def test_a_part_and_its_rest() -> None:
    """A share's limits follow from the part and the rest; of nothing there is no share."""
    one, whole = Estimate(30.0, 27.0, 33.0), Estimate(100.0, 95.0, 105.0)
    share = bins.part(one, whole)
    assert share is not None
    rest = math.sqrt(5**2 - 3**2)
    assert share.value == 0.3
    assert share.low == pytest.approx(27 / (27 + 70 + rest))
    assert share.high == pytest.approx(33 / (33 + 70 - rest))
    assert bins.part(whole, whole) == Estimate(1.0, 1.0, 1.0)
    assert bins.part(Estimate(0, 0, 0), Estimate(0, 0, 0)) is None


def test_a_change_between_months() -> None:
    """110 after 100 is +10 %; its limits come from both intervals; from nothing there is no change."""
    found = bins.change(Estimate(110, 104.5, 115.5), Estimate(100, 97, 103))
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert found.low < 110 * 0.95 / 100 - 1 < found.value < 110 * 1.05 / 100 - 1 < found.high
    assert bins.change(Estimate(1, 1, 1), Estimate(0, 0, 0)) is None
    gone = bins.change(Estimate(0, 0, 2), Estimate(100, 90, 110))
    assert gone is not None
    assert gone[:2] == (-1.0, -1.0)


def test_the_error_is_the_wider_side() -> None:
    """The relative error takes the wider side of the interval; nothing has none."""
    assert bins.relative_error(Estimate(100, 90, 115)) == pytest.approx(0.15)
    assert bins.relative_error(Estimate(0, 0, 9)) is None
