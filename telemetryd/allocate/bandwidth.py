"""Bandwidth functions: how much someone takes at a fair share, in place of weight, guarantee and ceiling.

A function is non-decreasing and piecewise linear from (0, 0) on, and flat behind its last knot, as those of B4 (Jain
et al., SIGCOMM 2013, section 4.2) and BwE (Kumar et al., SIGCOMM 2015). The fair share is the water level: a plain
weight w is the function with the one slope w. Slopes are weights, flat parts let others catch up.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import load
from telemetryd.allocate.tree import MAX_BPS

_fill_plain = load("waterfill", "telemetryd.allocate.waterfill_reference").fill

#: No fair share is larger; as a float64 it has the greatest bit pattern that is searched.
_MAX_LEVEL: Final = 2.0**100


@dataclass(frozen=True, slots=True)
class BandwidthFunction:
    """A bandwidth function by its knots, the first of them (0, 0).

    Attributes
    ----------
    shares:
        Fair shares of the knots, strictly increasing.
    bps:
        bit/s at each, never decreasing.

    Raises
    ------
    ValueError
        If the knots are no such function.
    """

    shares: tuple[float, ...]
    bps: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.bps) or len(self.shares) < 2 or (self.shares[0], self.bps[0]) != (0, 0):
            raise ValueError("a bandwidth function has two knots or more, the first at (0, 0)")
        if any(a >= b for a, b in pairwise(self.shares)) or self.shares[-1] > _MAX_LEVEL:
            raise ValueError("the fair shares of a bandwidth function increase from knot to knot")
        if any(a > b for a, b in pairwise(self.bps)) or self.bps[-1] > MAX_BPS:
            raise ValueError("the rates of a bandwidth function never decrease")

    @property
    def most_bps(self) -> int:
        """The rate that it never exceeds."""
        return self.bps[-1]

    def at(self, share: float) -> float:
        """Return the rate at a fair share, in bit/s."""
        right = bisect.bisect_right(self.shares, share)
        if right == len(self.shares):
            return float(self.bps[-1])
        s0, s1, b0, b1 = self.shares[right - 1], self.shares[right], self.bps[right - 1], self.bps[right]
        return min(b0 + (share - s0) * ((b1 - b0) / (s1 - s0)), float(b1))


def add(functions: Iterable[BandwidthFunction]) -> BandwidthFunction:
    """Return the function of a group: the sum of its members', with the knots of all."""
    members = list(functions)
    shares = sorted({share for member in members for share in member.shares})
    return BandwidthFunction(tuple(shares), tuple(round(sum(m.at(share) for m in members)) for share in shares))


def fill(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    target: NDArray[np.int64],
    weight: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    out: NDArray[np.int64],
    level: NDArray[np.float64],
    functions: Mapping[int, BandwidthFunction],
) -> None:
    """Fill segments as :func:`telemetryd.allocate.waterfill_reference.fill`; some members have functions.

    Parameters
    ----------
    functions:
        By row; a member with one takes clamp(rint(B(level)), low, high) and has no use for its weight.
    """
    if not functions:
        _fill_plain(start, stop, target, weight, low, high, out, level)
        return
    has_function = np.zeros(len(weight) + 1, np.int64)
    has_function[np.fromiter(functions, np.int64, len(functions)) + 1] = 1
    before = np.cumsum(has_function)
    is_plain = before[start] == before[stop]
    levels = np.empty(np.count_nonzero(is_plain))
    _fill_plain(start[is_plain], stop[is_plain], target[is_plain], weight, low, high, out, levels)
    level[is_plain] = levels
    for segment in np.flatnonzero(~is_plain):
        rows = range(int(start[segment]), int(stop[segment]))
        level[segment] = _fill_one(rows, int(target[segment]), weight, low, high, out, functions)


def take(
    rows: range,
    level: float,
    weight: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    functions: Mapping[int, BandwidthFunction],
) -> NDArray[np.int64]:
    """Return what members take at a water level."""
    raw = weight[rows.start : rows.stop] * level
    for row in rows:
        if row in functions:
            raw[row - rows.start] = functions[row].at(level)
    return np.clip(np.rint(raw), low[rows.start : rows.stop], high[rows.start : rows.stop]).astype(np.int64)


def _fill_one(
    rows: range,
    target: int,
    weight: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    out: NDArray[np.int64],
    functions: Mapping[int, BandwidthFunction],
) -> float:
    """Fill one segment by bisection over the bit patterns of the level, as the twin of the compiled module does."""
    here = slice(rows.start, rows.stop)
    least, most = int(low[here].sum()), int(high[here].sum())
    if not least <= target <= most:
        raise ValueError("a target is out of reach")
    if target in (least, most):
        out[here] = low[here] if target == least else high[here]
        return 0.0 if target == least else np.inf
    below, above = 0, int(np.float64(_MAX_LEVEL).view(np.int64))
    if take(rows, _MAX_LEVEL, weight, low, high, functions).sum() < target:
        raise ValueError("a target is beyond what the bandwidth functions reach")
    while above - below > 1:
        middle = (below + above) // 2
        reached = take(rows, float(np.int64(middle).view(np.float64)), weight, low, high, functions).sum()
        below, above = (below, middle) if reached >= target else (middle, above)
    ends = (float(np.int64(bits).view(np.float64)) for bits in (below, above))
    taken, jumped = (take(rows, end, weight, low, high, functions) for end in ends)
    jumps = jumped - taken
    taken += np.clip(target - taken.sum() - (np.cumsum(jumps) - jumps), 0, jumps)
    out[here] = taken
    return float(np.int64(above).view(np.float64))
