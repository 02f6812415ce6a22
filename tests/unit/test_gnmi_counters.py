"""Which updates are counters, and what deletes take with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from telemetryd._ext import load
from telemetryd.ingest.gnmi.aliases import ALIASES
from telemetryd.ingest.gnmi.counters import (
    EVERYTHING,
    IFINDEX,
    OPER_STATUS,
    PORT_SPEED,
    CounterPaths,
    Entity,
    Told,
    is_up,
    speed_of,
)
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.ingest.gnmi.vendors import PROFILES
from telemetryd.schema import Counter, UpdateBatch
from tests.gnmi_messages import NOW_NS, notification, packed, update

ETH0 = "/interfaces/interface[name=eth0]"
ETH1 = "/interfaces/interface[name=eth1]"
QUEUE = "/qos/interfaces/interface[interface-id=eth0]/output/queues/queue[name=q7]"


class Reader:
    """A decoder and what is made of its rows."""

    def __init__(self) -> None:
        self.paths = PathTable()
        self.batch = UpdateBatch(4096, 1 << 17)
        module = load("gnmi_wire", "telemetryd.ingest.gnmi.gnmi_wire_reference")
        self.decoder = module.Decoder(self.batch, 3, Resolver(self.paths), np.zeros(0, np.int64))
        self.counters = CounterPaths(self.paths)

    def read(self, *messages: bytes) -> Told:
        self.batch.clear()
        assert self.decoder.decode(*packed(messages), 0, NOW_NS) == len(messages)
        return self.counters.read(self.batch)

    def rows(self, columns: dict[str, Any]) -> list[tuple[Entity, int, int]]:
        cells = zip(columns["entity"].tolist(), columns["counter"].tolist(), columns["value"].tolist(), strict=True)
        return [(self.counters.entities[entity], counter, value) for entity, counter, value in cells]


def test_counters_of_interfaces_and_queues_are_found() -> None:
    """Leaves, JSON containers and queues; what is no counter, or lies elsewhere, is not."""
    reader = Reader()
    told = reader.read(
        notification(
            update(f"{ETH0}/state/counters/in-octets", uint_val=2**64 - 1),
            update(f"{ETH0}/state/counters/out-pkts", int_val=7),
            update(f"{ETH0}/state/counters/in-fcs-errors", uint_val=1),
            update(f"{ETH0}/subinterfaces/subinterface[index=0]/state/counters/in-octets", uint_val=9),
            update("/interfaces/interface/state/counters/in-octets", uint_val=9),
        ),
        notification(update(f"{ETH1}/state/counters", json_ietf_val=b'{"in-octets":"12","in-unicast-pkts":3}')),
        notification(
            update(f"{QUEUE}/state/transmit-octets", uint_val=5), update(f"{QUEUE}/state/name", string_val="q7")
        ),
    )
    eth0, eth1, queue = Entity("eth0"), Entity("eth1"), Entity("eth0", "q7", "out")
    assert reader.rows(told.before) == []
    assert reader.rows(told.after) == [
        (eth0, Counter.IN_OCTETS, 2**64 - 1),
        (eth0, Counter.OUT_PACKETS, 7),
        (eth1, Counter.IN_OCTETS, 12),
        (eth1, Counter.IN_UNICAST_PACKETS, 3),
        (queue, Counter.TRANSMIT_OCTETS, 5),
    ]
    assert set(told.after["target"]) == {3}


def test_what_is_no_count_is_left_out_and_counted() -> None:
    """Negative numbers, texts and fractions without sense are no counts; whole decimals are."""
    reader = Reader()
    leaf = f"{ETH0}/state/counters/in-octets"
    told = reader.read(
        notification(update(leaf, int_val=-1)),
        notification(update(leaf, string_val="much")),
        notification(update(leaf, double_val=float("nan"))),
        notification(update(leaf, bool_val=True)),
        notification(update(leaf, double_val=1e6)),
    )
    assert reader.rows(told.after) == [(Entity("eth0"), Counter.IN_OCTETS, 10**6)]
    assert told.unusable == 4


def test_states_are_told() -> None:
    """Status, ifIndex and speed come as they are."""
    reader = Reader()
    told = reader.read(
        notification(
            update(f"{ETH0}/state/oper-status", string_val="UP"),
            update(f"{ETH0}/state/ifindex", uint_val=7),
            update(f"{ETH0}/ethernet/state/port-speed", string_val="openconfig-if-ethernet:SPEED_10GB"),
        )
    )
    assert [(leaf, value) for _, _, leaf, value in told.states] == [
        (OPER_STATUS, "UP"),
        (IFINDEX, 7),
        (PORT_SPEED, "openconfig-if-ethernet:SPEED_10GB"),
    ]
    assert [speed_of(v) for v in ("SPEED_2500MB", "x:SPEED_400GB", "SPEED_UNKNOWN", 1000, True, None, -1)] == [
        2.5e9, 4e11, 0, 1000, 0, 0, 0,
    ]  # fmt: skip
    assert [is_up(v) for v in ("UP", "x:up", "DOWN", None, 1)] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/", EVERYTHING),
        ("/interfaces", EVERYTHING),
        ("/interfaces/interface", EVERYTHING),
        ("/interfaces/interface[name=*]", EVERYTHING),
        (ETH0, Entity("eth0")),
        (f"{ETH0}/state/counters", Entity("eth0")),
        (f"{ETH0}/state/description", None),
        (QUEUE, Entity("eth0", "q7", "out")),
        ("/qos", EVERYTHING),
        ("/components/component[name=eth0]", None),
    ],
)
def test_deletes_of_branches(path: str, scope: Any) -> None:
    """A delete takes what lies at and below it: readings before it are old, those after it are new."""
    reader = Reader()
    leaf = f"{ETH0}/state/counters/in-octets"
    told = reader.read(notification(update(leaf, uint_val=1)), notification(update(leaf, uint_val=3), deletes=[path]))
    deleted = [(target, one if one < 0 else reader.counters.entities[one]) for target, one in told.deleted]
    assert deleted == ([] if scope is None else [(3, scope)])
    is_own = scope in (EVERYTHING, Entity("eth0"))
    assert [value for *_, value in reader.rows(told.before)] == ([1] if is_own else [])
    assert [value for *_, value in reader.rows(told.after)] == ([3] if is_own else [1, 3])


def test_counters_under_native_names() -> None:
    """What makes send in models of their own are the same counters; what only looks like it is not."""
    reader = Reader()
    xr = "/Cisco-IOS-XR-infra-statsd-oper:infra-statistics/interfaces/interface[interface-name=Hu0/0/0/1]/latest"
    sonic = b'{"SAI_PORT_STAT_IF_OUT_OCTETS":"7","SAI_PORT_STAT_IF_IN_DISCARDS":"2","SAI_PORT_STAT_IF_IN_FEC":"1"}'
    h3c = b'{"Interface":[{"IfIndex":12,"Name":"XGE1/0/1","InOctets":"99","InRate":5}]}'
    told = reader.read(
        notification(
            update(f"{xr}/generic-counters/bytes-received", uint_val=11),
            update(f"{xr}/generic-counters/output-drops", uint_val=3),
            update(f"{xr}/data-rate/input-data-rate", uint_val=3),
        ),
        notification(
            update(
                "/srl_nokia-interfaces:interface[name=ethernet-1/1]/statistics",
                json_ietf_val=b'{"in-octets":"5","in-discarded-packets":"4","carrier-transitions":"9"}',
            ),
            update("/interface[name=ethernet-1/1]/oper-state", string_val="up"),
            update("/interface[name=ethernet-1/1]/ifindex", uint_val=54),
        ),
        notification(update("/COUNTERS/Ethernet0", json_ietf_val=sonic), target="COUNTERS_DB"),
        notification(update("/COUNTERS/x/SAI_PORT_STAT_IF_OUT_OCTETS", uint_val=7)),
        notification(update("/Ifmgr/Statistics", json_ietf_val=h3c)),
        notification(update("/Ifmgr/Statistics/Interface[IfIndex=x]/InOctets", uint_val=7)),
    )
    srl = Entity("ethernet-1/1")
    assert reader.rows(told.after) == [
        (Entity("Hu0/0/0/1"), Counter.IN_OCTETS, 11),
        (Entity("Hu0/0/0/1"), Counter.OUT_DISCARDS, 3),
        (srl, Counter.IN_OCTETS, 5),
        (srl, Counter.IN_DISCARDS, 4),
        (Entity("Ethernet0"), Counter.OUT_OCTETS, 7),
        (Entity("Ethernet0"), Counter.IN_DISCARDS, 2),
        (Entity("", if_index=12), Counter.IN_OCTETS, 99),
    ]
    assert [(reader.counters.entities[e], leaf, value) for _, e, leaf, value in told.states] == [
        (srl, OPER_STATUS, "up"),
        (srl, IFINDEX, 54),
    ]


def test_every_alias_is_of_a_known_make_and_counter() -> None:
    """The table names profiles and counters that exist, and has octets of both ways for each make."""
    for alias in ALIASES:
        assert alias.make in PROFILES
        assert set(alias.leaves.values()) <= {*Counter.__members__, "OPER_STATUS", "IFINDEX"}
        assert {"IN_OCTETS", "OUT_OCTETS", "IN_DISCARDS", "OUT_ERRORS"} <= set(alias.leaves.values())
