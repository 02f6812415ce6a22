"""Statistics of one lane over the bins of a month, each with its 95 % interval.

A bin counts as seen if something was collected for at least half of it; its rate is over the seconds that were
collected. The others are unknown, never zero. A lane without a sample in a seen bin had nothing there, up to
what its largest sample could have hidden.

The limits of an order statistic (percentile) are the same order statistic of the bins' own limits, as
:func:`telemetryd.store.query.percentile` has them: noise of sampling makes the upper bins too high, and the
lower limit takes that back. The highest of many noisy bins is worse: its lower limit holds for all bins at
once (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.interval import interval

Floats = NDArray[np.float64]

CONFIDENCE: Final = 0.95
PERCENT: Final = 95.0
SEEN_SHARE: Final = 0.5
"""A bin of which less was collected is unknown."""

_NEAR: Final = 24
"""Bins on each side of a rank whose limits are worked out exactly, after a closed form has sorted all."""


class Estimate(NamedTuple):
    """A figure with the limits of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Lane:
    """The bins of one lane that were seen.

    Attributes
    ----------
    octets, variance, seconds:
        Sums and collected seconds of the seen bins, shape (k,).
    places:
        Which bins of the month they are, shape (k,).
    largest:
        ``octets_largest`` of the lane.
    """

    octets: Floats
    variance: Floats
    seconds: Floats
    places: NDArray[np.intp]
    largest: float

    @classmethod
    def of(cls, octets: Floats, variance: Floats, largest: float, seen_s: Floats, width_s: float) -> Lane:
        """Take the seen bins out of sums over all bins of ``width_s`` seconds, shape (n,)."""
        places = np.flatnonzero(seen_s >= SEEN_SHARE * width_s)
        return cls(octets[places], variance[places], seen_s[places], places, largest)

    @property
    def rates(self) -> Floats:
        """Rates of the seen bins in bit/s, shape (k,)."""
        return self.octets * 8 / self.seconds

    def approximate(self, quantile: float) -> Floats:
        """Return the bins' limit at a quantile of their distribution in bit/s: Wilson and Hilferty's closed form."""
        z = NormalDist().inv_cdf(quantile)
        if z < 0:
            y, v = self.octets, self.variance
        else:
            y, v = self.octets + self.largest, self.variance + self.largest**2
        shape = np.divide(y * y, v, out=np.full(len(y), np.inf), where=v > 0)
        inverse = np.where(np.isinf(shape) | (shape == 0), 0.0, 1.0 / np.where(shape == 0, 1.0, shape))
        factor = np.maximum(1 - inverse / 9 + z * np.sqrt(inverse) / 3, 0.0) ** 3
        limit = np.where(v > 0, y * factor, self.octets)
        both = np.minimum if z < 0 else np.maximum
        result: Floats = both(limit, self.octets) * 8 / self.seconds
        return result

    def exact(self, chosen: NDArray[np.intp], confidence: float) -> tuple[Floats, Floats]:
        """Return the bins' lower and upper limits in bit/s, of the bins ``chosen``."""
        low, high = interval(self.octets[chosen], self.variance[chosen], self.largest, confidence)
        seconds = self.seconds[chosen]
        return low * 8 / seconds, high * 8 / seconds


def percentile(lane: Lane, percent: float = PERCENT) -> Estimate | None:
    """Return the rate that ``percent`` of the seen bins don't exceed: nearest rank, without interpolation."""
    count = len(lane.places)
    if not count:
        return None
    rank = max(math.ceil(percent * count / 100 - 1e-9), 1) - 1
    value = float(np.partition(lane.rates, rank)[rank])
    tail = (1 - CONFIDENCE) / 2
    low, high = (
        float(np.sort(lane.exact(chosen, CONFIDENCE)[side])[middle])
        for side, (chosen, middle) in enumerate(
            _around(lane.approximate(quantile), rank) for quantile in (tail, 1 - tail)
        )
    )
    return Estimate(value, min(low, value), max(high, value))


def _around(values: Floats, rank: int) -> tuple[NDArray[np.intp], int]:
    """Return the places of the values next to a rank, and the rank among them."""
    first, last = max(rank - _NEAR, 0), min(rank + _NEAR + 1, len(values))
    order = np.argpartition(values, sorted({first, last - 1}))
    return order[first:last], rank - first


