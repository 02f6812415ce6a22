"""Sums of keys in bins of time, dense: what percentiles, peaks, busy hours and series are made from.

    with_departments = bins(snapshot, ["department", "direction"], selection, 5 * MINUTE_NS)
    rate, low, high = with_departments.rates(0.95)      # each of shape (k, t): names x bins

A month of 60 departments in bins of 5 min is one scan of the stored windows of 5 min.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.errors import InputError
from telemetryd.store.embedded import Snapshot
from telemetryd.store.levels import SECOND_NS
from telemetryd.store.select import Found, Selection, make_plan, sum_by
from telemetryd.store.sums import Sums

MAX_BUCKETS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Grid:
    """The sums of k keys in t bins of one width.

    Attributes
    ----------
    found:
        The sums as they were read; ``found.names`` are the keys.
    bin_ns:
        Width of the bins.
    starts:
        Starts of all bins of the range in ns, shape (t,), also of those without traffic.
    """

    found: Found
    bin_ns: int
    starts: NDArray[np.int64]

    def cells(self, lanes: NDArray[np.intp] | None = None, count: int | None = None) -> Sums:
        """Return the sums of every key and bin, flat: k x t of them.

        With ``lanes``, shape (k,), keys of one lane are added up, and there are ``count`` lanes in place of the keys.
        An empty cell has its lane's largest sample, which widens its upper limit from zero to what may have been
        missed.
        """
        lanes = np.arange(len(self.found.names)) if lanes is None else lanes
        width = len(self.starts)
        lanes, count = lanes[self.found.codes], len(self.found.names) if count is None else count
        places = ((self.found.bucket_ns - (self.starts[0] if width else 0)) // self.bin_ns).astype(np.intp)
        cells = self.found.sums.fold(lanes * width + places, count * width)
        largest = np.repeat(self.found.sums.fold(lanes, count).octets_largest, width)
        return replace(cells, octets_largest=np.where(cells.samples == 0, largest, cells.octets_largest))

    def rates(
        self, confidence: float, lanes: NDArray[np.intp] | None = None, count: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return rate, lower and upper limit in bit/s of every key (or lane) and bin, each of shape (k, t)."""
        cells = self.cells(lanes, count)
        seconds = np.full(len(cells.samples), self.bin_ns / SECOND_NS)
        rate, low, high = (values.reshape(-1, len(self.starts)) for values in cells.rates(seconds, confidence))
        return rate, low, high


def bins(snapshot: Snapshot, by: Sequence[str], selection: Selection, bin_ns: int) -> Grid:
    """Sum the selected rows by the key columns ``by`` in the whole bins of the range.

    Raises
    ------
    InputError
        If the range holds no whole bin, or more than 10,000; otherwise as
        :func:`telemetryd.store.select.sum_by`.
    """
    asked = make_plan(snapshot, selection, bin_ns)
    from_ns, to_ns = -(-asked.from_ns // bin_ns) * bin_ns, asked.to_ns // bin_ns * bin_ns
    if from_ns >= to_ns:
        raise InputError(
            f"the range holds no whole bin of {bin_ns // SECOND_NS} s: ask for a longer one or a smaller --bin"
        )
    starts = bucket_starts(from_ns, to_ns, bin_ns)
    return Grid(sum_by(snapshot, by, replace(selection, from_ns=from_ns, to_ns=to_ns), bin_ns), bin_ns, starts)


def bucket_starts(from_ns: int, to_ns: int, width: int) -> NDArray[np.int64]:
    """Return the starts of the buckets that touch [from_ns, to_ns)."""
    first = from_ns // width * width
    count = -(-(to_ns - first) // width)
    if count > MAX_BUCKETS:
        raise InputError(f"{count} buckets are more than {MAX_BUCKETS}: ask for wider buckets or a shorter range")
    return first + width * np.arange(count, dtype=np.int64)
