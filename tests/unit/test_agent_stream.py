"""When a subscriber of the agent gets what: samples, changes, heartbeats, and nodes that go."""

from __future__ import annotations

import math
from typing import Any

import pytest

from telemetryd.agent.stream import LOOK_S, Part, Trigger
from telemetryd.agent.tree import Selection, Value
from telemetryd.ingest.gnmi.path import parse, text_of
from tests.agent_tree import flat, snapshot

pytestmark = pytest.mark.no_twins

OPER, OCTETS = "state/oper-status", "state/counters/in-octets"


class Told:
    """A part, and what it has sent of each reading."""

    def __init__(self, path: str = "/interfaces/interface/state", began_s: float = 100.0, **trigger: Any) -> None:
        self.part = Part(Selection(parse(path)), Trigger(**trigger))
        self.began_s = began_s

    def begin(self, **interfaces: dict[str, Value]) -> dict[str, Value]:
        return flat(self.part.begin(snapshot(interfaces), self.began_s))

    def take(self, after_s: float, **interfaces: dict[str, Value]) -> tuple[dict[str, Value], list[str]]:
        updates, gone = self.part.take(snapshot(interfaces), self.began_s + after_s)
        return flat(updates), [text_of(elems).removeprefix("/interfaces/interface") for elems in gone]


def port(octets: int, oper: str = "UP") -> dict[str, Value]:
    return {OPER: oper, OCTETS: octets}


def whole(octets: int, oper: str = "UP", name: str = "eth0") -> dict[str, Value]:
    return {f"[name={name}]/{OPER}": oper, f"[name={name}]/{OCTETS}": octets}


def test_samples() -> None:
    """Everything at the beginning and then once an interval, changed or not; nothing in between."""
    told = Told(sample_s=2.0)
    assert told.begin(eth0=port(1)) == whole(1)
    assert told.part.next_s == 102.0
    assert told.take(1.5, eth0=port(2, "DOWN")) == ({}, [])
    assert told.take(2.0, eth0=port(3)) == (whole(3), [])
    assert told.part.next_s == 104.0
    assert told.take(4.1, eth0=port(3)) == (whole(3), [])
    assert told.part.next_s == 106.0


def test_samples_that_were_missed_do_not_come_later() -> None:
    """A subscriber who could not be sent to gets the next sample at its time: samples do not heap up."""
    told = Told(sample_s=1.0)
    told.begin(eth0=port(1))
    assert told.take(7.3, eth0=port(2))[0] == whole(2)
    assert told.part.next_s == 108.0
    assert told.take(7.9, eth0=port(2)) == ({}, [])


@pytest.mark.parametrize("interval_s", [0.1, 0.3, 1 / 3, 1.1])
def test_a_sample_is_due_once(interval_s: float) -> None:
    """Whatever rounding does to the times, each is due once, and the next one later."""
    told = Told(sample_s=interval_s, began_s=12345.678)
    told.begin(eth0=port(0))
    for _ in range(1000):
        due_s = told.part.next_s
        assert told.take(due_s - told.began_s, eth0=port(1))[0]
        assert due_s < told.part.next_s <= due_s + 1.001 * interval_s


def test_changes() -> None:
    """What has changed, when it is announced or at the next look; all of a port that is new."""
    told = Told()
    assert told.begin(eth0=port(1)) == whole(1)
    assert told.part.next_s == 100.0 + LOOK_S
    assert told.take(0.2, eth0=port(1)) == ({}, [])
    assert told.take(0.3, eth0=port(1, "DOWN")) == ({f"[name=eth0]/{OPER}": "DOWN"}, [])
    assert told.take(1.0, eth0=port(9, "DOWN")) == ({f"[name=eth0]/{OCTETS}": 9}, [])
    assert told.take(2.0, eth0=port(9, "DOWN"), eth1=port(5)) == (whole(5, name="eth1"), [])


def test_what_is_announced_is_not_looked_at() -> None:
    """Where the kernel tells of every change there is nothing to do until it does."""
    told = Told(f"/interfaces/interface/{OPER}")
    told.begin(eth0=port(1))
    assert told.part.next_s == math.inf
    assert told.take(50.0, eth0=port(2, "DOWN")) == ({f"[name=eth0]/{OPER}": "DOWN"}, [])


def test_suppressed_samples() -> None:
    """Leaves that are as they were are left out, and come with the heartbeat all the same."""
    told = Told(sample_s=1.0, is_suppressed=True, heartbeat_s=3.5)
    assert told.begin(eth0=port(1)) == whole(1)
    assert told.take(1.0, eth0=port(1)) == ({}, [])
    assert told.take(2.0, eth0=port(4)) == ({f"[name=eth0]/{OCTETS}": 4}, [])
    assert told.take(3.0, eth0=port(4)) == ({}, [])
    assert told.part.next_s == 103.5
    assert told.take(3.5, eth0=port(4)) == (whole(4), [])
    assert told.take(4.0, eth0=port(4)) == ({}, [])


def test_heartbeat_of_changes() -> None:
    """Everything, changed or not, once a heartbeat."""
    told = Told(f"/interfaces/interface/{OPER}", heartbeat_s=10.0)
    told.begin(eth0=port(1))
    assert told.part.next_s == 110.0
    assert told.take(10.0, eth0=port(1)) == ({f"[name=eth0]/{OPER}": "UP"}, [])
    assert told.part.next_s == 120.0


@pytest.mark.parametrize("trigger", [{}, {"sample_s": 1.0}, {"sample_s": 1.0, "is_suppressed": True}])
def test_what_goes(trigger: dict[str, Any]) -> None:
    """A port that is gone is deleted once, as the node that was asked for; a leaf that is gone too."""
    told = Told("/interfaces/interface/state/counters", **trigger)
    told.begin(eth0=port(1), eth1=port(2))
    assert told.take(1.0, eth0=port(1))[1] == ["[name=eth1]/state/counters"]
    assert told.take(2.0, eth0=port(1))[1] == []
    told = Told("/interfaces", **trigger)
    told.begin(eth0=port(1), eth1=port(2))
    assert told.take(1.0, eth0={OPER: "UP"})[1] == [f"[name=eth0]/{OCTETS}", "[name=eth1]"]
    assert told.take(2.0, eth0=port(3))[0][f"[name=eth0]/{OCTETS}"] == 3