def highest(lane: Lane) -> tuple[Estimate, int] | None:
    """Return the highest rate of the seen bins and which bin has it; the first of equals."""
    count = len(lane.places)
    if not count:
        return None
    rates = lane.rates
    top = int(np.argmax(rates))
    tail = (1 - CONFIDENCE) / 2
    # P(any lower limit is too high) <= the sum over bins; the upper limit of the truly highest bin is one of these.
    low_at, high_at = (np.argsort(lane.approximate(quantile))[-_NEAR:] for quantile in (tail / count, 1 - tail))
    low = float(lane.exact(low_at, 1 - 2 * tail / count)[0].max())
    high = float(lane.exact(high_at, CONFIDENCE)[1].max())
    value = float(rates[top])
    return Estimate(value, min(low, value), max(high, value)), int(lane.places[top])


def share_above(lane: Lane, limit_bps: float) -> Estimate | None:
    """Return the share of the seen time in which the rate is above a limit, 0 to 1."""
    whole = float(lane.seconds.sum())
    if not whole:
        return None
    tail = (1 - CONFIDENCE) / 2
    value, low, high = (
        float(lane.seconds[rates > limit_bps].sum()) / whole
        for rates in (lane.rates, lane.approximate(tail), lane.approximate(1 - tail))
    )
    return Estimate(value, min(low, value), max(high, value))


def stretches(lane: Lane, limit_bps: float) -> list[tuple[int, int, float]]:
    """Return the stretches of bins at or above a limit: (first bin, last bin, highest rate)."""
    rates = lane.rates
    above = np.flatnonzero(rates >= limit_bps)
    found: list[tuple[int, int, float]] = []
    for k in above.tolist():
        place, rate = int(lane.places[k]), float(rates[k])
        if found and found[-1][1] == place - 1:
            found[-1] = found[-1][0], place, max(found[-1][2], rate)
        else:
            found.append((place, place, rate))
    return found


def volume(octets: float, variance: float, largest: float) -> Estimate:
    """Return a volume in octets with its interval."""
    return volumes(np.array([octets]), np.array([variance]), np.array([largest]))[0]


def volumes(octets: Floats, variance: Floats, largest: Floats) -> list[Estimate]:
    """Return volumes in octets with their intervals; of nothing at all, there is nothing to be unsure of."""
    found = [Estimate(0.0, 0.0, 0.0)] * len(octets)
    some = np.flatnonzero(octets)
    low, high = interval(octets[some], variance[some], largest[some], CONFIDENCE)
    for place, *values in zip(some.tolist(), octets[some].tolist(), low.tolist(), high.tolist(), strict=True):
        found[place] = Estimate(*values)
    return found


def part(one: Estimate, all_: Estimate) -> Estimate | None:
    """Return the share that ``one`` is of ``all_``, which contains it; None of nothing.

    The limits hold where those of the part and of the rest do.
    """
    if all_.value <= 0:
        return None
    share = one.value / all_.value
    rest = max(all_.value - one.value, 0.0)
    # The spread of the rest follows from variances that add up.
    rest_low = max(rest - _side(all_.value - all_.low, one.value - one.low), 0.0)
    rest_high = rest + _side(all_.high - all_.value, one.high - one.value)
    low = one.low / (one.low + rest_high) if one.low + rest_high else 0.0
    high = one.high / (one.high + rest_low) if one.high + rest_low else 1.0
    return Estimate(share, min(low, share), max(high, share))


def _side(whole: float, own: float) -> float:
    return math.sqrt(max(whole * whole - own * own, 0.0))


def change(new: Estimate, old: Estimate) -> Estimate | None:
    """Return by which part ``new`` is more than ``old`` (0.1 = 10 % more); None where ``old`` is nothing.

    The limits come from both intervals on the logarithmic scale (method of variance estimates recovery).
    """
    if old.value <= 0 or old.low <= 0:
        return None
    if new.value <= 0 or new.low <= 0:
        return Estimate(new.value / old.value - 1, -1.0, new.high / old.low - 1)
    middle = math.log(new.value / old.value)
    down = math.hypot(math.log(new.value / new.low), math.log(old.high / old.value))
    up = math.hypot(math.log(new.high / new.value), math.log(old.value / old.low))
    return Estimate(math.expm1(middle), math.expm1(middle - down), math.expm1(middle + up))


def relative_error(estimate: Estimate) -> float | None:
    """Return the wider side of the interval as a part of the value; None of nothing."""
    if estimate.value <= 0:
        return None
    return max(estimate.high - estimate.value, estimate.value - estimate.low) / estimate.value
