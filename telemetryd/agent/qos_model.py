"""The parts of OpenConfig's QoS and of its defined sets that this target has.

Models (github.com/openconfig/public): openconfig-qos 2.2.0 with -elements and -interfaces, openconfig-qos-types
1.0.1, openconfig-packet-match 2.3.0 for conditions, openconfig-defined-sets 1.1.0. Left out are buffers, RED, virtual
output queues, the trimming of packets, MPLS and fabric conditions, and the numbers of TCP flags and ICMP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from telemetryd.agent.interfaces import OPENCONFIG
from telemetryd.agent.model import Kind, Leaf, ListNode, Model, ModelData, Names, Role
from telemetryd.agent.types import (
    BOOL,
    DSCP,
    ETHERTYPE,
    FRAGMENT_RANGE,
    IP_PROTOCOL,
    IPV4_PREFIX,
    IPV6_PREFIX,
    MAC,
    PERCENT,
    PORT_RANGE,
    TEXT,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Type,
    enumeration,
    identity,
    number,
)

_PREFIX_SETS: Final = {
    family: ("defined-sets", f"ipv{family}-prefix-sets", f"ipv{family}-prefix-set") for family in (4, 6)
}
_PORT_SETS: Final = ("defined-sets", "port-sets", "port-set")
QUEUE: Final = ("qos", "queues", "queue")
GROUP: Final = ("qos", "forwarding-groups", "forwarding-group")
CLASSIFIER: Final = ("qos", "classifiers", "classifier")
TERM: Final = (*CLASSIFIER, "terms", "term")
POLICY: Final = ("qos", "scheduler-policies", "scheduler-policy")
SCHEDULER: Final = (*POLICY, "schedulers", "scheduler")
PORT: Final = ("qos", "interfaces", "interface")

_SEQUENCE: Final = UINT32
_FLOW_LABEL: Final = number((1 << 20) - 1)
_TRAFFIC_CLASS: Final = number(7)
_BEHAVIOR: Final = enumeration("SHAPE", "POLICE")

#: A leaf of configuration by its way, its type, and the list that it refers to.
Row = tuple[str, Type] | tuple[str, Type, Names]


def _leaf(row: Row, *, is_many: bool = False) -> Leaf:
    way, type_, *refers_to = row
    return Leaf(
        tuple(way.split("/")), type_.kind, Role.CONFIG, False, is_many, type_, refers_to[0] if refers_to else ()
    )


def _below(container: str, *rows: Row, many: Iterable[Row] = ()) -> Iterator[Leaf]:
    """Yield the leaves of a container's `config`, and their twins in its `state`."""
    above = f"{container}/" if container else ""
    for row, is_many in (*((row, False) for row in rows), *((row, True) for row in many)):
        way, type_, *rest = row
        leaf = _leaf((f"{above}config/{way}", type_, *rest), is_many=is_many)  # type: ignore[arg-type]
        yield leaf
        yield replace(leaf, names=tuple(f"{above}state/{way}".split("/")), role=Role.APPLIED, type=None, refers_to=())


def _counters(container: str, *names: str) -> Iterator[Leaf]:
    above = f"{container}/" if container else ""
    for name in names:
        yield Leaf((*f"{above}state".split("/"), name), Kind.UINT64, Role.OPERATIONAL, is_counter=True)


def _list(names: Names, key: str, type_: Type, *leaves: Iterable[Leaf]) -> ListNode:
    """Return a list by one key, whose twin in `config` is written with the others."""
    return ListNode(names, (key,), (Leaf((key,), type_.kind, Role.KEY), *(leaf for some in leaves for leaf in some)))


def _of_state(names: Names, key: str, type_: Type, *counters: str) -> ListNode:
    """Return a list that only the target makes entries of."""
    twin = Leaf(("state", key), type_.kind, Role.OPERATIONAL)
    return ListNode(names, (key,), (Leaf((key,), type_.kind, Role.KEY), twin, *_counters("", *counters)))


def _conditions(family: int, prefix: Type, *rows: Row, many: Iterable[Row] = ()) -> Iterator[Leaf]:
    sets = _PREFIX_SETS[family]
    return _below(
        f"conditions/ipv{family}",
        ("source-address", prefix),
        ("source-address-prefix-set", TEXT, sets),
        ("destination-address", prefix),
        ("destination-address-prefix-set", TEXT, sets),
        ("dscp", DSCP),
        ("length", UINT16),
        ("protocol", IP_PROTOCOL),
        ("hop-limit", UINT8),
        *rows,
        many=(("dscp-set", DSCP), *many),
    )


def _remark(container: str, *rows: Row) -> Iterator[Leaf]:
    # The model says uint8 of all three; no header has room for more than this.
    return _below(container, ("set-dscp", DSCP), ("set-dot1p", _TRAFFIC_CLASS), ("set-mpls-tc", _TRAFFIC_CLASS), *rows)


def _rates(*names: str) -> list[Row]:
    return [
        row for name in names for row in ((name, UINT64), (f"{name}-pct", PERCENT), (f"{name}-pct-remaining", PERCENT))
    ]


def _port(side: str) -> list[ListNode]:
    """Return the lists of one side of an interface that are not its own leaves."""
    counted = ("conforming", "exceeding", "violating")
    return [
        _list(
            (*PORT, side, "queues", "queue"),
            "name",
            TEXT,
            _below("", ("name", TEXT)),
            _counters("", "max-queue-len", "avg-queue-len", "transmit-pkts", "transmit-octets", "dropped-pkts"),
            _counters("", "dropped-octets"),
        ),
        _of_state(
            (*PORT, side, "scheduler-policy", "schedulers", "scheduler"),
            "sequence",
            _SEQUENCE,
            *(f"{color}-{unit}" for color in counted for unit in ("pkts", "octets")),
        ),
    ]


