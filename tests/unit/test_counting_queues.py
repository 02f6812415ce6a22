"""From updates to windows of queues and components, their roll-ups in the store, and what is asked of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from telemetryd.counter_windows import ComponentWindow, QueueWindow
from telemetryd.schema import GrowthFlag, QueueKnown
from telemetryd.store.counter_query import components, interfaces, queues
from telemetryd.store.embedded import Store
from telemetryd.store.series_guard import CardinalityGuard
from telemetryd.store.series_render import SeriesRenderer
from telemetryd.store.verify import verify
from tests.counters_story import BASE_NS, HOUR_NS, SECOND_NS, TEN_NS, Story, rows
from tests.gnmi_messages import update
from tests.line_parser import parse_lines

QUEUE = "/qos/interfaces/interface[interface-id=xe1]/output/queues/queue[name={}]/state"
EXIT = "CR01", "exit"
ALL = int(sum(QueueKnown))


def queue(story: Story, at_s: float, name: str, **values: int) -> None:
    branch = QUEUE.format(name)
    story.leaves(at_s, *(update(f"{branch}/{leaf.replace('_', '-')}", uint_val=v) for leaf, v in values.items()))


def component(story: Story, at_s: float, name: str, **values: float) -> None:
    branch = f"/components/component[name={name}]"
    leaves = {
        "celsius": "state/temperature/instant",
        "mean": "state/temperature/avg",
        "cpu": "cpu/utilization/state/instant",
    }
    story.leaves(at_s, *(update(f"{branch}/{leaves[leaf]}", double_val=value) for leaf, value in values.items()))


def test_queues_have_windows_under_the_name_of_their_interface(tmp_path: Path) -> None:
    """What left a queue and what it dropped, spread over the spans; what the device does not count is not known."""
    story = Story(tmp_path)
    story.update(0, in_octets=0)
    for at_s, octets in ((5, 1000), (15, 2000), (25, 500)):
        queue(
            story,
            at_s,
            "af4",
            transmit_octets=octets,
            transmit_pkts=octets // 100,
            dropped_pkts=2 * at_s,
            dropped_octets=at_s,
        )
        queue(story, at_s, "be", transmit_octets=7 * octets)
    first, second, third = story.close(27, is_last=True, kind="queue")
    assert isinstance(first, QueueWindow)
    assert rows(first, "octets", "packets", "dropped_packets", "known", "covered_ns") == {
        (*EXIT, "out", "af4"): (500, 5, 10, ALL, 5 * SECOND_NS),
        (*EXIT, "out", "be"): (3500, 0, 0, QueueKnown.OCTETS, 5 * SECOND_NS),
    }
    assert rows(second, "octets", "dropped_packets")[*EXIT, "out", "af4"] == (750, 20)
    assert rows(third, "octets", "flags")[*EXIT, "out", "af4"] == (250, GrowthFlag.RESET)
    assert story.counting.counters().feeds == 3


def test_queues_of_both_directions_are_apart(tmp_path: Path) -> None:
    """A queue of the way in has the same name as one of the way out: a gateway shapes both."""
    story = Story(tmp_path)
    for at_s in (0, 10):
        for side, factor in (("output", 100), ("input", 7)):
            path = QUEUE.format("af4").replace("output", side)
            story.leaves(at_s, update(f"{path}/transmit-octets", uint_val=factor * at_s))
    (window,) = story.close(12, is_last=True, kind="queue")
    assert rows(window, "octets") == {
        ("CR01", "xe1", "out", "af4"): (1000,),
        ("CR01", "xe1", "in", "af4"): (70,),
    }


def test_components_have_means_and_extremes(tmp_path: Path) -> None:
    """The value of the moment is taken where there is one, else the average; texts and nonsense are counted."""
    story = Story(tmp_path)
    for at_s, celsius in ((1, 40.0), (4, -50.0), (9, 70.0)):
        component(story, at_s, "PSU 1", celsius=celsius, mean=99.0)
    component(story, 9, "RP0", cpu=12.5, mean=33.0)
    story.leaves(9, update("/system/cpus/cpu[index=0]/state/total/instant", uint_val=80))
    story.leaves(9, update("/components/component[name=PSU 1]/state/temperature/instant", double_val=float("inf")))
    (window,) = story.close(11, kind="component")
    assert isinstance(window, ComponentWindow) and (window.start_ns, window.span_ns) == (BASE_NS, TEN_NS)
    found = rows(window, "temperature_readings", "temperature_sum", "temperature_largest", "cpu_readings", "cpu_sum")
    assert found == {
        ("CR01", "PSU 1"): (3, 60.0, 70.0, 0, 0.0),
        ("CR01", "RP0"): (1, 33.0, 33.0, 1, 12.5),
        ("CR01", "cpu 0"): (0, 0.0, pytest.approx(np.nan, nan_ok=True), 1, 80.0),
    }
    assert story.counting.counters().unusable == 1
    assert story.counting.counters().components == 3
    component(story, 5, "PSU 1", celsius=20.0)
    assert story.close(31, is_last=True, kind="component") == []


def test_too_many_components_of_a_device_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one device says of more components than it may have is left out, counted and shown."""
    monkeypatch.setattr("telemetryd.aggregate.component_windows.MOST_OF_DEVICE", 2)
    story = Story(tmp_path)
    for number in range(5):
        component(story, 1, f"fan {number}", celsius=20.0)
    (window,) = story.close(12, kind="component")
    assert len(window.names) == 2
    assert story.counting.counters().refused_feeds == 3
    assert "3 readings of more interfaces, queues and components" in story.counting.health().reasons[0]


