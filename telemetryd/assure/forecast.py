"""When a link will be full: growth of its daily busy hour, and the date of exhaustion with its interval.

The model of a day d is

    log(busy hour) = level + growth d + weekday + error

fitted by least squares with Huber's weights, so that holidays and outages pull little. Errors of neighbouring
days are alike: with a lag-one correlation r of the residuals, n days tell as much as n (1 - r) / (1 + r) do,
and the covariance and the degrees of freedom are taken so. The link is exhausted on the first day at whose
level the busiest weekday reaches the capacity. All days at which that cannot be excluded are the date's
interval (Fieller's, which may be open: "not before March, maybe never" is an answer).

The forecast extends what was; it knows nothing of what is planned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEEDED_DAYS: Final = 28
"""Days with data, of which every weekday has its share."""

HORIZON_DAYS: Final = 3 * 366
CONFIDENCE: Final = 0.95
_YEAR: Final = 365.25
_HUBER: Final = 1.345
_STEPS: Final = 12
_WEEK: Final = 7
_FASTEST: Final = 1.0 / 30
"""Growth a day, as logarithm, beyond which nothing is told apart: it keeps figures finite."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of a link in one direction.

    Attributes
    ----------
    days:
        Days of data that it is made from.
    growth, growth_low, growth_high:
        Growth a year (0.5 = 50 % more), with its interval.
    level_bps, level_low_bps, level_high_bps:
        Busy hour of the busiest weekday at the end of the data.
    exhaustion, earliest, latest:
        The date on which the busiest weekday reaches the capacity and the limits of its interval; None: not
        within the horizon.
    """

    days: int
    growth: float
    growth_low: float
    growth_high: float
    level_bps: float
    level_low_bps: float
    level_high_bps: float
    exhaustion: date | None
    earliest: date | None
    latest: date | None


@dataclass(frozen=True, slots=True)
class CannotTell:
    """Why there is no forecast: ``days`` of data where ``needed`` are."""

    days: int
    needed: int = NEEDED_DAYS


def forecast(
    first: date, busy_hours_bps: Floats, capacity_bps: float, horizon_days: int = HORIZON_DAYS
) -> Forecast | CannotTell:
    """Extend the daily busy hours of a link.

    Parameters
    ----------
    first:
        The day of the first value.
    busy_hours_bps:
        Highest hourly mean of each day in bit/s, shape (d,); NaN where the day is unknown. Days without
        traffic count as unknown: they have no logarithm.
    capacity_bps:
        What the link can carry.
    horizon_days:
        How far after the data the exhaustion is looked for.
    """
    known = np.flatnonzero(np.isfinite(busy_hours_bps) & (busy_hours_bps > 0))
    weekdays = (first.weekday() + np.arange(len(busy_hours_bps))) % _WEEK
    per_weekday = np.bincount(weekdays[known], minlength=_WEEK)
    if len(known) < NEEDED_DAYS or per_weekday.min() < 2:
        return CannotTell(len(known))
    fit = _fit(known.astype(np.float64), weekdays[known], np.log(busy_hours_bps[known]))
    last = int(known[-1])
    busiest = int(np.argmax(fit.beta[2:]))
    level, spread = fit.at(np.array([float(last)]), busiest)
    ahead = np.arange(last + 1, last + horizon_days + 1, dtype=np.float64)
    path, error = fit.at(ahead, busiest)
    limit = math.log(capacity_bps)
    at = [_first_at(values >= limit) for values in (path, path + fit.t * error, path - fit.t * error)]
    # Fieller's set has an end only where the lower limit reaches the capacity too.
    best, earliest, latest = (None if place is None else first + timedelta(days=int(ahead[place])) for place in at)
    slope, slope_error = float(fit.beta[1]), math.sqrt(float(fit.covariance[1, 1]))
    growth = [math.expm1(_YEAR * min(slope + side * fit.t * slope_error, _FASTEST)) for side in (0, -1, 1)]
    levels = [math.exp(float(level[0]) + side * fit.t * float(spread[0])) for side in (0, -1, 1)]
    return Forecast(
        days=len(known),
        growth=growth[0],
        growth_low=growth[1],
        growth_high=growth[2],
        level_bps=levels[0],
        level_low_bps=levels[1],
        level_high_bps=levels[2],
        exhaustion=best,
        earliest=earliest,
        latest=latest,
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    """Coefficients: level at day ``origin``, growth a day, and the seven weekdays (which sum to zero)."""

    origin: float
    beta: Floats
    covariance: Floats
    t: float

    def at(self, days: Floats, weekday: int) -> tuple[Floats, Floats]:
        """Return the expected logarithm of days of one weekday, and its standard error."""
        design = np.zeros((len(days), len(self.beta)))
        design[:, 0] = 1.0
        design[:, 1] = days - self.origin
        design[:, 2 + weekday] = 1.0
        error = np.sqrt(np.einsum("ij,jk,ik->i", design, self.covariance, design))
        return design @ self.beta, error


def _fit(days: Floats, weekdays: NDArray[np.int_], values: Floats) -> _Fit:
    """Fit the model by iteratively reweighted least squares."""
    origin = float(days.mean())
    design = np.zeros((len(days), 2 + _WEEK - 1))
    design[:, 0] = 1.0
    design[:, 1] = days - origin
    # Six contrasts against the last weekday, turned into seven effects around their mean at the end.
    for weekday in range(_WEEK - 1):
        design[:, 2 + weekday] = weekdays == weekday
    weights = np.ones(len(days))
    for _ in range(_STEPS):
        root = np.sqrt(weights)
        beta = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0]
        residuals = values - design @ beta
        scale = float(np.median(np.abs(residuals))) / 0.6745
        if scale <= 1e-12:
            break
        weights = np.minimum(1.0, _HUBER * scale / np.maximum(np.abs(residuals), 1e-300))
    count, parameters = design.shape
    alike = _correlation(residuals * weights, parameters)
    inflation = (1 + alike) / (1 - alike)
    freedom = max(count / inflation - parameters, 3.0)
    variance = float((weights * residuals**2).sum()) / max(count - parameters, 1) * inflation
    own = np.linalg.inv((design * weights[:, None]).T @ design) * variance
    turn = np.zeros((2 + _WEEK, design.shape[1]))
    turn[0, 0], turn[1, 1] = 1.0, 1.0
    turn[0, 2:] = 1.0 / _WEEK
    turn[2:, 2:] = -1.0 / _WEEK
    for weekday in range(_WEEK - 1):
        turn[2 + weekday, 2 + weekday] += 1.0
    return _Fit(origin, turn @ beta, turn @ own @ turn.T, student_t((1 + CONFIDENCE) / 2, freedom))


def _correlation(residuals: Floats, parameters: int) -> float:
    """Return the lag-one correlation of residuals, corrected for what the fit took out of it; at least 0."""
    whole = float((residuals**2).sum())
    if whole <= 0:
        return 0.0
    count = len(residuals)
    raw = float((residuals[1:] * residuals[:-1]).sum()) / whole
    # A fit of p parameters bends the residuals: their correlation comes out too low by about (p + 3 r) / n.
    return min(max(raw + (parameters / 2 + 3 * max(raw, 0.0)) / count, 0.0), 0.9)


def student_t(probability: float, freedom: float) -> float:
    """Return a quantile of Student's t for 3 degrees of freedom or more (Hill's expansion in 1 / freedom)."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _first_at(reached: NDArray[np.bool_]) -> int | None:
    """Return the first place that is true, None where there is none."""
    return int(np.argmax(reached)) if reached.any() else None
