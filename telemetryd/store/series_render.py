"""Line protocol of the series (:mod:`telemetryd.store.series`) from windows and from plain columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import load
from telemetryd.aggregate.expand import merge
from telemetryd.aggregate.interval import interval
from telemetryd.aggregate.keys import CODE_LIMITS, pack_rows
from telemetryd.counter_windows import (
    ComponentWindow,
    CounterWindow,
    DemandWindow,
    EnforcementWindow,
    InterfaceWindow,
    QueueWindow,
)
from telemetryd.errors import StoreError
from telemetryd.schema import ENFORCED_RATES, SUM_COLUMNS, Gauge, QueueKnown, Table, UsageWindow
from telemetryd.store.columns import DIRECTION_NAMES, LINK_DIRECTION_NAMES, TABLE_NAMES, kept
from telemetryd.store.line_text import NO_NAME, key_text, measurement_text
from telemetryd.store.series import (
    MEASUREMENTS,
    OTHER,
    SECOND_NS,
    USAGE,
    Field,
    Measurement,
    Merge,
    Tag,
    span_name,
)
from telemetryd.store.series_guard import CardinalityGuard, ones
from telemetryd.store.series_names import TagNames, is_address, tag_texts

render: Callable[..., bytes] = load("line_protocol", "telemetryd.store.line_protocol").render
group = load("group", "telemetryd.aggregate.group_reference").group

#: Which names of a window the codes of a key column are of.
_KINDS: Final = {
    "department": "departments",
    "peer_department": "departments",
    "application": "applications",
    "source_zone": "zones",
    "destination_zone": "zones",
    "service_class": "service_classes",
}
# The kind of code that bounds the names of each.
_FIELDS: Final = {kind: key for key, kind in _KINDS.items()} | {"links": "metering_point"}
_MOST_NAMES: Final = 1 << 20
_DIRECTIONS: Final = 8
_DIRECTION_TEXTS: Final = tag_texts(
    "direction",
    [
        names[code] if code < len(names) else OTHER
        for names in (LINK_DIRECTION_NAMES, DIRECTION_NAMES)
        for code in range(_DIRECTIONS)
    ],
)
_USAGE_KEYS: Final = [key_text(field.name) + b"=" for field in USAGE.fields]
_TABLE_TEXTS: Final = tag_texts("result_table", TABLE_NAMES)
# What folding gives up of a packed key (telemetryd/aggregate/keys.py): departments, application, zones and class; then
# the link too.
_ENDS: Final = ones((44, 20), (24, 20), (4, 20)), ones((24, 16), (8, 16), (0, 8))
_USAGE_FOLDS: Final = (_ENDS, (_ENDS[0], _ENDS[1] | ones((40, 24))))
_INTERFACE_COUNTS: Final = tuple(
    f"{way}_{what}" for way in ("in", "out") for what in ("octets", "packets", "discards", "errors")
)
# Keys of the other measurements: three tags a word.
_TAG_BITS: Final = 21
_TAGS_A_WORD: Final = 3


#: Texts, where each begins, and the code of each row's.
TagColumn = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


class Labels(NamedTuple):
    """The values of a tag: a code of each row, integers of shape (n,), and the name of each code."""

    codes: NDArray[Any]
    names: Sequence[str]


class SeriesRenderer:
    """Render rows as line protocol; one thread uses it at a time.

    The same rows give the same octets, whatever was rendered in between, as long as the guard is the same.

    Parameters
    ----------
    guard:
        Bounds the series.
    """

    def __init__(self, guard: CardinalityGuard) -> None:
        self._guard = guard
        self._names: dict[tuple[str, str], TagNames] = {}

    def usage(self, window: UsageWindow) -> bytes:
        """Render a window, one line a key.

        Raises
        ------
        StoreError
            If the window lacks a column or has a code without a name.
        """
        return render(b"usage", *self.usage_columns(window))

    def usage_columns(
        self, window: UsageWindow
    ) -> tuple[list[TagColumn], list[tuple[bytes, NDArray[Any]]], NDArray[np.int64]]:
        """Return the tags, fields and times of a window's lines, as :func:`render` takes them; raises as usage."""
        codes, has_synonyms = self._codes(window)
        sums = {column.name: window.columns[column.name] for column in SUM_COLUMNS if column.name in window.columns}
        if len(sums) < len(SUM_COLUMNS):
            raise StoreError("a window lacks a column of sums")
        own = pack_rows(codes)
        words = self._guard.admit(USAGE.name, own, sums["octets"], _USAGE_FOLDS)
        if words is not own or has_synonyms:
            codes = sums = merge(*words, sums)
        n = len(sums["samples"])
        tags = self._usage_tags(codes, n, window.span_ns)
        return tags, finished_fields(sums, window.span_ns), np.full(n, window.start_ns)

    def counters(self, window: CounterWindow) -> bytes:
        """Render a window of counters; rates are over the time that the counters tell of."""
        match window:
            case InterfaceWindow():
                return self._interfaces(window)
            case QueueWindow():
                return self._queues(window)
            case ComponentWindow():
                return self._components(window)
            case DemandWindow():
                return self._demands(window)
            case EnforcementWindow():
                return self._enforcements(window)
        raise StoreError(f"no measurement is made of windows of {window.layout.kind}")

    def _interfaces(self, window: InterfaceWindow) -> bytes:
        columns = window.columns
        seconds = columns["covered_ns"] / SECOND_NS
        fields: dict[str, NDArray[Any]] = {name: columns[name] for name in _INTERFACE_COUNTS}
        with np.errstate(invalid="ignore", divide="ignore"):
            for way in ("in", "out"):
                fields[f"{way}_bits_per_second"] = np.where(seconds > 0, 8 * columns[f"{way}_octets"] / seconds, np.nan)
        fields["seconds"] = seconds
        fields["capacity_bps"] = np.where(columns["capacity_bps"] > 0, columns["capacity_bps"], np.nan)
        is_known = columns["up"] <= 1
        octets = b""
        for chosen, more in ((is_known, {"up": columns["up"]}), (~is_known, {})):
            if chosen.any():
                octets += self._chosen(window, fields | more, chosen)
        return octets

    def _queues(self, window: QueueWindow) -> bytes:
        columns = window.columns
        seconds = columns["covered_ns"] / SECOND_NS
        octets = b""
        for known in np.unique(columns["known"]).tolist():
            counts = [bit.name.lower() for bit in QueueKnown if known & bit]
            fields: dict[str, NDArray[Any]] = {name: columns[name] for name in counts}
            if known & QueueKnown.OCTETS:
                with np.errstate(invalid="ignore", divide="ignore"):
                    fields["bits_per_second"] = np.where(seconds > 0, 8 * columns["octets"] / seconds, np.nan)
            octets += self._chosen(window, fields | {"seconds": seconds}, columns["known"] == known)
        return octets

    def _components(self, window: ComponentWindow) -> bytes:
        columns = window.columns
        fields: dict[str, NDArray[Any]] = {}
        for name in (gauge.name.lower() for gauge in Gauge):
            readings = columns[f"{name}_readings"]
            with np.errstate(invalid="ignore", divide="ignore"):
                fields[name] = np.where(readings > 0, columns[f"{name}_sum"] / readings, np.nan)
            fields[f"{name}_largest"] = columns[f"{name}_largest"]
            fields[f"{name}_readings"] = readings
        return self._chosen(window, fields, np.ones(len(window.names), np.bool_))

    def _demands(self, window: DemandWindow) -> bytes:
        columns = window.columns
        seconds = columns["covered_ns"] / SECOND_NS
        with np.errstate(invalid="ignore", divide="ignore"):
            fields: dict[str, NDArray[Any]] = {
                f"{name}_bps": np.where(seconds > 0, columns[f"{name}_bits"] / seconds, np.nan)
                for name in ("usage", "demand", "damped")
            }
            fields["censored"] = np.where(seconds > 0, columns["censored_ns"] / columns["covered_ns"], np.nan)
        fields["demand_largest_bps"] = columns["demand_largest"]
        fields |= {"seconds": seconds, "samples": columns["samples"]}
        return self._chosen(window, fields, np.ones(len(window.names), np.bool_))

    def _enforcements(self, window: EnforcementWindow) -> bytes:
        columns = window.columns
        seconds = columns["covered_ns"] / SECOND_NS
        fields: dict[str, NDArray[Any]] = {name: columns[name] for name in ("dropped_packets", "samples")}
        with np.errstate(invalid="ignore", divide="ignore"):
            for name in ENFORCED_RATES:
                fields[f"{name}_bps"] = np.where(seconds > 0, columns[f"{name}_bits"] / seconds, np.nan)
            fields["missed"] = np.where(seconds > 0, columns["missed_ns"] / columns["covered_ns"], np.nan)
        return self._chosen(window, fields | {"seconds": seconds}, np.ones(len(window.names), np.bool_))

    def _chosen(self, window: CounterWindow, fields: Mapping[str, NDArray[Any]], chosen: NDArray[np.bool_]) -> bytes:
        layout = window.layout
        codes = window.columns[layout.kind][chosen]
        return self.rows(
            layout.kind,
            {side: Labels(codes, [name[i] for name in window.names]) for i, side in enumerate(layout.names)},
            {name: values[chosen] for name, values in fields.items()},
            time_ns=window.start_ns,
            span_ns=window.span_ns,
        )

    def rows(
        self,
        measurement: str,
        tags: Mapping[str, Labels],
        fields: Mapping[str, NDArray[Any]],
        *,
        time_ns: int | NDArray[np.int64],
        span_ns: int,
    ) -> bytes:
        """Render rows of another measurement than ``usage``.

        Parameters
        ----------
        measurement:
            A name of :data:`telemetryd.store.series.MEASUREMENTS`.
        tags:
            Its tags but ``span``; one that is not given is ``-``.
        fields:
            Values of shape (n,); NaN where a row has none. Fields that are not given are not written.
        time_ns:
            Begin of the span of all rows, or of each, shape (n,).
        span_ns:
            Length of the spans; 0 where the values are those of a moment.

        Raises
        ------
        StoreError
            If the measurement has no such tag or field, or a code has no name.
        """
        known = MEASUREMENTS.get(measurement)
        if known is None or known is USAGE:
            raise StoreError(f"no measurement {measurement!r} is made of columns")
        _check(known, tags, fields)
        n = len(next(iter(fields.values()), ()))
        columns = {field.name: _column(field, fields[field.name]) for field in known.fields if field.name in fields}
        own = [tag for tag in known.tags if tag.name != "span"]
        codes = {tag.name: self._tag_codes(known, tag, tags.get(tag.name), n) for tag in own}
        times = np.full(n, time_ns) if isinstance(time_ns, int) else np.ascontiguousarray(time_ns, np.int64)
        words = self._guard.admit(measurement, _pack([codes[tag.name] for tag in own], n), np.ones(n), _folds(own))
        labels, first = _group(words, times)
        if len(first) < n:
            columns = {
                field.name: _merged(field, columns[field.name], labels, len(first))
                for field in known.fields
                if field.name in columns
            }
            times = times[first]
        packed = _unpack((words[0][first], words[1][first]), len(own))
        texts = []
        for tag, code in zip(own, packed, strict=True):
            names = self._names[measurement, tag.name]
            texts.append((*names.texts(tag.name), names.places(code)))
        span = (*tag_texts("span", [span_name(span_ns)]), np.zeros(len(first), np.int64))
        values = [(key_text(name) + b"=", column) for name, column in columns.items()]
        return render(measurement_text(measurement), [*texts, span], values, times)

    def _codes(self, window: UsageWindow) -> tuple[dict[str, NDArray[Any]], bool]:
        """Return KEY_COLUMNS with codes that last, shape (k,), and whether different rows may have the same ones."""
        columns, names = window.columns, window.names
        links, points = (self._usage_names("links").translate(of) for of in (names.links, names.metering_points))
        has_synonyms = links.has_synonyms or points.has_synonyms
        try:
            codes = {"table": columns["table"], "direction": columns["direction"]}
            for key, kind in _KINDS.items():
                translation = self._usage_names(kind).translate(getattr(names, kind))
                has_synonyms |= translation.has_synonyms
                codes[key] = translation.codes[columns[key]]
            is_total = columns["table"] == Table.TOTALS
            codes["link"] = np.empty(len(is_total), np.int64)
            for chosen, translation in ((~is_total, links), (is_total, points)):
                codes["link"][chosen] = translation.codes[columns["link"][chosen]]
        except KeyError as error:
            raise StoreError(f"a window lacks the column {error}") from error
        except IndexError:
            raise StoreError("a window has a code without a name") from None
        return codes, has_synonyms

    def _usage_tags(self, codes: Mapping[str, NDArray[Any]], n: int, span_ns: int) -> list[TagColumn]:
        tags: list[TagColumn] = []
        table = codes["table"].astype(np.int64)
        for tag in USAGE.tags:
            if tag.name == "span":
                tags.append((*tag_texts("span", [span_name(span_ns)]), np.zeros(n, np.int64)))
            elif tag.name == "result_table":
                tags.append((*_TABLE_TEXTS, table))
            elif tag.name == "direction":
                tags.append((*_DIRECTION_TEXTS, table * _DIRECTIONS + codes["direction"]))
            else:
                names = self._usage_names(_KINDS.get(tag.name, "links"))
                tags.append((*names.texts(tag.name), names.places(codes[tag.name].astype(np.int64, copy=False))))
        return tags

    def _usage_names(self, kind: str) -> TagNames:
        """Return the names of a kind; they are the registry's, so that none is refused."""
        found = self._names.get((USAGE.name, kind))
        if found is None:
            greatest = min(CODE_LIMITS[_FIELDS[kind]], _MOST_NAMES)
            found = TagNames(greatest, lambda name: False, lambda: self._guard.count_name(USAGE.name))
            self._names[USAGE.name, kind] = found
        return found

    def _tag_codes(self, known: Measurement, tag: Tag, labels: Labels | None, n: int) -> NDArray[np.int64]:
        names = self._names.get((known.name, tag.name))
        if names is None:
            refuses = is_address if tag.is_observed else lambda name: False
            names = TagNames((1 << _TAG_BITS) - 1, refuses, lambda: self._guard.count_name(known.name))
            self._names[known.name, tag.name] = names
        codes, texts = (np.zeros(n, np.intp), (NO_NAME,)) if labels is None else labels
        try:
            return names.translate(texts).codes[codes]
        except IndexError:
            raise StoreError(f"a code of {known.name}.{tag.name} has no name") from None


