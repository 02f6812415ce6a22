"""Interface counters on disk: names instead of numbers, and the sums as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from telemetryd.schema import INTERFACE_COLUMNS, CounterSource, InterfaceWindow

_NAME: Final = pa.dictionary(pa.int32(), pa.string())
_SOURCES: Final = ("-", *(source.name.lower() for source in CounterSource))
_PLAIN: Final = tuple(column for column in INTERFACE_COLUMNS if column.name not in ("interface", "source"))

INTERFACE_SCHEMA: Final = pa.schema(
    [("time", pa.int64()), ("span_ns", pa.int64())]
    + [(name, _NAME) for name in ("origin", "device", "interface", "source")]
    + [(column.name, pa.from_numpy_dtype(np.dtype(column.dtype))) for column in _PLAIN]
)
"""One row an interface of a window: its start and span in ns, where it came from, names, sums."""


def interface_table(windows: Sequence[InterfaceWindow], origin: str) -> pa.Table:
    """Make one Arrow table of windows of one span, in the order of :data:`INTERFACE_SCHEMA`."""
    numbers: dict[tuple[str, str], int] = {}
    places = [
        np.array([numbers.setdefault(name, len(numbers)) for name in window.names], np.int64)[
            window.columns["interface"]
        ]
        for window in windows
    ]
    columns = {c.name: np.concatenate([window.columns[c.name] for window in windows]) for c in INTERFACE_COLUMNS}
    place = np.concatenate(places)
    counts = [len(one) for one in places]
    times = np.repeat(np.array([window.start_ns for window in windows], np.int64), counts)
    spans = np.repeat(np.array([window.span_ns for window in windows], np.int64), counts)
    order = np.lexsort((times, place))
    devices, interfaces = ([name[side] for name in numbers] for side in (0, 1))
    arrays = [
        pa.array(times[order]),
        pa.array(spans[order]),
        pa.array([origin]).dictionary_encode().take(pa.array(np.zeros(len(order), np.int32))),
        _named(place[order], devices),
        _named(place[order], interfaces),
        _named(columns["source"][order], _SOURCES),
        *(pa.array(columns[column.name][order]) for column in _PLAIN),
    ]
    return pa.table(
        [array.cast(field.type) for array, field in zip(arrays, INTERFACE_SCHEMA, strict=True)], INTERFACE_SCHEMA
    )


def interface_windows(table: pa.Table) -> list[InterfaceWindow]:
    """Make windows again of rows of one span, in the order of their time."""
    rows = table.sort_by("time")
    times = rows["time"].to_numpy()
    texts = [rows[name].cast(pa.string()).to_pylist() for name in ("device", "interface", "source")]
    names = list(zip(texts[0], texts[1], strict=True))
    columns: dict[str, NDArray[Any]] = {column.name: rows[column.name].to_numpy() for column in _PLAIN}
    columns["source"] = np.array([_SOURCES.index(source) for source in texts[2]], np.uint8)
    windows = []
    for start_ns in np.unique(times).tolist():
        first, last = (int(np.searchsorted(times, start_ns, side)) for side in ("left", "right"))
        own = {column.name: columns[column.name][first:last] for column in (*_PLAIN,)} | {
            "source": columns["source"][first:last],
            "interface": np.arange(last - first, dtype=np.uint32),
        }
        span_ns = int(rows["span_ns"][first].as_py())
        windows.append(InterfaceWindow(start_ns, span_ns, own, tuple(names[first:last])))
    return windows


def _named(codes: NDArray[Any], names: Sequence[str]) -> pa.Array:
    """Encode codes by the names that occur, each name once in the dictionary."""
    used, places = np.unique(codes, return_inverse=True)
    known: dict[str, int] = {}
    lookup = np.array([known.setdefault(names[code], len(known)) for code in used.tolist()], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(lookup[places]), pa.array(list(known), pa.string()))
