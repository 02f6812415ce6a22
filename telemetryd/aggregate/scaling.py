"""The effective sampling rate of every source over a sliding minute.

The rate N of a source is the growth of its sample pool divided by the samples that reached the
accumulator: it holds what the agent dropped, the network and the kernel lost and we shed. Nothing
else is multiplied in. It is carried as a factor on the stated rate, so that a change of the stated
rate takes effect in the window where it happens, not a minute later; where the stated rate is
constant the two are the same number.

**Unknown growth.** The gap before the first sample of a source (or the first after a restart) is not seen.
Of k samples in M packets k - 1 gaps are left, and these are the short ones. For k of the binomial
distribution (M, 1 / N) their growth is, on average,

    E[growth] = E[(M + 1) (k - 1) / (k + 1); k >= 1] = N E[k - 2; k >= 3] + P(k >= 2)

because (M + 1) / (k + 1) times a probability is N times the next one. So the gap after a sample of unknown
growth is left out of the count of gaps, and a packet out of the growth: then packets / gaps estimates N
without bias at any time after the start, however few samples a source has; at 1:1 it is 1 exactly.

**Few samples.** A ratio of few gaps is noise that the intervals do not hold, and leans upwards by about
1 / gaps. A source whose pool grew by less than 256 samples' worth is scaled by the factor of its agent,
pooled over all of its sources, since loss hits all of them alike. That is decided by the growth, not by the
number of samples: to choose by their number would take the ratio in those minutes that got many samples and
the factor in those that got few, which is too low in sum (docs/estimation.md).

**A loss that begins or ends.** The minute's ratio holds for a window only where the loss was the same all the time.
Where the samples of an agent's window contradict its minute, what was before that window is forgotten: an overload
shows in its own seconds, and not in those before and after it.

The stated rate is used, and the usage says so, where the pool is unusable: no growth is known, it does not
grow, it grows by less than half of what the stated rate implies (some agents count samples or something
else there), or the pools of the agent grew by less than 16
samples' worth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Length of the sliding span, in windows of one second.
MINUTE: Final = 60
#: With less than this many samples' worth of growth an agent has no factor; with fewer gaps than this a
#: slow pool proves nothing.
ENOUGH_SAMPLES: Final = 16
#: A source whose pool grew by fewer samples' worth in the minute has no ratio of its own.
ENOUGH_OF_ITS_OWN: Final = 256
#: A window contradicts the minute where its ratio is off by so many standard deviations, of gaps that are
#: geometric. Datagrams that get lost whole make them wider; to forget too often costs precision, no bias.
CHANGE_DEVIATIONS: Final = 5.0
#: A pool below this share of samples x stated rate is not a pool of packets.
LEAST_SHARE: Final = 0.5

#: Per source: the packets between the samples, the gaps that they make up, and the samples whose growth is
#: known with the sum of their stated rates.
_TOTALS: Final = ("packets", "gaps", "grown", "stated_grown")


@dataclass(frozen=True, slots=True)
class SourceRates:
    """What every source slot stands for, as of the last closed window; every column of shape (s,).

    Attributes
    ----------
    rate:
        Effective sampling rate N >= 1, float64; 1 for a slot without any sample yet.
    is_stated:
        Whether ``rate`` is the stated rate because the pool is unusable, bool.
    largest:
        Largest frame that the source has shown in this minute of the clock and the one before (or in
        the last ones in which it showed any), octets, uint32: with ``rate``, the bound of a key that has
        no sample (:func:`telemetryd.aggregate.interval.interval`).
    samples:
        Samples so far, uint64.
    """

    rate: NDArray[np.float64]
    is_stated: NDArray[np.bool_]
    largest: NDArray[np.uint32]
    samples: NDArray[np.uint64]


def _extend(array: NDArray[Any], n: int, value: int = 0) -> NDArray[Any]:
    """Return ``array`` with room for at least ``n`` items."""
    if n <= len(array):
        return array
    longer = np.full(max(n, 2 * len(array)), value, array.dtype)
    longer[: len(array)] = array
    return longer


class Scaling:
    """Sliding sums per source, from which the effective rates come.

    Parameters
    ----------
    agents:
        Gives the agent's slot of every source slot, integers of shape (n,), when called with n. By default
        every source is an agent of its own.
    minute:
        Length of the sliding span in windows.
    """

    def __init__(self, agents: Callable[[int], NDArray[Any]] = np.arange, minute: int = MINUTE) -> None:
        self._agents = agents
        self._minute = minute
        self._recent: deque[tuple[int, dict[str, NDArray[Any]]]] = deque()
        self._totals = {name: np.zeros(64, np.uint64) for name in _TOTALS}
        self._owed = np.zeros(64, np.uint64)  # gaps to leave out
        self._rate = np.ones(64, np.float64)
        self._is_stated = np.zeros(64, np.bool_)
        self._largest = np.zeros(64, np.uint32)  # of the current minute of the clock
        self._largest_before = np.zeros(64, np.uint32)
        self._clock: int | None = None
        self._samples = np.zeros(64, np.uint64)
        self._n = 1

    @property
    def n_sources(self) -> int:
        """Number of source slots seen, slot 0 included."""
        return self._n

    def add(self, window: int, sources: dict[str, NDArray[Any]]) -> SourceRates:
        """Add the source sums of window number ``window`` and return the rates that hold in it.

        Parameters
        ----------
        window:
            Windows must be added in ascending order.
        sources:
            Second result of ``Accumulator.close``: columns of shape (s,), each source once.
        """
        slots = sources["source"]
        if window // self._minute != self._clock:
            self._clock = window // self._minute
            self._largest_before = np.where(self._largest > 0, self._largest, self._largest_before)
            self._largest[:] = 0
        self._make_room(int(slots.max()) + 1 if len(slots) else 0)
        while self._recent and self._recent[0][0] <= window - self._minute:
            _, old = self._recent.popleft()
            for name in _TOTALS:
                self._totals[name][old["source"]] -= old[name]
        if len(slots):
            sums = {"source": slots} | self._settle(sources)
            self._forget_changed(sums)
            for name in _TOTALS:
                self._totals[name][slots] += sums[name]
            self._recent.append((window, sums))
            self._estimate(slots, sources)
        return self.rates()

    def rates(self) -> SourceRates:
        """Return the rates as of the last window added (copies)."""
        n = self._n
        return SourceRates(
            self._rate[:n].copy(),
            self._is_stated[:n].copy(),
            np.maximum(self._largest[:n], self._largest_before[:n]),
            self._samples[:n].copy(),
        )

    def _make_room(self, n: int) -> None:
        self._n = max(self._n, n)
        self._totals = {name: _extend(total, n) for name, total in self._totals.items()}
        self._owed = _extend(self._owed, n)
        self._rate = _extend(self._rate, n, 1)
        self._is_stated = _extend(self._is_stated, n)
        self._largest = _extend(self._largest, n)
        self._largest_before = _extend(self._largest_before, n)
        self._samples = _extend(self._samples, n)

    def _settle(self, sources: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Leave out the gap after each sample of unknown growth; return the sums of ``_TOTALS``."""
        slots, grown = sources["source"], sources["grown"]
        owed = self._owed[slots] + sources["samples"] - grown
        paid = np.minimum(owed, grown)
        self._owed[slots] = owed - paid
        return {
            "packets": sources["growth"] - np.minimum(paid, sources["growth"]),
            "gaps": grown - paid,
            "grown": grown,
            "stated_grown": sources["stated_grown"],
        }

    def _forget_changed(self, sums: dict[str, NDArray[Any]]) -> None:
        """Forget what was before this window of the agents that it contradicts."""
        agents = self._agents(self._n).astype(np.intp)
        of_window, size = agents[sums["source"]], int(agents.max(initial=0)) + 1
        ratio, gaps = _ratios(of_window, size, sums)
        ratio_before, gaps_before = _ratios(agents, size, {name: self._totals[name][: self._n] for name in _TOTALS})
        is_told = (np.minimum(gaps, gaps_before) >= ENOUGH_SAMPLES) & (np.minimum(ratio, ratio_before) > 0)
        deviation = np.sqrt(1.0 / np.maximum(gaps, 1.0) + 1.0 / np.maximum(gaps_before, 1.0))
        off = np.abs(np.log(np.where(is_told, ratio, 1.0) / np.where(is_told, ratio_before, 1.0)))
        has_changed = is_told & (off > CHANGE_DEVIATIONS * deviation)
        if not has_changed.any():
            return
        for _, old in self._recent:
            is_of_changed = has_changed[agents[old["source"]]]
            for name in _TOTALS:
                old[name] = np.where(is_of_changed, np.uint64(0), old[name])
        for name in _TOTALS:
            self._totals[name][: self._n][has_changed[agents]] = 0

    def _estimate(self, slots: NDArray[Any], sources: dict[str, NDArray[Any]]) -> None:
        packets, gaps, grown, implied = (self._totals[name][: self._n].astype(np.float64) for name in _TOTALS)
        per_gap = implied / np.maximum(grown, 1.0)  # the mean stated rate
        is_slow = (gaps >= ENOUGH_SAMPLES) & (packets < LEAST_SHARE * per_gap * gaps)
        agents = self._agents(self._n).astype(np.intp)
        pooled = _pool(agents, packets, gaps, np.where(is_slow, 0.0, per_gap))[agents[slots]]

        packets, gaps, per_gap, is_slow = packets[slots], gaps[slots], per_gap[slots], is_slow[slots]
        stated = sources["stated"] / sources["samples"]
        has_stated = (per_gap > 0) & (stated > 0)
        # Samples that the pool implies; where nothing better is known, those that came.
        expected = np.where(pooled > 0, packets / np.maximum(per_gap * pooled, 1.0), gaps)
        is_own = (packets > 0) & (gaps > 0) & ~is_slow & ((expected >= ENOUGH_OF_ITS_OWN) | ~has_stated)
        is_pooled = ~is_own & ~is_slow & (pooled > 0) & (stated > 0)
        numerator = np.where(has_stated, packets * stated, packets)
        denominator = np.maximum(np.where(has_stated, per_gap * gaps, gaps), 1.0)
        rate = np.where(is_own, numerator / denominator, np.where(is_pooled, stated * pooled, stated))
        self._rate[slots] = np.maximum(rate, 1.0)
        self._is_stated[slots] = ~is_own & ~is_pooled
        self._largest[slots] = np.maximum(self._largest[slots], sources["largest"])
        self._samples[slots] += sources["samples"]


