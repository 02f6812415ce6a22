"""Confidence intervals and gamma quantiles, against scipy and the published cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from telemetryd.aggregate.gamma import gamma_quantile, log_gamma
from telemetryd.aggregate.interval import interval

PROBABILITIES = [0.0005, 0.005, 0.025, 0.05, 0.25, 0.4, 0.5, 0.6, 0.75, 0.95, 0.975, 0.995, 0.9995]


@pytest.mark.parametrize("p", PROBABILITIES)
def test_quantiles_are_those_of_scipy(p: float) -> None:
    """Shapes 1e-3..1e9, relative error below 1e-9, wherever the quantile is a normal number."""
    shapes = np.concatenate((np.logspace(-3, 9, 2001), np.linspace(490, 510, 41), [0.5, 1.0, 2.0, 5.0]))
    expected = special.gammaincinv(shapes, p) if p <= 0.5 else special.gammainccinv(shapes, 1 - p)
    got = gamma_quantile(shapes, p)
    is_normal = expected > 1e-290
    np.testing.assert_allclose(got[is_normal], expected[is_normal], rtol=1e-9)
    assert np.all(got[~is_normal] < 1e-280)


@pytest.mark.parametrize("p", [1e-9, 1e-6, 1e-4, 0.025, 0.975, 1 - 1e-6, 1 - 1e-9])
def test_quantiles_where_estimates_are(p: float) -> None:
    """Shapes 0.8..499, of few samples to many, also far out in the tails: relative error below 1e-9."""
    shapes = np.concatenate((np.linspace(0.8, 12, 3001), np.linspace(12, 499, 3001)))
    expected = special.gammaincinv(shapes, p) if p <= 0.5 else special.gammainccinv(shapes, 1 - p)
    np.testing.assert_allclose(gamma_quantile(shapes, p), expected, rtol=1e-9)


def test_log_gamma_is_that_of_scipy() -> None:
    """The logarithm of the gamma function, to 1e-13 of its size."""
    a = np.logspace(-6, 9, 3001)
    np.testing.assert_allclose(log_gamma(a), special.gammaln(a), rtol=1e-13, atol=1e-14)


def test_bad_arguments_are_refused() -> None:
    """Probabilities and shapes out of range are errors, also when not numbers."""
    for p in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            gamma_quantile(np.ones(1), p)
        with pytest.raises(ValueError, match="between 0 and 1"):
            interval(1, 1, 1, p)
    for shape in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="shape"):
            gamma_quantile(np.array([shape]), 0.5)


def test_no_sample_gives_an_upper_bound() -> None:
    """Zero samples: from 0 to -ln(0.025) = 3.689 times the scaled largest frame."""
    low, high = interval(0.0, 0.0, np.array([1000.0 * 1518, 1.0]))
    assert low.tolist() == [0, 0]
    np.testing.assert_allclose(high, -np.log(0.025) * np.array([1000.0 * 1518, 1.0]), rtol=1e-12)


def test_every_packet_sampled_is_exact() -> None:
    """At N = 1 nothing is uncertain: both ends are the sum."""
    low, high = interval([0.0, 1518.0], [0.0, 0.0], [0.0, 0.0])
    assert low.tolist() == high.tolist() == [0.0, 1518.0]


@pytest.mark.parametrize("count", [1, 2, 5, 40, 3000])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_equal_weights_give_the_exact_poisson_interval(count: int, confidence: float) -> None:
    """With one weight w the gamma interval is w times the exact (Garwood) interval of a Poisson count."""
    weight = 1024.0 * 1518
    low, high = interval(count * weight, count * weight**2, weight, confidence)
    tail = (1 - confidence) / 2
    np.testing.assert_allclose(low, weight * stats.chi2.ppf(tail, 2 * count) / 2, rtol=1e-9)
    np.testing.assert_allclose(high, weight * stats.chi2.isf(tail, 2 * count + 2) / 2, rtol=1e-9)


def test_many_samples_give_the_normal_interval() -> None:
    """With 10^8 samples the ends are 1.96 deviations from the estimate."""
    n, rate = 1e8, 1000.0
    low, high = interval(rate * n, rate * (rate - 1) * n, rate)
    half = 1.959964 * np.sqrt(rate * (rate - 1) * n)
    np.testing.assert_allclose([rate * n - low, high - rate * n], half, rtol=1e-3)


def test_shapes_are_kept() -> None:
    """Arguments are broadcast; scalars give scalars of the same kind."""
    low, high = interval(np.ones((2, 3)), 1.0, 1.0)
    assert low.shape == high.shape == (2, 3)
    assert np.all(low < 1) and np.all(high > 1)
