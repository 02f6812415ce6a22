"""The columns on disk, derived from telemetryd.schema: names instead of codes, and the sums as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from telemetryd.errors import StoreError
from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, Direction, LinkDirection, Names, Table, UsageWindow

NAME: Final = pa.dictionary(pa.int32(), pa.string())

USAGE_SCHEMA: Final = pa.schema(
    [("time", pa.int64()), ("span_ns", pa.int64()), ("origin", NAME)]
    + [(column.name, NAME) for column in KEY_COLUMNS]
    + [(column.name, pa.from_numpy_dtype(np.dtype(column.dtype))) for column in SUM_COLUMNS]
)
"""One row a key of a window: its start and span in ns, where it came from, names, sums."""

QUALITY_SCHEMA: Final = pa.schema(
    [
        ("time", pa.int64()),
        ("span_ns", pa.int64()),
        ("origin", NAME),
        ("metric", NAME),
        ("source", NAME),
        ("value", pa.float64()),
    ]
)

KEPT_BITS: Final = {
    "octets": 28,
    "packets": 28,
    "octets_variance": 20,
    "packets_variance": 20,
    "octets_largest": 20,
    "packets_largest": 20,
}
"""Bits of the mantissa that are kept on disk of each estimate: a few billionths of a volume, a millionth of a variance.

An estimate from samples is known to percents. Its last 30 bits are noise that no compression gets rid of: with them a
row takes twice the space.
"""

KEYS: Final = tuple(column.name for column in KEY_COLUMNS)
SUMS: Final = tuple(column.name for column in SUM_COLUMNS)

TABLE_NAMES: Final = tuple(table.name.lower() for table in Table)
DIRECTION_NAMES: Final = tuple(direction.name.lower() for direction in Direction)
LINK_DIRECTION_NAMES: Final = (DIRECTION_NAMES[0], *(direction.name.lower() for direction in LinkDirection))

NOT_KNOWN: Final = {
    "links": "-",
    "metering_points": "-",
    "departments": "unknown",
    "applications": "unclassified",
    "zones": "-",
    "service_classes": "-",
}
"""The name of code 0 of each kind (telemetryd.schema.Names)."""

# The kinds of names that a key column of codes refers to.
_KINDS: Final = {
    "department": "departments",
    "peer_department": "departments",
    "application": "applications",
    "source_zone": "zones",
    "destination_zone": "zones",
    "service_class": "service_classes",
}


class QualityRow(NamedTuple):
    """One figure about how good a window is: loss by cause, the effective rate of a source, ...

    It belongs to the window [time_ns, time_ns + span_ns) and is appended together with it.
    """

    time_ns: int
    span_ns: int
    metric: str
    source: str
    value: float


def usage_table(windows: Sequence[UsageWindow], origin: str) -> pa.Table:
    """Make one Arrow table of windows of one span, in the order of :data:`USAGE_SCHEMA`.

    Rows come sorted by time and then by key, which makes the files smaller.

    Raises
    ------
    StoreError
        If a window lacks a column or has a code without a name.
    """
    groups: dict[int, list[UsageWindow]] = {}
    for window in sorted(windows, key=lambda window: window.start_ns):
        groups.setdefault(id(window.names), []).append(window)
    tables = [_same_names(group, origin) for group in groups.values()]
    if len(tables) == 1:
        return tables[0]
    return pa.concat_tables(tables).unify_dictionaries()


def usage_windows(table: pa.Table, origin: str, from_ns: int) -> list[UsageWindow]:
    """Make windows again of the rows of one origin and span that begin at ``from_ns`` or later, in order.

    They share one dictionary, of the names that occur.
    """
    wanted = pc.and_(pc.equal(table["origin"].cast(pa.string()), origin), pc.greater_equal(table["time"], from_ns))
    rows = table.filter(wanted).sort_by("time")
    if not rows.num_rows:
        return []
    codes: dict[str, NDArray[Any]] = {}
    is_link = _column(rows, "table") == TABLE_NAMES[Table.LINK_USAGE]
    kinds: dict[str, dict[str, int]] = {kind: {name: 0} for kind, name in NOT_KNOWN.items()}
    for key, kind in _KINDS.items():
        codes[key] = _codes(_column(rows, key), kinds[kind])
    links = _column(rows, "link")
    codes["table"] = np.where(is_link, Table.LINK_USAGE, Table.TOTALS)
    codes["link"] = np.empty(len(links), dtype=np.int64)
    codes["link"][is_link] = _codes(links[is_link], kinds["links"])
    codes["link"][~is_link] = _codes(links[~is_link], kinds["metering_points"])
    directions = _column(rows, "direction")
    codes["direction"] = np.where(
        is_link,
        _codes(directions, {name: code for code, name in enumerate(LINK_DIRECTION_NAMES)}),
        _codes(directions, {name: code for code, name in enumerate(DIRECTION_NAMES)}),
    )
    columns = {column.name: codes[column.name].astype(column.dtype) for column in KEY_COLUMNS}
    columns |= {name: _column(rows, name) for name in SUMS}
    names = Names(**{kind: tuple(known) for kind, known in kinds.items()})
    times = _column(rows, "time")
    edges = [0, *(np.flatnonzero(np.diff(times)) + 1).tolist(), len(times)]
    span_ns = rows["span_ns"][0].as_py()
    return [
        UsageWindow(int(times[first]), span_ns, {name: array[first:last] for name, array in columns.items()}, names)
        for first, last in pairwise(edges)
    ]


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    values: NDArray[Any] = column.to_numpy()
    return values


def _codes(names: NDArray[Any], known: dict[str, int]) -> NDArray[np.int64]:
    """Number names, giving those that are not ``known`` yet the next numbers."""
    return np.array([known.setdefault(name, len(known)) for name in names.tolist()], dtype=np.int64)


def quality_table(rows: Iterable[QualityRow], origin: str) -> pa.Table:
    """Make the Arrow table of quality rows of one span."""
    ordered = sorted(rows)
    count = len(ordered)
    times, spans, metrics, sources, values = zip(*ordered, strict=True) if ordered else ((),) * 5
    return pa.table(
        [
            pa.array(times, pa.int64()),
            pa.array(spans, pa.int64()),
            _constant(origin, count),
            pa.array(metrics, pa.string()).dictionary_encode(),
            pa.array(sources, pa.string()).dictionary_encode(),
            pa.array(values, pa.float64()),
        ],
        schema=QUALITY_SCHEMA,
    )


def _same_names(windows: list[UsageWindow], origin: str) -> pa.Table:
    names = windows[0].names
    try:
        counts = [len(window.columns["samples"]) for window in windows]
        columns = {name: np.concatenate([window.columns[name] for window in windows]) for name in KEYS + SUMS}
    except KeyError as error:
        raise StoreError(f"a window lacks the column {error}") from error
    total = sum(counts)
    places = np.repeat(np.arange(len(windows)), counts)
    order = _order([places, *(columns[name] for name in KEYS)])
    columns = {name: array[order] for name, array in columns.items()}
    starts = np.array([window.start_ns for window in windows], dtype=np.int64)
    arrays = [
        pa.array(starts[places]),
        pa.array(np.full(total, windows[0].span_ns, dtype=np.int64)),
        _constant(origin, total),
        *_key_arrays(columns, names),
        *(pa.array(kept(column.name, columns[column.name].astype(column.dtype, copy=False))) for column in SUM_COLUMNS),
    ]
    return pa.table(arrays, schema=USAGE_SCHEMA)


def kept(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a column as they are kept on disk: rounded to :data:`KEPT_BITS` of their mantissa.

    Whole numbers of no more bits stay exactly what they are, and so does what was rounded before.
    """
    if name not in KEPT_BITS:
        return values
    dropped = np.finfo(np.float64).nmant - KEPT_BITS[name]
    half, mask = np.uint64(1 << (dropped - 1)), np.uint64((1 << 64) - (1 << dropped))
    return (((values + 0.0).view(np.uint64) + half) & mask).view(np.float64)


