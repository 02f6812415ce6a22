"""Does what the samples say agree with the counters? The coverage alarm of interfaces.

Coverage is the samples' estimate Y over the counter's growth T, of an interface, direction and interval. Below 1,
samples are lost, or fewer are taken than the rate says; above 1 more are, or the counter misses what is sampled.
One interval says little, so the evidence is added up: the cumulative sum (Page, Biometrika 41, 1954) of the log
likelihood ratio of "the ratio is 1 + d" against "it is 1",

    S = max(0, S + (Y log(1 + d) - d T) / q),

with q = V / Y the octets of one effective sample, so that Y / q is nearly Poisson with mean T / q. An alarm begins
where S passes h, which without a fault takes at least e^h intervals on average (Lorden, Ann. Math. Statist. 42, 1971),
and ends where the same sum of the opposite hypothesis says so. What is off by less than about d / 2 never fires:
counters and samples do not see quite the same packets. A single interval adds at most h / 3, so that a clock that was
stepped or a burst at the edge of an interval is no alarm, and ends none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: What is looked for: small deviations, which take long to be seen, and large ones, which do not.
DEVIATIONS: Final = (0.05, 0.4)
#: Where a sum is evidence enough. Of 1,000 interfaces of two directions that are read every 10 s, each with four sums,
#: one raises a false alarm every seven weeks at most.
THRESHOLD: Final = 22.0
#: Evidence that an alarm is over, less than that which began it: whoever waits for it knows that something was done.
CLEAR: Final = 10.0
#: At least so many intervals make an alarm, or end it.
HOLD: Final = 3
#: Octets of one effective sample are the mean over about so many intervals.
MEMORY: Final = 30.0
#: Least octets of an effective sample, a frame: sampled one to one, q is 0 and an octet at an edge would be evidence.
FRAME_OCTETS: Final = 1518.0


class Verdict(IntEnum):
    """What the alarm says of an interface and direction."""

    OK = 0
    BELOW = 1  # samples are lost, or fewer are taken than the rate says
    ABOVE = 2  # more are taken than the rate says, or the counter misses what is sampled


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm that began or ended: its slot, and what holds now."""

    slot: int
    verdict: Verdict


class CoverageAlarm:
    """The alarms of all interfaces and directions, by slot.

    Parameters
    ----------
    threshold, clear:
        Evidence that begins an alarm, and that ends it.
    """

    def __init__(self, threshold: float = THRESHOLD, clear: float = CLEAR) -> None:
        self._threshold, self._clear = threshold, clear
        signs = [(sign, sign * size) for sign in (-1, 1) for size in DEVIATIONS]
        self._deviation = np.array([deviation for _, deviation in signs])[:, None]
        self._is_above = np.array([sign > 0 for sign, _ in signs])
        self._mildest = np.array([[-DEVIATIONS[0]], [DEVIATIONS[0]]])
        self._evidence = np.zeros((len(signs), 0))
        self._relief = np.zeros((2, 0))  # that an alarm below, above is over
        self._fires = np.zeros((2, 0), np.bool_)
        self._estimate = np.zeros(0)
        self._variance = np.zeros(0)

    def grow(self, n: int) -> None:
        """Make room for n slots."""
        more = n - self._fires.shape[1]
        if more > 0:
            self._evidence = np.pad(self._evidence, ((0, 0), (0, more)))
            self._relief = np.pad(self._relief, ((0, 0), (0, more)))
            self._fires = np.pad(self._fires, ((0, 0), (0, more)))
            self._estimate = np.pad(self._estimate, (0, more))
            self._variance = np.pad(self._variance, (0, more))

    def add(
        self, slots: NDArray[np.intp], estimate: Floats, variance: Floats, counter: Floats, unit: Floats | None = None
    ) -> list[Change]:
        """Add an interval of some slots.

        Parameters
        ----------
        slots:
            Shape (s,), each once.
        estimate, variance, counter:
            The samples' octets, their variance and the counter's octets, shape (s,).
        unit:
            Octets of one effective sample of slots that had no sample yet, shape (s,); not a number where that is
            not known. Without it nothing is said of them.

        Returns
        -------
        list of Change
            The alarms that this began or ended.
        """
        self.grow(int(slots.max(initial=-1)) + 1)
        keep = 1.0 - 1.0 / MEMORY
        self._estimate[slots] = keep * self._estimate[slots] + estimate
        self._variance[slots] = keep * self._variance[slots] + variance
        size = np.full(len(slots), np.nan) if unit is None else unit.astype(np.float64)
        np.divide(self._variance[slots], self._estimate[slots], out=size, where=self._estimate[slots] > 0)
        is_told = ~np.isnan(size)
        slots, size = slots[is_told], np.maximum(size[is_told], FRAME_OCTETS)
        seen, passed = estimate[is_told] / size, counter[is_told] / size

        most = self._threshold / HOLD
        step = np.clip(seen * np.log1p(self._deviation) - self._deviation * passed, -most, most)
        evidence = np.maximum(self._evidence[:, slots] + step, 0.0)
        least = self._clear / HOLD
        back = np.clip(self._mildest * passed - seen * np.log1p(self._mildest), -least, least)
        relief = np.maximum(self._relief[:, slots] + back, 0.0)
        before = self._fires[:, slots]
        begins = np.stack([(evidence[self._is_above == side] >= self._threshold).any(axis=0) for side in (False, True)])
        ends = before & (relief >= self._clear)
        fires = (before | begins) & ~ends
        # What was evidence before a turn is none after it.
        turned = fires != before
        relief[turned | ~fires] = 0.0
        evidence[turned[self._is_above.astype(np.intp)]] = 0.0
        self._evidence[:, slots], self._relief[:, slots], self._fires[:, slots] = evidence, relief, fires
        changed = np.flatnonzero(turned.any(axis=0))
        verdicts = self.verdicts()
        return [Change(int(slots[i]), Verdict(int(verdicts[slots[i]]))) for i in changed]

    def verdicts(self) -> NDArray[np.uint8]:
        """Return the :class:`Verdict` of every slot, shape (n,)."""
        below, above = self._fires
        return np.where(below, Verdict.BELOW, np.where(above, Verdict.ABOVE, Verdict.OK)).astype(np.uint8)

    def forget(self, slot: int) -> None:
        """Start a slot anew: the device was replaced, or its sampling rate set anew."""
        for array in (self._evidence, self._relief, self._fires):
            array[:, slot] = 0
        self._estimate[slot] = self._variance[slot] = 0.0
