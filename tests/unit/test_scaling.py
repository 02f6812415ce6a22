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
    rates = Scaling().add(7, sums({"source": 3, "samples": 21, "growth": 2400, "grown": 20}))
    assert rates.rate.tolist() == [1, 1, 1, 120]
    assert rates.is_stated.tolist() == [False] * 4
    assert rates.samples.tolist() == [0, 0, 0, 21]
    assert rates.largest.tolist() == [0, 0, 0, 64]


def test_the_minute_slides() -> None:
    """Windows older than a minute no longer count; sources that are silent keep their last rate."""
    scaling = Scaling()
    scaling.add(0, sums({"source": 1, "samples": 100, "growth": 30_000}))
    both = scaling.add(59, sums({"source": 1, "samples": 100, "growth": 10_000}))
    assert both.rate[1] == 200
    alone = scaling.add(60, sums({"source": 1, "samples": 100, "growth": 10_000}))
    assert alone.rate[1] == 100
    other = scaling.add(200, sums({"source": 2, "samples": 100, "growth": 50_000}))
    assert other.rate.tolist() == [1, 100, 500]
    assert scaling.n_sources == 3


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
        ({"samples": 50, "growth": 2499}, 100.0),  # less than half of 50 x 100: it counts something else
        ({"samples": 1, "grown": 0}, 100.0),  # the first sample of a source
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
        ({"samples": 50, "growth": 2500}, 50.0),  # half is enough
        ({"samples": 15, "growth": 30}, 2.0),  # too few samples to disprove the pool
        ({"samples": 50, "growth": 500, "rate": 1}, 10.0),  # the agent states 1, but samples 1 in 10
        ({"samples": 50, "growth": 500, "rate": 0}, 10.0),  # states nothing
        ({"samples": 15, "growth": 14}, 1.0),  # never below 1
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
