"""Roll-ups: 10 s, 1 min, 5 min and 1 h of usage from windows of 1 s.

Sums are added and the largest sample stays: nothing is estimated anew. Each level is made from the one
below it. Windows come in the order of their time; a span is complete when a window at or beyond its end
comes, or at the flush.
"""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.expand import merge
from telemetryd.aggregate.keys import pack_rows
from telemetryd.schema import SUM_COLUMNS, Names, Table, UsageWindow

#: Lengths of the roll-ups, ns, each a multiple of the one before.
SPANS_NS: Final = (10_000_000_000, 60_000_000_000, 300_000_000_000, 3_600_000_000_000)

#: Which dictionary names the codes of which key columns; ``link`` depends on the table.
_DICTIONARY: Final = {
    "department": "departments",
    "peer_department": "departments",
    "application": "applications",
    "source_zone": "zones",
    "destination_zone": "zones",
    "service_class": "service_classes",
}

_Codes = dict[str, NDArray[np.int64]]


def _unite(windows: list[UsageWindow]) -> tuple[Names, list[_Codes]]:
    """Return one dictionary for all windows and, for each, its codes -> the codes of that dictionary.

    The dictionary of the last window comes first; names that only older ones know are appended.
    """
    newest = windows[-1].names
    united: dict[str, tuple[str, ...]] = {}
    translations: list[_Codes] = [{} for _ in windows]
    for kind in (field.name for field in fields(Names)):
        numbers: dict[str, int] = {}
        for code, name in enumerate(getattr(newest, kind)):
            numbers.setdefault(name, code)
        names = list(getattr(newest, kind))
        for window, translation in zip(windows, translations, strict=True):
            if window.names is newest:
                translation[kind] = np.arange(len(names))
                continue
            for name in getattr(window.names, kind):
                if name not in numbers:
                    numbers[name] = len(names)
                    names.append(name)
            translation[kind] = np.array([numbers[name] for name in getattr(window.names, kind)], np.int64)
        united[kind] = tuple(names)
    return Names(**united), translations


def _translate(columns: dict[str, NDArray[Any]], codes: _Codes) -> dict[str, NDArray[Any]]:
    """Return ``columns`` with the codes of another dictionary."""
    translated = dict(columns)
    for column, kind in _DICTIONARY.items():
        translated[column] = codes[kind][columns[column]].astype(columns[column].dtype)
    link = columns["link"].copy()
    for table, kind in ((Table.LINK_USAGE, "links"), (Table.TOTALS, "metering_points")):
        chosen = columns["table"] == table
        link[chosen] = codes[kind][columns["link"][chosen]]
    translated["link"] = link
    return translated


def merge_windows(windows: list[UsageWindow], start_ns: int, span_ns: int) -> UsageWindow:
    """Merge windows into one of [``start_ns``, ``start_ns + span_ns``).

    Windows of several days, with different dictionaries, are merged by name.

    Raises
    ------
    ValueError
        If there is no window.
    """
    if not windows:
        raise ValueError("no window to merge")
    if len(windows) == 1:
        return replace(windows[0], start_ns=start_ns, span_ns=span_ns)
    names = windows[-1].names
    tables = [window.columns for window in windows]
    if any(window.names is not names and window.names != names for window in windows):
        names, translations = _unite(windows)
        tables = [_translate(table, codes) for table, codes in zip(tables, translations, strict=True)]
    words = [pack_rows(table) for table in tables]
    columns = merge(
        np.concatenate([word1 for word1, _ in words]),
        np.concatenate([word2 for _, word2 in words]),
        {column.name: np.concatenate([table[column.name] for table in tables]) for column in SUM_COLUMNS},
    )
    return UsageWindow(start_ns, span_ns, columns, names)


class RollUp:
    """Make the coarser windows from the stream of closed 1 s windows.

    What is open of a longer level is one window, to which each shorter one is added as it closes, so that an hour
    takes no more memory than its keys. Of the shortest level the windows themselves are held.

    Parameters
    ----------
    spans_ns:
        Lengths of the levels, ascending, each a multiple of the one before.

    Raises
    ------
    ValueError
        If a length is no multiple of the one before.
    """

    def __init__(self, spans_ns: tuple[int, ...] = SPANS_NS) -> None:
        if any(longer % shorter for shorter, longer in pairwise(spans_ns)):
            raise ValueError("each span must be a multiple of the one before")
        self._spans_ns = spans_ns
        self._open: list[list[UsageWindow]] = [[] for _ in spans_ns]

    def add(self, window: UsageWindow) -> list[UsageWindow]:
        """Add a window of the lowest level; return the spans that it completes, shorter ones first.

        Raises
        ------
        ValueError
            If the window begins before the spans that are open: windows must come in order.
        """
        closed: list[UsageWindow] = []
        held = self._open[0] if self._open else []
        if held and window.start_ns < held[-1].start_ns:
            raise ValueError("windows must be added in the order of their time")
        for level in range(len(self._spans_ns)):
            if self._held_from(level) is not None and self._start(level, window) != self._held_from(level):
                closed.append(self._close(level))
        if self._open:
            self._open[0].append(window)
        return closed

    def flush(self) -> list[UsageWindow]:
        """Complete every open span, shorter ones first."""
        closed: list[UsageWindow] = []
        for level in range(len(self._open)):
            if self._open[level]:
                closed.append(self._close(level))
        return closed

    def _start(self, level: int, window: UsageWindow) -> int:
        return window.start_ns // self._spans_ns[level] * self._spans_ns[level]

    def _held_from(self, level: int) -> int | None:
        """Return the start of the open span of a level, None where nothing is held."""
        return self._start(level, self._open[level][0]) if self._open[level] else None

    def _close(self, level: int) -> UsageWindow:
        start = self._start(level, self._open[level][0])
        merged = merge_windows(self._open[level], start, self._spans_ns[level])
        self._open[level] = []
        if level + 1 < len(self._open):
            held = [*self._open[level + 1], merged]
            if len(held) > 1:
                held = [merge_windows(held, self._start(level + 1, merged), self._spans_ns[level + 1])]
            self._open[level + 1] = held
        return merged
