"""Interfaces that nobody has: their counters grow by the clock, so that every value can be told from its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from telemetryd.agent.interfaces import COUNTERS, INTERFACE, MODEL, POSITION, speed
from telemetryd.agent.source import Pulse
from telemetryd.agent.tree import Branch, Elems, Snapshot, Value
from telemetryd.ingest.gnmi.path import Elem

MILLISECOND_NS: Final = 1_000_000
_COUNTED: Final = [(POSITION[f"state/counters/{name}"], number) for number, name in enumerate(COUNTERS)]
_OPER: Final = POSITION["state/oper-status"]
_TRANSITIONS: Final = POSITION["state/counters/carrier-transitions"]


def count(target: int, interface: int, counter: int, age_ns: int) -> int:
    """Return the value of a counter of a target that has been up for so long."""
    return (target + 1) * (interface + 1) * (counter + 1) * (age_ns // MILLISECOND_NS)


class SimulatedInterfaces:
    """See :class:`telemetryd.agent.source.Source`: ports ``Ethernet1`` ... of a target.

    Parameters
    ----------
    target:
        Its number.
    ports:
        How many it has.
    up_ns:
        Since when it is up, and counts; None for now.
    clock:
        ns since the epoch.
    """

    model = MODEL

    def __init__(
        self, target: int, ports: int, up_ns: int | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.pulse = Pulse()
        self.up_ns = clock() if up_ns is None else up_ns
        self._target = target
        self._clock = clock
        self._ports = [_port(number) for number in range(ports)]

    async def run(self) -> None:
        """Announce nothing by itself."""
        await asyncio.Event().wait()

    async def read(self, since_s: float) -> Snapshot:
        """See :meth:`telemetryd.agent.source.Source.read`."""
        ts_ns, began_s = self._clock(), asyncio.get_running_loop().time()
        age_ns = ts_ns - self.up_ns
        branches = {}
        for number, (elems, values) in enumerate(self._ports):
            for position, counter in _COUNTED:
                values[position] = count(self._target, number, counter, age_ns)
            branches[elems] = Branch(INTERFACE, elems, tuple(values))
        return Snapshot(ts_ns, began_s, branches)

    def flap(self, port: int) -> None:
        """Take a port down, or up again, and say so."""
        values = self._ports[port][1]
        values[_OPER] = "DOWN" if values[_OPER] == "UP" else "UP"
        flaps = values[_TRANSITIONS]
        values[_TRANSITIONS] = (flaps if isinstance(flaps, int) else 0) + 1
        self.pulse.beat()


def _port(number: int) -> tuple[Elems, list[Value | None]]:
    name = f"Ethernet{number + 1}"
    known: dict[str, Value] = {
        "name": name,
        "state/ifindex": number + 1,
        "state/admin-status": "UP",
        "state/oper-status": "UP",
        "state/counters/carrier-transitions": 1,
        "ethernet/state/mac-address": f"02:00:00:00:{number >> 8 & 255:02x}:{number & 255:02x}",
        "ethernet/state/port-speed": speed(10_000),
    }
    for place in ("config", "state"):
        known |= {
            f"{place}/name": name,
            f"{place}/type": "iana-if-type:ethernetCsmacd",
            f"{place}/mtu": 9000,
            f"{place}/enabled": True,
        }
    return (
        (Elem("interfaces"), Elem("interface", (("name", name),))),
        [known.get("/".join(leaf.names)) for leaf in INTERFACE.leaves],
    )
