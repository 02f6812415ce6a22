"""What counters say of links and metering points, kept beside the usage: figures of telemetryd.aggregate.reconcile.

They are known later than the windows that they are of, when the next reading of a counter has come. So they are windows
of an origin of their own, without usage, from 10 s on, and their figures are quality rows: the metric is the figure's
name behind ``counters.``, the source the link (or metering point) and its direction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import numpy as np

from telemetryd.aggregate.reconcile import FIGURES, SPAN_NS, Figures
from telemetryd.aggregate.rollup import SPANS_NS
from telemetryd.schema import USAGE_COLUMNS, Names, UsageWindow
from telemetryd.store.columns import QualityRow
from telemetryd.store.cover import cover, holdings
from telemetryd.store.embedded import Snapshot
from telemetryd.store.manifest import COUNTERS_ORIGIN
from telemetryd.store.quality import add_figures, read_figures

METRIC: Final = "counters."
#: Lengths of the windows, ns.
SPANS: Final = tuple(span_ns for span_ns in SPANS_NS if span_ns >= SPAN_NS)

_COLUMNS: Final = ("time", "metric", "source", "value")

#: (metric, source).
_Key = tuple[str, str]


def counters_origin(origin: str) -> str:
    """Return the origin of the figures that belong to the windows of an origin."""
    return COUNTERS_ORIGIN + origin


class FigureWindows:
    """Make the windows and quality rows to be appended of figures that come in the order of time."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, dict[_Key, float]]] = {}
        self._windows: list[UsageWindow] = []
        self._rows: list[QualityRow] = []

    def add(self, spans: Iterable[tuple[int, Figures]]) -> None:
        """Add spans of :data:`telemetryd.aggregate.reconcile.SPAN_NS`."""
        for start_ns, figures in spans:
            values = {
                (METRIC + name, f"{link} {direction}"): value
                for (link, direction), of_link in figures.items()
                for name, value in of_link.items()
            }
            for span_ns in SPANS:
                begin_ns = start_ns // span_ns * span_ns
                if span_ns in self._open and self._open[span_ns][0] != begin_ns:
                    self._close(span_ns)
                add_figures(self._open.setdefault(span_ns, (begin_ns, {}))[1], values)
            self._close(SPAN_NS)

    def flush(self) -> None:
        """Complete the windows that are open."""
        for span_ns in list(self._open):
            self._close(span_ns)

    def take(self) -> tuple[list[UsageWindow], list[QualityRow]]:
        """Take out the windows that are complete, with their rows, as :meth:`Store.append` takes them."""
        taken = self._windows, self._rows
        self._windows, self._rows = [], []
        return taken

    def _close(self, span_ns: int) -> None:
        start_ns, figures = self._open.pop(span_ns)
        self._windows.append(UsageWindow(start_ns, span_ns, dict(_NO_ROWS), _NO_NAMES))
        self._rows += [
            QualityRow(start_ns, span_ns, metric, source, value) for (metric, source), value in figures.items()
        ]


_NO_ROWS: Final = {column.name: np.zeros(0, column.dtype) for column in USAGE_COLUMNS}
_NO_NAMES: Final = Names(*[("-",)] * 6)


def figures_between(snapshot: Snapshot, from_ns: int, to_ns: int) -> Figures:
    """Sum the figures of all whole spans inside of a range, each moment once.

    May raise OSError where a segment is gone, since it was replaced after the snapshot.
    """
    return figures_by(snapshot, from_ns, to_ns, None).get(0, {})


def figures_by(snapshot: Snapshot, from_ns: int, to_ns: int, bucket_ns: int | None) -> dict[int, Figures]:
    """Sum the figures of all whole spans inside of a range by the begins of buckets; by 0 where there are none.

    May raise OSError where a segment is gone, since it was replaced after the snapshot.
    """
    sums: dict[int, dict[tuple[str, str], dict[str, float]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(float))
    )
    known = {METRIC + name: name for name in FIGURES}
    for origin, levels in holdings(snapshot.manifest, of_counters=True).items():
        usable = [level for level in levels if bucket_ns is None or bucket_ns % level.span_ns == 0]
        for piece in cover(from_ns, to_ns, usable):
            table = read_figures(snapshot, piece, [origin])
            for time_ns, metric, source, value in zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True):
                if metric in known:
                    link, _, direction = source.rpartition(" ")
                    bucket = 0 if bucket_ns is None else time_ns // bucket_ns * bucket_ns
                    sums[bucket][link, direction][known[metric]] += value
    return {bucket: {key: dict(of_key) for key, of_key in found.items()} for bucket, found in sums.items()}
