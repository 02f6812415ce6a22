"""The interfaces of this network namespace, as the kernel tells of them over netlink (rtnetlink(7)).

Links are read when they have changed, which the kernel announces; counters (RTM_GETSTATS) at every reading: with
pyroute2 the former takes 0.5 ms a link, the latter 0.05 ms.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyroute2 import AsyncIPRoute
from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_LINK

from telemetryd.agent.interfaces import COUNTERS, INTERFACE, MODEL, POSITION, speed
from telemetryd.agent.source import Pulse
from telemetryd.agent.tree import Branch, Elems, Snapshot, Value
from telemetryd.errors import TelemetrydError
from telemetryd.ingest.gnmi.path import Elem
from telemetryd.observe.log import Log

IFF_UP: Final = 0x1
#: linux/if_link.h: IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64).
STATS_LINK_64: Final = 1
#: linux/if_arp.h
ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_PPP = 1, 772, 512
_TUNNELS: Final = frozenset({768, 769, 776, 778, 823})  # IPIP, IP6IP6, SIT, GRE, IP6GRE
_KINDS: Final = {"vlan": "l2vlan", "bond": "ieee8023adLag", "team": "ieee8023adLag", "bridge": "bridge"}
#: RFC 2863's states, of which the kernel knows those of IF_OPER_* (linux/if.h).
_OPER: Final = {
    "UP": "UP",
    "DOWN": "DOWN",
    "TESTING": "TESTING",
    "DORMANT": "DORMANT",
    "NOTPRESENT": "NOT_PRESENT",
    "LOWERLAYERDOWN": "LOWER_LAYER_DOWN",
}
#: OpenConfig's counter -> those of rtnl_link_stats64 that it is the sum of (Documentation/networking/statistics.rst).
_COUNTED: Final = {
    "in-octets": ("rx_bytes",),
    "in-pkts": ("rx_packets",),
    "in-multicast-pkts": ("multicast",),
    "in-errors": ("rx_errors",),
    "in-discards": ("rx_dropped", "rx_missed_errors"),
    "in-fcs-errors": ("rx_crc_errors",),
    "out-octets": ("tx_bytes",),
    "out-pkts": ("tx_packets",),
    "out-errors": ("tx_errors",),
    "out-discards": ("tx_dropped",),
}
_WHOLE: Final = [(POSITION[f"state/counters/{name}"], _COUNTED[name]) for name in COUNTERS]
_GREATEST_MTU: Final = 0xFFFF  # OpenConfig's is uint16; the loopback's is greater
_UNKNOWN_SPEED: Final = 0xFFFFFFFF
#: A dump that changes while it is read is read again.
_TRIES: Final = 5
#: After the socket of announcements had to be closed.
_AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Link:
    """A link without its counters."""

    index: int
    elems: Elems
    values: tuple[Value | None, ...]


class KernelInterfaces:
    """See :class:`telemetryd.agent.source.Source`. All of it is in the namespace that it is made in."""

    model = MODEL

    def __init__(self) -> None:
        self.pulse = Pulse()
        self._log = Log("kernel")
        self._reading = asyncio.Lock()
        self._snapshot: Snapshot | None = None
        self._links: tuple[_Link, ...] = ()
        self._links_of = -1  # the number of the pulse at which the links were read
        self._socket: AsyncIPRoute | None = None

    async def run(self) -> None:
        """Listen to the kernel's announcements."""
        try:
            while True:
                try:
                    async with AsyncIPRoute() as announced:
                        await announced.bind(groups=RTMGRP_LINK)
                        # Whatever was announced while nobody listened is news too.
                        self.pulse.beat()
                        while True:
                            async for _ in announced.get():
                                pass
                            self.pulse.beat()
                except (OSError, NetlinkError) as error:
                    # Mostly ENOBUFS: there was more than the socket holds. pyroute2 wants a new one then.
                    self._log.warning("announcements of links were missed", reason=error)
                    self.pulse.beat()
                    await asyncio.sleep(_AGAIN_S)
        finally:
            if self._socket is not None:
                self._socket.close()

    async def read(self, since_s: float) -> Snapshot:
        """See :meth:`telemetryd.agent.source.Source.read`."""
        async with self._reading:
            if self._snapshot is None or self._snapshot.began_s < since_s:
                self._snapshot = await self._read()
            return self._snapshot

    async def _read(self) -> Snapshot:
        for left in reversed(range(_TRIES)):
            try:
                if self._socket is None:
                    self._socket = AsyncIPRoute()
                if self._links_of != self.pulse.number:
                    number = self.pulse.number
                    self._links = await self._read_links(self._socket)
                    self._links_of = number
                ts_ns, began_s = time.time_ns(), asyncio.get_running_loop().time()
                counted = {
                    message["ifindex"]: message.get("IFLA_STATS_LINK_64")
                    async for message in await self._socket.stats("dump", filter_mask=STATS_LINK_64)
                }
            except NetlinkDumpInterrupted:
                continue
            except (OSError, NetlinkError) as error:
                self._close()
                raise TelemetrydError(f"cannot read the links of the kernel: {error}") from error
            if counted.keys() != {link.index for link in self._links}:
                self._links_of = -1  # the announcement is still on its way
                if left:
                    continue
            branches = [_branch(link, counted[link.index]) for link in self._links if link.index in counted]
            return Snapshot(ts_ns, began_s, {branch.elems: branch for branch in branches})
        raise TelemetrydError("cannot read the links of the kernel: they change all the time")

    async def _read_links(self, kernel: AsyncIPRoute) -> tuple[_Link, ...]:
        messages = [message async for message in await kernel.link("dump")]
        # In a thread: a driver may take its time to answer.
        speeds = await asyncio.to_thread(
            speeds_of, [m.get("ifname") for m in messages if m["ifi_type"] == ARPHRD_ETHER]
        )
        return tuple(_link(m, speeds) for m in sorted(messages, key=lambda m: m["index"]))

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._links_of = None, -1