def finished_fields(sums: Mapping[str, NDArray[Any]], span_ns: int) -> list[tuple[bytes, NDArray[Any]]]:
    """Return the fields of usage, as :func:`render` takes them: the sums as the embedded store keeps them, and figures.

    Parameters
    ----------
    sums:
        SUM_COLUMNS of shape (k,).
    """
    sums = {column.name: kept(column.name, sums[column.name]) for column in SUM_COLUMNS}
    low, high = interval(sums["octets"], sums["octets_variance"], sums["octets_largest"])
    scale = 8.0 * SECOND_NS / span_ns
    derived = {
        "bits_per_second": np.rint(sums["octets"] * scale),
        "bits_per_second_low": np.floor(low * scale),
        "bits_per_second_high": np.ceil(high * scale),
        "octets_low": np.floor(low),
        "octets_high": np.ceil(high),
    }
    columns = {**sums, **derived}
    return [(key, _column(field, columns[field.name])) for key, field in zip(_USAGE_KEYS, USAGE.fields, strict=True)]


def _check(known: Measurement, tags: Mapping[str, object], fields: Mapping[str, NDArray[Any]]) -> None:
    for kind, given, declared in (
        ("tag", tags, [tag.name for tag in known.tags if tag.name != "span"]),
        ("field", fields, [field.name for field in known.fields]),
    ):
        if unknown := set(given) - set(declared):
            raise StoreError(f"the measurement {known.name} has no {kind} {min(unknown)!r}")
    if len({len(values) for values in fields.values()}) > 1:
        raise StoreError(f"the fields of {known.name} differ in length")


