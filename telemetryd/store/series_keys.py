"""The keys of the series that are known, in Python: the specification of ext/series_keys.pyx."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SeriesKeys:
    """A set of pairs of words that only grows."""

    def __init__(self) -> None:
        self._known: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self._known)

    def look(self, first: NDArray[np.uint64], second: NDArray[np.uint64], is_known: NDArray[np.uint8]) -> int:
        """Say which pairs are known, 1 or 0 in ``is_known``; all of shape (n,). Return how many are not.

        Raises
        ------
        ValueError
            If the lengths differ.
        """
        if not len(first) == len(second) == len(is_known):
            raise ValueError("the columns differ in length")
        for row, pair in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            is_known[row] = pair in self._known
        return int(np.count_nonzero(is_known == 0))

    def add(self, first: NDArray[np.uint64], second: NDArray[np.uint64]) -> None:
        """Know the pairs, of shape (n,) each.

        Raises
        ------
        ValueError
            If the lengths differ.
        """
        if len(first) != len(second):
            raise ValueError("the columns differ in length")
        self._known.update(zip(first.tolist(), second.tolist(), strict=True))
