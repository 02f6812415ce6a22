"""Windows and roll-ups hold what went in, whatever the order and the cuts."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.aggregate.rollup import RollUp, merge_windows
from telemetryd.aggregate.windows import Windows
from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, UsageWindow
from tests.feed import NAMES, Feed, no_corrections

ROW = st.fixed_dictionaries(
    {
        "link_in": st.integers(0, 2),
        "link_out": st.integers(0, 2),
        "metering_point": st.integers(0, 1),
        "direction": st.integers(0, 4),
        "department": st.integers(0, 2),
        "application": st.integers(0, 2),
        "service_class": st.integers(0, 1),
        "source": st.integers(0, 3),
        "frame_length": st.integers(0, 9216),
        "sampling_rate": st.sampled_from([1, 100, 4096]),
    }
)
EVENTS = st.lists(st.tuples(st.integers(0, 130_000), ROW), min_size=1, max_size=60)


def close(events: list[tuple[int, dict[str, Any]]], batch_rows: int) -> list[UsageWindow]:
    """Run events (at milliseconds) through windows in batches."""
    feed = Feed()
    windows = Windows(*feed.batches, names=lambda: NAMES, corrections=no_corrections)
    closed = []
    for first in range(0, len(events), batch_rows):
        feed.at(*((ms / 1000, row) for ms, row in events[first : first + batch_rows]))
        closed += windows.add()
    assert windows.counts()["late_samples"] == 0
    return closed + windows.flush()


def table(window: UsageWindow) -> dict[tuple[int, ...], tuple[float, ...]]:
    """Return key -> sums."""
    keys = zip(*(window.columns[c.name].tolist() for c in KEY_COLUMNS), strict=True)
    sums = zip(*(window.columns[c.name].tolist() for c in SUM_COLUMNS), strict=True)
    rows = list(zip(keys, sums, strict=True))
    assert len(dict(rows)) == len(rows), "a key is there twice"
    return dict(rows)


def assert_equal(one: UsageWindow, other: UsageWindow) -> None:
    a, b = table(one), table(other)
    assert a.keys() == b.keys()
    for key, sums in a.items():
        np.testing.assert_allclose(sums, b[key], rtol=1e-12, err_msg=str(key))


@given(EVENTS)
def test_a_roll_up_is_one_big_sum(events: list[tuple[int, dict[str, Any]]]) -> None:
    """Every level holds the sum of all windows, each key once; nothing is estimated anew."""
    windows = close(sorted(events, key=lambda event: event[0]), 64)
    roll_up = RollUp()
    levels: dict[int, list[UsageWindow]] = {}
    for window in windows:
        for rolled in roll_up.add(window):
            levels.setdefault(rolled.span_ns, []).append(rolled)
    for rolled in roll_up.flush():
        levels.setdefault(rolled.span_ns, []).append(rolled)
    big = merge_windows(windows, 0, 1)
    assert len(levels) == 4
    for span_ns, of_level in levels.items():
        assert_equal(merge_windows(of_level, 0, 1), big)
        assert all(rolled.start_ns % span_ns == 0 for rolled in of_level)
        starts = [rolled.start_ns for rolled in of_level]
        assert starts == sorted(set(starts))
        for rolled in of_level:
            inside = [w for w in windows if 0 <= w.start_ns - rolled.start_ns < span_ns]
            assert_equal(rolled, merge_windows(inside, 0, 1))


@given(EVENTS, st.integers(1, 64), st.randoms(use_true_random=False))
def test_order_and_batches_do_not_matter(
    events: list[tuple[int, dict[str, Any]]], batch_rows: int, random: Any
) -> None:
    """Rows within the tolerance may come in any order, cut into any batches: the windows are equal."""
    base = sorted(((ms % 2000 + 2000 * (ms // 60_000), row) for ms, row in events), key=lambda event: event[0])
    shuffled: list[tuple[int, dict[str, Any]]] = []
    for start in range(0, 6000, 2000):
        part = [event for event in base if start <= event[0] < start + 2000]
        random.shuffle(part)
        shuffled += part
    expected, got = close(base, 64), close(shuffled, batch_rows)
    assert [window.start_ns for window in expected] == [window.start_ns for window in got]
    for one, other in zip(expected, got, strict=True):
        assert_equal(one, other)
