"""A tree that tests write by hand, and what reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from telemetryd.agent.encode import Leaves
from telemetryd.agent.interfaces import INTERFACE, MODEL
from telemetryd.agent.source import Pulse
from telemetryd.agent.tree import Branch, Snapshot, Value
from telemetryd.ingest.gnmi.path import Elem, text_of
from tests.gnmi_messages import NOW_NS

Interfaces = Mapping[str, Mapping[str, Value]]

ETH0: dict[str, Value] = {
    "name": "eth0",
    "config/name": "eth0",
    "state/name": "eth0",
    "state/type": "iana-if-type:ethernetCsmacd",
    "state/enabled": True,
    "state/ifindex": 2,
    "state/oper-status": "UP",
    "state/counters/in-octets": 2**64 - 1,
    "state/counters/out-octets": 7,
    "ethernet/state/port-speed": "openconfig-if-ethernet:SPEED_10GB",
}
LO: dict[str, Value] = {"name": "lo", "state/name": "lo", "state/oper-status": "UNKNOWN", "state/counters/in-octets": 5}


def branch(name: str, values: Mapping[str, Value]) -> Branch:
    """Return an interface with these leaves."""
    ways = ["/".join(leaf.names) for leaf in INTERFACE.leaves]
    assert values.keys() <= set(ways)
    elems = (Elem("interfaces"), Elem("interface", (("name", name),)))
    return Branch(INTERFACE, elems, tuple(values.get(way) for way in ways))


def snapshot(interfaces: Interfaces, ts_ns: int = NOW_NS, began_s: float = 0.0) -> Snapshot:
    branches = [branch(name, values) for name, values in interfaces.items()]
    return Snapshot(ts_ns, began_s, {one.elems: one for one in branches})


def flat(found: list[Leaves]) -> dict[str, Value]:
    """Return leaves by the texts of their paths below /interfaces/interface, such as ``[name=eth0]/name``."""
    return {
        text_of(one.elems + one.node.leaves[i].elems).removeprefix("/interfaces/interface"): value
        for one, positions in found
        for i in positions
        if (value := one.values[i]) is not None
    }


class HeldSource:
    """A source that holds what tests put into it.

    Attributes
    ----------
    reads:
        How often it was read.
    failure:
        What reading fails with.
    """

    model = MODEL

    def __init__(self, interfaces: Interfaces) -> None:
        self.pulse = Pulse()
        self.interfaces: dict[str, dict[str, Value]] = {name: dict(values) for name, values in interfaces.items()}
        self.ts_ns = NOW_NS
        self.reads = 0
        self.failure: Exception | None = None

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def read(self, since_s: float) -> Snapshot:
        self.reads += 1
        self.ts_ns += 1
        if self.failure is not None:
            raise self.failure
        return snapshot(self.interfaces, self.ts_ns, asyncio.get_running_loop().time())

    def change(self, name: str, announced: bool = True, **leaves: Any) -> None:
        """Change leaves, named by the last of their names with _ for -, of ``state``; None removes one."""
        for leaf, value in leaves.items():
            last = leaf.replace("_", "-")
            way = next(way for way in map("/".join, (one.names for one in INTERFACE.leaves)) if _is(way, last))
            if value is None:
                self.interfaces[name].pop(way)
            else:
                self.interfaces[name][way] = value
        if announced:
            self.pulse.beat()


def _is(way: str, last: str) -> bool:
    return way.startswith("state/") and way.endswith(f"/{last}")
