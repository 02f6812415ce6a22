"""Windows of interface counters: nothing is lost or counted twice, and each interface has one row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd.aggregate.counter_rollup import CounterRollUp, merge_counters
from telemetryd.aggregate.feeds import Feed, Feeds, Ports
from telemetryd.aggregate.interface_windows import SPAN_NS, InterfaceWindows
from telemetryd.counter_windows import CounterWindow
from telemetryd.schema import GROWTH_COLUMNS, Counter, CounterSource, GrowthFlag

SECOND_NS = 1_000_000_000
NOW_NS = 1_790_000_000 * SECOND_NS
HOLD_NS = 60 * SECOND_NS
SFLOW, GNMI = CounterSource.SFLOW, CounterSource.GNMI


def rows(*growth: tuple[int, int, float, float, int, int]) -> dict[str, Any]:
    """Return columns of growth; times are in s after NOW_NS."""
    scaled = [(f, c, NOW_NS + int(a * SECOND_NS), NOW_NS + int(b * SECOND_NS), g, x) for f, c, a, b, g, x in growth]
    cells = zip(*scaled, strict=True) if scaled else [()] * len(GROWTH_COLUMNS)
    return {column.name: np.array(values, column.dtype) for column, values in zip(GROWTH_COLUMNS, cells, strict=True)}


def none(growth: dict[str, Any]) -> Any:
    return np.zeros(len(growth["feed"]), np.int64)


def by_name(window: CounterWindow, column: str) -> dict[tuple[str, ...], int]:
    return {
        window.names[i]: int(v) for i, v in zip(window.columns[window.layout.kind], window.columns[column], strict=True)
    }


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 2**45)), min_size=1, max_size=40), st.integers(0, 99))
def test_shares_add_up_to_the_growth(steps: list[tuple[int, int]], begin: int) -> None:
    """However readings lie, the windows of an interface and their roll-ups hold exactly what it grew by."""
    feeds = Feeds(Ports())
    feed = feeds.number(Feed(GNMI, "sw1", "eth0"))
    windows = InterfaceWindows(feeds, 10_000 * SECOND_NS)
    roll_up, hours, tens = CounterRollUp(), 0, 0
    at, covered = begin / 10, 0
    for tenths, growth in steps:
        windows.add(
            one := rows((feed, Counter.IN_OCTETS, at, at + tenths / 10, growth, 0)),
            none(one),
            NOW_NS + int(at * SECOND_NS),
        )
        at += tenths / 10
    for window in windows.close(NOW_NS, is_last=True):
        assert window.start_ns % SPAN_NS == 0
        tens += by_name(window, "in_octets")["sw1", "eth0"]
        covered += by_name(window, "covered_ns")["sw1", "eth0"]
        assert by_name(window, "covered_ns")["sw1", "eth0"] <= SPAN_NS
        hours += sum(
            by_name(w, "in_octets")["sw1", "eth0"] for w in roll_up.add(window) if w.span_ns == 3600 * SECOND_NS
        )
    hours += sum(
        by_name(w, "in_octets")["sw1", "eth0"] for w in roll_up.until(2 * NOW_NS) if w.span_ns == 3600 * SECOND_NS
    )
    total = sum(growth for _, growth in steps)
    assert tens == hours == total
    assert abs(covered - sum(tenths for tenths, _ in steps) * SECOND_NS // 10) <= len(steps) + 1
    assert windows.late == 0


def test_a_span_waits_for_those_who_are_alive() -> None:
    """It is closed when every feed has told of all of it, or when it has waited for long enough."""
    feeds = Feeds(Ports())
    quick, slow = (feeds.number(Feed(GNMI, "sw1", name)) for name in ("quick", "slow"))
    windows = InterfaceWindows(feeds, HOLD_NS)

    def add(feed: int, until: float, now: float) -> None:
        one = rows((feed, Counter.IN_OCTETS, until - 10, until, 1000, 0))
        windows.add(one, none(one), NOW_NS + int(now * SECOND_NS))

    add(quick, 10, 10)
    add(slow, 10, 10)
    add(quick, 20, 20)
    assert [w.start_ns - NOW_NS for w in windows.close(NOW_NS + 12 * SECOND_NS)] == [0]
    assert windows.close(NOW_NS + 22 * SECOND_NS) == []
    add(slow, 25, 25)
    (window,) = windows.close(NOW_NS + 26 * SECOND_NS)
    assert by_name(window, "in_octets") == {("sw1", "quick"): 1000, ("sw1", "slow"): 500}
    add(quick, 30, 30)
    add(quick, 40, 40)
    assert windows.close(NOW_NS + 41 * SECOND_NS) == []
    (window,) = windows.close(NOW_NS + 63 * SECOND_NS)[:1]  # the slow one is silent
    assert by_name(window, "covered_ns") == {("sw1", "quick"): SPAN_NS, ("sw1", "slow"): SPAN_NS // 2}
    add(slow, 35, 90)
    assert windows.late == 1


@pytest.mark.parametrize(("every_s", "waits_s"), [(1, 15), (5, 15), (10, 25), (30, 75), (60, 90)])
def test_a_feed_that_is_gone_holds_the_others_up_for_some_of_its_intervals(every_s: int, waits_s: int) -> None:
    """Its last reading is waited for 2.5 intervals, 15 s at least and as long as a span may wait at most; then no more."""
    feeds = Feeds(Ports())
    there, gone = (feeds.number(Feed(GNMI, name, "eth0")) for name in ("there", "gone"))
    windows = InterfaceWindows(feeds, 90 * SECOND_NS)
    closed_at: dict[int, int] = {}
    for now in range(400):
        for feed, until in ((there, 400), (gone, 120)):
            step = 1 if feed == there else every_s
            if now and now % step == 0 and now <= until:
                one = rows((feed, Counter.IN_OCTETS, now - step, now, 1, 0))
                windows.add(one, none(one), NOW_NS + now * SECOND_NS)
        for window in windows.close(NOW_NS + now * SECOND_NS):
            closed_at[(window.start_ns - NOW_NS) // SECOND_NS] = now
    assert max(closed_at[start] - start for start in range(120, 370, 10)) <= max(waits_s + 1, 12)
    assert closed_at[360] == 371
    assert windows.late <= 1  # the first reading: nobody knew of the feed before


def test_a_device_that_sends_the_readings_of_a_minute_at_once_is_waited_for() -> None:
    """What counts is how often a feed is heard of, where it collects what it tells."""
    feeds = Feeds(Ports())
    lively, batched = (feeds.number(Feed(GNMI, name, "eth0")) for name in ("lively", "batched"))
    windows = InterfaceWindows(feeds, 90 * SECOND_NS)
    for now in range(1, 601):
        growth = [(lively, Counter.IN_OCTETS, now - 1, now, 1, 0)]
        if now % 60 == 0:
            growth += [(batched, Counter.IN_OCTETS, at, at + 10, 1, 0) for at in range(now - 60, now, 10)]
        one = rows(*growth)
        windows.add(one, none(one), NOW_NS + now * SECOND_NS)
        windows.close(NOW_NS + now * SECOND_NS)
        if now == 180:
            before = windows.late  # before it was known how the device is
    assert windows.late == before


def test_two_sources_of_one_interface_count_once() -> None:
    """The feed that tells of more of a span is taken, gNMI's where both tell of the same; queues have their own."""
    feeds = Feeds(Ports(by_index={("sw1", 7): "eth7"}, speeds_bps={("sw1", "eth7"): 1e9}))
    by_gnmi, by_sflow = feeds.number(Feed(GNMI, "sw1", "eth7")), feeds.number(Feed(SFLOW, "sw1", 7))
    queue = feeds.number(Feed(GNMI, "sw1", "eth7", "q0", "out"))
    windows = InterfaceWindows(feeds, HOLD_NS)
    one = rows(
        (by_gnmi, Counter.IN_OCTETS, 0, 10, 100, 0),
        (by_sflow, Counter.IN_OCTETS, 0, 10, 104, 0),
        (by_gnmi, Counter.IN_OCTETS, 10, 13, 30, GrowthFlag.RESET),
        (by_sflow, Counter.IN_OCTETS, 10, 20, 90, 0),
        (queue, Counter.TRANSMIT_OCTETS, 0, 20, 5, 0),
    )
    windows.add(one, none(one), NOW_NS)
    first, of_queue, second, _ = windows.close(NOW_NS, is_last=True)
    assert by_name(of_queue, "octets") == {("sw1", "eth7", "out", "q0"): 2}
    assert by_name(first, "in_octets") == {("sw1", "eth7"): 100}
    assert by_name(second, "in_octets") == {("sw1", "eth7"): 90}
    assert by_name(second, "source") == {("sw1", "eth7"): SFLOW}
    assert by_name(second, "flags") == {("sw1", "eth7"): 0}
    assert by_name(first, "capacity_bps") == {("sw1", "eth7"): 10**9}
    both = merge_counters([first, second], NOW_NS, 2 * SPAN_NS)
    assert by_name(both, "in_octets") == {("sw1", "eth7"): 190}


