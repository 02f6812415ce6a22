"""Windows of event time: when they close, what is late, what their rows hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.windows import Windows
from telemetryd.schema import USAGE_COLUMNS, Direction, LinkDirection, Table, UsageWindow
from tests.feed import NAMES, SECOND, START, Feed, no_corrections

PLACED = {"link_in": 1, "frame_length": 100, "source": 1, "application": 1}


def make(feed: Feed, **options: Any) -> Windows:
    return Windows(*feed.batches, names=lambda: NAMES, corrections=no_corrections, **options)


def starts(windows: list[UsageWindow]) -> list[int]:
    """Return the numbers of the windows, from START."""
    return [window.start_ns // SECOND - START for window in windows]


def test_a_window_closes_when_the_watermark_passes_its_end() -> None:
    """The watermark stays 2 s behind the greatest event time; a window is half open."""
    feed = Feed()
    windows = make(feed)
    feed.at((0.0, PLACED), (0.999999999, PLACED), (1.0, PLACED))
    assert windows.add() == []
    feed.at((2.999, PLACED))
    assert windows.add() == []
    feed.at((3.0, PLACED))
    closed = windows.add()
    assert starts(closed) == [0]
    assert closed[0].span_ns == SECOND
    assert closed[0].columns["samples"].tolist() == [2]
    assert closed[0].names is NAMES
    assert starts(windows.flush()) == [1, 2, 3]
    assert windows.flush() == []


def test_late_rows_are_counted_not_added() -> None:
    """Within the tolerance order does not matter; a row for a closed window is late."""
    feed = Feed()
    windows = make(feed)
    feed.at((5.0, PLACED), (3.5, PLACED), (5.1, PLACED))
    assert windows.add() == []
    feed.at((2.9, PLACED | {"frame_length": 70}), (3.6, PLACED))
    assert windows.add() == []
    closed = windows.flush()
    assert starts(closed) == [3, 5]
    assert closed[0].columns["samples"].tolist() == [2]
    counts = windows.counts()
    assert (counts["late_samples"], counts["late_octets"], counts["forced_windows"]) == (1, 70, 0)


def test_rows_before_the_first_one_are_taken_within_the_tolerance() -> None:
    """The first row does not make its predecessors late."""
    feed = Feed()
    windows = make(feed)
    feed.at((5.0, PLACED), (3.0, PLACED), (2.9, PLACED))
    windows.add()
    assert starts(windows.flush()) == [3, 5]
    assert windows.counts()["late_samples"] == 1


def test_a_gap_in_time_closes_everything_and_goes_on() -> None:
    """An hour without data, in the middle of a batch, costs nothing and emits no empty window."""
    feed = Feed()
    windows = make(feed)
    feed.at((0.0, PLACED), (20.0, PLACED), (3600.0, PLACED), (3601.0, PLACED))
    assert starts(windows.add()) == [0, 20]
    assert starts(windows.flush()) == [3600, 3601]
    assert windows.counts()["late_samples"] == 0


def test_many_windows_in_one_batch_keep_every_row() -> None:
    """A batch that spans more time than the ring is stopped, closed and gone on with."""
    feed = Feed(200)
    windows = make(feed, open_windows=4)
    feed.at(*((i / 2, PLACED) for i in range(200)))
    closed = windows.add() + windows.flush()
    assert starts(closed) == list(range(100))
    assert {int(window.columns["samples"].sum()) for window in closed} == {2}


def test_an_explicit_watermark() -> None:
    """With tolerance None only advance() closes windows, until too many are open."""
    feed = Feed()
    windows = make(feed, tolerance_ns=None)
    feed.at((0.0, PLACED), (10.0, PLACED), (2.0, PLACED))
    assert windows.add() == []
    assert starts(windows.advance((START + 3) * SECOND)) == [0, 2]
    feed.at((2.5, PLACED), (26.0, PLACED))
    assert starts(windows.add()) == [10]
    assert windows.counts()["forced_windows"] == 1
    assert windows.counts()["late_samples"] == 1
    assert starts(windows.advance((START + 100) * SECOND)) == [26]
    feed.at((99.0, PLACED))
    assert windows.add() == []
    assert windows.counts()["late_samples"] == 2


def test_the_tolerance_must_fit() -> None:
    """A tolerance beyond the open windows is refused."""
    with pytest.raises(ValueError, match="tolerance"):
        make(Feed(), tolerance_ns=16 * SECOND)
    make(Feed(), tolerance_ns=15 * SECOND)


def test_rows_of_the_two_tables() -> None:
    """A packet counts on the link in, on the link out, and once in totals where it is metered."""
    feed = Feed()
    windows = make(feed)
    codes = {"department": 1, "peer_department": 2, "application": 2, "source_zone": 1, "destination_zone": 2}
    row = codes | {
        "link_in": 1,
        "link_out": 2,
        "metering_point": 1,
        "direction": Direction.OUTBOUND,
        "service_class": 2,
    }
    feed.at((0.0, row | {"frame_length": 1000}), (0.1, codes | {"frame_length": 5}))
    windows.add()
    (window,) = windows.flush()
    columns = window.columns
    assert {column.name: column.dtype for column in USAGE_COLUMNS} == {
        name: values.dtype.name for name, values in columns.items()
    }
    places = list(zip(*(columns[name].tolist() for name in ("table", "link", "direction")), strict=True))
    assert places == [
        (Table.LINK_USAGE, 1, LinkDirection.IN),
        (Table.LINK_USAGE, 2, LinkDirection.OUT),
        (Table.TOTALS, 1, Direction.OUTBOUND),
    ]
    for name, code in (codes | {"service_class": 2, "samples": 1, "octets": 1000, "packets": 1}).items():
        assert columns[name].tolist() == [code] * 3, name
    assert windows.counts()["unplaced_samples"] == 1


def test_sources_are_merged_with_their_own_rates() -> None:
    """Two sources with one key: estimates and variances add, the largest deviation stays."""
    feed = Feed()
    windows = make(feed)
    stated = {"pool_valid": 0, "sampling_rate": 10}
    pooled = {"pool_valid": 1, "pool_growth": 4, "sampling_rate": 0, "source": 2}  # states none: its pool decides
    feed.at((0.0, PLACED | stated), (0.1, PLACED | pooled), (0.2, PLACED | pooled | {"frame_length": 50}))
    windows.add()
    (window,) = windows.flush()
    sums = {name: values[0] for name, values in window.columns.items()}
    assert len(window.columns["samples"]) == 1
    assert (sums["samples"], sums["stated_rate_samples"]) == (3, 1)
    np.testing.assert_allclose(sums["octets"], 10 * 100 + 4 * 150)
    np.testing.assert_allclose(sums["packets"], 10 + 4 * 2)
    np.testing.assert_allclose(sums["octets_variance"], 90 * 100**2 + 12 * (100**2 + 50**2))
    np.testing.assert_allclose(sums["packets_variance"], 90 + 12 * 2)
    np.testing.assert_allclose(sums["octets_largest"], np.sqrt(90) * 100)
    np.testing.assert_allclose(sums["packets_largest"], np.sqrt(90))
    assert windows.rates().rate[1:].tolist() == [10, 4]
    assert windows.rates().largest[1:].tolist() == [100, 100]


def test_octets_corrections_are_per_packet() -> None:
    """A source that counts without FCS gets 4 octets a packet, in the sums and in the squares."""
    feed = Feed()
    windows = Windows(*feed.batches, names=lambda: NAMES, corrections=lambda n: np.array([0.0, 4.0, 9.0])[:n])
    feed.at(*((0.1, PLACED | {"sampling_rate": 2, "frame_length": length}) for length in (60, 1514)))
    windows.add()
    (window,) = windows.flush()
    columns = window.columns
    assert columns["octets"].tolist() == [2 * (64 + 1518)]
    np.testing.assert_allclose(columns["octets_variance"], 2 * (64**2 + 1518**2))
    np.testing.assert_allclose(columns["octets_largest"], np.sqrt(2) * 1518)


def test_duplicates_are_not_added() -> None:
    """Rows that tracking marks as repeated are counted apart."""
    feed = Feed()
    windows = make(feed)
    feed.at((0.0, PLACED), (0.0, PLACED | {"pool_valid": 2}))
    windows.add()
    (window,) = windows.flush()
    assert window.columns["samples"].tolist() == [1]
    assert windows.counts()["duplicate_samples"] == 1


def test_unclassified_talkers() -> None:
    """Rows without application are summed by server side (the lower non-zero port), protocol and port."""
    feed = Feed()
    windows = make(feed)
    row = {"link_in": 1, "ip_version": 4, "protocol": 6, "source_lo": 1, "destination_lo": 2, "sampling_rate": 10}
    feed.at(
        (0.0, row | {"source_port": 50000, "destination_port": 443, "frame_length": 100}),
        (0.0, row | {"source_port": 443, "destination_port": 50001, "frame_length": 100}),
        (0.0, row | {"source_port": 0, "destination_port": 9, "frame_length": 100}),
        (0.0, row | {"source_port": 9, "destination_port": 0, "frame_length": 50, "sampling_rate": 3}),
        (0.0, row | {"application": 1}),
    )
    windows.add()
    columns = windows.unclassified()
    names = ("address_lo", "port", "samples", "octets", "scaled_octets")
    rows = list(zip(*(columns[name].tolist() for name in names), strict=True))
    assert rows == [
        (0, 0, 0, 0, 0),
        (2, 443, 1, 100, 1000),
        (1, 443, 1, 100, 1000),
        (2, 9, 1, 100, 1000),
        (1, 9, 1, 50, 150),
    ]
    windows.clear_unclassified()
    assert windows.unclassified()["samples"].tolist() == [0]


def test_the_largest_frame_of_a_key_with_few_samples() -> None:
    """After n samples of b octets the next may be the source's largest B with 1 / (n + 1): (n b + B) / (n + 1)."""
    feed = Feed()
    windows = make(feed)
    small = PLACED | {"sampling_rate": 2, "frame_length": 90}
    feed.at((0.0, small), (0.0, small), (0.0, small), (0.1, small | {"application": 2, "frame_length": 1518}))
    windows.add()
    (window,) = windows.flush()
    expected = np.sqrt(2) * np.array([(3 * 90 + 1518) / 4, 1518])
    np.testing.assert_allclose(window.columns["octets_largest"], expected)
