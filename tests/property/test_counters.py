"""Growth of counters against an exact reference, and against traffic whose total is known."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd.aggregate.counters import (
    JUMP_SLACK_S,
    MARGIN,
    MOST_READINGS,
    SHORTEST_FRAME,
    STALE_NS,
    UNKNOWN_BPS,
    WRAP_SLACK_S,
    CounterTracker,
    by_direction,
)
from telemetryd.schema import GROWTH_COLUMNS, READING_COLUMNS, Counter, GrowthFlag, LinkDirection

SECOND_NS = 1_000_000_000
NOW_NS = 1_790_000_000 * SECOND_NS
Reading = tuple[int, int, int, int, int, int]  # the columns of READING_COLUMNS
Row = tuple[int, int, int, int, int, int]  # those of GROWTH_COLUMNS


def columns(readings: list[Reading]) -> dict[str, Any]:
    cells = zip(*readings, strict=True) if readings else [()] * len(READING_COLUMNS)
    return {column.name: np.array(values, column.dtype) for column, values in zip(READING_COLUMNS, cells, strict=True)}


def rows(growth: dict[str, Any]) -> list[Row]:
    return list(zip(*(growth[column.name].tolist() for column in GROWTH_COLUMNS), strict=True))


class Reference:
    """The rules one reading at a time, in whole numbers without bounds."""

    def __init__(self, speeds: dict[int, float]) -> None:
        self.speeds, self.last = speeds, dict[tuple[int, int], tuple[int, int, int]]()

    def add(self, reading: Reading) -> Row | None:
        feed, counter, ts_ns, received_ns, value, bits = reading
        cell = feed, counter
        last_value, last_ns, last_received_ns = self.last.get(cell, (0, 0, 0))
        if last_ns and ts_ns <= last_ns and received_ns - last_received_ns <= STALE_NS:
            return None
        self.last[cell] = value, ts_ns, received_ns
        if not last_ns or ts_ns <= last_ns:
            return None
        passed_s = (ts_ns - last_ns) / 1e9
        speed = self.speeds.get(feed, 0.0)
        unit = 1.0 if Counter(counter).name.endswith("OCTETS") else float(SHORTEST_FRAME)
        most = (speed or UNKNOWN_BPS) * (MARGIN / 8) / unit
        flags = GrowthFlag.AMBIGUOUS if bits == 32 and speed and most * passed_s >= 2**32 else 0
        if value >= last_value:
            growth = value - last_value
        else:
            growth = (value - last_value) % (1 << bits)
            if growth <= most * (passed_s + WRAP_SLACK_S) and last_value < 1 << bits:
                return feed, counter, last_ns, ts_ns, growth, flags | GrowthFlag.WRAPPED
            growth, flags = value, flags | GrowthFlag.RESET
        if growth > most * (passed_s + JUMP_SLACK_S):
            return None
        return feed, counter, last_ns, ts_ns, growth, flags


@st.composite
def histories(draw: st.DrawFn) -> list[Reading]:
    """Readings of a few cells, with everything that goes wrong: wraps, resets, gaps, repetitions, disorder, nonsense."""
    found: list[Reading] = []
    ts_ns: dict[tuple[int, int], int] = {}
    values: dict[tuple[int, int], int] = {}
    received_ns = NOW_NS
    for _ in range(draw(st.integers(0, 60))):
        cell = draw(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 7), (2, 17)]))
        bits = 32 if cell[0] == 1 else 64
        received_ns += draw(st.sampled_from([0, SECOND_NS, 10 * SECOND_NS, 61 * SECOND_NS]))
        step_ns = draw(st.sampled_from([-3600, -5, 0, 1, 1, 10, 10, 20, 300])) * SECOND_NS
        ts_ns[cell] = ts_ns.get(cell, NOW_NS) + step_ns
        before = values.get(cell, draw(st.sampled_from([0, 2**bits - 1000, 2**31])))
        value = draw(
            st.one_of(
                st.just(before),
                st.integers(0, 10**9).map(lambda more, before=before, bits=bits: (before + more) % 2**bits),
                st.integers(0, 2**bits - 1),
            )
        )
        values[cell] = value
        found.append((*cell, ts_ns[cell], received_ns, value, bits))
    return found


@settings(deadline=None, max_examples=50)
@given(histories(), st.data())
def test_growth_is_that_of_the_reference_however_readings_are_cut(history: list[Reading], data: st.DataObject) -> None:
    """Batches of any size give the rows that one reading after the other gives."""
    speeds = {0: 1e9, 1: 10e9}
    tracker, reference = CounterTracker(), Reference(speeds)
    tracker.set_speeds(np.array([0, 1]), np.array([1e9, 10e9]))
    expected = [row for reading in history if (row := reference.add(reading)) is not None]
    found: list[Row] = []
    at = 0
    while at < len(history):
        n = data.draw(st.integers(1, MOST_READINGS))
        found += rows(tracker.add(columns(history[at : at + n])))
        at += n
    assert sorted(found) == sorted(expected)
    names = ("grown", "begun", "repeated", "late", "stepped", "implausible", "thinned")
    assert sum(tracker.counts[name] for name in names) == len(history)


@pytest.mark.parametrize(("bits", "start"), [(32, 2**32 - 5000), (64, 2**64 - 5000), (64, 0), (32, 7)])
@pytest.mark.parametrize("seed", range(5))
def test_what_grows_adds_up_to_what_was_sent(bits: int, start: int, seed: int) -> None:
    """Lost, repeated and late readings, and wraps, change nothing of the total; spans follow each other without a gap."""
    rng = random.Random(seed)
    total, ts_ns = start, NOW_NS
    sent: list[Reading] = [(3, Counter.IN_OCTETS, ts_ns, ts_ns + 5, start, bits)]
    for _ in range(400):
        ts_ns += rng.randint(1, 20) * SECOND_NS // 10
        total += rng.choice([0, 1, 64, 1500, 10**6])
        sent.append((3, Counter.IN_OCTETS, ts_ns, ts_ns + 5, total % 2**bits, bits))
    received = [sent[0]]
    for reading in sent[1:-1]:
        copies = rng.choice([0, 1, 1, 1, 2])
        received += [reading] * copies
        if rng.random() < 0.1 and len(received) > 2:
            received.append(rng.choice(received[-5:]))
    received.append(sent[-1])
    tracker = CounterTracker()
    tracker.set_speeds(np.array([3]), np.array([1e9]))
    found = [row for at in range(0, len(received), 13) for row in rows(tracker.add(columns(received[at : at + 13])))]
    found.sort(key=lambda row: row[2])
    assert sum(row[4] for row in found) == total - start
    assert found[0][2] == sent[0][2] and found[-1][3] == sent[-1][2]
    assert all(one[3] == two[2] for one, two in pairwise(found))
    assert tracker.counts["reset"] == tracker.counts["implausible"] == 0
    assert tracker.counts["wrapped"] == (total >> bits) - (start >> bits)


def test_a_reboot_counts_what_came_after_it() -> None:
    """A counter that begins anew has grown by its value at least, and the row says that there was a reset."""
    tracker = CounterTracker()
    tracker.set_speeds(np.array([0]), np.array([10e9]))
    readings = [
        (0, 0, NOW_NS + s * SECOND_NS, NOW_NS + s * SECOND_NS, v, 64) for s, v in ((0, 10**12), (10, 500), (20, 900))
    ]
    assert [row[2:] for row in rows(tracker.add(columns(readings)))] == [
        (NOW_NS, NOW_NS + 10 * SECOND_NS, 500, GrowthFlag.RESET),
        (NOW_NS + 10 * SECOND_NS, NOW_NS + 20 * SECOND_NS, 400, 0),
    ]


def test_what_is_forgotten_begins_anew() -> None:
    """After a delete of the interface its next readings have no growth."""
    tracker = CounterTracker()
    reading = (2, 0, NOW_NS, NOW_NS, 5, 64)
    tracker.add(columns([reading]))
    tracker.forget(np.array([2]))
    assert not rows(tracker.add(columns([(2, 0, NOW_NS + SECOND_NS, NOW_NS, 9, 64)])))
    assert tracker.counts["begun"] == 2


def test_a_flood_of_one_cell_is_thinned_and_loses_nothing() -> None:
    """Of very many readings of a cell in one batch the last one counts, with the growth of those that are left out."""
    flood = [(0, 0, NOW_NS + i, NOW_NS, i, 64) for i in range(5000)]
    tracker = CounterTracker()
    assert sum(row[4] for row in rows(tracker.add(columns(flood)))) == 4999
    assert tracker.counts["thinned"] == 5000 - MOST_READINGS


def test_directions_join_octets_and_packets_of_the_same_time() -> None:
    """Packets are those that the device counts as a whole, or the sum of three kinds, and only for the same span."""
    growth = [
        (0, Counter.IN_OCTETS, 100, 200, 1000, 0),
        (0, Counter.IN_PACKETS, 100, 200, 10, GrowthFlag.RESET),
        (0, Counter.IN_UNICAST_PACKETS, 100, 200, 7, 0),
        (0, Counter.OUT_OCTETS, 100, 200, 2000, GrowthFlag.WRAPPED),
        (0, Counter.OUT_UNICAST_PACKETS, 100, 200, 20, 0),
        (0, Counter.OUT_MULTICAST_PACKETS, 100, 200, 3, 0),
        (0, Counter.OUT_BROADCAST_PACKETS, 100, 200, 1, 0),
        (1, Counter.IN_OCTETS, 100, 200, 5, 0),
        (1, Counter.IN_PACKETS, 100, 150, 1, 0),
        (1, Counter.IN_ERRORS, 100, 200, 1, 0),
        (1, Counter.TRANSMIT_OCTETS, 100, 200, 1, 0),
    ]
    arrays = {c.name: np.array(v, c.dtype) for c, v in zip(GROWTH_COLUMNS, zip(*growth, strict=True), strict=True)}
    found = by_direction(arrays, np.array([50, 0], np.int64))
    assert list(zip(*(found[name].tolist() for name in found), strict=True)) == [
        (0, LinkDirection.IN, 150, 250, 1000, 10, 1, GrowthFlag.RESET),
        (0, LinkDirection.OUT, 150, 250, 2000, 24, 1, GrowthFlag.WRAPPED),
        (1, LinkDirection.IN, 100, 200, 5, 0, 0, 0),
    ]
    nothing = {c.name: np.zeros(0, c.dtype) for c in GROWTH_COLUMNS}
    assert all(len(column) == 0 for column in by_direction(nothing, np.zeros(0, np.int64)).values())
