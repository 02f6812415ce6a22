"""Check networks, servers, NAT pools and published addresses against each other."""

from __future__ import annotations

from typing import TypeAlias

from telemetryd.registry.fields import Address
from telemetryd.registry.fields import Network as Prefix
from telemetryd.registry.models import Network, Registry
from telemetryd.registry.sources import Place, Sources

OUTSIDE_KINDS = frozenset(("internet", "province", "nation"))
Key: TypeAlias = tuple[int, int]  # (prefix length, network as a number)


class NetworkIndex:
    """The networks of each routing instance, for longest-prefix lookups.

    One dictionary an instance and address family; a lookup tries its prefix lengths, longest first.
    """

    def __init__(self, registry: Registry) -> None:
        self._default = registry.default_instance
        self._rows: dict[tuple[str, int], dict[Key, int]] = {}
        for row, network in enumerate(registry.networks):
            prefix = network.prefix
            rows = self._rows.setdefault((network.instance or self._default, prefix.version), {})
            rows.setdefault((prefix.prefixlen, int(prefix.network_address)), row)
        self._lengths = {
            place: sorted({length for length, _ in rows}, reverse=True) for place, rows in self._rows.items()
        }

    def find(self, instance: str | None, address: Address, longest: int | None = None) -> int | None:
        """Return the row of the longest network that holds `address`, None if there is none.

        With `longest` only prefixes of at most this length are looked at.
        """
        place = (instance or self._default, address.version)
        rows = self._rows.get(place)
        if rows is None:
            return None
        bits, value = address.max_prefixlen, int(address)
        for length in self._lengths[place]:
            if longest is not None and length > longest:
                continue
            host_bits = bits - length
            row = rows.get((length, value >> host_bits << host_bits))
            if row is not None:
                return row
        return None

    def find_prefix(self, instance: str | None, prefix: Prefix) -> int | None:
        """Return the row of the longest network that holds all of `prefix`, None if there is none."""
        return self.find(instance, prefix.network_address, prefix.prefixlen)


def check_addresses(registry: Registry, sources: Sources) -> None:
    """Note mistakes of prefixes and addresses."""
    _check_networks(registry, sources)
    _check_servers(registry, sources)
    _check_nat(registry, sources)
    _check_public_addresses(registry, sources)


def _check_networks(registry: Registry, sources: Sources) -> None:
    default = registry.default_instance
    first_rows: dict[tuple[str, Prefix], int] = {}
    for row, network in enumerate(registry.networks):
        instance = network.instance or default
        first = first_rows.setdefault((instance, network.prefix), row)
        if first == row:
            continue
        there = sources.where(Place("networks", first, ("prefix",)))
        owner, other = network.department, registry.networks[first].department
        what = f"network {network.prefix} is declared twice in instance {instance}"
        if owner != other:
            what += f", for {_of(other)} and for {_of(owner)}"
        sources.note(
            Place("networks", row, ("prefix",)),
            what,
            f"remove one of them, or name its own instance (the first is at {there})",
        )


def _of(department: str | None) -> str:
    return "no department" if department is None else f'department "{department}"'


def _check_servers(registry: Registry, sources: Sources) -> None:
    index = NetworkIndex(registry)
    default = registry.default_instance
    is_judged = sources.is_whole(("networks", "instances"))
    kinds = {region.name: region.kind for region in registry.regions}
    known = {instance.name for instance in registry.instances}
    first_places: dict[tuple[str, Address], tuple[int, int]] = {}
    for row, server in enumerate(registry.servers):
        instance = server.instance or default
        for entry, address in enumerate(server.addresses):
            first_row, first_entry = first_places.setdefault((instance, address), (row, entry))
            if (first_row, first_entry) != (row, entry):
                other = registry.servers[first_row].name
                there = sources.where(Place("servers", first_row, ("addresses", first_entry)))
                sources.note(
                    Place("servers", row, ("addresses", entry)),
                    f'address {address} is server "{other}" too, in instance {instance}',
                    f"give it to one server, or name the other's instance (the first is at {there})",
                )
            found = index.find(instance, address)
            if found is None:
                if is_judged and instance in known:
                    sources.note(
                        Place("servers", row, ("addresses", entry)),
                        f"address {address} is in no network of instance {instance}",
                        "declare its network, or correct the address or the instance",
                    )
            elif (region := registry.networks[found].region) is not None and kinds.get(region) in OUTSIDE_KINDS:
                sources.warn(
                    Place("servers", row, ("addresses", entry)),
                    f"server address {address} is in a network of region {region}, which is outside the city",
                    "correct the address, or declare a longer prefix for the city's part",
                )


def _check_nat(registry: Registry, sources: Sources) -> None:
    """NAT pools do not overlap: which pool a packet used must be certain."""
    spans = sorted(
        (prefix.version, int(prefix.network_address), -prefix.num_addresses, row, entry)
        for row, pool in enumerate(registry.nat_pools)
        for entry, prefix in enumerate(pool.prefixes)
    )
    widest: tuple[int, int, int, int] | None = None  # version, last address, row, entry
    for version, first, minus_size, row, entry in spans:
        prefix = registry.nat_pools[row].prefixes[entry]
        last = first - minus_size - 1
        if widest is not None and widest[0] == version and first <= widest[1]:
            other = registry.nat_pools[widest[2]]
            there = sources.where(Place("nat_pools", widest[2], ("prefixes", widest[3])))
            sources.note(
                Place("nat_pools", row, ("prefixes", entry)),
                f'prefix {prefix} overlaps {other.prefixes[widest[3]]} of pool "{other.name}"',
                f"give each address to one pool (the other is at {there})",
            )
        else:
            widest = version, last, row, entry


def _check_public_addresses(registry: Registry, sources: Sources) -> None:
    default = registry.default_instance
    owners = {
        address: server.name
        for server in registry.servers
        if (server.instance or default) == default
        for address in server.addresses
    }
    servers = registry.server
    first_rows: dict[Address, int] = {}
    for row, public in enumerate(registry.public_addresses):
        place = Place("public_addresses", row, ("address",))
        first = first_rows.setdefault(public.address, row)
        if first != row:
            there = sources.where(Place("public_addresses", first, ("address",)))
            message = f"public address {public.address} is published twice"
            sources.note(place, message, f"keep one server for it (the first is at {there})")
        if owners.get(public.address, public.server) != public.server:
            sources.note(
                place,
                f'public address {public.address} is an own address of server "{owners[public.address]}"',
                "remove it there, or correct the public address",
            )
        server = servers.get(public.server)
        if server is not None and all(address.version != public.address.version for address in server.addresses):
            sources.warn(
                place,
                f'server "{server.name}" has no IPv{public.address.version} address behind {public.address}',
                "add its address, or correct the server",
            )


def is_outside(registry: Registry, network: Network) -> bool:
    """Tell whether a network lies outside the city: in an internet, province or nation region."""
    return network.region is not None and registry.region[network.region].kind in OUTSIDE_KINDS