def test_a_name_that_comes_late_takes_open_windows_along() -> None:
    """An ifIndex without a name gets the one that the device says, for what was counted before as well."""
    feeds = Feeds(Ports())
    sflow = feeds.number(Feed(SFLOW, "sw2", 3))
    windows = InterfaceWindows(feeds, HOLD_NS)
    one = rows((sflow, Counter.IN_UNICAST_PACKETS, 0, 10, 8, 0), (sflow, Counter.IN_BROADCAST_PACKETS, 0, 10, 2, 0))
    windows.add(one, none(one), NOW_NS)
    assert feeds.interface(feeds[sflow]) == ("sw2", "ifIndex 3")
    feeds.say_index("sw2", "Ethernet3", 3)
    (window,) = windows.close(NOW_NS, is_last=True)
    assert by_name(window, "in_packets") == {("sw2", "Ethernet3"): 10}


def test_counters_are_brought_to_layer_2() -> None:
    """A device whose counters leave out octets of each packet is corrected by its packets."""
    feeds = Feeds(Ports(corrections={"sw1": 4}))
    feed = feeds.number(Feed(GNMI, "sw1", "eth0"))
    windows = InterfaceWindows(feeds, HOLD_NS)
    one = rows((feed, Counter.OUT_OCTETS, 0, 10, 1000, 0), (feed, Counter.OUT_PACKETS, 0, 10, 10, 0))
    windows.add(one, none(one), NOW_NS)
    assert by_name(windows.close(NOW_NS, is_last=True)[0], "out_octets") == {("sw1", "eth0"): 1040}


def test_names_of_the_registry_come_first() -> None:
    """A port by gNMI has the registry's name where that, or its index, is known there; a reload changes it."""
    feeds = Feeds(Ports(by_index={("sw1", 1): "Eth1/1"}, names=frozenset({("sw1", "Eth1/1"), ("sw1", "other")})))
    assert feeds.interface(Feed(GNMI, "sw1", "other")) == ("sw1", "other")
    assert feeds.interface(Feed(GNMI, "sw1", "Ethernet1/1")) == ("sw1", "Ethernet1/1")
    feeds.say_index("sw1", "Ethernet1/1", 1)
    number = feeds.number(Feed(GNMI, "sw1", "Ethernet1/1"))
    codes, names = feeds.interfaces()
    assert names[codes[number]] == ("sw1", "Eth1/1")
    feeds.replace(Ports())
    codes, names = feeds.interfaces()
    assert names[codes[number]] == ("sw1", "Ethernet1/1")
