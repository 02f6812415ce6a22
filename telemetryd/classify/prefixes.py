"""Merge everything that the registry says of addresses into leaves, one a prefix.

Networks, server addresses, prefixes of applications, NAT pools and published addresses all become
prefixes of a routing instance. What a prefix does not say itself (department, zone, place) it takes from
the next shorter prefix of its instance, and it keeps the application rules of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from telemetryd.classify.rules import Rule
from telemetryd.classify.tables import DEPARTMENT_OUTSIDE, DEPARTMENT_UNKNOWN, Place

FAMILY_BITS = {4: 32, 6: 128}


@dataclass(slots=True)
class Leaf:
    """What is known of one prefix; None = inherit."""

    instance: int
    version: int
    network: int
    length: int
    department: int | None = None
    zone: int | None = None
    place: Place | None = None
    rules: tuple[Rule, ...] = ()
    number: int = 0
    ambiguous: bool = False
    own_rules: list[Rule] = field(default_factory=list)

    @property
    def octets(self) -> bytes:
        """Network address, 4 or 16 octets."""
        return self.network.to_bytes(FAMILY_BITS[self.version] // 8, "big")

    def covers(self, other: Leaf) -> bool:
        """Tell whether ``other`` (of the same family) lies within this prefix."""
        return other.length >= self.length and (
            (other.network ^ self.network) >> (FAMILY_BITS[self.version] - self.length) == 0
        )


class PrefixMap:
    """All prefixes of all routing instances."""

    def __init__(self) -> None:
        self._leaves: dict[tuple[int, int, int, int], Leaf] = {}

    def at(self, instance: int, version: int, network: int, length: int) -> Leaf:
        """Return the leaf of a prefix, making it where it is new."""
        key = (instance, version, network, length)
        leaf = self._leaves.get(key)
        if leaf is None:
            leaf = self._leaves[key] = Leaf(*key)
        return leaf

    def resolve(self, default_instance: int) -> list[Leaf]:
        """Let every leaf inherit, mark the ambiguous ones and number them from 1.

        A prefix is ambiguous when another routing instance has an overlapping one inside the city: then
        its address says nothing without the instance, and the common table must not hold it.
        """
        leaves = sorted(self._leaves.values(), key=lambda p: (p.version, p.network, p.length, p.instance))
        for number, leaf in enumerate(leaves, start=1):
            leaf.number = number
        for leaf, ancestors in _nest(leaves):
            parent = next((other for other in reversed(ancestors) if other.instance == leaf.instance), None)
            if parent is not None:
                leaf.department = parent.department if leaf.department is None else leaf.department
                leaf.zone = parent.zone if leaf.zone is None else leaf.zone
                leaf.place = parent.place if leaf.place is None else leaf.place
            leaf.place = Place.INSIDE if leaf.place is None else leaf.place
            if leaf.department is None:
                leaf.department = DEPARTMENT_UNKNOWN if leaf.place == Place.INSIDE else DEPARTMENT_OUTSIDE
            leaf.zone = leaf.zone or 0
            leaf.rules = (*(parent.rules if parent else ()), *leaf.own_rules)
            for other in ancestors:
                # A wider outside prefix (a default route, say) makes nothing inside it ambiguous.
                if other.instance != leaf.instance and other.place == Place.INSIDE:
                    leaf.ambiguous = other.ambiguous = True
        for leaf in leaves:
            leaf.ambiguous = leaf.ambiguous and leaf.instance != default_instance
        return leaves


def _nest(leaves: Iterable[Leaf]) -> Iterator[tuple[Leaf, list[Leaf]]]:
    """Yield every leaf with the prefixes that cover it (of any instance), widest first."""
    stack: list[Leaf] = []
    for leaf in leaves:
        while stack and not (stack[-1].version == leaf.version and stack[-1].covers(leaf)):
            stack.pop()
        yield leaf, stack
        stack.append(leaf)
