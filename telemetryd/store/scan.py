"""One pass over many rows: sums of many keys by bins of time, straight from the columns of the segments.

A month of a city is tens of millions of rows. Grouping them by names in a database costs several times
what this does: the names are numbers in the files already, and adding up by number is one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from telemetryd.store.columns import NOT_KNOWN, TABLE_NAMES
from telemetryd.store.cover import Piece, Plan
from telemetryd.store.embedded import Snapshot
from telemetryd.store.manifest import QUALITY, USAGE, is_of_counters
from telemetryd.store.select import segments_of

_NAMES: Final = ("table", "link", "direction", "department", "application")
_VALUES: Final = ("samples", "octets", "octets_variance", "octets_largest", "stated_rate_samples")
_DIRECTIONS: Final = 8
"""Room for the names of directions of both tables."""

Lane = tuple[str, str]
"""(name, direction): of a department, a metering point or a link."""


class Lanes:
    """Sums of lanes by bin of time.

    Attributes
    ----------
    places:
        Lane -> its row in the arrays.
    octets, variance:
        Sums by bin, shape (lanes, n).
    samples, stated, largest:
        Sums, and the largest ``octets_largest``, over all bins, shape (lanes,).
    """

    def __init__(self, bins: int) -> None:
        self.places: dict[Lane, int] = {}
        self.octets = np.zeros((0, bins))
        self.variance = np.zeros((0, bins))
        self.samples = np.zeros(0)
        self.stated = np.zeros(0)
        self.largest = np.zeros(0)

    def add(self, lanes: list[Lane], grouped: _Grouped) -> None:
        """Add grouped rows; ``lanes`` tells the lane of each group, several groups may be of one."""
        places = np.array([self._place(lane) for lane in lanes], dtype=np.intp)
        span = slice(grouped.first, grouped.first + grouped.octets.shape[1])
        np.add.at(self.octets[:, span], places, grouped.octets)
        np.add.at(self.variance[:, span], places, grouped.variance)
        np.add.at(self.samples, places, grouped.samples)
        np.add.at(self.stated, places, grouped.stated)
        np.maximum.at(self.largest, places, grouped.largest)

    def _place(self, lane: Lane) -> int:
        place = self.places.get(lane)
        if place is not None:
            return place
        place = self.places[lane] = len(self.places)
        if place >= len(self.samples):
            more = max(16, len(self.samples))
            self.octets = np.pad(self.octets, ((0, more), (0, 0)))
            self.variance = np.pad(self.variance, ((0, more), (0, 0)))
            self.samples, self.stated, self.largest = (
                np.pad(array, (0, more)) for array in (self.samples, self.stated, self.largest)
            )
        return place


@dataclass(slots=True)
class Cube:
    """Sums over all bins of the codes of several names at once; the arrays grow with the codes."""

    octets: NDArray[np.float64]
    variance: NDArray[np.float64]
    largest: NDArray[np.float64]

    @classmethod
    def empty(cls, axes: int) -> Cube:
        """Make a cube without a cell."""
        shape = (0,) * axes
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def add(self, codes: tuple[NDArray[np.int64], ...], sizes: tuple[int, ...], rows: _Rows, of: NDArray[Any]) -> None:
        """Add rows whose cell is told by ``codes``, each below its one of ``sizes``."""
        grow = [(0, size - old) for size, old in zip(sizes, self.octets.shape, strict=True)]
        if any(more for _, more in grow):
            self.octets, self.variance, self.largest = (
                np.pad(array, grow) for array in (self.octets, self.variance, self.largest)
            )
        cells = np.ravel_multi_index(codes, sizes)
        count = int(np.prod(sizes))
        for target, name in ((self.octets, "octets"), (self.variance, "octets_variance")):
            target += np.bincount(cells, weights=rows.values[name][of], minlength=count).reshape(sizes)
        np.maximum.at(self.largest.reshape(-1), cells, rows.values["octets_largest"][of])


class Codes(dict[str, int]):
    """Numbers of names, given in the order in which names are met."""

    def of(self, column: pa.DictionaryArray) -> NDArray[np.int64]:
        """Return the codes of a column."""
        own = np.array([self.setdefault(name, len(self)) for name in column.dictionary.to_pylist()], dtype=np.int64)
        codes: NDArray[np.int64] = own[column.indices.to_numpy(zero_copy_only=False)]
        return codes


@dataclass(slots=True)
class Total:
    """Sums of one key over all bins."""

    octets: float = 0.0
    variance: float = 0.0
    largest: float = 0.0

    def add(self, octets: float, variance: float, largest: float) -> None:
        """Add the sums of some more rows."""
        self.octets += octets
        self.variance += variance
        self.largest = max(self.largest, largest)


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Sums of g groups: by bin from bin ``first`` on, shape (g, width), and over the bins, shape (g,)."""

    keys: NDArray[np.intp]
    first: int
    octets: NDArray[np.float64]
    variance: NDArray[np.float64]
    samples: NDArray[np.float64]
    stated: NDArray[np.float64]
    largest: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Rows:
    codes: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, NDArray[Any]]
    bins: NDArray[np.int64]


