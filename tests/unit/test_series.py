"""The table of measurements, and how rows become lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd.aggregate.interval import interval
from telemetryd.counter_windows import InterfaceWindow
from telemetryd.errors import StoreError
from telemetryd.schema import INTERFACE_COLUMNS, KEY_COLUMNS, SUM_COLUMNS, Names, Table
from telemetryd.store.columns import DIRECTION_NAMES, LINK_DIRECTION_NAMES, TABLE_NAMES, kept
from telemetryd.store.line_text import LONGEST_NAME, key_text, measurement_text, plain
from telemetryd.store.series import MEASUREMENTS, OTHER, USAGE, span_name
from telemetryd.store.series_docs import update
from telemetryd.store.series_guard import CardinalityGuard
from telemetryd.store.series_names import is_address
from telemetryd.store.series_render import Labels, SeriesRenderer
from tests.line_parser import parse_lines
from tests.usage_windows import NAMES, SECOND_NS, START_NS, random_window, window

DOCUMENT = Path(__file__).parents[2] / "docs" / "series.md"


def renderer(limit: int = 100_000) -> SeriesRenderer:
    return SeriesRenderer(CardinalityGuard(limit))


def test_the_document_is_up_to_date() -> None:
    """docs/series.md is what the table gives: `python -m telemetryd.store.series_docs docs/series.md`."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert update(text) == text


def test_the_table_is_well_formed() -> None:
    """Tags are sorted, all rows have a span, no name stands twice, and no tag is an address or a port."""
    assert set(MEASUREMENTS) == {
        "usage",
        "interface",
        "queue",
        "component",
        "demand",
        "allocation",
        "enforcement",
        "device",
        "self",
    }
    for one in MEASUREMENTS.values():
        tags, fields = [tag.name for tag in one.tags], [field.name for field in one.fields]
        assert tags == sorted(tags)
        assert "span" in tags
        assert len({*tags, *fields}) == len(tags) + len(fields)
        assert not {"result", "table", "time", "_time", "_field", "_measurement"} & {*tags, *fields}
        assert not [name for name in tags if "address" in name or "port" in name or name in ("host", "ip")]


def test_usage_has_the_columns_of_the_store() -> None:
    """Each key column is a tag and each sum is a field, of the same name but for `result_table`."""
    tags = {tag.name for tag in USAGE.tags} - {"span"}
    assert {"result_table" if column.name == "table" else column.name for column in KEY_COLUMNS} == tags
    assert {column.name for column in SUM_COLUMNS} <= {field.name for field in USAGE.fields}


@pytest.mark.parametrize(
    ("span_ns", "name"),
    [
        (10**9, "1s"),
        (10**10, "10s"),
        (6 * 10**10, "1m"),
        (3 * 10**11, "5m"),
        (36 * 10**11, "1h"),
        (5, "5ns"),
        (0, "0h"),
    ],
)
def test_spans_have_names(span_ns: int, name: str) -> None:
    """The longest unit that counts a span whole."""
    assert span_name(span_ns) == name


@pytest.mark.parametrize("span_ns", [SECOND_NS, 10 * SECOND_NS, 3600 * SECOND_NS])
def test_lines_say_what_the_window_holds(span_ns: int) -> None:
    """Read back, each line has the names, the sums, the rate and the interval of its row."""
    rows = random_window(1, 500, span_ns=span_ns)
    points = parse_lines(renderer().usage(rows))
    columns = rows.columns
    sums = {name: kept(name, columns[name]) for name in (column.name for column in SUM_COLUMNS)}
    low, high = interval(sums["octets"], sums["octets_variance"], sums["octets_largest"])
    assert len(points) == len(columns["octets"]) > 300
    for row, point in enumerate(points):
        codes = {column.name: int(columns[column.name][row]) for column in KEY_COLUMNS}
        is_total = codes["table"] == Table.TOTALS
        assert point.measurement == "usage"
        assert point.time_ns == rows.start_ns
        assert point.tags == {
            "span": span_name(span_ns),
            "result_table": TABLE_NAMES[codes["table"]],
            "link": (NAMES.metering_points if is_total else NAMES.links)[codes["link"]],
            "direction": (DIRECTION_NAMES if is_total else LINK_DIRECTION_NAMES)[codes["direction"]],
            "department": NAMES.departments[codes["department"]],
            "peer_department": NAMES.departments[codes["peer_department"]],
            "application": NAMES.applications[codes["application"]],
            "source_zone": NAMES.zones[codes["source_zone"]],
            "destination_zone": NAMES.zones[codes["destination_zone"]],
            "service_class": NAMES.service_classes[codes["service_class"]],
        }
        assert list(point.fields) == [field.name for field in USAGE.fields]
        for field in USAGE.fields:
            assert isinstance(point.fields[field.name], int if field.kind == "integer" else float)
        for name, values in sums.items():
            assert point.fields[name] == values[row]
        bps = 8e9 / span_ns
        assert abs(point.fields["bits_per_second"] - sums["octets"][row] * bps) <= 0.5
        for end, scale in (("octets", 1.0), ("bits_per_second", bps)):
            assert 0 <= low[row] * scale - point.fields[f"{end}_low"] < 1
            assert 0 <= point.fields[f"{end}_high"] - high[row] * scale < 1
            assert point.fields[f"{end}_low"] <= point.fields[end] <= point.fields[f"{end}_high"]


