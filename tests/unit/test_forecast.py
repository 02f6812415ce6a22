"""The forecast of links: growth and the date of exhaustion, on traffic whose truth is known."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from telemetryd.assure.forecast import HORIZON_DAYS, CannotTell, Forecast, forecast, student_t

pytestmark = pytest.mark.no_twins

FIRST = date(2026, 3, 4)
WEEK = np.array([0.0, 0.02, 0.03, 0.01, -0.02, -0.5, -0.6])
LEVEL = 4e9


def busy_hours(days: int, growth: float = 0.5, spread: float = 0.0, alike: float = 0.0, seed: int = 1) -> np.ndarray:
    """Make daily busy hours that grow by ``growth`` a year to LEVEL on the busiest weekday at the end."""
    random = np.random.default_rng(seed)
    errors = np.zeros(days)
    for day in range(days):
        fresh = random.normal() * spread * (1 - alike**2) ** 0.5
        errors[day] = (alike * errors[day - 1] if day else 0.0) + fresh
    place = np.arange(days)
    weekday = (FIRST.weekday() + place) % 7
    slope = np.log1p(growth) / 365.25
    return LEVEL * np.exp(slope * (place - days + 1) + WEEK[weekday] - WEEK.max() + errors)


def capacity_after(days: int, growth: float = 0.5) -> float:
    return float(LEVEL * np.exp(np.log1p(growth) / 365.25 * days))


def test_without_noise_everything_is_exact() -> None:
    """Growth, level and date come out as they were put in."""
    found = forecast(FIRST, busy_hours(120), capacity_after(200) * (1 - 1e-9))
    assert isinstance(found, Forecast)
    assert found.growth == pytest.approx(0.5, rel=1e-6)
    assert found.level_bps == pytest.approx(LEVEL, rel=1e-6)
    assert found.exhaustion == FIRST + timedelta(days=119 + 200)
    assert found.earliest == found.latest == found.exhaustion
    assert found.days == 120


@pytest.mark.parametrize("days", [0, 1, 12, 27])
def test_too_short_a_history_is_said(days: int) -> None:
    """Below 28 days of data nothing is claimed."""
    assert forecast(FIRST, busy_hours(days), 1e10) == CannotTell(days, 28)


def test_missing_days_do_not_count() -> None:
    """Unknown and silent days are no data; gaps between days do not bend the growth."""
    values = busy_hours(90)
    values[5:60] = np.nan
    values[70] = 0.0
    found = forecast(FIRST, values, capacity_after(100))
    assert isinstance(found, Forecast)
    assert (found.days, found.growth) == (34, pytest.approx(0.5, rel=1e-6))
    values[60:70] = np.nan
    assert forecast(FIRST, values, 1e10) == CannotTell(24, 28)
    no_sundays = busy_hours(60)
    no_sundays[(FIRST.weekday() + np.arange(60)) % 7 == 6] = np.nan
    assert isinstance(forecast(FIRST, no_sundays, 1e10), CannotTell)


def test_holidays_pull_little() -> None:
    """A week of holidays with a third of the traffic leaves growth about what it was."""
    values = busy_hours(120, spread=0.03)
    values[40:47] /= 3
    found = forecast(FIRST, values, capacity_after(300))
    assert isinstance(found, Forecast)
    assert found.growth_low < 0.5 < found.growth_high
    assert abs(found.growth - 0.5) < 0.2


def test_shrinking_traffic_never_fills_a_link() -> None:
    """Where traffic shrinks for certain, no date is named; where that is uncertain, the interval is open."""
    found = forecast(FIRST, busy_hours(200, growth=-0.3, spread=0.05), 1.2 * LEVEL)
    assert isinstance(found, Forecast)
    assert (found.exhaustion, found.earliest, found.latest) == (None, None, None)
    unsure = forecast(FIRST, busy_hours(35, growth=0.0, spread=0.1), 1.3 * LEVEL)
    assert isinstance(unsure, Forecast)
    assert unsure.earliest is not None
    assert unsure.latest is None


def test_a_full_link_is_full_now() -> None:
    """A link whose busiest weekday is above its capacity is exhausted on the first day after the data."""
    found = forecast(FIRST, busy_hours(60, spread=0.01), 0.5 * LEVEL)
    assert isinstance(found, Forecast)
    assert found.exhaustion == found.latest == FIRST + timedelta(days=60)


def test_growth_beyond_all_reason_stays_finite() -> None:
    """A few weeks of doubling every week give finite figures."""
    found = forecast(FIRST, 1e3 * 2.0 ** (np.arange(40) / 2), 1e18)
    assert isinstance(found, Forecast)
    assert np.isfinite([found.growth, found.growth_low, found.growth_high]).all()


@pytest.mark.parametrize("freedom", [3, 4, 7.5, 20, 400])
def test_quantiles_of_students_t(freedom: float) -> None:
    """The expansion is within 2 in 1,000 of the true quantile."""
    assert student_t(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


@pytest.mark.parametrize(("days", "alike"), [(28, 0.0), (60, 0.3), (180, 0.0), (180, 0.5)])
def test_intervals_hold_the_truth(days: int, alike: float) -> None:
    """Over many histories about 95 of 100 intervals hold the true growth and the true date."""
    rounds = 300
    ahead = 200
    truth = FIRST + timedelta(days=days - 1 + ahead)
    held = {"growth": 0, "date": 0}
    for seed in range(rounds):
        values = busy_hours(days, spread=0.08, alike=alike, seed=seed)
        found = forecast(FIRST, values, capacity_after(ahead))
        assert isinstance(found, Forecast)
        held["growth"] += found.growth_low <= 0.5 <= found.growth_high
        is_late = found.latest is None or found.latest >= truth
        held["date"] += found.earliest is not None and found.earliest <= truth and is_late
    assert held["growth"] >= 0.90 * rounds
    assert held["date"] >= 0.90 * rounds
    assert held["growth"] < rounds  # an interval that always holds says nothing
    assert ahead < HORIZON_DAYS
