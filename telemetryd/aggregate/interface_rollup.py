"""Roll-ups of interface counters: 1 min, 5 min and 1 h from windows of 10 s. Sums are added, the last state stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.schema import INTERFACE_COLUMNS, InterfaceWindow

#: Lengths of the roll-ups, ns, each a multiple of the one before.
SPANS_NS: Final = (60_000_000_000, 300_000_000_000, 3_600_000_000_000)
#: Columns of which the last value stays; `flags` are put together, the others added up.
LAST: Final = ("capacity_bps", "up", "source")


def merge_interfaces(windows: Sequence[InterfaceWindow], start_ns: int, span_ns: int) -> InterfaceWindow:
    """Make one window of several in the order of their time, by the names of the interfaces."""
    numbers: dict[tuple[str, str], int] = {}
    places = [
        np.array([numbers.setdefault(name, len(numbers)) for name in window.names], np.int64)[
            window.columns["interface"]
        ]
        for window in windows
    ]
    place = np.concatenate(places) if places else np.zeros(0, np.int64)
    n = len(numbers)
    columns: dict[str, NDArray[Any]] = {}
    for column in INTERFACE_COLUMNS:
        values = [window.columns[column.name] for window in windows]
        joined = np.concatenate(values) if values else np.zeros(0, column.dtype)
        result = np.zeros(n, column.dtype)
        if column.name in LAST:
            result[place] = joined  # numpy keeps the last of several
        elif column.name == "flags":
            np.bitwise_or.at(result, place, joined)
        else:
            np.add.at(result, place, joined)
        columns[column.name] = result
    columns["interface"] = np.arange(n, dtype=np.uint32)
    return InterfaceWindow(start_ns, span_ns, columns, tuple(numbers))


class InterfaceRollUp:
    """Make the longer windows; windows of 10 s come in the order of their time."""

    def __init__(self, spans_ns: Sequence[int] = SPANS_NS) -> None:
        self._open: Mapping[int, list[InterfaceWindow]] = {span_ns: [] for span_ns in spans_ns}

    def resume(self, parts: Sequence[InterfaceWindow]) -> None:
        """Take windows of any spans that an earlier run made, and that no longer one holds yet; before all others."""
        spans = list(self._open)
        for part in sorted(parts, key=lambda part: part.start_ns):
            longer = [span_ns for span_ns in spans if span_ns > part.span_ns]
            if longer:
                self._open[longer[0]].append(part)

    def add(self, window: InterfaceWindow) -> list[InterfaceWindow]:
        """Take a window; return the longer ones that are complete before it, the shorter first."""
        complete = self.until(window.start_ns)
        shortest = next(iter(self._open.values()), None)
        if shortest is not None:
            shortest.append(window)
        return complete

    def until(self, now_ns: int) -> list[InterfaceWindow]:
        """Return the longer windows that end by a time, where nothing more of them can come."""
        complete: list[InterfaceWindow] = []
        spans = list(self._open)
        for level, span_ns in enumerate(spans):
            parts = self._open[span_ns]
            while parts and (start_ns := parts[0].start_ns // span_ns * span_ns) + span_ns <= now_ns:
                of_span = [part for part in parts if part.start_ns < start_ns + span_ns]
                del parts[: len(of_span)]
                merged = merge_interfaces(of_span, start_ns, span_ns)
                complete.append(merged)
                if level + 1 < len(spans):
                    self._open[spans[level + 1]].append(merged)
        return complete
