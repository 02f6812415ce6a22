"""Windows of components: readings of temperature and load, by the time at which they came.

A gauge's reading is of the moment: devices that show when it last changed would else be silent while it stands still.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.feeds import MOST_FEEDS, MOST_OF_DEVICE
from telemetryd.aggregate.interface_windows import SPAN_NS
from telemetryd.counter_windows import ComponentWindow
from telemetryd.schema import COMPONENT_COLUMNS, GAUGE_KINDS, Gauge

NOBODY: Final = -1
_CELLS: Final = len(Gauge) * len(GAUGE_KINDS)


class _Sums:
    """Readings of one span by component and cell, shape (components, _CELLS)."""

    def __init__(self, n: int) -> None:
        self.readings = np.zeros((n, _CELLS), np.uint64)
        self.sum = np.zeros((n, _CELLS))
        self.largest = np.full((n, _CELLS), np.nan)

    def make_room(self, n: int) -> None:
        """Hold so many components at least."""
        missing = n - len(self.sum)
        if missing > 0:
            more = _Sums(max(missing, len(self.sum)))
            for name in ("readings", "sum", "largest"):
                setattr(self, name, np.concatenate((getattr(self, name), getattr(more, name))))


class ComponentWindows:
    """Collect readings and close spans; one owner.

    Parameters
    ----------
    begin_ns:
        Spans that begin earlier are left out.

    Attributes
    ----------
    late:
        Readings that came for spans that were closed.
    refused:
        Readings of more components than a device, or all, may have.
    """

    def __init__(self, span_ns: int = SPAN_NS, begin_ns: int = 0) -> None:
        self.late = self.refused = 0
        self._span_ns = span_ns
        self._names: list[tuple[str, str]] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._of_device: Counter[str] = Counter()
        self._open: dict[int, _Sums] = {}
        self._begin = self._oldest = -(-begin_ns // span_ns)  # number of the first span, and of the oldest open one

    def __len__(self) -> int:
        return len(self._names)

    def number(self, device: str, component: str) -> int:
        """Return the number of a component, a new one if need be; NOBODY if there are too many."""
        name = device, component
        number = self._numbers.get(name)
        if number is not None:
            return number
        if len(self._names) >= MOST_FEEDS or self._of_device[device] >= MOST_OF_DEVICE:
            return NOBODY
        number = self._numbers[name] = len(self._names)
        self._names.append(name)
        self._of_device[device] += 1
        return number

    def add(
        self,
        numbers: NDArray[np.int64],
        cells: NDArray[np.int64],
        values: NDArray[np.float64],
        received_ns: NDArray[np.int64],
    ) -> None:
        """Take readings.

        Parameters
        ----------
        numbers:
            The components, shape (n,), as the other columns.
        cells:
            Gauge times the number of GAUGE_KINDS, plus the place there.
        """
        self.refused += int((numbers == NOBODY).sum())
        span = received_ns // self._span_ns
        kept = (numbers != NOBODY) & (span >= self._oldest)
        self.late += int(((numbers != NOBODY) & ~kept & (self._begin < self._oldest)).sum())
        for one in np.unique(span[kept]).tolist():
            chosen = kept & (span == one)
            sums = self._open.setdefault(one, _Sums(len(self._names)))
            sums.make_room(len(self._names))
            at = numbers[chosen], cells[chosen]
            np.add.at(sums.readings, at, 1)
            np.add.at(sums.sum, at, values[chosen])
            np.fmax.at(sums.largest, at, values[chosen])

    def close(self, until_ns: int) -> list[ComponentWindow]:
        """Return the windows that end by a time, in order."""
        until = until_ns // self._span_ns
        self._oldest = max(self._oldest, until)
        return [self._window(number, self._open.pop(number)) for number in sorted(n for n in self._open if n < until)]

    def _window(self, number: int, sums: _Sums) -> ComponentWindow:
        rows = np.flatnonzero(sums.readings.any(axis=1))
        columns: dict[str, NDArray[Any]] = {"component": np.arange(len(rows), dtype=np.uint32)}
        for gauge in Gauge:
            first, second = gauge * len(GAUGE_KINDS), gauge * len(GAUGE_KINDS) + 1
            cell = np.where(sums.readings[rows, first] > 0, first, second)
            for name in ("readings", "sum", "largest"):
                columns[f"{gauge.name.lower()}_{name}"] = getattr(sums, name)[rows, cell]
        named = {column.name: columns[column.name].astype(column.dtype) for column in COMPONENT_COLUMNS}
        names = tuple(self._names[row] for row in rows.tolist())
        return ComponentWindow(number * self._span_ns, self._span_ns, named, names)