_SCHEDULER_TYPE: Final = identity("openconfig-qos-types", "ONE_RATE_TWO_COLOR", "TWO_RATE_THREE_COLOR")
_ATTACHED: Final = enumeration("IPV4", "IPV6", "MPLS", "IPV4_MULTICAST", "IPV6_MULTICAST")

LISTS: Final = (
    *(
        _list(
            _PREFIX_SETS[family],
            "name",
            TEXT,
            _below(
                "",
                ("name", TEXT),
                ("description", TEXT),
                many=(("prefix", prefix), ("exclude-prefix", prefix)),
            ),
        )
        for family, prefix in ((4, IPV4_PREFIX), (6, IPV6_PREFIX))
    ),
    _list(
        _PORT_SETS,
        "name",
        TEXT,
        _below(
            "",
            ("name", TEXT),
            ("description", TEXT),
            many=(("port", PORT_RANGE), ("exclude-port", PORT_RANGE)),
        ),
    ),
    _list(QUEUE, "name", TEXT, _below("", ("name", TEXT), ("queue-id", UINT8))),
    _list(
        GROUP,
        "name",
        TEXT,
        _below(
            "",
            ("name", TEXT),
            ("fabric-priority", UINT8),
            ("output-queue", TEXT, QUEUE),
            ("unicast-output-queue", TEXT, QUEUE),
            ("multicast-output-queue", TEXT, QUEUE),
        ),
    ),
    _list(
        CLASSIFIER, "name", TEXT, _below("", ("name", TEXT), ("type", enumeration("IPV4", "IPV6", "MPLS", "ETHERNET")))
    ),
    _list(
        TERM,
        "id",
        TEXT,
        _below("", ("id", TEXT)),
        _below(
            "conditions/l2",
            ("source-mac", MAC),
            ("source-mac-mask", MAC),
            ("destination-mac", MAC),
            ("destination-mac-mask", MAC),
            ("ethertype", ETHERTYPE),
        ),
        _conditions(4, IPV4_PREFIX, many=(("fragment-offsets", FRAGMENT_RANGE),)),
        _conditions(6, IPV6_PREFIX, ("source-flow-label", _FLOW_LABEL), ("destination-flow-label", _FLOW_LABEL)),
        _below(
            "conditions/transport",
            ("source-port", PORT_RANGE),
            ("source-port-set", TEXT, _PORT_SETS),
            ("destination-port", PORT_RANGE),
            ("destination-port-set", TEXT, _PORT_SETS),
        ),
        _below("actions", ("target-group", TEXT, GROUP)),
        _remark("actions/remark"),
    ),
    _list(POLICY, "name", TEXT, _below("", ("name", TEXT))),
    _list(
        SCHEDULER,
        "sequence",
        _SEQUENCE,
        _below("", ("sequence", _SEQUENCE), ("type", _SCHEDULER_TYPE), ("priority", enumeration("STRICT"))),
        _below(
            "output",
            ("output-type", enumeration("SCHEDULER", "FWD_GROUP", "INTERFACE")),
            ("child-scheduler", TEXT, POLICY),
            ("output-fwd-group", TEXT, GROUP),
        ),
        _below(
            "one-rate-two-color",
            *_rates("cir"),
            ("bc", UINT32),
            ("queuing-behavior", _BEHAVIOR),
            ("max-queue-depth-bytes", UINT32),
            ("max-queue-depth-packets", UINT32),
            ("max-queue-depth-percent", PERCENT),
        ),
        _remark("one-rate-two-color/conform-action"),
        _remark("one-rate-two-color/exceed-action", ("drop", BOOL)),
        _below("two-rate-three-color", *_rates("cir", "pir"), ("bc", UINT32), ("be", UINT32)),
        _remark("two-rate-three-color/conform-action"),
        _remark("two-rate-three-color/exceed-action", ("drop", BOOL)),
        _remark("two-rate-three-color/violate-action", ("drop", BOOL)),
    ),
    _list(
        (*SCHEDULER, "inputs", "input"),
        "id",
        TEXT,
        _below(
            "",
            ("id", TEXT),
            ("input-type", enumeration("QUEUE", "IN_PROFILE", "OUT_PROFILE")),
            ("queue", TEXT, QUEUE),
            ("weight", UINT64),
        ),
    ),
    _list(
        PORT,
        "interface-id",
        TEXT,
        _below("", ("interface-id", TEXT)),
        _below("interface-ref", ("interface", TEXT), ("subinterface", UINT32)),
        _below("input/scheduler-policy", ("name", TEXT, POLICY)),
        _below("output/scheduler-policy", ("name", TEXT, POLICY)),
    ),
    _list(
        (*PORT, "input", "classifiers", "classifier"),
        "type",
        _ATTACHED,
        _below("", ("type", _ATTACHED), ("name", TEXT, CLASSIFIER)),
    ),
    _of_state(
        (*PORT, "input", "classifiers", "classifier", "terms", "term"), "id", TEXT, "matched-packets", "matched-octets"
    ),
    *_port("input"),
    *_port("output"),
)

MODULES: Final = (
    ModelData("openconfig-qos", OPENCONFIG, "2.2.0"),
    ModelData("openconfig-packet-match", OPENCONFIG, "2.3.0"),
    ModelData("openconfig-defined-sets", OPENCONFIG, "1.1.0"),
)
MODULE_OF: Final[dict[Names, str]] = {("qos",): "openconfig-qos", ("defined-sets",): "openconfig-defined-sets"}
MODEL: Final = Model(MODULES, LISTS, MODULE_OF)