def _branch(link: _Link, counted: Mapping[str, int] | None) -> Branch:
    values = list(link.values)
    if counted is not None:
        for position, names in _WHOLE:
            values[position] = sum(counted[name] for name in names)
    return Branch(INTERFACE, link.elems, tuple(values))


def _link(message: Any, speeds: Mapping[str, int]) -> _Link:
    """Return a link as RTM_NEWLINK describes it."""
    name, mtu, alias = message.get("ifname"), message.get("mtu"), message.get("ifalias")
    is_enabled = bool(message["flags"] & IFF_UP)
    known: dict[str, Value | None] = {
        "name": name,
        "state/ifindex": message["index"],
        "state/admin-status": "UP" if is_enabled else "DOWN",
        "state/oper-status": _OPER.get(message.get("operstate"), "UNKNOWN"),
        "state/counters/carrier-transitions": message.get("carrier_changes"),
    }
    for place in ("config", "state"):
        known[f"{place}/name"] = name
        known[f"{place}/type"] = f"iana-if-type:{_type(message)}"
        known[f"{place}/mtu"] = mtu if mtu is not None and mtu <= _GREATEST_MTU else None
        known[f"{place}/description"] = alias or None
        known[f"{place}/enabled"] = is_enabled
    if message["ifi_type"] == ARPHRD_ETHER:
        known["ethernet/state/mac-address"] = message.get("address")
        known["ethernet/state/hw-mac-address"] = message.get("perm_address")
        known["ethernet/state/port-speed"] = speed(speeds.get(name))
    elems = (Elem("interfaces"), Elem("interface", (("name", name),)))
    return _Link(message["index"], elems, tuple(known.get("/".join(leaf.names)) for leaf in INTERFACE.leaves))


def _type(message: Any) -> str:
    """Return the identity of an interface's type (IANA's ifType)."""
    kind = message.get(("linkinfo", "kind"))
    if kind in _KINDS:
        return _KINDS[kind]
    number = message["ifi_type"]
    if number in _TUNNELS:
        return "tunnel"
    return {ARPHRD_ETHER: "ethernetCsmacd", ARPHRD_LOOPBACK: "softwareLoopback", ARPHRD_PPP: "ppp"}.get(number, "other")


def speeds_of(names: Iterable[str]) -> dict[str, int]:
    """Return the speeds of ports, Mbit/s; those that have none, or do not say, are left out."""
    found = {}
    ethtool = IoctlEthtool()
    try:
        for name in names:
            ethtool.change_ifname(name)
            try:
                mbit = int(ethtool.get_link_settings().speed)
            except (EthtoolError, OSError):
                continue  # the driver does not say, or the port is gone by now
            if 0 < mbit < _UNKNOWN_SPEED:
                found[name] = mbit
    finally:
        ethtool.close()
    return found
