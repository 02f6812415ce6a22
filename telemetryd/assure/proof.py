"""Proof: was a guarantee delivered? One verdict a window, by the interval of the usage.

A guarantee is a promise to who demands it. A window of it is

    met          at least the guarantee was delivered: even the lower limit of the interval reaches it
    missed       less was delivered, even by the upper limit, and at least the guarantee was demanded
    idle         less than the guarantee was demanded: there was nothing to keep
    cannot tell  the interval holds the guarantee, or nobody knows what was demanded
    unseen       nothing was collected

Where nothing held the traffic back (no full link, no full ceiling above it) usage is the demand, and a low usage is
idle. Where something did, a low usage is never an excuse: the window is missed or cannot tell.

A 95 % interval lies below the truth in 2.5 % of the windows. So a few missed windows are what a guarantee that is kept
to the bit looks like; :func:`noise_windows` says how many, and :attr:`Summary.verdict` takes them into account.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.interval import interval

Floats = NDArray[np.float64]
Verdicts = NDArray[np.int8]

CONFIDENCE: Final = 0.95
#: Chance that noise alone makes a kept guarantee look broken, over all of its windows together.
FALSE_ALARM: Final = 0.001
#: Shortfall that the shortest period is told for, as a part of the guarantee.
MARGIN: Final = 0.10
_TWO_SIDED: Final = 1.959964


class Verdict(IntEnum):
    """What a window says of a guarantee."""

    UNSEEN = 0
    IDLE = 1
    MET = 2
    MISSED = 3
    CANNOT_TELL = 4


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """Usage of one key in t windows: sums, and rates with their interval.

    Attributes
    ----------
    seconds:
        Seconds of each window in which something was collected, shape (t,).
    octets, variance:
        Estimated octets and their variance, shape (t,).
    largest:
        Deviation of the largest sample of each window, or of what it may have missed, shape (t,).
    """

    seconds: Floats
    octets: Floats
    variance: Floats
    largest: Floats

    def rates(self, confidence: float = CONFIDENCE) -> tuple[Floats, Floats, Floats]:
        """Return rate, lower and upper limit in bit/s, shape (t,) each; 0 where nothing was collected."""
        low, high = interval(self.octets, self.variance, self.largest, confidence)
        scale = np.divide(8.0, self.seconds, out=np.zeros(len(self.seconds)), where=self.seconds > 0)
        return self.octets * scale, low * scale, high * scale


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What is known of the demand in t windows.

    Attributes
    ----------
    low_bps, high_bps:
        At least and at most so much was demanded, shape (t,); inf where nobody knows.
    is_free:
        Whether nothing held the traffic back, so that all that was demanded was delivered, shape (t,).
    """

    low_bps: Floats
    high_bps: Floats
    is_free: NDArray[np.bool_]


def demand_of(
    usage: Usage, is_free: NDArray[np.bool_], hold: int, *, is_ahead: bool = False, confidence: float = CONFIDENCE
) -> Demand:
    """Take the demand from the usage, where there is no estimate of it.

    While nothing holds it back the usage is the demand. From the moment on that something does, the demand is at least
    what was used in one of the ``hold`` windows before, and at most anything.

    Parameters
    ----------
    is_free:
        See :class:`Demand`.
    hold:
        Windows for which a demand that was seen is taken to last.
    is_ahead:
        Whether the usage was measured ahead of the bottleneck: then it is the demand at all times.
    """
    _, low, high = usage.rates(confidence)
    if is_ahead:
        return Demand(low, high, is_free)
    held = low.copy()
    for back in range(1, min(hold, len(low) - 1) + 1):
        np.maximum(held[back:], low[:-back], out=held[back:])
    return Demand(np.where(is_free, low, held), np.where(is_free, high, np.inf), is_free)


def judge(
    usage: Usage, guarantee_bps: Floats, demand: Demand, *, is_ahead: bool = False, confidence: float = CONFIDENCE
) -> Verdicts:
    """Return the :class:`Verdict` of every window, shape (t,).

    Parameters
    ----------
    guarantee_bps:
        The guarantee in each window, shape (t,); a window without one is idle.
    is_ahead:
        Whether the usage was measured ahead of the bottleneck: any part of it may have been dropped there.
    """
    rate, low, high = usage.rates(confidence)
    if is_ahead:
        low = np.where(demand.is_free, low, 0.0)
    found = np.full(len(rate), Verdict.CANNOT_TELL, np.int8)
    is_wanted = demand.low_bps >= guarantee_bps
    # Nothing was held back: a little more than the guarantee or less, all that was demanded was served.
    is_served = demand.is_free & ~(is_wanted & (high < guarantee_bps))
    found[is_served & (rate < guarantee_bps)] = Verdict.IDLE
    found[demand.high_bps < guarantee_bps] = Verdict.IDLE
    found[(low >= guarantee_bps) | (is_served & (rate >= guarantee_bps))] = Verdict.MET
    found[(high < guarantee_bps) & is_wanted] = Verdict.MISSED
    found[guarantee_bps <= 0] = Verdict.IDLE
    found[usage.seconds <= 0] = Verdict.UNSEEN
    return found


