"""Sums of links by second, cut to the intervals of their counters.

Counters are read every 5 to 30 s, at times of the device's own; windows are seconds of our clock. To cut the counter
at the windows' edges one would have to believe that traffic was even for all of its interval. To cut the
*windows* at the counter's edges, one believes it for a second: the window that an edge falls into belongs to both
intervals, by the time that each has of it. What that misplaces between two intervals that follow each other is
lost to one and found by the other, so that it cancels in their sum.

The counter's octets are then told to the windows in proportion to what the samples saw in each, so that sums over any
span can be made of them: over whole intervals they are the counter's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SECOND_NS: Final = 1_000_000_000
#: Sums that are kept of every link and direction, a second each.
SUMS: Final = ("octets", "packets", "octets_variance", "packets_variance", "octets_largest")
#: Seconds that are kept: an interval that began earlier is not calibrated.
MEMORY_S: Final = 180


@dataclass(frozen=True, slots=True)
class Cut:
    """The windows of m intervals of counters.

    Attributes
    ----------
    first_second:
        Number of the window that column 0 stands for, seconds since the epoch.
    fraction:
        How much of each window lies in each interval, shape (m, w), between 0 and 1.
    sums:
        Name of :data:`SUMS` -> the sum over the interval, shape (m,); of ``octets_largest`` the largest.
    octets, packets, variance:
        The parts of ``octets``, ``packets`` and ``octets_variance`` in each window, shape (m, w).
    """

    first_second: int
    fraction: Floats
    sums: dict[str, Floats]
    octets: Floats
    packets: Floats
    variance: Floats

    def spread(self, total: Floats, part: Floats) -> Floats:
        """Tell the totals of the intervals, shape (m,), to the windows by their ``part``; shape (m, w).

        Where no window has any, by time.
        """
        base = np.where(part.sum(axis=1, keepdims=True) > 0, part, self.fraction)
        whole = base.sum(axis=1, keepdims=True)
        told: Floats = total[:, None] * np.divide(base, whole, out=np.zeros_like(base), where=whole > 0)
        return told


class Seconds:
    """The last seconds of every slot; a slot is a link and direction.

    Parameters
    ----------
    memory_s:
        Seconds that are kept.
    """

    def __init__(self, memory_s: int = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._sums = np.zeros((len(SUMS), 0, memory_s))
        self._end = 0  # the second after the last one that is there

    @property
    def first_second(self) -> int:
        """The earliest second that is kept."""
        return self._end - self._memory_s

    @property
    def end_second(self) -> int:
        """The second after the last one that was added or passed; 0 before the first."""
        return self._end

    def add(self, second: int, slots: NDArray[np.intp], sums: dict[str, Floats]) -> None:
        """Add what slots, each once, had in a second: shape (s,) each. What is older than is kept is left out."""
        self.advance(second + 1)
        n = int(slots.max(initial=-1)) + 1
        if n > self._sums.shape[1]:
            more = max(n, 2 * self._sums.shape[1]) - self._sums.shape[1]
            self._sums = np.pad(self._sums, ((0, 0), (0, more), (0, 0)))
        if second >= self.first_second:
            for number, name in enumerate(SUMS):
                self._sums[number, slots, second % self._memory_s] = sums[name]

    def advance(self, end_second: int) -> None:
        """Let time pass to the begin of a second, in which nothing was there unless it is added."""
        passed = end_second - self._end
        if passed <= 0:
            return
        if passed >= self._memory_s:
            self._sums[:] = 0.0
        else:
            self._sums[:, :, np.arange(self._end, end_second) % self._memory_s] = 0.0
        self._end = end_second

    def cut(self, slots: NDArray[np.intp], start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> Cut:
        """Cut the seconds to m intervals, each of a slot and inside of what is kept; all of shape (m,).

        Raises
        ------
        ValueError
            If an interval is empty, or not inside of what is kept.
        """
        first = int(start_ns.min(initial=self._end * SECOND_NS)) // SECOND_NS
        last = -(-int(end_ns.max(initial=first * SECOND_NS)) // SECOND_NS)
        if np.any(end_ns <= start_ns) or first < self.first_second or last > self._end:
            raise ValueError("an interval is empty, or not inside the seconds that are kept")
        seconds = np.arange(first, last)
        # Nanoseconds since the epoch do not fit into a float64: from here on they count from the first second.
        starts, ends = (
            (start_ns - first * SECOND_NS).astype(np.float64),
            (end_ns - first * SECOND_NS).astype(np.float64),
        )
        begins = (seconds - first) * float(SECOND_NS)
        overlap = np.minimum(ends[:, None], begins + SECOND_NS) - np.maximum(starts[:, None], begins)
        fraction = np.clip(overlap / SECOND_NS, 0.0, 1.0)
        known = slots < self._sums.shape[1]
        of = np.zeros((len(SUMS), len(slots), len(seconds)))
        of[:, known] = self._sums[:, slots[known]][:, :, seconds % self._memory_s]
        parts = dict(zip(SUMS, of * fraction, strict=True))
        sums = {name: part.sum(axis=1) for name, part in parts.items()}
        sums["octets_largest"] = np.where(fraction > 0, of[SUMS.index("octets_largest")], 0.0).max(axis=1, initial=0.0)
        return Cut(first, fraction, sums, parts["octets"], parts["packets"], parts["octets_variance"])
