"""Classes of an interface calibrated by its counter: one estimator for all of them, so that they sum to it.

The counter of an interface says how many octets T passed in an interval; the samples say whose they were, with
estimates y_k of variance v_k for the classes k, and Y, V for their sums. Every estimator here is

    z_k = y_k + a_k (T - Y),    sum of a_k = 1,

so that the classes sum to T whatever the samples say. The samples of the classes are independent, so

    Var z_k = v_k (1 - a_k)^2 + (V - v_k) a_k^2,

which is least at a_k = v_k / V: the *regression* estimator (Cassel, Särndal and Wretman, Biometrika 63, 1976), never
above v_k, and its weights add to one by themselves. Of few samples v_k is known no better than y_k, and too large
where y_k is; so a class that n samples stand behind weighs n / (n + 1) of it, n = y_k^2 / v_k.

With a_k = y_k / Y it is the *ratio* estimator z_k = y_k T / Y. That one is right also where N is wrong or samples were
lost, since both are factors on y_k and Y; so it is used while the coverage alarm fires
(:mod:`telemetryd.aggregate.coverage`), and everything is scaled by T / Y first.

A regression estimate may come out below 0, of few samples. Then all classes of the group move towards the ratio, just
so far that none does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from telemetryd.aggregate.interval import interval

Floats = NDArray[np.float64]

#: An interval is made for this mean at least, in standard deviations; below, its lower end is 0 whatever it is.
LEAST_MEAN: Final = 0.01


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Calibrated figures of k classes in g groups.

    Attributes
    ----------
    octets:
        Shape (k,), >= 0. Those of a group sum to its total, unless it has no samples.
    variance:
        Shape (k,), octets^2.
    low, high:
        The confidence interval, shape (k,), ``0 <= low <= octets <= high``.
    unattributed:
        Total of the groups that have no samples, shape (g,): what passed unseen, and is nobody's.
    """

    octets: Floats
    variance: Floats
    low: Floats
    high: Floats
    unattributed: Floats


def calibrate(
    octets: ArrayLike,
    variance: ArrayLike,
    largest: ArrayLike,
    group: NDArray[np.intp],
    total: ArrayLike,
    is_ratio: ArrayLike = False,
    covered: ArrayLike = 1.0,
    confidence: float = 0.95,
) -> Calibrated:
    """Calibrate classes by the totals of their groups; packets likewise, with their own sums.

    Parameters
    ----------
    octets, variance, largest:
        Columns ``octets``, ``octets_variance``, ``octets_largest`` of the classes, shape (k,), >= 0.
    group:
        The group of each class, shape (k,), below g: an interface, direction and span of time.
    total:
        What the counter says of each group, shape (g,), >= 0. Of a span that counters cover in part: the counter
        for that part, the samples' estimate for the rest.
    is_ratio:
        Whether to use the ratio, shape (g,): while the coverage alarm fires.
    covered:
        Share of each group's octets for which the counter speaks, shape (g,), between 0 and 1.
    confidence:
        Of the intervals.

    Returns
    -------
    Calibrated
        The figures of the classes.

    Raises
    ------
    ValueError
        If a total is below 0 or not finite, or the confidence is out of its range.
    """
    y, v, w = (np.asarray(a, np.float64) for a in (octets, variance, largest))
    total = np.asarray(total, np.float64)
    g = len(total)
    if not np.all(np.isfinite(total) & (total >= 0.0)):
        raise ValueError("totals must be finite and not below 0")
    is_ratio = np.broadcast_to(np.asarray(is_ratio, np.bool_), (g,))
    part = np.clip(np.broadcast_to(np.asarray(covered, np.float64), (g,)), 0.0, 1.0)[group]

    sum_y = _sum(group, y, g)
    factor = np.divide(total, sum_y, out=np.ones(g), where=is_ratio & (sum_y > 0))[group]
    y, v, w = y * factor, v * factor * factor, w * factor
    scaled, sum_v = _sum(group, y, g), _sum(group, v, g)
    largest_of_group = np.zeros(g)
    np.maximum.at(largest_of_group, group, w)

    share = _divide(y, scaled[group])
    known = v * _divide(y * y, y * y + v)
    sum_known = _sum(group, known, g)
    # Sampled one to one nothing has a variance, and what the samples lack belongs to all alike.
    has_variance = ~is_ratio & (sum_known > 0)
    weight = np.where(has_variance[group], _divide(known, sum_known[group]), share)
    gap = (total - scaled)[group]
    weight = _not_below_zero(y, weight, share, gap, group, g)
    z = np.maximum(y + weight * gap, 0.0)

    spread = np.maximum(v - 2.0 * part * weight * v + part * weight * weight * sum_v[group], 0.0)
    low, high = _limits(z, spread, w, weight * part, total[group], largest_of_group[group], confidence)
    return Calibrated(z, spread, low, high, np.where(sum_y > 0, 0.0, total))


