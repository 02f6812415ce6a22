"""Compile a registry to the flat tables that classification looks up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.classify.prefixes import FAMILY_BITS, Leaf, PrefixMap
from telemetryd.classify.rules import Rule, flatten
from telemetryd.classify.tables import (
    EMPTY,
    Counts,
    Faces,
    Place,
    Sampling,
    Tables,
    address_hash,
    mix,
    source_key,
)
from telemetryd.classify.trie import TrieBuilder
from telemetryd.registry.fields import Address, Network, split_port
from telemetryd.registry.models import Device, Interface, Registry, Serve
from telemetryd.schema import Names

OUTSIDE_PLACES: Final = {"internet": Place.INTERNET, "province": Place.UPLINK, "nation": Place.UPLINK}
LABELLED_APPLICATION: Final = "labelled"


def compile_registry(registry: Registry) -> Tables:
    """Compile ``registry`` to immutable lookup tables.

    The registry must have passed its checks: names resolve, and no two applications claim one address,
    protocol and port at equal specificity.
    """
    return _Compiler(registry).tables()


class _Codes:
    """Name -> code of one kind; the first codes are reserved."""

    def __init__(self, reserved: Iterable[str], names: Iterable[str]) -> None:
        self.names = (*reserved, *names)
        self.code = {name: code for code, name in enumerate(self.names)}

    def get(self, name: str | None) -> int | None:
        return None if name is None else self.code[name]


class _Compiler:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        nat = [f"nat:{pool.name}" for pool in registry.nat_pools]
        self.departments = _Codes(("unknown", "outside"), [*(d.name for d in registry.departments), *nat])
        self.applications = _Codes(
            ("unclassified", LABELLED_APPLICATION),
            [
                *(a.name for a in registry.applications),
                *(f"shared:{s.name}" for s in registry.shared_services),
            ],
        )
        self.zones = _Codes(("-",), (zone.name for zone in registry.zones))
        self.service_classes = _Codes(("-",), (c.name for c in registry.service_classes))
        self.metering_points = _Codes(("-",), (point.name for point in registry.metering_points))
        self.instances = _Codes(("",), (instance.name for instance in registry.instances))
        defaults = [i.name for i in registry.instances if i.default]
        self.default_instance = self.instances.code[defaults[0]] if defaults else 0
        self.servers = {server.name: server for server in registry.servers}

    def instance(self, name: str | None) -> int:
        """Return an instance's code; None is the default instance."""
        return self.default_instance if name is None else self.instances.code[name]

    def tables(self) -> Tables:
        leaves = self._leaves()
        groups, starts, keys, applications, ranks = self._rules(leaves)
        links, interfaces = self._interfaces()
        agent_keys, agent_devices = self._agents()
        names = Names(
            links=links,
            metering_points=self.metering_points.names,
            departments=self.departments.names,
            applications=self.applications.names,
            zones=self.zones.names,
            service_classes=self.service_classes.names,
        )
        profiles = {profile.name: profile for profile in self.registry.profiles}
        by_device = [profiles.get(device.profile or "") for device in self.registry.devices]
        sampling = {"ingress": Sampling.INGRESS, "egress": Sampling.EGRESS, "both": Sampling.BOTH}
        return Tables(
            names=names,
            **self._tries(leaves),
            leaf_department=_column(leaves, lambda leaf: leaf.department, np.uint32),
            leaf_zone=_column(leaves, lambda leaf: leaf.zone, np.uint32),
            leaf_place=_column(leaves, lambda leaf: leaf.place, np.uint8),
            leaf_group=groups,
            rule_starts=starts,
            rule_keys=keys,
            rule_applications=applications,
            rule_ranks=ranks,
            application_owner=self._owners(),
            agent_keys=agent_keys,
            agent_devices=agent_devices,
            device_names=("-", *(device.name for device in self.registry.devices)),
            device_sampling=np.array(
                [0, *(sampling[p.sampling] if p else Sampling.INGRESS for p in by_device)], dtype=np.uint8
            ),
            device_correction=np.array(
                [0.0, *(float(p.octets_correction) if p else 0.0 for p in by_device)], dtype=np.float64
            ),
            vlan_instance=self._vlans(),
            dscp_class=self._dscp(),
            **interfaces,
        )

    # --- addresses ----------------------------------------------------------------------------------

    def _leaves(self) -> list[Leaf]:
        registry = self.registry
        prefixes = PrefixMap()
        kinds = {region.name: region.kind for region in registry.regions}
        outside_instances = {self.default_instance}
        for network in registry.networks:
            leaf = _at(prefixes, self.instance(network.instance), network.prefix)
            leaf.department = self.departments.get(network.department)
            leaf.zone = self.zones.get(network.zone)
            if network.region is not None:
                leaf.place = OUTSIDE_PLACES.get(kinds[network.region], Place.INSIDE)
                if leaf.place == Place.INTERNET:
                    outside_instances.add(leaf.instance)
        for server in registry.servers:
            for address in server.addresses:
                self._server_leaf(prefixes, self.instance(server.instance), address, server.name)
        for pool in registry.nat_pools:
            for prefix in pool.prefixes:
                for instance in outside_instances:
                    leaf = _at(prefixes, instance, prefix)
                    leaf.department = self.departments.code[f"nat:{pool.name}"]
                    leaf.place = Place.INSIDE
        published: dict[str, list[Address]] = {}
        for public in registry.public_addresses:
            published.setdefault(public.server, []).append(public.address)
            for instance in outside_instances:
                self._server_leaf(prefixes, instance, public.address, public.server)
        for application in registry.applications:
            for serve in application.serves:
                code = self.applications.code[application.name]
                self._add_rules(prefixes, serve, code, False, published, outside_instances)
        for shared in registry.shared_services:
            code = self.applications.code[f"shared:{shared.name}"]
            self._add_rules(prefixes, shared, code, True, published, outside_instances)
        return prefixes.resolve(self.default_instance)

    def _server_leaf(self, prefixes: PrefixMap, instance: int, address: Address, name: str) -> None:
        server = self.servers[name]
        leaf = _at(prefixes, instance, address)
        leaf.department = self.departments.get(server.department)
        leaf.zone = self.zones.get(server.zone)
        leaf.place = Place.INSIDE

    def _add_rules(
        self,
        prefixes: PrefixMap,
        serve: Serve,
        application: int,
        shared: bool,
        published: dict[str, list[Address]],
        outside_instances: set[int],
    ) -> None:
        protocol = serve.protocol_number
        ports: Sequence[tuple[int, int] | None] = serve.port_ranges or (None,)
        places: list[tuple[int, Address | Network]] = []
        for name in serve.servers:
            server = self.servers[name]
            places.extend((self.instance(server.instance), address) for address in server.addresses)
            places.extend((i, address) for address in published.get(name, ()) for i in outside_instances)
        places.extend((self.instance(serve.instance), prefix) for prefix in serve.prefixes)
        for instance, prefix in places:
            leaf = _at(prefixes, instance, prefix)
            for span in ports:
                leaf.own_rules.append(Rule(leaf.length, protocol, span, application, shared))

    def _tries(self, leaves: list[Leaf]) -> dict[str, NDArray[Any]]:
        """Spread the prefixes over the hosts' hash and the tries, by instance and into the common table."""
        members: dict[tuple[int, int], list[Leaf]] = {}
        for leaf in leaves:
            if leaf.instance != self.default_instance:
                members.setdefault((leaf.instance, leaf.version), []).append(leaf)
            if not leaf.ambiguous:
                members.setdefault((0, leaf.version), []).append(leaf)
        builder = TrieBuilder()
        roots = np.zeros((len(self.instances.names), 2), dtype=np.uint32)
        hosts: dict[tuple[int, int, int], int] = {}
        for family, version in enumerate((4, 6)):
            empty = builder.add(())
            for instance in range(len(roots)):
                own = members.get((instance, version), [])
                # Of a prefix that several instances agree to be outside, the default instance's wins.
                own.sort(key=lambda leaf: leaf.instance == self.default_instance)
                hosts_of = [leaf for leaf in own if leaf.version == 6 and leaf.length == FAMILY_BITS[6]]
                hashed = {leaf.number for leaf in hosts_of}
                wide = [(p.octets, p.length, p.number) for p in own if p.number not in hashed]
                # An IPv4 trie also holds what the common table says; IPv6 hosts stand before both tries.
                common = int(roots[0, family]) if version == 4 and instance else None
                roots[instance, family] = builder.add(wide, common) if wide else common or empty
                for leaf in hosts_of:
                    hosts[instance << 8 | version, *_halves(version, leaf.network)] = leaf.number
        roots[self.default_instance] = roots[0]
        if self.default_instance:
            shared = [(key, number) for key, number in hosts.items() if key[0] >> 8 == 0]
            hosts |= {(self.default_instance << 8 | key[0], *key[1:]): number for key, number in shared}
        keys, numbers = _address_table([(*key, number) for key, number in hosts.items()])
        return {"trie_nodes": builder.nodes(), "trie_roots": roots, "host_keys": keys, "host_leaves": numbers}

    def _rules(self, leaves: list[Leaf]) -> tuple[NDArray[np.uint32], ...]:
        groups = np.zeros(len(leaves) + 1, dtype=np.uint32)
        known: dict[tuple[Rule, ...], int] = {(): 0}
        intervals: list[tuple[int, int, int]] = []
        starts = [0, 0]
        for leaf in leaves:
            group = known.get(leaf.rules)
            if group is None:
                group = known[leaf.rules] = len(starts) - 1
                intervals.extend(flatten(leaf.rules))
                starts.append(len(intervals))
            groups[leaf.number] = group
        table = np.array(intervals, dtype=np.uint32).reshape(-1, 3)
        columns = (np.ascontiguousarray(table[:, column]) for column in range(3))
        return (groups, np.array(starts, dtype=np.uint32), *columns)

    def _owners(self) -> NDArray[np.uint32]:
        owners = np.zeros(len(self.applications.names), dtype=np.uint32)
        for application in self.registry.applications:
            owners[self.applications.code[application.name]] = self.departments.code[application.owner]
        return owners

    # --- devices ------------------------------------------------------------------------------------

    def _agents(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        return _address_table(
            [
                (address.version, *_halves(address.version, int(address)), row)
                for row, device in enumerate(self.registry.devices, start=1)
                for address in device.agents
            ]
        )

    def _interfaces(self) -> tuple[tuple[str, ...], dict[str, NDArray[Any]]]:
        """Number the interfaces and their links; a LAG member that is no link stands for its bundle."""
        registry = self.registry
        links = ["-", *(link.name for link in registry.links)]
        link_at = {(link.device, link.interface): code for code, link in enumerate(registry.links, start=1)}
        points = {(point.device, point.interface): point for point in registry.metering_points}
        bound = {
            split_port(binding): self.instances.code[instance.name]
            for instance in registry.instances
            for binding in instance.interfaces
        }
        ports: list[tuple[int, Device, Interface]] = [
            (row, device, port) for row, device in enumerate(registry.devices, start=1) for port in device.interfaces
        ]
        count = len(ports) + 1
        columns: dict[str, NDArray[Any]] = {
            "interface_link": np.zeros(count, np.uint32),
            "interface_metering": np.zeros(count, np.uint32),
            "interface_faces": np.zeros(count, np.uint8),
            "interface_counts": np.zeros(count, np.uint8),
            "interface_instance": np.zeros(count, np.uint32),
            "interface_labelled": np.zeros(count, np.uint8),
        }
        indexes: list[tuple[int, int]] = []
        row_of: dict[tuple[str, str], int] = {}
        for number, (row, device, port) in enumerate(ports, start=1):
            row_of[device.name, port.name] = number
            if port.index is not None:
                indexes.append((row << 32 | port.index, number))
            places = [(device.name, port.name)] + ([(device.name, port.bundle)] if port.bundle else [])
            place = next((place for place in places if place in link_at), places[-1])
            if place not in link_at:
                link_at[place] = len(links)
                links.append(f"{device.name}/{place[1]}")
            columns["interface_link"][number] = link_at[place]
            point = next((points[place] for place in places if place in points), None)
            if point is not None:
                columns["interface_metering"][number] = self.metering_points.code[point.name]
                columns["interface_faces"][number] = Faces[point.faces.upper()]
                columns["interface_counts"][number] = sum(Counts[kind.upper()] for kind in set(point.counts))
            columns["interface_instance"][number] = next((bound[p] for p in places if p in bound), 0)
            columns["interface_labelled"][number] = port.labelled
        columns["interface_keys"], columns["interface_rows"] = _hash_table(indexes)
        sources = [
            (source_key(row, *_source_id(entry.source)), row_of[device.name, entry.interface])
            for row, device in enumerate(registry.devices, start=1)
            for entry in device.source_map
        ]
        columns["source_keys"], columns["source_interfaces"] = _hash_table(sources)
        return tuple(links), columns

    def _vlans(self) -> NDArray[np.uint32]:
        vlans = np.zeros(4096, dtype=np.uint32)
        for instance in self.registry.instances:
            for first, last in instance.vlan_ranges:
                vlans[first : last + 1] = self.instances.code[instance.name]
        return vlans

    def _dscp(self) -> NDArray[np.uint8]:
        classes = np.zeros(64, dtype=np.uint8)
        for service_class in self.registry.service_classes:
            for dscp in service_class.dscp:
                classes[dscp] = self.service_classes.code[service_class.name]
        return classes


def _at(prefixes: PrefixMap, instance: int, place: Address | Network) -> Leaf:
    if isinstance(place, IPv4Address | IPv6Address):
        return prefixes.at(instance, place.version, int(place), place.max_prefixlen)
    return prefixes.at(instance, place.version, int(place.network_address), place.prefixlen)


def _column(leaves: list[Leaf], value: Callable[[Leaf], int | None], dtype: type[np.generic]) -> NDArray[Any]:
    """Collect one field of the leaves; row 0 (not registered) is 0."""
    return np.array([0, *(value(leaf) or 0 for leaf in leaves)], dtype=dtype)


def _source_id(text: str) -> tuple[int, int]:
    """Split a data source "class:index"."""
    source_class, _, index = text.partition(":")
    return int(source_class), int(index)


def _table_size(entries: int) -> int:
    """Return the power of two that keeps a hash table at most half full."""
    return 1 << max(3, (2 * entries).bit_length())


def _hash_table(entries: list[tuple[int, int]]) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Lay (key, row) pairs out for open addressing with linear probing."""
    size = _table_size(len(entries))
    keys = [EMPTY] * size
    rows = [0] * size
    for key, row in entries:
        slot = mix(key) & (size - 1)
        while keys[slot] not in (EMPTY, key):
            slot = (slot + 1) & (size - 1)
        keys[slot], rows[slot] = key, row
    return np.array(keys, dtype=np.uint64), np.array(rows, dtype=np.uint32)


def _halves(version: int, address: int) -> tuple[int, int]:
    """Split an address into the two words of the columns."""
    return (0, address) if version == 4 else (address >> 64, address & (1 << 64) - 1)


def _address_table(entries: list[tuple[int, int, int, int]]) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Lay (scope, hi, lo, row) entries with unique keys out for open addressing with linear probing."""
    size = _table_size(len(entries))
    keys = np.full((size, 3), EMPTY, dtype=np.uint64)
    rows = np.zeros(size, dtype=np.uint32)
    taken = [False] * size
    for scope, hi, lo, row in entries:
        slot = address_hash(scope, hi, lo) & (size - 1)
        while taken[slot]:
            slot = (slot + 1) & (size - 1)
        taken[slot] = True
        keys[slot] = scope, hi, lo
        rows[slot] = row
    return keys, rows
