"""Application rules of one prefix, flattened to sorted intervals over ``protocol << 16 | port``.

The order of specificity, most specific first: the longer prefix, a named protocol before any, the
narrower port range; a declared shared service before the applications that it stands for. It is packed
into one integer, the rank, so that the hot path compares one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PORT_PROTOCOLS: Final = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite
ALL_PORTS: Final = 65536
KEY_END: Final = 256 << 16


@dataclass(frozen=True, slots=True)
class Rule:
    """One (prefix length, protocol, port range) -> application; None means any protocol, all ports."""

    prefix_length: int
    protocol: int | None
    ports: tuple[int, int] | None
    application: int
    shared: bool = False

    @property
    def rank(self) -> int:
        """Specificity as one number of 28 bits, never 0."""
        width = self.ports[1] - self.ports[0] + 1 if self.ports else ALL_PORTS
        named = self.protocol is not None
        return ((self.prefix_length << 17 | named << 16 | (ALL_PORTS - width)) << 1 | self.shared) + 1

    def ranges(self) -> list[tuple[int, int]]:
        """Return the half-open key ranges that the rule covers."""
        if self.ports is None:
            if self.protocol is None:
                return [(0, KEY_END)]
            return [(self.protocol << 16, (self.protocol + 1) << 16)]
        low, high = self.ports
        protocols = PORT_PROTOCOLS if self.protocol is None else (self.protocol,)
        return [(protocol << 16 | low, (protocol << 16 | high) + 1) for protocol in protocols]


def flatten(rules: tuple[Rule, ...]) -> list[tuple[int, int, int]]:
    """Resolve overlapping rules to intervals (first key, application, rank), sorted, covering every key.

    Keys that no rule covers have application 0 and rank 0. Of two rules of one rank the lower application
    code wins (the registry's check refuses such pairs; the order only makes the result deterministic).
    """
    covers: list[tuple[int, int, int, int]] = []
    for rule in rules:
        rank = rule.rank
        covers.extend((first, end, rank, rule.application) for first, end in rule.ranges())
    bounds = sorted({0, *(cover[0] for cover in covers), *(cover[1] for cover in covers)} - {KEY_END})
    intervals: list[tuple[int, int, int]] = []
    for bound in bounds:
        application, rank = 0, 0
        for first, end, cover_rank, cover_application in covers:
            if first <= bound < end and (cover_rank > rank or (cover_rank == rank and cover_application < application)):
                application, rank = cover_application, cover_rank
        if not intervals or intervals[-1][1:] != (application, rank):
            intervals.append((bound, application, rank))
    return intervals
