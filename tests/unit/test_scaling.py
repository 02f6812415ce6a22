"""The effective sampling rate: growth of the pool per sample over a sliding minute, else the stated rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.scaling import Scaling

DTYPES = {"source": np.uint32, "largest": np.uint32}


def sums(*rows: dict[str, int]) -> dict[str, Any]:
    """Make source sums; by default every sample has a growth, and states 100."""
    names = ("source", "samples", "growth", "grown", "stated", "stated_grown", "largest")
    full = []
    for row in rows:
        samples = row.get("samples", 0)
        rate = row.pop("rate", 100)
        grown = row.get("grown", samples)
        defaults = {"grown": samples, "stated": rate * samples, "stated_grown": rate * grown, "largest": 64}
        full.append(defaults | row)
    return {name: np.array([row.get(name, 0) for row in full], DTYPES.get(name, np.uint64)) for name in names}


def test_growth_per_sample() -> None:
    """N is the growth of the pool divided by the samples whose growth is known."""
    rates = Scaling().add(7, sums({"source": 3, "samples": 2000, "growth": 240_000}))
    assert rates.rate.tolist() == [1, 1, 1, 120]
    assert rates.is_stated.tolist() == [False] * 4
    assert rates.samples.tolist() == [0, 0, 0, 2000]
    assert rates.largest.tolist() == [0, 0, 0, 64]


def test_the_gap_after_an_unknown_growth_is_left_out() -> None:
    """The first sample has no gap, and the one after it does not count, in whichever window it ends."""
    cold = sums({"source": 1, "samples": 301, "growth": 29_901, "grown": 300})
    assert Scaling().add(0, cold).rate[1] == 29_900 / 299
    scaling = Scaling()
    assert bool(scaling.add(0, sums({"source": 1, "samples": 1, "grown": 0})).is_stated[1])
    both = scaling.add(1, sums({"source": 1, "samples": 300, "growth": 29_901}))
    assert both.rate[1] == 29_900 / 299
    assert scaling.add(2, sums({"source": 1, "samples": 299, "growth": 29_900})).rate[1] == 2 * 29_900 / 598
    slid = scaling.add(61, sums({"source": 1, "samples": 300, "growth": 36_000}))
    np.testing.assert_allclose(slid.rate[1], (29_900 + 36_000) / (299 + 300))


def test_every_restart_costs_a_gap() -> None:
    """Restarts leave out as many gaps as growths are unknown; what is owed waits for the next growth."""
    scaling = Scaling()
    scaling.add(0, sums({"source": 1, "samples": 3, "grown": 0}))
    rates = scaling.add(1, sums({"source": 1, "samples": 403, "growth": 40_403}))
    assert rates.rate[1] == 101.0


def test_sparse_sources_take_the_factor_of_their_agent() -> None:
    """Sources of an agent lose alike: 20 sources of 2 gaps each give one factor, times each one's stated rate."""
    agents = np.array([0, *[1] * 20, 2])
    scaling = Scaling(lambda n: agents[:n])
    rows = [{"source": 1 + i, "samples": 2, "growth": 250 + 10 * (i % 2)} for i in range(20)]
    rates = scaling.add(0, sums(*rows, {"source": 21, "samples": 15, "growth": 1599, "rate": 100}))
    factor = (20 * 255 + 1) / (41 * 100)  # with a gap more
    np.testing.assert_allclose(rates.rate[1:21], 100 * factor)
    assert not rates.is_stated[1:21].any()
    assert (rates.rate[21], bool(rates.is_stated[21])) == (100.0, True)  # less than 16 samples' worth
    later = scaling.add(1, sums({"source": 3, "samples": 1, "grown": 0, "rate": 400}))
    np.testing.assert_allclose(later.rate[3], factor * 400)


@pytest.mark.parametrize(("growth", "is_own"), [(28_000, True), (20_000, False)])
def test_a_busy_source_keeps_its_own_ratio(growth: int, is_own: bool) -> None:
    """From 256 samples' worth of growth on, by its agent's factor, a source has a ratio of its own."""
    agents = np.array([0, 1, 1])
    other = {"source": 1, "samples": 1000, "growth": 100_000}
    rates = Scaling(lambda n: agents[:n]).add(0, sums(other, {"source": 2, "samples": 200, "growth": growth}))
    pooled = (100_001 + growth) / 1201
    assert is_own == (growth / pooled >= 256)
    np.testing.assert_allclose(rates.rate[1:], [100.0, growth / 200 if is_own else pooled])


def test_bad_pools_do_not_spoil_their_agent() -> None:
    """A source that counts samples in its pool is left out of its agent's factor, and is scaled as stated."""
    agents = np.array([0, 1, 1, 1])
    rows = (
        {"source": 1, "samples": 100, "growth": 12_000},
        {"source": 2, "samples": 100, "growth": 100},
        {"source": 3, "samples": 3, "growth": 100},
    )
    rates = Scaling(lambda n: agents[:n]).add(0, sums(*rows))
    np.testing.assert_allclose(rates.rate[1:], [12_101 / 104, 100, 12_101 / 104])
    assert rates.is_stated[1:].tolist() == [False, True, False]


