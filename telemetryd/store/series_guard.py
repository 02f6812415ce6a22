"""The bound on series: what is beyond it is folded into ``other``, counted, and never dropped.

A database holds an index entry for each series it ever saw, and one that has too many stops. The first rows that
come are known from then on; where a window brings more new ones than there is room for, its smallest are folded.
What is known stays known, and there is never more room again: a window that is rendered twice gives the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import load

SeriesKeys = load("series_keys", "telemetryd.store.series_keys").SeriesKeys
group = load("group", "telemetryd.aggregate.group_reference").group

Words = NDArray[np.uint64]

DEFAULT_LIMIT: Final = 500_000
LEAST_LIMIT: Final = 1000
#: A key is known for all spans at once, so that folded rows of all spans agree: so many series may come of it.
SPANS: Final = 5
#: Of the keys that may be known, this part is for rows that were folded once, which keep their link.
_FOLDED_PART: Final = 10
#: ... and these are for rows that were folded wholly: each of a fixed vocabulary.
_LAST: Final = 32


@dataclass(frozen=True, slots=True)
class SeriesCounts:
    """Counts of one measurement since the start.

    Attributes
    ----------
    known, limit:
        Keys that have series, and how many may have; a key has a series for each span.
    folded_rows, folded_weight:
        Rows that went into ``other``, and their weight: octets of ``usage``, rows of the other measurements.
    folded_names:
        Names that are written as ``other``, being addresses, or too many.
    """

    known: int = 0
    limit: int = 0
    folded_rows: int = 0
    folded_weight: float = 0.0
    folded_names: int = 0

    @property
    def is_full(self) -> bool:
        """Whether rows were folded."""
        return self.folded_rows > 0


class _Known:
    """What is known of one measurement."""

    def __init__(self) -> None:
        self.keys = SeriesKeys()
        self.rows = 0
        self.weight = 0.0
        self.names = 0


class CardinalityGuard:
    """Bound the series of each measurement; one thread uses it at a time.

    Parameters
    ----------
    limit:
        Most series of a measurement, all spans together.

    Raises
    ------
    ValueError
        If the limit is below 1000.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        if limit < LEAST_LIMIT:
            raise ValueError(f"the limit of series must be at least {LEAST_LIMIT}")
        self._limit = limit // SPANS
        self._known: dict[str, _Known] = {}

    def counts(self) -> Mapping[str, SeriesCounts]:
        """Count by measurement."""
        return {
            name: SeriesCounts(len(one.keys), self._limit, one.rows, one.weight, one.names)
            for name, one in self._known.items()
        }

    def count_name(self, measurement: str) -> None:
        """Count a name that is written as ``other``."""
        self._of(measurement).names += 1

    def admit(
        self,
        measurement: str,
        words: tuple[Words, Words],
        weight: NDArray[np.float64],
        folds: Sequence[tuple[int, int]],
    ) -> tuple[Words, Words]:
        """Return the keys that rows are written under: their own, or folded ones.

        Parameters
        ----------
        words:
            The keys, shape (n,) each.
        weight:
            What rows are ranked by, shape (n,); of equal ones, the smaller key is taken.
        folds:
            Masks of both words, one after the other: ``other`` in the fields of a key that a fold gives up. The last
            one leaves a fixed vocabulary.

        Returns
        -------
        tuple
            ``words`` themselves where nothing was folded. Folded rows have the same key: merge them.
        """
        known = self._of(measurement)
        is_known = np.empty(len(weight), np.uint8)
        if not known.keys.look(*words, is_known):
            return words
        rows = np.flatnonzero(is_known == 0)
        first, second = words[0].copy(), words[1].copy()
        left = self._limit - _LAST
        rooms = [left - left // _FOLDED_PART, *[left] * (len(folds) - 1), self._limit]
        folded = False
        for step, room in enumerate(rooms):
            rows = self._take(known, first, second, weight, rows, room)
            if not len(rows) or step == len(folds):
                break
            if not step:
                known.rows += len(rows)
                known.weight += float(weight[rows].sum())
            folded = True
            first[rows] |= np.uint64(folds[step][0])
            second[rows] |= np.uint64(folds[step][1])
        return (first, second) if folded else words

    def _take(
        self,
        known: _Known,
        first: Words,
        second: Words,
        weight: NDArray[np.float64],
        rows: NDArray[np.intp],
        room: int,
    ) -> NDArray[np.intp]:
        """Know as many of the keys of some rows as there is room for; return the rows whose keys are not known."""
        is_known = np.empty(len(rows), np.uint8)
        keys = first[rows], second[rows]
        if not known.keys.look(*keys, is_known):
            return rows[:0]
        rows = rows[is_known == 0]
        keys = first[rows], second[rows]
        labels, places = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        count = group(*keys, labels, places)
        new = keys[0][places[:count]], keys[1][places[:count]]
        weights = np.bincount(labels, weights=weight[rows], minlength=count)
        best = np.lexsort((new[1], new[0], -weights))[: max(room - len(known.keys), 0)]
        known.keys.add(np.ascontiguousarray(new[0][best]), np.ascontiguousarray(new[1][best]))
        is_taken = np.zeros(count, np.bool_)
        is_taken[best] = True
        return rows[~is_taken[labels]]

    def _of(self, measurement: str) -> _Known:
        return self._known.setdefault(measurement, _Known())


def ones(*fields: tuple[int, int]) -> int:
    """Return a word with all ones in fields, each given by its lowest bit and its number of bits."""
    mask: Any = 0
    for shift, bits in fields:
        mask |= ((1 << bits) - 1) << shift
    return int(mask)