@dataclass
class Scan:
    """What one pass over a range found, in n bins of time.

    Attributes
    ----------
    seen_s:
        Seconds of each bin in which something was collected, shape (n,); 0 where there is not one row.
    departments, points, links:
        Lanes of departments and metering points (table ``totals``) and of links (``link_usage``).
    department, application, direction:
        Codes of the names in ``by_application``.
    by_application:
        Sums by (department, application, direction) of ``totals``.
    by_point:
        (department, metering point, direction) -> its sums of ``totals``.
    samples:
        All samples counted, of both tables: what a later look at the same range is compared with.
    quality:
        Metric -> source -> sum of the values of the quality rows.
    """

    seen_s: NDArray[np.float64]
    departments: Lanes
    points: Lanes
    links: Lanes
    department: Codes = field(default_factory=Codes)
    application: Codes = field(default_factory=Codes)
    direction: Codes = field(default_factory=Codes)
    by_application: Cube = field(default_factory=lambda: Cube.empty(3))
    by_point: dict[tuple[str, str, str], Total] = field(default_factory=dict)
    samples: int = 0
    quality: dict[str, dict[str, float]] = field(default_factory=dict)


def scan(
    snapshot: Snapshot,
    plan: Plan,
    from_ns: int,
    bins: int,
    bin_ns: int,
    *,
    tables: tuple[str, ...] = TABLE_NAMES,
    by_application: bool = True,
) -> Scan:
    """Add up the rows of a plan in ``bins`` bins of ``bin_ns`` from ``from_ns`` on.

    Parameters
    ----------
    tables:
        Which tables to add up; rows of the other one count only as a sign that something was collected.
    by_application:
        Add up by application too, which costs a third of the time.

    Raises
    ------
    OSError
        If a segment is gone, since it was replaced after the snapshot.
    """
    found = Scan(np.zeros(bins), Lanes(bins), Lanes(bins), Lanes(bins))
    link_codes: Codes = Codes()
    is_seen = np.zeros(bins, dtype=bool)
    names = [name for name in _NAMES if by_application or name != "application"]
    for rows in _rows(snapshot, plan, from_ns, bins, bin_ns, found, link_codes, names):
        is_seen[rows.bins] = True
        found.samples += int(rows.values["samples"].sum())
        is_total = rows.codes["table"] == TABLE_NAMES.index("totals")
        if "totals" in tables and is_total.any():
            _add_totals(found, rows, np.flatnonzero(is_total), link_codes)
        if "link_usage" in tables and not is_total.all():
            _add_links(found, rows, np.flatnonzero(~is_total), link_codes)
    found.seen_s[:] = np.where(is_seen, collected_s(snapshot, from_ns, bins, bin_ns), 0.0)
    _add_quality(snapshot, plan, found)
    return found


def count_samples(snapshot: Snapshot, plan: Plan) -> int:
    """Count the samples of a plan's rows, both tables: as :attr:`Scan.samples`, at a fraction of its cost."""
    total = 0
    for table in _tables(snapshot, plan, USAGE, ["samples"], []):
        total += int(table["samples"].to_numpy().sum())
    return total