def fill(tmp_path: Path) -> Store:
    """Return a store with two runs of an hour's half of queues and components."""

    def run(story: Story, steps: range) -> None:
        async def go() -> None:
            running = asyncio.create_task(story.counting.run())
            await story.counting.started.wait()
            for at_s in steps:
                story.update(at_s, in_octets=at_s)
                queue(story, at_s, "af4", transmit_octets=1000 * at_s, transmit_pkts=10 * at_s, dropped_pkts=at_s)
                queue(story, at_s, "be", transmit_octets=at_s)
                component(story, at_s, "PSU 1", celsius=20.0 + at_s % 100, cpu=50.0)
                component(story, at_s, "fan", celsius=-5.0)
                story.counting._turn()
            story.counting.stop()
            await running

        asyncio.run(go())

    store = Store.open(tmp_path / "store")
    for number, steps in enumerate((range(0, 1000, 10), range(1200, 3800, 10))):
        story = Story(tmp_path, start_s=steps.start)
        run(story, steps)
        store.append([], f"live:{number}", counters=story.windows)
    return store


def test_roll_ups_of_every_kind_go_on_over_a_restart(tmp_path: Path) -> None:
    """Sums of the longer windows are those of the shorter ones; nothing is stored twice; the store is whole."""
    store = fill(tmp_path)
    store.maintain()
    tens = store.scan("queue", TEN_NS).to_pylist()
    assert sum(row["octets"] for row in tens if row["queue"] == "af4") == 1000 * (990 + 2590)
    for kind, names in (("queue", ("queue",)), ("component", ("component",))):
        for span_ns in (60 * SECOND_NS, 300 * SECOND_NS, HOUR_NS):
            found = store.scan(kind, span_ns).to_pylist()
            assert len(found) == len({(row["time"], *(row[name] for name in names)) for row in found}) > 0
    (hour,) = [row for row in store.scan("queue", HOUR_NS).to_pylist() if row["queue"] == "af4"]
    assert hour["octets"] == sum(
        r["octets"] for r in tens if r["queue"] == "af4" and r["time"] < hour["time"] + HOUR_NS
    )
    warm = {row["component"]: row for row in store.scan("component", HOUR_NS).to_pylist()}
    assert (warm["fan"]["temperature_largest"], warm["PSU 1"]["temperature_largest"]) == (-5.0, 110.0)
    assert verify(store).faults == ()
    store.close()


