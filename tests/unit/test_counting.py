"""From updates and counters samples to windows of interfaces, over a restart too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from telemetryd.schema import CounterSource, GrowthFlag
from telemetryd.store.counter_query import interfaces
from telemetryd.store.embedded import Store
from telemetryd.store.verify import verify
from tests.counters_story import BASE_NS, HOUR_NS, SECOND_NS, TEN_NS, Story, registry, rows
from tests.gnmi_messages import notification, packed, update


def test_updates_become_windows(tmp_path: Path) -> None:
    """Growth by the device's time, under the registry's name, with speed and state."""
    story = Story(tmp_path)
    for at_s, octets in ((5, 1000), (15, 2000), (25, 4000)):
        story.update(at_s, in_octets=octets, in_pkts=octets // 100)
    first, second, third = story.close(27, is_last=True)
    assert first.start_ns == BASE_NS
    assert rows(first, "in_octets", "covered_ns") == {("CR01", "exit"): (500, 5 * SECOND_NS)}
    assert rows(second, "in_octets", "in_packets", "up", "source") == {
        ("CR01", "exit"): (1500, 15, 1, CounterSource.GNMI)
    }
    assert rows(third, "in_octets", "capacity_bps") == {("CR01", "exit"): (1000, 10**10)}
    assert sum(story.grown) == 3000 + 30
    counters = story.counting.counters()
    assert (counters.feeds, counters.interfaces, counters.readings["grown"], counters.late_rows) == (1, 1, 4, 0)


@pytest.mark.parametrize(("skew_s", "start_s"), [(0, 0), (2, -2), (-40, 0), (3600, 0)])
def test_windows_are_by_our_clock(tmp_path: Path, skew_s: float, start_s: int) -> None:
    """A clock that is ahead, or far behind, is corrected; one that is a little behind is believed."""
    story = Story(tmp_path, start_s=-10)
    story.update(0, skew_s, in_octets=0)
    story.update(10, skew_s, in_octets=1000)
    closed = story.close(12, is_last=True)
    start_ns = BASE_NS + start_s * SECOND_NS
    assert closed[-1].start_ns == BASE_NS
    assert rows(closed[-1], "covered_ns") == {("CR01", "exit"): (start_ns + TEN_NS - BASE_NS,)}


def test_samples_become_the_same_windows(tmp_path: Path) -> None:
    """A device with sFlow alone gives the same columns; what comes twice or late is left out; a restart is a reset."""
    story = Story(tmp_path)
    story.sample(0, 1, in_octets=100, in_ucast_packets=2**32 - 2, out_octets=7)
    story.sample(10, 2, in_octets=1100, in_ucast_packets=3, out_octets=17)
    story.sample(10, 2, in_octets=1100, in_ucast_packets=3, out_octets=17)
    story.sample(10.5, 1, uptime=0, in_octets=100, in_ucast_packets=2**32 - 2)
    story.sample(20, 3, in_octets=1200, in_ucast_packets=4, out_octets=17)
    story.sample(100, 1, uptime=10, in_octets=50, in_ucast_packets=4, out_octets=20)
    windows = story.close(101, is_last=True)
    found = rows(windows[0], "in_octets", "in_packets", "out_octets", "source", "flags", "capacity_bps")
    assert found == {("CR01", "exit"): (1000, 5, 10, CounterSource.SFLOW, GrowthFlag.WRAPPED, 10**9)}
    assert sum(rows(window, "in_octets")["CR01", "exit"][0] for window in windows) == 1000 + 100 + 50
    assert rows(windows[-1], "flags") == {("CR01", "exit"): (GrowthFlag.RESET,)}
    assert story.counting.counters().late_samples == 2


def test_gnmi_and_samples_of_one_interface_count_once(tmp_path: Path) -> None:
    """The device's ifIndex joins both; a stranger's interface keeps its number and its agent's address."""
    story = Story(tmp_path)
    for at_s in (0, 10):
        story.update(at_s, in_octets=100 * at_s)
        story.sample(at_s, at_s, in_octets=101 * at_s)
        story.sample(at_s, at_s, agent="192.0.2.99", in_octets=5 * at_s)
        story.close(at_s)
    windows = story.close(12, is_last=True)
    assert rows(windows[0], "in_octets") == {("CR01", "exit"): (1000,), ("192.0.2.99", "ifIndex 1"): (50,)}


def test_a_deleted_interface_and_a_target_that_left(tmp_path: Path) -> None:
    """After a delete counting begins anew; rows of a target that has left are of nobody."""
    story = Story(tmp_path)
    story.update(0, in_octets=10)
    story.batch.clear()
    story.decoder.decode(*packed([notification(deletes=["/interfaces"])]), 0, story.now_ns)
    story.counting.take_updates(story.batch, story.paths, {0: story.plan})
    story.update(5, in_octets=500)
    story.update(6, plans={}, in_errors=1)
    assert story.grown == []
    story.update(10, in_octets=600)
    assert story.grown == [100]