def _column(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values, np.float64 if field.kind == "float" else np.int64)


def _merged(field: Field, values: NDArray[Any], labels: NDArray[np.int64], count: int) -> NDArray[Any]:
    """Merge the values of rows of one key; what is not there does not count."""
    is_there = np.isfinite(values)
    at, values = labels[is_there], values[is_there]
    merged = np.zeros(count, values.dtype)
    if field.merge is Merge.SUM:
        np.add.at(merged, at, values)
    else:
        merged[at] = values  # any of them to begin with
        np.maximum.at(merged, at, values)
    if field.kind == "float":
        merged[np.bincount(at, minlength=count) == 0] = np.nan
    return merged


def _pack(codes: list[NDArray[np.int64]], n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    words = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    for place, code in enumerate(codes):
        words[place // _TAGS_A_WORD][:] |= code.astype(np.uint64) << np.uint64(place % _TAGS_A_WORD * _TAG_BITS)
    return words


def _unpack(words: tuple[NDArray[np.uint64], NDArray[np.uint64]], count: int) -> list[NDArray[np.int64]]:
    mask = np.uint64((1 << _TAG_BITS) - 1)
    return [
        (words[place // _TAGS_A_WORD] >> np.uint64(place % _TAGS_A_WORD * _TAG_BITS) & mask).astype(np.int64)
        for place in range(count)
    ]


def _folds(tags: Sequence[Tag]) -> list[tuple[int, int]]:
    """Return the masks of folding: all tags but the kept ones, then all but those of a fixed vocabulary."""

    def masks(kept: set[str]) -> tuple[int, int]:
        given_up = [place for place, tag in enumerate(tags) if tag.name not in kept]
        fields = [(place // _TAGS_A_WORD, (place % _TAGS_A_WORD * _TAG_BITS, _TAG_BITS)) for place in given_up]
        first, second = (ones(*(field for word, field in fields if word == which)) for which in (0, 1))
        return first, second

    return [masks({tag.name for tag in tags if tag.is_kept}), masks({"direction"})]


def _group(
    words: tuple[NDArray[np.uint64], NDArray[np.uint64]], times: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the distinct (key, time) of rows: the number of each row, and the first row of each number."""
    n = len(times)
    labels, first = np.empty(n, np.int64), np.empty(n, np.int64)
    group(*words, labels, first)
    count = group(labels.astype(np.uint64), times.astype(np.uint64), labels, first)
    return labels, first[:count]
