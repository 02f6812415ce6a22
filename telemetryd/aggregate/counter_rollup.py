"""Roll-ups of counters: 1 min, 5 min and 1 h from windows of 10 s, each kind by its layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.counter_windows import COUNTER_WINDOWS, CounterWindow

#: Lengths of the roll-ups, ns, each a multiple of the one before.
SPANS_NS: Final = (60_000_000_000, 300_000_000_000, 3_600_000_000_000)
#: Columns of bits, which are put together.
BITS: Final = ("flags", "known")

_Level = tuple[str, int]  # kind and span


def merge_counters(windows: Sequence[CounterWindow], start_ns: int, span_ns: int) -> CounterWindow:
    """Make one window of several of a kind in the order of their time, by their names; of one at least."""
    layout = windows[0].layout
    numbers: dict[tuple[str, ...], int] = {}
    places = [
        np.array([numbers.setdefault(name, len(numbers)) for name in window.names], np.int64)[
            window.columns[layout.kind]
        ]
        for window in windows
    ]
    place, n = np.concatenate(places), len(numbers)
    columns: dict[str, NDArray[Any]] = {}
    for column in layout.columns:
        joined = np.concatenate([window.columns[column.name] for window in windows])
        result = np.zeros(n, column.dtype)
        if column.name in layout.last:
            result[place] = joined  # numpy keeps the last of several
        elif column.name in layout.largest:
            result[:] = np.nan
            np.fmax.at(result, place, joined)
        elif column.name in BITS:
            np.bitwise_or.at(result, place, joined)
        else:
            np.add.at(result, place, joined)
        columns[column.name] = result
    columns[layout.kind] = np.arange(n, dtype=np.uint32)
    return type(windows[0])(start_ns, span_ns, columns, tuple(numbers))


class CounterRollUp:
    """Make the longer windows; those of 10 s come in the order of their time, all kinds of a span together."""

    def __init__(self, spans_ns: Sequence[int] = SPANS_NS) -> None:
        self._spans_ns = tuple(spans_ns)
        self._open: Mapping[_Level, list[CounterWindow]] = {
            (kind, span_ns): [] for kind in COUNTER_WINDOWS for span_ns in spans_ns
        }

    def resume(self, parts: Sequence[CounterWindow]) -> None:
        """Take windows of any spans that an earlier run made, and that no longer one holds yet; before all others."""
        for part in sorted(parts, key=lambda part: part.start_ns):
            longer = [span_ns for span_ns in self._spans_ns if span_ns > part.span_ns]
            if longer:
                self._open[part.layout.kind, longer[0]].append(part)

    def add(self, window: CounterWindow) -> list[CounterWindow]:
        """Take a window; return the longer ones that are complete before it, the shorter first."""
        complete = self.until(window.start_ns)
        if self._spans_ns:
            self._open[window.layout.kind, self._spans_ns[0]].append(window)
        return complete

    def until(self, now_ns: int) -> list[CounterWindow]:
        """Return the longer windows that end by a time, where nothing more of them can come."""
        return [window for kind in COUNTER_WINDOWS for window in self._until(kind, now_ns)]

    def _until(self, kind: str, now_ns: int) -> list[CounterWindow]:
        complete: list[CounterWindow] = []
        for level, span_ns in enumerate(self._spans_ns):
            parts = self._open[kind, span_ns]
            while parts and (start_ns := parts[0].start_ns // span_ns * span_ns) + span_ns <= now_ns:
                of_span = [part for part in parts if part.start_ns < start_ns + span_ns]
                del parts[: len(of_span)]
                merged = merge_counters(of_span, start_ns, span_ns)
                complete.append(merged)
                if level + 1 < len(self._spans_ns):
                    self._open[kind, self._spans_ns[level + 1]].append(merged)
        return complete
