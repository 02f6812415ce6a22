"""Whose an address is: the longest prefix of the registry, within a routing instance."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final, Literal

from telemetryd.ingest.generate.model import End
from telemetryd.registry.fields import Address, Network
from telemetryd.registry.models import Network as NetworkEntry
from telemetryd.registry.models import Registry

UNKNOWN: Final = "unknown"
OUTSIDE: Final = "outside"
_MOST_HOSTS_MASK: Final = 0x0FFF

Side = Literal["inside", "internet", "uplink"]
_SIDES: Final[dict[str, Side]] = {"internet": "internet", "province": "uplink", "nation": "uplink"}


@dataclass(frozen=True, slots=True)
class Place:
    """What the registry says of an address: its department, zone, region, and side of the city's edge."""

    department: str
    zone: str | None
    region: str | None
    side: Side
    prefix: Network | None


class Places:
    """The registry's networks, ready to be asked."""

    def __init__(self, registry: Registry) -> None:
        self._default = registry.default_instance
        self._kinds = {region.name: region.kind for region in registry.regions}
        self._networks: dict[tuple[str, int], dict[int, dict[int, NetworkEntry]]] = {}
        starts: dict[tuple[str, int], set[int]] = {}
        for network in registry.networks:
            key = (network.instance or self._default, network.prefix.version)
            by_length = self._networks.setdefault(key, {}).setdefault(network.prefix.prefixlen, {})
            first = int(network.prefix.network_address)
            by_length[first] = network
            starts.setdefault(key, set()).add(first)
        for server in registry.servers:
            for address in server.addresses:
                key = (server.instance or self._default, address.version)
                starts.setdefault(key, set()).add(int(address))
        self._found: dict[tuple[Address, str], Place] = {}
        self._starts = {key: sorted(found) for key, found in starts.items()}

    def find(self, address: Address, instance: str) -> Place:
        """Return the place of ``address``, in its routing instance or else the default one."""
        place = self._found.get((address, instance))
        if place is None:
            place = self._found[address, instance] = self._find(address, instance)
        return place

    def _find(self, address: Address, instance: str) -> Place:
        for name in dict.fromkeys((instance, self._default)):
            covering = self._covering(address, name)
            if covering:
                department = next((n.department for n in covering if n.department is not None), None)
                region = next((n.region for n in covering if n.region is not None), None)
                zone = next((n.zone for n in covering if n.zone is not None), None)
                side = _SIDES.get(self._kinds.get(region or "", ""), "inside")
                unowned = UNKNOWN if side == "inside" else OUTSIDE
                return Place(department or unowned, zone, region, side, covering[0].prefix)
        return Place(OUTSIDE, None, None, "internet", None)

    def _covering(self, address: Address, instance: str) -> list[NetworkEntry]:
        value, bits = int(address), address.max_prefixlen
        lengths = self._networks.get((instance, address.version), {})
        found = []
        for length in sorted(lengths, reverse=True):
            entry = lengths[length].get(value >> (bits - length) << (bits - length))
            if entry is not None:
                found.append(entry)
        return found

    def hosts(self, prefix: Network, instance: str, port: int = 0) -> End:
        """Return the hosts at the beginning of a prefix, as many as belong to one network and are no servers."""
        base = int(prefix.network_address)
        place = self.find(prefix.network_address, instance)
        mask = min(int(prefix.hostmask), _MOST_HOSTS_MASK)
        if place.prefix is not None:
            mask = min(mask, int(place.prefix.hostmask))
        for name in dict.fromkeys((instance, self._default)):
            starts = self._starts.get((name, prefix.version), [])
            while mask and bisect_right(starts, base | mask) > bisect_right(starts, base):
                mask >>= 1
        return End(prefix.version, base, mask, port)
