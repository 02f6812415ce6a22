"""Running sums of usage by one code, over windows of any number: what summaries are made of."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.schema import SUM_COLUMNS

_LARGEST: Final = frozenset({"octets_largest", "packets_largest"})


class Tally:
    """Sums per code 0, 1, 2 ...; grows with the greatest code.

    Attributes
    ----------
    sums:
        Name of a column of :data:`telemetryd.schema.SUM_COLUMNS` -> array of shape (k,).
    """

    def __init__(self) -> None:
        self.sums: dict[str, NDArray[Any]] = {c.name: np.zeros(0, dtype=c.dtype) for c in SUM_COLUMNS}

    def add(self, codes: NDArray[Any], columns: dict[str, NDArray[Any]]) -> None:
        """Add rows: ``codes`` of shape (n,), and the sum columns of the same shape."""
        if len(codes) == 0:
            return
        codes = codes.astype(np.intp, copy=False)
        count = int(codes.max()) + 1
        for name, total in self.sums.items():
            if count > len(total):
                total = np.concatenate([total, np.zeros(max(count, 2 * len(total)) - len(total), total.dtype)])
                self.sums[name] = total
            if name in _LARGEST:
                np.maximum.at(total, codes, columns[name])
            else:
                np.add.at(total, codes, columns[name])

    def present(self) -> NDArray[np.intp]:
        """Return the codes that have samples, those with the most octets first."""
        codes = np.flatnonzero(self.sums["samples"])
        return codes[np.argsort(-self.sums["octets"][codes], kind="stable")]
