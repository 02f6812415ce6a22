"""Numbers for distinct pairs of words, in Python: the specification of ext/group.pyx."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def group(
    first: NDArray[np.uint64], second: NDArray[np.uint64], labels: NDArray[np.int64], rows: NDArray[np.int64]
) -> int:
    """Number the distinct pairs of words in order of appearance.

    Parameters
    ----------
    first, second:
        The pairs, shape (n,) each.
    labels:
        Receives the number of each row's pair, shape (n,).
    rows:
        Receives the row where each pair appears first, shape (n,): as many items as there are pairs.

    Returns
    -------
    int
        How many distinct pairs there are.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    if not len(first) == len(second) == len(labels) == len(rows):
        raise ValueError("the columns differ in length")
    numbers: dict[tuple[int, int], int] = {}
    for row, pair in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        if pair not in numbers:
            rows[len(numbers)] = row
            numbers[pair] = len(numbers)
        labels[row] = numbers[pair]
    return len(numbers)