def test_the_store_answers_for_queues_and_components(tmp_path: Path) -> None:
    """Rates over the time that is known, drops, and what is unknown as such; means and extremes; interfaces as before."""
    with fill(tmp_path) as store:
        minute_ns = 60 * SECOND_NS
        answer = queues(store, BASE_NS, BASE_NS + 2 * minute_ns, bucket_ns=minute_ns)
        assert [(row["time_ns"] - BASE_NS, row["queue"]) for row in answer.rows] == [
            (0, "af4"),
            (0, "be"),
            (minute_ns, "af4"),
            (minute_ns, "be"),
        ]
        first = answer.rows[0]
        assert (first["device"], first["interface"], first["octets"], first["dropped_packets"]) == (*EXIT, 60_000, 60)
        assert (first["bps"], first["drop_share"], first["covered_s"]) == (8000, 1 / 11, 60)
        assert first["dropped_octets"] is None
        whole = queues(store, names=["be"])
        assert [row["packets"] for row in whole.rows] == [None]
        assert whole.rows[0]["octets"] == 990 + 2590
        (hottest, coolest) = components(store).rows
        assert (hottest["component"], hottest["temperature_largest"], hottest["cpu"]) == ("PSU 1", 110.0, 50.0)
        assert (coolest["component"], coolest["temperature"], coolest["cpu"]) == ("fan", -5.0, None)
        assert [row["component"] for row in components(store, n=1).rows] == ["PSU 1"]
        assert interfaces(store).rows[0]["in_octets"] == 990 + 2590


def test_series_of_queues_and_components(tmp_path: Path) -> None:
    """The same figures as in the store; what is not known is no field."""
    story = Story(tmp_path)
    for at_s in (0, 10):
        story.update(at_s, in_octets=at_s)
        queue(story, at_s, "af4", transmit_octets=1250 * at_s, dropped_pkts=at_s)
        queue(story, at_s, "be", transmit_pkts=at_s)
        component(story, at_s, "PSU 1", celsius=30.0 + at_s)
    render = SeriesRenderer(CardinalityGuard(1000)).counters
    (of_queues,) = story.close(12, is_last=True, kind="queue")
    points = {point.tags["queue"]: point for point in parse_lines(render(of_queues))}
    assert points["af4"].tags == {
        "device": "CR01",
        "interface": "exit",
        "direction": "out",
        "queue": "af4",
        "span": "10s",
    }
    assert points["af4"].fields == {"octets": 12500, "dropped_packets": 10, "bits_per_second": 10000, "seconds": 10}
    assert points["be"].fields == {"packets": 10, "seconds": 10}
    of_components = next(one for one in story.windows if isinstance(one, ComponentWindow))
    (point,) = parse_lines(render(of_components))
    assert point.tags == {"device": "CR01", "component": "PSU 1", "span": "10s"}
    assert point.fields["temperature"] == point.fields["temperature_largest"] == 30.0
    assert "cpu" not in point.fields and point.fields["cpu_readings"] == 0


def test_bundles_are_held_against_the_registry(tmp_path: Path) -> None:
    """A member that the registry does not know, or knows of another bundle, is named; one that agrees is not."""
    interface, member = (
        "/interfaces/interface[name={}]/ethernet/state/aggregate-id",
        "/members/member[interface=member]",
    )
    lacp = "/lacp/interfaces/interface[name={}]" + member + "/state/interface"
    story = Story(tmp_path)
    story.leaves(
        0,
        update(lacp.format("po9"), string_val="member"),
        update(interface.format("exit"), string_val="bundle"),
        update(interface.format("unheard"), string_val="bundle"),
    )
    assert story.counting.health().reasons == (
        "CR01/exit is in bundle by the device, in none by the registry",
        "CR01/member is in po9 by the device, in bundle by the registry",
    )
    story.leaves(1, update(lacp.format("bundle"), string_val="member"), update(interface.format("exit"), string_val=""))
    assert story.counting.health().reasons == ()