def test_the_same_window_gives_the_same_octets() -> None:
    """Whatever was rendered in between, and whatever its dictionary is numbered like."""
    one = renderer()
    first = one.usage(random_window(1, 200))
    turned = Names(
        *(names[:1] + names[:0:-1] for names in (getattr(NAMES, kind) for kind in Names.__dataclass_fields__))
    )
    one.usage(random_window(2, 200, turned))
    one.usage(random_window(3, 200, start_ns=START_NS + SECOND_NS))
    assert one.usage(random_window(1, 200)) == first == renderer().usage(random_window(1, 200))


def test_names_that_are_written_alike_are_one_row() -> None:
    """Two codes of one name give one line with the sum of both, not two of which the second overwrites the first."""
    names = Names(("-",), ("-", "exit"), ("unknown", "tax", "tax", "a\nb", "a b"), ("unclassified",), ("-",), ("-",))
    rows = [{"link": 1, "direction": 1, "department": code, "octets": 2.0**code, "samples": 1} for code in range(1, 5)]
    points = parse_lines(renderer().usage(window(rows, names=names)))
    assert {point.tags["department"]: point.fields["octets"] for point in points} == {"tax": 6.0, "a b": 24.0}


def test_a_window_that_is_not_whole_is_refused() -> None:
    """A missing column, or a code without a name, is an error that says so."""
    whole = random_window(1, 10)
    for name in ("department", "table", "octets", "packets_largest"):
        part = {key: values for key, values in whole.columns.items() if key != name}
        with pytest.raises(StoreError, match="lacks"):
            renderer().usage(type(whole)(whole.start_ns, whole.span_ns, part, whole.names))
    for name in ("link", "application", "service_class"):
        with pytest.raises(StoreError, match="without a name"):
            renderer().usage(window([{name: 77}]))


def test_an_empty_window_gives_nothing() -> None:
    """No row, no octet."""
    assert renderer().usage(window([])) == b""
    assert renderer().rows("device", {}, {}, time_ns=1, span_ns=SECOND_NS) == b""


ODD = st.text(st.characters(codec="utf-8") | st.sampled_from(list('\\,= "\n\r\t#')), max_size=12)


@settings(deadline=None)
@given(st.lists(ODD, min_size=1, max_size=6), ODD)
def test_any_name_gives_lines(names: list[str], measurement: str) -> None:
    """Whatever a department is called, lines can be read, and give the name as it is said to be written."""
    dictionary = Names(("-",), ("-", "exit"), ("unknown", *names), ("unclassified",), ("-",), ("-",))
    rows = [{"link": 1, "direction": 1, "department": code + 1, "samples": 1} for code in range(len(names))]
    points = parse_lines(renderer().usage(window(rows, names=dictionary)))
    assert {point.tags["department"] for point in points} == {plain(name) for name in names}
    line = measurement_text(measurement) + b",a=" + key_text(names[0]) + b" v=1 0\n"
    (point,) = parse_lines(line)
    assert (point.measurement, point.tags["a"]) == (plain(measurement), plain(names[0]))


@settings(deadline=None)
@given(ODD)
def test_a_name_is_kept_where_it_can_be(name: str) -> None:
    """Nothing but control characters, escaping backslashes, emptiness and length is changed; what is written stays."""
    written = plain(name)
    assert written
    assert plain(written) == written
    assert not written.endswith("\\")
    if name and name.isprintable() and "\\" not in name:
        assert written == name
    assert len(plain(name * 100)) <= LONGEST_NAME


def test_a_name_that_is_no_unicode_is_written() -> None:
    """A lone surrogate becomes a question mark."""
    assert key_text("a\ud800") == b"a?"


@pytest.mark.parametrize(
    "name", ["192.0.2.1", "192.0.2.1:6343", "2001:db8::1", "[2001:db8::1]:6343", " 192.0.2.1", "192.0.2.0/24", "::1"]
)
def test_addresses_are_no_tags(name: str) -> None:
    """A device or source whose name is an address is `other`, and counted; its rows add up there."""
    assert is_address(name)
    guard = CardinalityGuard()
    one = SeriesRenderer(guard)
    devices = Labels(np.array([0, 1, 2]), ("core-1", name, "198.51.100.7"))
    lines = one.rows("device", {"device": devices}, {"samples": np.array([1, 2, 3])}, time_ns=5, span_ns=SECOND_NS)
    points = parse_lines(lines)
    assert [(point.tags["device"], point.fields["samples"]) for point in points] == [("core-1", 1), (OTHER, 5)]
    assert guard.counts()["device"].folded_names == 2
    for measurement in MEASUREMENTS.values():
        observed = {tag.name: Labels(np.zeros(1, np.uint32), (name,)) for tag in measurement.tags if tag.is_observed}
        if observed:
            values = {measurement.fields[0].name: np.ones(1)}
            assert name.strip() not in one.rows(measurement.name, observed, values, time_ns=5, span_ns=1).decode()