def coverage_ratio(
    estimate: ArrayLike, variance: ArrayLike, largest: ArrayLike, counter: ArrayLike, confidence: float = 0.95
) -> tuple[Floats, Floats, Floats]:
    """Return what the samples say over what the counter says, with its confidence interval.

    Parameters
    ----------
    estimate, variance, largest:
        Sums of all classes of an interface, direction and span, any shape.
    counter:
        What its counter grew by, of the same shape.
    confidence:
        Of the interval.

    Returns
    -------
    ratio, low, high:
        Of the same shape; not a number where the counter stood still.

    Raises
    ------
    ValueError
        If the confidence is out of its range.
    """
    value, spread, next_one, divisor = np.broadcast_arrays(
        *(np.asarray(a, np.float64) for a in (estimate, variance, largest, counter))
    )
    low, high = _interval(value, spread, next_one, confidence)
    ratio, low, high = (
        np.divide(a, divisor, out=np.full(divisor.shape, np.nan), where=divisor > 0) for a in (value, low, high)
    )
    return ratio, low, high


def _sum(group: NDArray[np.intp], values: Floats, g: int) -> Floats:
    return np.bincount(group, values, g).astype(np.float64, copy=False)


def _divide(a: Floats, b: Floats) -> Floats:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _not_below_zero(y: Floats, weight: Floats, share: Floats, gap: Floats, group: NDArray[np.intp], g: int) -> Floats:
    """Move the weights of a group towards its shares until no estimate is below 0: with the shares none is."""
    here, there = y + weight * gap, y + share * gap
    is_below = here < 0.0
    step = np.zeros(g)
    missing = -here[is_below]
    np.maximum.at(step, group[is_below], missing / np.maximum((there - here)[is_below], missing))
    return weight + step[group] * (share - weight)


def _interval(y: Floats, v: Floats, w: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return the interval of estimates that need not be sums of whole samples: y may be far below its deviation."""
    return interval(np.maximum(y, LEAST_MEAN * np.sqrt(v)), v, w, confidence)


def _limits(
    z: Floats, spread: Floats, w: Floats, weight: Floats, total: Floats, largest: Floats, confidence: float
) -> tuple[Floats, Floats]:
    """Return the interval of each class, shape (k,).

    The error of a class of less than half the weight is mostly that of its own samples: its gamma interval. The
    error of any other is mostly that of the rest of its group: what the interval of the rest leaves of the total.
    Where all samples are of one class another one may have passed unseen, so that the sample that may come next is that
    of the rest.
    """
    is_small = weight < 0.5
    low, high = _interval(
        np.where(is_small, z, np.maximum(total - z, 0.0)),
        spread,
        np.where(is_small, w * (1.0 - weight), largest * weight),
        confidence,
    )
    low, high = np.where(is_small, low, total - high), np.where(is_small, high, total - low)
    return np.clip(low, 0.0, z), np.clip(high, z, np.maximum(total, z))