def _add_totals(found: Scan, rows: _Rows, of: NDArray[np.intp], link_codes: Codes) -> None:
    department = rows.codes["department"][of]
    direction, link = rows.codes["direction"][of], rows.codes["link"][of]
    width = len(link_codes) * _DIRECTIONS
    grouped = _group(department * width + link * _DIRECTIONS + direction, rows, of)
    directions, departments, links = list(found.direction), list(found.department), list(link_codes)
    keys = grouped.keys.tolist()
    names = [(departments[key // width], links[key % width // _DIRECTIONS]) for key in keys]
    ways = [directions[key % _DIRECTIONS] for key in keys]
    found.departments.add([(name, way) for (name, _), way in zip(names, ways, strict=True)], grouped)
    found.points.add([(point, way) for (_, point), way in zip(names, ways, strict=True)], grouped)
    for name, way, octets, variance, largest in zip(
        names,
        ways,
        grouped.octets.sum(axis=1).tolist(),
        grouped.variance.sum(axis=1).tolist(),
        grouped.largest.tolist(),
        strict=True,
    ):
        found.by_point.setdefault((*name, way), Total()).add(octets, variance, largest)
    if "application" in rows.codes:
        application = rows.codes["application"][of]
        sizes = len(departments), len(found.application), _DIRECTIONS
        found.by_application.add((department, application, direction), sizes, rows, of)


def _add_links(found: Scan, rows: _Rows, of: NDArray[np.intp], link_codes: Codes) -> None:
    links, directions = list(link_codes), list(found.direction)
    grouped = _group(rows.codes["link"][of] * _DIRECTIONS + rows.codes["direction"][of], rows, of)
    lanes = [(links[key // _DIRECTIONS], directions[key % _DIRECTIONS]) for key in grouped.keys.tolist()]
    found.links.add(lanes, grouped)


def _group(keys: NDArray[np.int64], rows: _Rows, of: NDArray[np.intp]) -> _Grouped:
    """Add up the rows ``of`` by their ``keys``, shape (k,), and by bin."""
    counts = np.bincount(keys)
    present = np.flatnonzero(counts)
    compact = np.zeros(len(counts), dtype=np.int64)
    compact[present] = np.arange(len(present))
    local = compact[keys]
    bins = rows.bins[of]
    first = int(bins.min())
    width = int(bins.max()) - first + 1
    cells = local * width + (bins - first)
    shape = len(present), width

    def add(name: str) -> NDArray[np.float64]:
        sums = np.bincount(cells, weights=rows.values[name][of], minlength=len(present) * width)
        return sums.astype(np.float64, copy=False).reshape(shape)

    def total(name: str) -> NDArray[np.float64]:
        return np.bincount(local, weights=rows.values[name][of], minlength=len(present)).astype(np.float64, copy=False)

    largest = np.zeros(len(present))
    np.maximum.at(largest, local, rows.values["octets_largest"][of])
    return _Grouped(
        present, first, add("octets"), add("octets_variance"), total("samples"), total("stated_rate_samples"), largest
    )


def _rows(
    snapshot: Snapshot,
    plan: Plan,
    from_ns: int,
    bins: int,
    bin_ns: int,
    found: Scan,
    link_codes: Codes,
    names: list[str],
) -> Iterator[_Rows]:
    known = {
        "table": Codes({name: code for code, name in enumerate(TABLE_NAMES)}),
        "link": link_codes,
        "direction": found.direction,
        "department": found.department,
        "application": found.application,
    }
    for table in _tables(snapshot, plan, USAGE, ["time", *_VALUES], names):
        places = (table["time"].to_numpy() - from_ns) // bin_ns
        inside = (places >= 0) & (places < bins)
        if not inside.all():
            table, places = table.filter(pa.array(inside)), places[inside]
        if not table.num_rows:
            continue
        codes = {name: known[name].of(_combined(table[name])) for name in names}
        yield _Rows(codes, {name: table[name].to_numpy() for name in _VALUES}, places)


def _combined(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.chunk(0) if column.num_chunks == 1 else column.unify_dictionaries().combine_chunks()


def _tables(snapshot: Snapshot, plan: Plan, kind: str, values: list[str], names: list[str]) -> Iterator[pa.Table]:
    """Yield the rows of a plan, one row group at a time, with the columns ``values`` and ``names``."""
    for span_ns in sorted({piece.span_ns for piece in plan.pieces}):
        pieces = {piece: origins for piece, origins in plan.pieces.items() if piece.span_ns == span_ns}
        segments = segments_of(snapshot.manifest, pieces, kind)
        present = {origin for segment in segments for origin in segment.origins}
        mixed = any(not present <= set(origins) for origins in pieces.values())
        wanted = list(dict.fromkeys([*values, *names, "time", *(["origin"] if mixed else [])]))
        for segment in segments:
            reads: list[tuple[int, dict[Piece, tuple[str, ...]], bool]] = []
            with pq.ParquetFile(snapshot.path(segment)) as file:
                for group in range(file.num_row_groups):
                    statistics = file.metadata.row_group(group).column(0).statistics
                    first, last = (statistics.min, statistics.max) if statistics else (segment.first_ns, segment.end_ns)
                    near = {p: o for p, o in pieces.items() if p.from_ns <= last and first < p.to_ns}
                    whole = any(p.from_ns <= first and last < p.to_ns and present <= set(o) for p, o in near.items())
                    if near:
                        reads.append((group, near, whole))
            yield from _ahead(snapshot.path(segment), reads, wanted, [*names, "origin"], mixed)


def _ahead(
    path: Path,
    reads: list[tuple[int, dict[Piece, tuple[str, ...]], bool]],
    wanted: list[str],
    dictionaries: list[str],
    mixed: bool,
) -> Iterator[pa.Table]:
    """Yield the row groups of a file, the next one being decoded by a thread while the caller is busy."""
    with (
        pq.ParquetFile(path, read_dictionary=dictionaries, memory_map=True) as file,
        ThreadPoolExecutor(1) as decoder,
    ):
        groups = [group for group, _, _ in reads]

        def decode(place: int) -> Future[pa.Table] | None:
            return decoder.submit(file.read_row_group, groups[place], columns=wanted) if place < len(groups) else None

        coming = decode(0)
        for place, (_, near, whole) in enumerate(reads, 1):
            assert coming is not None
            table = coming.result()
            coming = decode(place)
            yield table if whole else table.filter(pa.array(_belongs(table, near, mixed)))


def _belongs(table: pa.Table, pieces: Mapping[Piece, tuple[str, ...]], mixed: bool) -> NDArray[np.bool_]:
    """Tell which rows lie in one of the pieces, and are of its origins."""
    time = table["time"].to_numpy()
    chosen = np.zeros(len(time), dtype=bool)
    for piece, origins in pieces.items():
        part = (time >= piece.from_ns) & (time < piece.to_ns)
        if mixed:
            column = _combined(table["origin"])
            own = np.array([name in origins for name in column.dictionary.to_pylist()], dtype=bool)
            part &= own[column.indices.to_numpy(zero_copy_only=False)]
        chosen |= part
    return chosen


def collected_s(snapshot: Snapshot, from_ns: int, bins: int, bin_ns: int) -> NDArray[np.float64]:
    """Return the seconds of each bin in which some origin stored windows, by their finest level."""
    edges = from_ns + bin_ns * np.arange(bins + 1, dtype=np.int64)
    reaches = sorted(
        (spans[min(spans)].first_ns, spans[min(spans)].until_ns)
        for origin, spans in snapshot.manifest.extents.items()
        if spans and not is_of_counters(origin)
    )
    before = np.zeros(bins + 1)  # seconds collected before each edge
    reached = 0
    for first, until in reaches:
        first = max(first, reached)
        if until > first:
            before += np.clip(edges - first, 0, until - first) / 1e9
            reached = until
    return np.diff(before)


def _add_quality(snapshot: Snapshot, plan: Plan, found: Scan) -> None:
    for table in _tables(snapshot, plan, QUALITY, ["value"], ["metric", "source"]):
        metrics, sources = Codes(), Codes()
        metric, source = metrics.of(_combined(table["metric"])), sources.of(_combined(table["source"]))
        sums = np.zeros((len(metrics), len(sources)))
        np.add.at(sums, (metric, source), table["value"].to_numpy())
        for name, row in metrics.items():
            values = found.quality.setdefault(name, {})
            for where, place in sources.items():
                if sums[row, place]:
                    values[where] = values.get(where, 0.0) + float(sums[row, place])


UNKNOWN_DEPARTMENT: Final = NOT_KNOWN["departments"]
UNCLASSIFIED: Final = NOT_KNOWN["applications"]
