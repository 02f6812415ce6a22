"""What queues of devices count: sums of a period for the control loop, totals for guards; and what is down.

Growth comes as counters are read (:data:`telemetryd.schema.GROWTH_COLUMNS`), on the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.feeds import Feeds
from telemetryd.enforce.guards import QueueCount
from telemetryd.schema import Counter

_OF_QUEUES: Final = (
    Counter.TRANSMIT_OCTETS,
    Counter.TRANSMIT_PACKETS,
    Counter.DROPPED_OCTETS,
    Counter.DROPPED_PACKETS,
)

#: (device, interface, direction, queue)
Queue = tuple[str, str, str, str]


@dataclass(slots=True)
class Sums:
    """What a queue counted since the last look, and in all; octets as the device counts them.

    Attributes
    ----------
    octets, packets, dropped:
        Sent, sent, and packets dropped, since the last look.
    span_ns:
        For how long octets were counted.
    total, at_ns:
        Packets and drops since the start; the device's time of the last reading.
    """

    octets: int = 0
    packets: int = 0
    dropped: int = 0
    span_ns: int = 0
    total: list[int] = field(default_factory=lambda: [0, 0])
    at_ns: int = 0

    @property
    def bps(self) -> int:
        """Mean rate since the last look."""
        return round(self.octets * 8e9 / self.span_ns) if self.span_ns else 0


class QueueCounts:
    """The queues of all devices."""

    def __init__(self) -> None:
        self._sums: dict[Queue, Sums] = {}
        self._feeds: Feeds | None = None

    def add(self, growth: Mapping[str, NDArray[Any]], feeds: Feeds) -> None:
        """Take growth; that of interfaces is left out."""
        self._feeds = feeds
        of = np.flatnonzero(np.isin(growth["counter"], _OF_QUEUES))
        if not len(of):
            return
        for row in of.tolist():
            number = int(growth["feed"][row])
            feed = feeds[number]
            if not feed.queue:
                continue
            device, interface = feeds.interface(feed)
            sums = self._sums.setdefault((device, interface, feed.direction, feed.queue), Sums())
            value, counter = int(growth["growth"][row]), Counter(int(growth["counter"][row]))
            end_ns = int(growth["end_ns"][row])
            sums.at_ns = max(sums.at_ns, end_ns)
            match counter:
                case Counter.TRANSMIT_OCTETS:
                    sums.octets += value
                    sums.span_ns += end_ns - int(growth["start_ns"][row])
                case Counter.TRANSMIT_PACKETS:
                    sums.packets += value
                    sums.total[0] += value
                case Counter.DROPPED_PACKETS:
                    sums.dropped += value
                    sums.total[1] += value
                case _:
                    pass

    def look(self) -> dict[Queue, Sums]:
        """Return what each queue counted since the last look; those of which nothing was read are left out."""
        found = {}
        for key, one in self._sums.items():
            if one.span_ns:
                found[key] = Sums(one.octets, one.packets, one.dropped, one.span_ns, list(one.total), one.at_ns)
                one.octets = one.packets = one.dropped = one.span_ns = 0
        return found

    def totals(self, device: str) -> dict[str, QueueCount]:
        """Return what the queues of a device have counted in all; over all of its interfaces."""
        found: dict[str, QueueCount] = {}
        for (name, _, _, queue), one in self._sums.items():
            if name == device:
                packets, dropped, at_ns = found.get(queue, QueueCount(0, 0, 0))
                found[queue] = QueueCount(packets + one.total[0], dropped + one.total[1], max(at_ns, one.at_ns))
        return found

    def down(self) -> set[tuple[str, str]]:
        """Return (device, interface) of those that somebody says to be down, and nobody to be up."""
        if self._feeds is None:
            return set()
        states = self._feeds.up()
        down: set[tuple[str, str]] = set()
        up: set[tuple[str, str]] = set()
        for number in np.flatnonzero(states < 2).tolist():
            feed = self._feeds[number]
            if not feed.queue:
                (up if states[number] else down).add(self._feeds.interface(feed))
        return down - up
