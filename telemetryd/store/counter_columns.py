"""Windows of counters on disk: names instead of numbers, and the columns of their kind as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from telemetryd.counter_windows import COUNTER_WINDOWS, CounterWindow, Layout
from telemetryd.schema import Column, CounterSource

_NAME: Final = pa.dictionary(pa.int32(), pa.string())
_SOURCE: Final = "source"
_SOURCES: Final = ("-", *(source.name.lower() for source in CounterSource))


def _plain(layout: Layout) -> list[Column]:
    """Return the columns that are stored as they are."""
    return [column for column in layout.columns if column.name not in (layout.kind, _SOURCE)]


def _texts(layout: Layout) -> list[str]:
    """Return the columns that are stored as texts, beside the origin."""
    has_source = any(column.name == _SOURCE for column in layout.columns)
    return [*layout.names, *([_SOURCE] if has_source else [])]


def _schema(layout: Layout) -> pa.Schema:
    return pa.schema(
        [("time", pa.int64()), ("span_ns", pa.int64())]
        + [(name, _NAME) for name in ("origin", *_texts(layout))]
        + [(column.name, pa.from_numpy_dtype(np.dtype(column.dtype))) for column in _plain(layout)]
    )


COUNTER_SCHEMAS: Final[dict[str, pa.Schema]] = {kind: _schema(one.layout) for kind, one in COUNTER_WINDOWS.items()}
"""Kind -> one row a name of a window: its start and span in ns, where it came from, names, columns."""


def counter_table(windows: Sequence[CounterWindow], origin: str) -> pa.Table:
    """Make one Arrow table of windows of one kind and span, in the order of its schema."""
    layout = windows[0].layout
    schema = COUNTER_SCHEMAS[layout.kind]
    numbers: dict[tuple[str, ...], int] = {}
    places = [
        np.array([numbers.setdefault(name, len(numbers)) for name in window.names], np.int64)[
            window.columns[layout.kind]
        ]
        for window in windows
    ]
    columns = {c.name: np.concatenate([window.columns[c.name] for window in windows]) for c in layout.columns}
    place = np.concatenate(places)
    counts = [len(one) for one in places]
    times = np.repeat(np.array([window.start_ns for window in windows], np.int64), counts)
    spans = np.repeat(np.array([window.span_ns for window in windows], np.int64), counts)
    order = np.lexsort((times, place))
    arrays = {
        "time": pa.array(times[order]),
        "span_ns": pa.array(spans[order]),
        "origin": pa.array([origin]).dictionary_encode().take(pa.array(np.zeros(len(order), np.int32))),
        **{name: _named(place[order], [parts[side] for parts in numbers]) for side, name in enumerate(layout.names)},
        **{column.name: pa.array(columns[column.name][order]) for column in _plain(layout)},
    }
    if _SOURCE in columns:
        arrays[_SOURCE] = _named(columns[_SOURCE][order], _SOURCES)
    return pa.table([arrays[field.name].cast(field.type) for field in schema], schema)


def windows_of(kind: str, table: pa.Table) -> list[CounterWindow]:
    """Make windows again of rows of one kind and span, in the order of their time."""
    window_type = COUNTER_WINDOWS[kind]
    layout = window_type.layout
    rows = table.sort_by("time")
    times = rows["time"].to_numpy()
    names = list(zip(*(rows[name].cast(pa.string()).to_pylist() for name in layout.names), strict=True))
    columns: dict[str, NDArray[Any]] = {column.name: rows[column.name].to_numpy() for column in _plain(layout)}
    if _SOURCE in _texts(layout):
        sources = rows[_SOURCE].cast(pa.string()).to_pylist()
        columns[_SOURCE] = np.array([_SOURCES.index(source) for source in sources], np.uint8)
    windows = []
    for start_ns in np.unique(times).tolist():
        first, last = (int(np.searchsorted(times, start_ns, side)) for side in ("left", "right"))
        own = {name: column[first:last] for name, column in columns.items()}
        own[kind] = np.arange(last - first, dtype=np.uint32)
        windows.append(window_type(start_ns, int(rows["span_ns"][first].as_py()), own, tuple(names[first:last])))
    return windows


def _named(codes: NDArray[Any], names: Sequence[str]) -> pa.Array:
    """Encode codes by the names that occur, each name once in the dictionary."""
    used, places = np.unique(codes, return_inverse=True)
    known: dict[str, int] = {}
    lookup = np.array([known.setdefault(names[code], len(known)) for code in used.tolist()], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(lookup[places]), pa.array(list(known), pa.string()))
