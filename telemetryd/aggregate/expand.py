"""From accumulated keys to rows of the two result tables.

``link_usage`` gets a row for the link a packet came in by and one for the link it left by; ``totals``
gets a row where the packet passed a metering point. Rows of several sources are merged: estimates and
variances of independent samples add, the largest one stays.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import load
from telemetryd.aggregate.keys import link_rows, total_rows, unpack_key, unpack_rows
from telemetryd.aggregate.scaling import SourceRates
from telemetryd.schema import SUM_COLUMNS, LinkDirection

group = load("group", "telemetryd.aggregate.group_reference").group

#: Sums that merge by their maximum; all others by addition.
LARGEST: Final = frozenset({"octets_largest", "packets_largest"})


def merge(
    word1: NDArray[np.uint64], word2: NDArray[np.uint64], sums: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Merge rows of the same key.

    Parameters
    ----------
    word1, word2:
        Packed keys, shape (n,) each (:mod:`telemetryd.aggregate.keys`).
    sums:
        SUM_COLUMNS, shape (n,) each; counts below 2^53.

    Returns
    -------
    dict
        USAGE_COLUMNS of shape (k,), one row a key, in order of first appearance.
    """
    labels = np.empty(len(word1), np.int64)
    rows = np.empty(len(word1), np.int64)
    k = group(word1, word2, labels, rows)
    first = rows[:k]
    columns = unpack_rows(word1[first], word2[first])
    for column in SUM_COLUMNS:
        values = sums[column.name]
        if k == len(word1):
            merged = values[first]
        elif column.name in LARGEST:
            merged = np.zeros(k, np.float64)
            np.maximum.at(merged, labels, values)
        else:
            merged = np.bincount(labels, weights=values, minlength=k)
        columns[column.name] = merged.astype(column.dtype, copy=False)
    return columns


def estimate(
    source: NDArray[Any],
    columns: dict[str, NDArray[Any]],
    rates: SourceRates,
    corrections: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """Scale the sums of keys: SUM_COLUMNS of shape (k,).

    A sample of rate N and b octets stands for N b octets, with variance N (N - 1) b^2. A source that
    counts octets otherwise than layer 2 with FCS is corrected by c octets a packet: b + c for b.
    """
    n = columns["samples"].astype(np.float64)
    octets = columns["octets"].astype(np.float64)
    rate = rates.rate[source]
    correction = corrections[source]
    spread = rate * (rate - 1.0)
    corrected = np.maximum(octets + correction * n, 0.0)
    squares = np.maximum(columns["squares"] + correction * (2.0 * octets + correction * n), 0.0)
    largest = np.maximum(columns["largest"] + correction, 0.0)
    deviation = np.sqrt(spread)
    return {
        "samples": columns["samples"],
        "octets": rate * corrected,
        "packets": rate * n,
        "octets_variance": spread * squares,
        "packets_variance": spread * n,
        "octets_largest": deviation * largest,
        "packets_largest": deviation,
        "stated_rate_samples": np.where(rates.is_stated[source], columns["samples"], 0),
    }


def expand(
    columns: dict[str, NDArray[Any]], rates: SourceRates, corrections: NDArray[np.float64]
) -> tuple[dict[str, NDArray[Any]], int]:
    """Make the result rows of a closed window.

    Parameters
    ----------
    columns:
        First result of ``Accumulator.close``: columns of shape (k,).
    rates, corrections:
        Per source slot, shape (s,); ``corrections`` in octets a packet.

    Returns
    -------
    columns, unplaced:
        USAGE_COLUMNS with unique keys, and the number of samples that crossed no known link and no
        metering point and are in neither table.
    """
    codes = unpack_key(columns["key0"], columns["key1"], columns["key2"])
    sums = estimate(codes["source"].astype(np.intp), columns, rates, corrections)
    came = np.flatnonzero(codes["link_in"])
    left = np.flatnonzero(codes["link_out"])
    metered = np.flatnonzero(codes["metering_point"])
    key1, key2 = columns["key1"], columns["key2"]
    words = (
        link_rows(key1[came], key2[came], codes["link_in"][came], LinkDirection.IN),
        link_rows(key1[left], key2[left], codes["link_out"][left], LinkDirection.OUT),
        total_rows(key1[metered], key2[metered]),
    )
    chosen = np.concatenate((came, left, metered))
    is_unplaced = (codes["link_in"] | codes["link_out"] | codes["metering_point"]) == 0
    return (
        merge(
            np.concatenate([word1 for word1, _ in words]),
            np.concatenate([word2 for _, word2 in words]),
            {name: values[chosen] for name, values in sums.items()},
        ),
        int(columns["samples"][is_unplaced].sum()),
    )