def test_a_device_with_too_many_interfaces_leaves_room_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one device says of more interfaces than it may have is left out and said; others go on."""
    monkeypatch.setattr("telemetryd.aggregate.feeds.MOST_OF_DEVICE", 2)
    story = Story(tmp_path)
    for at_s in (0, 10):
        for index in range(1, 6):
            story.sample(at_s, at_s, agent="192.0.2.99", if_index=index, in_octets=at_s)
        story.update(at_s, in_octets=at_s)
        story.close(at_s)
    (window,) = story.close(12, is_last=True)
    assert set(window.names) == {("192.0.2.99", "ifIndex 1"), ("192.0.2.99", "ifIndex 2"), ("CR01", "exit")}
    assert "readings of more interfaces" in story.counting.health().reasons[0]


def test_nobody_waits_for_a_target_that_was_left(tmp_path: Path) -> None:
    """A span waits for an interface that is late, but not for one of a device that a reload has left."""
    story = Story(tmp_path)
    story.counting.wait_for([story.plan])
    for at_s in (0, 10):
        story.update(at_s, in_octets=at_s)
        story.sample(at_s, at_s, agent="192.0.2.99", in_octets=at_s)
        story.close(at_s)
    assert len(story.close(12)) == 1
    story.sample(20, 20, agent="192.0.2.99", in_octets=20)
    assert story.close(22) == []
    story.counting.replace(registry(), [])
    assert len(story.close(22)) == 1


def test_a_flood_of_samples_is_bounded(tmp_path: Path) -> None:
    """What waits for a turn has a bound; what is lost is counted and said."""
    story = Story(tmp_path)
    for number in range(300):
        story.sample(0, number, in_octets=number)
    assert story.counting.counters().lost_samples == 300 - 256
    assert "counters samples were lost" in story.counting.health().reasons[0]


def test_roll_ups_go_on_over_a_restart(tmp_path: Path) -> None:
    """Minutes and hours that a run leaves open are whole in the next one, and nothing is stored twice."""

    def run(story: Story, steps: range) -> None:
        async def go() -> None:
            running = asyncio.create_task(story.counting.run())
            await story.counting.started.wait()
            for at_s in steps:
                story.update(at_s, in_octets=at_s * 100)
                story.counting._turn()
            story.counting.stop()
            await running

        asyncio.run(go())

    total, origins = 0, iter(("one", "two", "three"))
    store = Store.open(tmp_path / "store")
    for steps in (range(0, 95, 5), range(200, 395, 5), range(3500, 3800, 10)):
        story = Story(tmp_path, start_s=steps.start)
        run(story, steps)
        store.append([], next(origins), counters=story.windows)
        total += (steps[-1] - steps[0]) * 100
    tens = store.scan("interface", TEN_NS).to_pylist()
    assert len(tens) == len({row["time"] for row in tens})
    assert sum(row["in_octets"] for row in tens) == total
    for span_ns in (60 * SECOND_NS, 300 * SECOND_NS, HOUR_NS):
        longer = store.scan("interface", span_ns).to_pylist()
        assert len(longer) == len({row["time"] for row in longer})
        for row in longer:
            inside = [t["in_octets"] for t in tens if row["time"] <= t["time"] < row["time"] + span_ns]
            assert row["in_octets"] == sum(inside)
    assert store.scan("interface", HOUR_NS).num_rows == 1
    whole = interfaces(store)
    assert (whole.rows[0]["device"], whole.rows[0]["in_octets"]) == ("CR01", total)
    assert set(whole.spans_ns) >= {TEN_NS, HOUR_NS}
    store.maintain()
    assert verify(store).faults == ()
    store.close()


def test_the_store_answers_how_busy_interfaces_are(tmp_path: Path) -> None:
    """Rates are over the time that counters tell of; buckets, names and the busiest can be asked for."""
    story = Story(tmp_path)
    for at_s in range(0, 61, 10):
        story.update(at_s, in_octets=125 * at_s, out_octets=at_s)
    for at_s in (0, 20):
        story.sample(at_s, at_s, agent="192.0.2.99", in_octets=5 * at_s)
    with Store.open(tmp_path / "store") as store:
        store.append([], "run", counters=story.close(62, is_last=True))
        answer = interfaces(store, n=1)
        (row,) = answer.rows
        assert (row["in_bps"], row["covered_s"], row["capacity_bps"], row["up"]) == (1000.0, 60.0, 1e10, True)
        assert row["in_share"] == 1e-7
        buckets = interfaces(store, BASE_NS, BASE_NS + 40 * SECOND_NS, devices=["192.0.2.99"], bucket_ns=20 * SECOND_NS)
        assert [(row["time_ns"], row["in_octets"]) for row in buckets.rows] == [(BASE_NS, 100)]
        assert interfaces(store, names=["nothing"]).rows == []


def test_an_interface_by_its_number_is_the_one_that_the_registry_names(tmp_path: Path) -> None:
    """H3C's own model has the ifIndex as its key: its counters are those of the interface of that number."""
    story = Story(tmp_path)
    for at_s, octets in ((0, 0), (10, 4000)):
        story.leaves(at_s, update("/Ifmgr/Statistics/Interface[IfIndex=1]/InOctets", uint_val=octets))
    (window,) = story.close(12, is_last=True)
    assert rows(window, "in_octets") == {("CR01", "exit"): (4000,)}
