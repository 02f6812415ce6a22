"""The part of OpenConfig's interfaces that a Linux host can answer for.

Models: openconfig-interfaces 3.8.1, openconfig-if-ethernet 2.14.0 (github.com/openconfig/public). Left out is what the
kernel does not know, such as broadcast packets: it counts them among all packets.
"""

from __future__ import annotations

from typing import Final

from telemetryd.agent.model import Kind, Leaf, ListNode, Model, ModelData, Role

COUNTERS: Final = (
    "in-octets",
    "in-pkts",
    "in-multicast-pkts",
    "in-errors",
    "in-discards",
    "in-fcs-errors",
    "out-octets",
    "out-pkts",
    "out-errors",
    "out-discards",
)


def _leaf(way: str, kind: Kind, role: Role, *, is_counter: bool = False) -> Leaf:
    return Leaf(tuple(way.split("/")), kind, role, is_counter)


INTERFACE: Final = ListNode(
    ("interfaces", "interface"),
    ("name",),
    (
        _leaf("name", Kind.TEXT, Role.KEY),
        _leaf("config/name", Kind.TEXT, Role.CONFIG),
        _leaf("config/type", Kind.IDENTITY, Role.CONFIG),
        _leaf("config/mtu", Kind.UINT, Role.CONFIG),
        _leaf("config/description", Kind.TEXT, Role.CONFIG),
        _leaf("config/enabled", Kind.BOOL, Role.CONFIG),
        _leaf("state/name", Kind.TEXT, Role.APPLIED),
        _leaf("state/type", Kind.IDENTITY, Role.APPLIED),
        _leaf("state/mtu", Kind.UINT, Role.APPLIED),
        _leaf("state/description", Kind.TEXT, Role.APPLIED),
        _leaf("state/enabled", Kind.BOOL, Role.APPLIED),
        _leaf("state/ifindex", Kind.UINT, Role.OPERATIONAL),
        _leaf("state/admin-status", Kind.ENUMERATION, Role.OPERATIONAL),
        _leaf("state/oper-status", Kind.ENUMERATION, Role.OPERATIONAL),
        *(_leaf(f"state/counters/{name}", Kind.UINT64, Role.OPERATIONAL, is_counter=True) for name in COUNTERS),
        # It moves only when the link does, and then the kernel says so.
        _leaf("state/counters/carrier-transitions", Kind.UINT64, Role.OPERATIONAL),
        _leaf("ethernet/state/mac-address", Kind.TEXT, Role.APPLIED),
        _leaf("ethernet/state/hw-mac-address", Kind.TEXT, Role.OPERATIONAL),
        _leaf("ethernet/state/port-speed", Kind.IDENTITY, Role.APPLIED),
    ),
)
#: Where the leaves of an interface are, by the names on the way.
POSITION: Final = {"/".join(leaf.names): i for i, leaf in enumerate(INTERFACE.leaves)}

OPENCONFIG: Final = "OpenConfig working group"
MODEL: Final = Model(
    [
        ModelData("openconfig-interfaces", OPENCONFIG, "3.8.1"),
        ModelData("openconfig-if-ethernet", OPENCONFIG, "2.14.0"),
    ],
    [INTERFACE],
    {
        ("interfaces",): "openconfig-interfaces",
        ("interfaces", "interface", "ethernet"): "openconfig-if-ethernet",
    },
)

#: Mbit/s -> identity.
SPEEDS: Final = {
    10: "10MB",
    100: "100MB",
    1_000: "1GB",
    2_500: "2500MB",
    5_000: "5GB",
    10_000: "10GB",
    25_000: "25GB",
    40_000: "40GB",
    50_000: "50GB",
    100_000: "100GB",
    200_000: "200GB",
    400_000: "400GB",
    600_000: "600GB",
    800_000: "800GB",
}


def speed(mbit: int | None) -> str:
    """Return the identity of a port's speed in Mbit/s; SPEED_UNKNOWN for one that OpenConfig has no name for."""
    return f"openconfig-if-ethernet:SPEED_{SPEEDS.get(mbit or 0, 'UNKNOWN')}"
