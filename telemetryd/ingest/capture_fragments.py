"""Put IP fragments together, within bounds of memory and event time: specifies ext/_capture_fragments.pxd.

Fragments count in units of 8 octets (RFC 791, RFC 8200 section 4.5). Of each unit the first to arrive wins,
so that later octets never change what was there. At most FRAGMENT_SLOTS datagrams wait at once, each for
FRAGMENT_TIMEOUT_NS of event time from its first fragment on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from telemetryd.ingest.capture_codes import (
    FRAGMENT_SLOTS,
    FRAGMENT_TIMEOUT_NS,
    MOST_DATAGRAM_OCTETS,
    Skip,
)
from telemetryd.ingest.capture_packet import EXTENSIONS, PROTOCOL_UDP, Fragment

FRAGMENT_UNIT: Final = 8
LAST_NS: Final = 2**63 - 1


class Key(NamedTuple):
    """What the fragments of one datagram share."""

    version: int
    source: int
    destination: int
    identification: int


@dataclass(slots=True)
class Partial:
    """A datagram of which fragments are there; `units` holds their octets by the number of the unit."""

    key: Key
    deadline_ns: int
    next_header: int
    total: int = 0  # octets of the whole, 0 while the last fragment is missing
    packets: int = 0
    units: dict[int, bytes] = field(default_factory=dict)

    def is_complete(self) -> bool:
        """Tell whether no octet is missing."""
        return self.total > 0 and all(unit in self.units for unit in range(-(-self.total // FRAGMENT_UNIT)))

    def octets(self) -> memoryview:
        """Join a complete datagram."""
        return memoryview(b"".join(self.units[unit] for unit in sorted(self.units))[: self.total])


class Reassembly:
    """The datagrams that wait for fragments.

    Parameters
    ----------
    skipped:
        Packets by :class:`Skip`, counted here too.
    """

    def __init__(self, skipped: list[int]) -> None:
        self._skipped = skipped
        self._partials: dict[Key, Partial] = {}  # oldest first

    def keep(self, fragment: Fragment, buffer: memoryview, end: int, ts_ns: int) -> Partial | None:
        """Keep a fragment that was captured up to `end` of a buffer; return the datagram that it completes."""
        start, length = fragment.offset, fragment.length
        if fragment.next_header != PROTOCOL_UDP and fragment.next_header not in EXTENSIONS:
            self._skipped[Skip.NOT_UDP] += 1
            return None
        is_uneven = fragment.more and length % FRAGMENT_UNIT != 0
        if not length or start + length > MOST_DATAGRAM_OCTETS or is_uneven:
            self._skipped[Skip.BAD_FRAGMENT] += 1
            return None
        if end - fragment.data < length:
            self._skipped[Skip.FRAGMENT_TRUNCATED] += 1
            return None
        partial = self._find(fragment, ts_ns)
        if not fragment.more and partial.total not in (0, start + length):
            # two ends of one datagram: the first to arrive holds
            self._skipped[Skip.BAD_FRAGMENT] += 1
            return None
        partial.packets += 1
        if start == 0:
            partial.next_header = fragment.next_header
        if not fragment.more:
            partial.total = start + length
        octets = buffer[fragment.data : fragment.data + length]
        for first, last in pairwise([*range(0, length, FRAGMENT_UNIT), length]):
            partial.units.setdefault((start + first) // FRAGMENT_UNIT, bytes(octets[first:last]))
        return self._partials.pop(partial.key) if partial.is_complete() else None

    def give_up_all(self) -> None:
        """Count what still waits, at the end of the capture."""
        for partial in self._partials.values():
            self._skipped[Skip.FRAGMENT_INCOMPLETE] += partial.packets
        self._partials.clear()

    def _find(self, fragment: Fragment, ts_ns: int) -> Partial:
        """Find the datagram that a fragment belongs to, or make room for it; old ones go."""
        for partial in list(self._partials.values()):
            if ts_ns > partial.deadline_ns:
                self._skipped[Skip.FRAGMENT_TIMEOUT] += self._partials.pop(partial.key).packets
        key = Key(fragment.version, fragment.source, fragment.destination, fragment.identification)
        if key not in self._partials:
            if len(self._partials) == FRAGMENT_SLOTS:
                oldest = next(iter(self._partials))
                self._skipped[Skip.FRAGMENT_EVICTED] += self._partials.pop(oldest).packets
            deadline_ns = min(ts_ns + FRAGMENT_TIMEOUT_NS, LAST_NS)
            self._partials[key] = Partial(key, deadline_ns, fragment.next_header)
        return self._partials[key]