def test_the_minute_slides() -> None:
    """Windows older than a minute no longer count; sources that are silent keep their last rate."""
    scaling = Scaling()
    scaling.add(0, sums({"source": 1, "samples": 1000, "growth": 120_000}))
    both = scaling.add(59, sums({"source": 1, "samples": 1000, "growth": 100_000}))
    assert both.rate[1] == 110
    alone = scaling.add(60, sums({"source": 1, "samples": 1000, "growth": 100_000}))
    assert alone.rate[1] == 100
    other = scaling.add(200, sums({"source": 2, "samples": 1000, "growth": 500_000}))
    assert other.rate.tolist() == [1, 100, 500]
    assert scaling.n_sources == 3


def test_a_loss_shows_in_its_own_seconds() -> None:
    """Loss that begins, stays and ends: every window has its own rate, and steady ones share the minute's."""
    agents = np.array([0, 1, 1, 2])
    scaling = Scaling(lambda n: agents[:n])
    kept = [1.0, 1.0, 0.2, 0.2, 1.0]
    rates = []
    for window, share in enumerate(kept):
        lossy = [{"source": i, "samples": int(2000 * share), "growth": 200_000} for i in (1, 2)]
        rates.append(scaling.add(window, sums(*lossy, {"source": 3, "samples": 1000, "growth": 101_000 - window})))
    assert [one.rate[1] for one in rates] == [100 / share for share in kept]
    assert [one.rate[2] for one in rates] == [100 / share for share in kept]
    np.testing.assert_allclose([one.rate[3] for one in rates], [101 - window / 2000 for window in range(5)], rtol=1e-12)


def test_a_change_of_the_stated_rate_holds_at_once() -> None:
    """After a change from 100 to 400 (with 10 % loss throughout) the new window has 444, not the mean."""
    scaling = Scaling()
    scaling.add(0, sums({"source": 1, "samples": 900, "growth": 100_000}))
    changed = scaling.add(1, sums({"source": 1, "samples": 225, "growth": 100_000, "rate": 400}))
    np.testing.assert_allclose(changed.rate[1], 400 / 0.9)
    mixed = sums({"source": 1, "samples": 900 + 225, "growth": 200_000, "stated": 180_000, "stated_grown": 180_000})
    half_way = Scaling().add(0, mixed)
    np.testing.assert_allclose(half_way.rate[1] * (900 + 225), 200_000)


@pytest.mark.parametrize(
    ("row", "rate"),
    [
        ({"samples": 50, "grown": 0}, 100.0),  # no growth known
        ({"samples": 50, "growth": 0}, 100.0),  # the pool stands still
        ({"samples": 500, "growth": 24_990}, 100.0),  # less than half of 500 x 100: it counts something else
        ({"samples": 1, "grown": 0}, 100.0),  # the first sample of a source
        ({"samples": 15, "growth": 1599}, 100.0),  # less than 16 samples' worth
        ({"samples": 50, "growth": 0, "rate": 0}, 1.0),  # nothing stated either
    ],
)
def test_an_unusable_pool_gives_the_stated_rate(row: dict[str, int], rate: float) -> None:
    """Without a pool of packets the stated rate is taken, and said to be; N is at least 1."""
    rates = Scaling().add(0, sums({"source": 1} | row))
    assert (rates.rate[1], bool(rates.is_stated[1])) == (rate, True)


@pytest.mark.parametrize(
    ("row", "rate"),
    [
        ({"samples": 500, "growth": 25_000}, 50.0),  # half is enough
        ({"samples": 15, "growth": 30, "rate": 0}, 2.0),  # too few samples to disprove the pool
        ({"samples": 500, "growth": 5000, "rate": 1}, 10.0),  # the agent states 1, but samples 1 in 10
        ({"samples": 50, "growth": 500, "rate": 0}, 10.0),  # states nothing
        ({"samples": 400, "growth": 390, "rate": 1}, 1.0),  # never below 1
    ],
)
def test_a_usable_pool(row: dict[str, int], rate: float) -> None:
    """The pool decides where it can be one."""
    rates = Scaling().add(0, sums({"source": 1} | row))
    assert (rates.rate[1], bool(rates.is_stated[1])) == (rate, False)


def test_exact_at_one_to_one() -> None:
    """Where every packet is sampled N is 1 to the last bit, whatever the counts."""
    for samples in (3, 7, 1_000_003):
        rates = Scaling().add(0, sums({"source": 1, "samples": samples, "growth": samples, "rate": 1}))
        assert rates.rate[1] == 1.0


def test_one_huge_frame_does_not_last() -> None:
    """The largest frame is that of this minute and the one before; a silent source keeps its last."""
    scaling = Scaling()
    scaling.add(0, sums({"source": 1, "samples": 1, "largest": 2**32 - 1}, {"source": 2, "samples": 1, "largest": 700}))
    assert scaling.add(59, sums({"source": 1, "samples": 1})).largest.tolist() == [0, 2**32 - 1, 700]
    assert scaling.add(60, sums({"source": 1, "samples": 1})).largest.tolist() == [0, 2**32 - 1, 700]
    assert scaling.add(120, sums({"source": 1, "samples": 1})).largest.tolist() == [0, 64, 700]
    assert scaling.add(600, sums({"source": 3, "samples": 1})).largest.tolist() == [0, 64, 700, 64]