def _ratios(
    agents: NDArray[np.intp], size: int, sums: dict[str, NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each agent's packets over those that its stated rates imply, and its gaps, of shape (size,)."""
    gaps = sums["gaps"].astype(np.float64)
    stated = sums["stated_grown"] / np.maximum(sums["grown"].astype(np.float64), 1.0)
    packets, implied, count = (
        np.bincount(agents, column, size) for column in (sums["packets"].astype(np.float64), stated * gaps, gaps)
    )
    ratio: NDArray[np.float64] = packets / np.maximum(implied, 1.0)
    return ratio, count.astype(np.float64)


def _pool(
    agents: NDArray[np.intp], packets: NDArray[np.float64], gaps: NDArray[np.float64], per_gap: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the factor on the stated rate of each agent, shape (a,); 0 where it is not known.

    The other arguments have shape (s,); sources whose mean stated rate ``per_gap`` is 0 stay out.
    """
    is_member = per_gap > 0
    grown, count, implied = (
        np.bincount(agents, np.where(is_member, column, 0.0)) for column in (packets, gaps, per_gap * gaps)
    )
    per_gap = implied / np.maximum(count, 1.0)
    is_usable = (count > 0) & (grown >= ENOUGH_SAMPLES * per_gap) & (grown >= LEAST_SHARE * implied)
    # One gap more of both: the mean of a ratio leans upwards by 1 / count.
    factor: NDArray[np.float64] = np.where(is_usable, (grown + 1.0) / np.maximum(implied + per_gap, 1.0), 0.0)
    return factor


def unseen_largest(columns: dict[str, NDArray[Any]], rates: SourceRates) -> NDArray[np.uint32]:
    """Return the frame that the next sample of each key may bring, octets, uint32 of shape (k,).

    A few samples say little about the largest frame of a key, and the upper end of its interval rests on
    that. After n samples without a larger one, the next is larger with probability 1 / (n + 1) (Laplace's
    rule), and then at most the largest of its source: their mean, (n b + B) / (n + 1), rounded up. Without
    it, intervals of keys with mixed frame sizes and 1 to 5 samples hold the truth in 89 % of the cells
    (docs/figures/coverage.csv has them with it).

    Parameters
    ----------
    columns:
        First result of ``Accumulator.close``: columns of shape (k,).
    rates:
        Of the same window.
    """
    of_source = rates.largest[(columns["key0"] >> np.uint64(48)).astype(np.intp)].astype(np.float64)
    of_key = columns["largest"].astype(np.float64)
    mean: NDArray[np.float64] = np.ceil(of_key + (of_source - of_key) / (columns["samples"] + 1.0))
    return mean.astype(np.uint32)
