"""Sums of usage rows by key, and the figures that are derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.interval import interval
from telemetryd.store.levels import SECOND_NS

SQL_SUMS: Final = (
    "sum(samples)::BIGINT AS samples, sum(octets) AS octets, sum(packets) AS packets, "
    "sum(octets_variance) AS octets_variance, max(octets_largest) AS octets_largest, "
    "sum(stated_rate_samples)::BIGINT AS stated_rate_samples"
)
"""The sums as DuckDB makes them; the column names are the attributes of :class:`Sums`."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums of k keys, each array of shape (k,): counts int64, the others float64 (units as in schema)."""

    samples: NDArray[np.int64]
    octets: NDArray[np.float64]
    packets: NDArray[np.float64]
    octets_variance: NDArray[np.float64]
    octets_largest: NDArray[np.float64]
    stated_rate_samples: NDArray[np.int64]

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> Sums:
        """Take the sums out of the columns of a query result."""
        return cls(
            samples=np.asarray(columns["samples"], dtype=np.int64),
            octets=np.asarray(columns["octets"], dtype=np.float64),
            packets=np.asarray(columns["packets"], dtype=np.float64),
            octets_variance=np.asarray(columns["octets_variance"], dtype=np.float64),
            octets_largest=np.asarray(columns["octets_largest"], dtype=np.float64),
            stated_rate_samples=np.asarray(columns["stated_rate_samples"], dtype=np.int64),
        )

    def fold(self, groups: NDArray[np.intp], count: int) -> Sums:
        """Add up the keys of each group, ``groups`` of shape (k,) with values below ``count``.

        A group without a key is all zero.
        """

        def add(values: NDArray[Any]) -> NDArray[Any]:
            total = np.zeros(count, dtype=values.dtype)
            np.add.at(total, groups, values)
            return total

        largest = np.zeros(count)
        np.maximum.at(largest, groups, self.octets_largest)
        return Sums(
            samples=add(self.samples),
            octets=add(self.octets),
            packets=add(self.packets),
            octets_variance=add(self.octets_variance),
            octets_largest=largest,
            stated_rate_samples=add(self.stated_rate_samples),
        )

    def rates(
        self, seconds: NDArray[np.float64], confidence: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return rate, lower and upper limit in bit/s of keys seen for ``seconds``, all of shape (k,)."""
        low, high = interval(self.octets, self.octets_variance, self.octets_largest, confidence)
        scale = 8.0 / seconds
        return self.octets * scale, low * scale, high * scale

    def figures(self, span_ns: NDArray[np.int64], confidence: float) -> list[dict[str, Any]]:
        """Return what is shown of each key: volume, rate with its limits, samples."""
        rate, low, high = self.rates(span_ns / SECOND_NS, confidence)
        return [
            {
                "rate_bps": float(rate[k]),
                "low_bps": float(low[k]),
                "high_bps": float(high[k]),
                "octets": float(self.octets[k]),
                "packets": float(self.packets[k]),
                "samples": int(self.samples[k]),
                "stated_rate_samples": int(self.stated_rate_samples[k]),
            }
            for k in range(len(self.samples))
        ]