def as_kept(table: pa.Table) -> pa.Table:
    """Round a table of usage that was written before estimates were rounded."""
    for name in KEPT_BITS:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(kept(name, table[name].to_numpy())))
    return table


def by_names(table: pa.Table) -> pa.Table:
    """Sort rows by their names and then by time; a table of one chunk a column.

    The rows of a key lie together then, so the names take next to no space, and a question about few keys skips
    the others. What orders the names is where they stand in the dictionary: any order will do.
    """
    codes = [
        column.chunk(0).indices.to_numpy(zero_copy_only=False)
        for field, column in zip(table.schema, table.itercolumns(), strict=True)
        if pa.types.is_dictionary(field.type)
    ]
    _, times = np.unique(table["time"].to_numpy(), return_inverse=True)
    return table.take(pa.array(_order([*codes, times])))


def _order(codes: list[NDArray[Any]]) -> NDArray[np.intp]:
    """Return the order of rows by their codes, the first one first.

    Sorting is not for the reader's sake: sorted rows compress better, and Parquet writes them faster.
    """
    packed = np.zeros(len(codes[0]), dtype=np.uint64)
    size = 1
    for array in codes:
        count = int(array.max(initial=0)) + 1
        size *= count
        if size > 1 << 64:
            return np.lexsort(codes[::-1])
        packed = packed * np.uint64(count) + array.astype(np.uint64)
    return np.argsort(packed)


def _key_arrays(columns: dict[str, NDArray[Any]], names: Names) -> list[pa.DictionaryArray]:
    is_link = columns["table"] == Table.LINK_USAGE
    found = {
        "table": (columns["table"].astype(np.int64), TABLE_NAMES),
        "link": _either(is_link, columns["link"], names.links, names.metering_points),
        "direction": _either(is_link, columns["direction"], LINK_DIRECTION_NAMES, DIRECTION_NAMES),
    }
    for key, kind in _KINDS.items():
        found[key] = (columns[key].astype(np.int64), getattr(names, kind))
    return [_encode(key, *found[key]) for key in KEYS]


def _either(
    is_link: NDArray[np.bool_], codes: NDArray[Any], link: tuple[str, ...], total: tuple[str, ...]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Put the names of both tables behind each other and shift the codes of ``totals`` accordingly."""
    wide = codes.astype(np.int64)
    shifted = np.where(is_link, wide, wide + len(link))
    # A code of link_usage past its own names would land in the other table's.
    shifted[is_link & (wide >= len(link))] = len(link) + len(total)
    return shifted, link + total


def _encode(key: str, codes: NDArray[np.int64], names: tuple[str, ...]) -> pa.DictionaryArray:
    """Encode codes by the names that occur, each name once in the dictionary."""
    if codes.size and int(codes.max()) >= len(names):
        raise StoreError(f"a window has a {key} code without a name; {len(names)} names are known")
    used = np.flatnonzero(np.bincount(codes, minlength=len(names)))
    places: dict[str, int] = {}
    lookup = np.zeros(len(names), dtype=np.int32)
    for code in used.tolist():
        lookup[code] = places.setdefault(names[code], len(places))
    return pa.DictionaryArray.from_arrays(pa.array(lookup[codes]), pa.array(list(places), pa.string()))


def _constant(name: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([name], pa.string()))
