"""Batches filled by hand: datagrams and flow samples as rows of plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from telemetryd.schema import (
    CLASS_COLUMNS,
    DATAGRAM_COLUMNS,
    SAMPLE_COLUMNS,
    TRACK_COLUMNS,
    Batch,
    Names,
)

SECOND = 1_000_000_000
START = 1_700_000_000  # number of the first window

NAMES = Names(
    links=("-", "exit", "uplink", "ring"),
    metering_points=("-", "mp-1", "mp-2"),
    departments=("unknown", "finance", "tax", "health"),
    applications=("unclassified", "portal", "filing"),
    zones=("-", "public", "private"),
    service_classes=("-", "gold", "silver"),
)


class Feed:
    """The four batches of a pipeline, filled from dictionaries; what is not given is 0."""

    def __init__(self, capacity: int = 64) -> None:
        self.datagrams = Batch(DATAGRAM_COLUMNS, capacity)
        self.samples = Batch(SAMPLE_COLUMNS, capacity)
        self.track = Batch(TRACK_COLUMNS, capacity)
        self.classes = Batch(CLASS_COLUMNS, capacity)
        self.batches = (self.datagrams, self.samples, self.track, self.classes)

    def fill(self, datagrams: list[dict[str, Any]], samples: list[dict[str, Any]]) -> None:
        """Replace the rows. A sample's keys may be of any of the sample, track and class columns."""
        for batch, rows in zip(self.batches, (datagrams, samples, samples, samples), strict=True):
            batch.n = len(rows)
            for name, column in batch.columns.items():
                column[: len(rows)] = [row.get(name, 0) for row in rows]

    def at(self, *rows: tuple[float, dict[str, Any]]) -> None:
        """Replace the rows: one datagram a sample, at seconds after START."""
        self.fill(
            [{"ts_ns": START * SECOND + round(seconds * SECOND)} for seconds, _ in rows],
            [{"datagram": i, "sampling_rate": 1} | sample for i, (_, sample) in enumerate(rows)],
        )


def no_corrections(n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Correct no source."""
    return np.zeros(n)