@pytest.mark.parametrize("name", ["core-1", "a.b.c.d", "10", "eth1/1", "live:0", "1.2.3"])
def test_names_are_no_addresses(name: str) -> None:
    """What only looks a little like an address is a name."""
    assert not is_address(name)


def test_columns_become_rows() -> None:
    """Tags and fields by the table: types are the declared ones, what is not a number is left out."""
    tags = {
        "device": Labels(np.array([0, 1], np.uint32), ("core 1", "gw")),
        "interface": Labels(np.array([1, 0], np.uint8), ("eth0", "Ethernet1/1")),
    }
    fields = {
        "in_octets": np.array([7, 8], np.uint64),
        "in_bits_per_second": np.array([56, np.nan]),
        "up": np.array([True, False]),
    }
    lines = renderer().rows("interface", tags, fields, time_ns=np.array([1, 2]), span_ns=SECOND_NS)
    assert lines == (
        b"interface,device=core\\ 1,interface=Ethernet1/1,span=1s in_octets=7i,in_bits_per_second=56,up=1i 1\n"
        b"interface,device=gw,interface=eth0,span=1s in_octets=8i,up=0i 2\n"
    )


def test_rows_of_one_series_and_time_are_merged() -> None:
    """Sums are added, the largest is taken, and what is not there does not count."""
    tags = {"metric": Labels(np.zeros(4, np.uint8), ("lag_seconds",))}
    values = {"value": np.array([-3.0, -1.0, np.nan, np.nan])}
    times = np.array([1, 1, 1, 2])
    assert renderer().rows("self", tags, values, time_ns=times, span_ns=0) == (
        b"self,metric=lag_seconds,source=-,span=0h value=-1 1\n"
    )
    counts = {"lost_samples": np.array([1, 2, 3, 4])}
    assert renderer().rows("device", {}, counts, time_ns=times, span_ns=SECOND_NS) == (
        b"device,device=-,span=1s lost_samples=6i 1\ndevice,device=-,span=1s lost_samples=4i 2\n"
    )


def test_what_is_not_declared_is_refused() -> None:
    """An unknown measurement, tag or field, a code without a name, and lengths that differ are errors."""
    one = renderer()
    value = {"value": np.ones(1)}
    for measurement, tags, fields, message in (
        ("weather", {}, value, "weather"),
        ("usage", {}, value, "usage"),
        ("self", {"port": Labels(np.zeros(1, np.uint8), ("x",))}, value, "no tag 'port'"),
        ("self", {"span": Labels(np.zeros(1, np.uint8), ("x",))}, value, "no tag 'span'"),
        ("self", {}, {"speed": np.ones(1)}, "no field 'speed'"),
        ("self", {"metric": Labels(np.ones(1, np.uint8), ("x",))}, value, "no name"),
        ("device", {}, {"samples": np.ones(1), "datagrams": np.ones(2)}, "length"),
    ):
        with pytest.raises(StoreError, match=message):
            one.rows(measurement, tags, fields, time_ns=1, span_ns=1)


def test_interfaces_are_rendered_with_what_is_known() -> None:
    """Rates are over the time that is covered; speed and state that are not known are left out; addresses are folded."""
    columns = {column.name: np.full(3, 8, column.dtype) for column in INTERFACE_COLUMNS}
    columns |= {
        "interface": np.array([1, 0, 2], np.uint32),
        "in_octets": np.array([1000, 2000, 3000], np.uint64),
        "covered_ns": np.array([10**9, 4 * 10**9, 0]),
        "capacity_bps": np.array([1e9, 0.0, 0.0]),
        "up": np.array([0, 1, 2], np.uint8),
    }
    names = (("CR01", "b"), ("CR01", "a"), ("192.0.2.1", "ifIndex 3"))
    window = InterfaceWindow(60 * 10**9, 10 * 10**9, columns, names)
    points = parse_lines(SeriesRenderer(CardinalityGuard(1000)).counters(window))
    assert {point.time_ns for point in points} == {60 * 10**9}
    assert {point.tags["span"] for point in points} == {"10s"}
    by_name = {(point.tags["device"], point.tags["interface"]): point.fields for point in points}
    a, b, other = by_name["CR01", "a"], by_name["CR01", "b"], by_name["other", "ifIndex 3"]
    assert (a["in_octets"], a["in_bits_per_second"], a["capacity_bps"], a["up"]) == (1000, 8000, 1e9, 0)
    assert (b["in_bits_per_second"], b["seconds"], b["up"]) == (4000, 4, 1)
    assert "capacity_bps" not in b
    assert other["in_octets"] == 3000 and not {"in_bits_per_second", "up"} & other.keys()
