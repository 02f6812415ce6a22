"""Fill segments to their water level, in numpy: the specification of ext/waterfill.pyx.

Each member of a segment takes ``f(L) = clamp(rint(weight x L), low, high)`` at water level L, a float64 in bit/s
per unit of weight; rint is IEEE 754's rounding to the nearest, ties to even. The level of a segment is the least
float64 at which its members take at least the target; those that would jump past it at that very float64 get the
jump in their order until the target is met exactly.

Product and rint are exactly defined and monotone, so whoever searches that level, in whatever way, finds the same
one. The whole is a rule of one parameter (level, then place) in which nobody ever loses when it grows: more capacity
never lowers anyone, to the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    target: NDArray[np.int64],
    weight: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    out: NDArray[np.int64],
    level: NDArray[np.float64],
) -> None:
    """Fill every segment to its target.

    Parameters
    ----------
    start, stop:
        First member of each segment and the one after its last, shape (s,); segments are not empty.
    target:
        What the members of a segment take together, between the sums of low and of high, shape (s,).
    weight, low, high:
        Per member, shape (n,); 0 <= low <= high < 2^53; where low < high the weight is > 0.
    out:
        Receives what each member takes, shape (n,); members of no segment are left alone.
    level:
        Receives the water level of each segment, shape (s,): 0 where all are at low, inf where all are at high.

    Raises
    ------
    ValueError
        If lengths differ, a segment is no part of the members, or a target is out of reach.
    """
    n = len(weight)
    if not (len(low) == len(high) == len(out) == n and len(stop) == len(target) == len(level) == len(start)):
        raise ValueError("the columns differ in length")
    if not len(start):
        return
    if start.min() < 0 or stop.max() > n or not (start < stop).all():
        raise ValueError("a segment is no part of the members")
    counts = stop - start
    offsets = np.cumsum(counts) - counts
    rows = np.repeat(start - offsets, counts) + np.arange(counts.sum())
    segment = np.repeat(np.arange(len(start)), counts)
    w, least, most = weight[rows], low[rows], high[rows]
    sum_low, sum_high = np.add.reduceat(least, offsets), np.add.reduceat(most, offsets)
    if not ((sum_low <= target) & (target <= sum_high)).all():
        raise ValueError("a target is out of reach")
    # Positive floats are ordered as their bit patterns are: bisect those.
    top = np.divide(most + 1, w, out=np.zeros(len(w)), where=least < most)
    above = np.maximum.reduceat(top, offsets).view(np.int64)
    below = np.zeros(len(start), np.int64)
    while (above - below > 1).any():
        middle = below + (above - below) // 2
        reached = np.add.reduceat(_at(middle, segment, w, least, most), offsets) >= target
        above = np.where(reached, middle, above)
        below = np.where(reached, below, middle)
    taken, jumped = _at(below, segment, w, least, most), _at(above, segment, w, least, most)
    taken = np.where((target == sum_low)[segment], least, taken)
    jumps = np.where((target == sum_low)[segment], 0, jumped - taken)
    before = np.cumsum(jumps) - jumps
    missing = target - np.add.reduceat(taken, offsets)
    taken += np.clip(missing[segment] - (before - before[offsets][segment]), 0, jumps)
    out[rows] = taken
    level[:] = np.where(target == sum_high, np.inf, above.view(np.float64))
    level[target == sum_low] = 0.0


def _at(
    bits: NDArray[np.int64],
    segment: NDArray[np.int64],
    weight: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return f of every member, for levels given as bit patterns."""
    return np.clip(np.rint(weight * bits.view(np.float64)[segment]), low, high).astype(np.int64)