def noise_windows(judged: int, confidence: float = CONFIDENCE, chance: float = FALSE_ALARM) -> int:
    """Return how many of ``judged`` windows may look missed though each had exactly its guarantee.

    More than that has a probability of ``chance`` at most (binomial, each window by the upper tail of its interval).
    """
    tail = (1.0 - confidence) / 2
    if judged == 0:
        return 0
    k = np.arange(judged + 1)
    steps = np.log((judged - k[:-1]) / (k[:-1] + 1.0)) + math.log(tail / (1.0 - tail))
    probability = np.exp(judged * math.log1p(-tail) + np.concatenate(([0.0], np.cumsum(steps))))
    return int(np.searchsorted(np.cumsum(probability), 1.0 - chance))


def shortest_period_s(octets: float, variance: float, guarantee_bps: float, margin: float = MARGIN) -> float:
    """Return the shortest period in which a shortfall of a part of the guarantee shows, in s.

    The variance of an estimate grows with its octets, so the relative half width of the interval at the guarantee g
    over T seconds is 1.96 sqrt(8 q / (g T)), where q = variance / octets; it is ``margin`` at the T returned.

    Parameters
    ----------
    octets, variance:
        Sums over any time.
    margin:
        The shortfall, as a part of the guarantee.
    """
    if octets <= 0 or guarantee_bps <= 0:
        return math.inf
    return (_TWO_SIDED / margin) ** 2 * 8.0 * (variance / octets) / guarantee_bps


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Windows in a row that were missed.

    Attributes
    ----------
    first, last:
        Places of the first window and of the one after the last.
    octets, octets_low, octets_high:
        What was missing of the guarantee, with its limits.
    """

    first: int
    last: int
    octets: float
    octets_low: float
    octets_high: float


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What t windows say together.

    Attributes
    ----------
    verdicts:
        Shape (t,).
    certain:
        Missed windows that are none by chance: the chance that any of all windows looks so is :data:`FALSE_ALARM`.
    noise:
        See :func:`noise_windows`.
    missed_s, undecided_s:
        Time of the missed windows, and of those of which nobody can tell.
    missing_octets, missing_low, missing_high:
        What was missing of the guarantee in the missed windows, with its limits.
    """

    verdicts: Verdicts
    certain: int
    noise: int
    missed_s: float
    undecided_s: float
    missing_octets: float
    missing_low: float
    missing_high: float

    def count(self, verdict: Verdict) -> int:
        """Return the number of windows with a verdict."""
        return int(np.count_nonzero(self.verdicts == verdict))

    @property
    def judged(self) -> int:
        """Windows in which at least the guarantee was demanded, or may have been."""
        return self.count(Verdict.MET) + self.count(Verdict.MISSED) + self.count(Verdict.CANNOT_TELL)

    @property
    def broken(self) -> int:
        """Missed windows beyond what noise explains."""
        return max(self.certain, self.count(Verdict.MISSED) - self.noise)

    @property
    def attainment(self) -> tuple[float, float] | None:
        """Part of the judged windows in which the guarantee was delivered, at least and at most; None without any."""
        if not self.judged:
            return None
        return self.count(Verdict.MET) / self.judged, 1.0 - self.broken / self.judged

    def verdict(self, target: float) -> Literal["kept", "broken", "cannot tell", "no demand", "unseen"]:
        """Tell whether the guarantee was kept in the part ``target`` of the windows with demand."""
        if self.attainment is None:
            return "no demand" if self.count(Verdict.IDLE) else "unseen"
        low, high = self.attainment
        return "kept" if low >= target else "broken" if high < target else "cannot tell"


def summarise(usage: Usage, guarantee_bps: Floats, verdicts: Verdicts, confidence: float = CONFIDENCE) -> Summary:
    """Add up the verdicts of :func:`judge`."""
    missed = verdicts == Verdict.MISSED
    judged = int(np.count_nonzero(verdicts >= Verdict.MET))
    certain = 0
    if missed.any():
        strict = 1.0 - 2.0 * FALSE_ALARM / judged
        certain = int(np.count_nonzero(_some(usage, missed).rates(strict)[2] < guarantee_bps[missed]))
    missing = [float(part.sum()) for part in _missing(usage, guarantee_bps, missed, confidence)]
    return Summary(
        verdicts,
        certain,
        noise_windows(judged, confidence),
        float(usage.seconds[missed].sum()),
        float(usage.seconds[verdicts == Verdict.CANNOT_TELL].sum()),
        *missing,
    )


def shortfalls(
    usage: Usage, guarantee_bps: Floats, verdicts: Verdicts, confidence: float = CONFIDENCE
) -> Iterator[Shortfall]:
    """Yield the runs of missed windows, in order."""
    missed = verdicts == Verdict.MISSED
    edges = np.flatnonzero(np.diff(np.concatenate(([False], missed, [False])).astype(np.int8)))
    for first, last in edges.reshape(-1, 2).tolist():
        inside = np.zeros(len(missed), np.bool_)
        inside[first:last] = True
        yield Shortfall(
            first, last, *(float(part.sum()) for part in _missing(usage, guarantee_bps, inside, confidence))
        )


def _missing(
    usage: Usage, guarantee_bps: Floats, of: NDArray[np.bool_], confidence: float
) -> tuple[Floats, Floats, Floats]:
    """Return the octets that are missing of the guarantee in some windows, with their limits; never below 0."""
    rates = _some(usage, of).rates(confidence)
    seconds = usage.seconds[of]
    value, low, high = (np.maximum(guarantee_bps[of] - rates[k], 0.0) * seconds / 8 for k in (0, 2, 1))
    return value, low, high


def _some(usage: Usage, of: NDArray[np.bool_]) -> Usage:
    return Usage(usage.seconds[of], usage.octets[of], usage.variance[of], usage.largest[of])
