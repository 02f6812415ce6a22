"""The effective sampling rate of every source over a sliding minute.

The rate N of a source is the growth of its sample pool divided by the samples that reached the
accumulator: it holds what the agent dropped, the network and the kernel lost and we shed. Nothing
else is multiplied in. It is carried as a factor on the stated rate, so that a change of the stated
rate takes effect in the window where it happens, not a minute later; where the stated rate is
constant the two are the same number.

The pool is unusable where no growth is known in the minute, where it does not grow, and where it
grows by less than half of what the stated rate implies (some agents count samples or something else
there). The mean stated rate of the window is used then, and the usage says so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Length of the sliding span, in windows of one second.
MINUTE: Final = 60
#: With fewer samples than this in the minute, a slow pool proves nothing.
ENOUGH_SAMPLES: Final = 16
#: A pool below this share of samples x stated rate is not a pool of packets.
LEAST_SHARE: Final = 0.5

_TOTALS: Final = ("growth", "grown", "stated_grown")


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
    minute:
        Length of the sliding span in windows.
    """

    def __init__(self, minute: int = MINUTE) -> None:
        self._minute = minute
        self._recent: deque[tuple[int, dict[str, NDArray[Any]]]] = deque()
        self._totals = {name: np.zeros(64, np.uint64) for name in _TOTALS}
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
        for name in _TOTALS:
            self._totals[name][slots] += sources[name]
        if len(slots):
            self._recent.append((window, {name: sources[name] for name in ("source", *_TOTALS)}))
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
        self._rate = _extend(self._rate, n, 1)
        self._is_stated = _extend(self._is_stated, n)
        self._largest = _extend(self._largest, n)
        self._largest_before = _extend(self._largest_before, n)
        self._samples = _extend(self._samples, n)

    def _estimate(self, slots: NDArray[Any], sources: dict[str, NDArray[Any]]) -> None:
        growth, grown, implied = (self._totals[name][slots].astype(np.float64) for name in _TOTALS)
        stated = sources["stated"] / sources["samples"]
        is_slow = (grown >= ENOUGH_SAMPLES) & (growth < LEAST_SHARE * implied)
        is_usable = (grown > 0) & (growth > 0) & ~is_slow
        has_stated = (implied > 0) & (stated > 0)
        numerator = np.where(has_stated, growth * stated, growth)
        denominator = np.where(has_stated, implied, np.maximum(grown, 1.0))
        self._rate[slots] = np.maximum(np.where(is_usable, numerator / denominator, stated), 1.0)
        self._is_stated[slots] = ~is_usable
        self._largest[slots] = np.maximum(self._largest[slots], sources["largest"])
        self._samples[slots] += sources["samples"]


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
