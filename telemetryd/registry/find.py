"""Say everything that the registry knows of an address, in each routing instance that has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from typing import Any

from telemetryd.config.explain import suggest
from telemetryd.errors import InputError
from telemetryd.registry.check_addresses import NetworkIndex, is_outside
from telemetryd.registry.fields import Address, spell_protocol, spell_range
from telemetryd.registry.models import Registry, Serve


@dataclass(frozen=True, slots=True)
class ServedApplication:
    """An application (or shared service) on an address: what it claims there."""

    name: str
    owner: str | None
    protocol: str | int
    ports: tuple[int | str, ...]
    through: str  # the prefix of the claim; a server's is its address
    importance: str | None = None
    mlps: int | None = None
    shared_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What one routing instance knows of an address."""

    address: str
    instance: str
    network: str | None = None
    department: str | None = None
    zone: str | None = None
    region: str | None = None
    is_outside: bool = False
    server: str | None = None
    site: str | None = None
    published_as: tuple[str, ...] = ()
    published_for: str | None = None
    nat_pool: str | None = None
    nat_link: str | None = None
    applications: tuple[ServedApplication, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain data for JSON."""
        return asdict(self)


def parse_ip(text: str) -> Address:
    """Read an address given by the operator.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        return ip_address(text)
    except ValueError:
        raise InputError(f'"{text}" is no IPv4 or IPv6 address') from None


class Finder:
    """Looks addresses up in one registry; prepared once, asked often."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.networks = NetworkIndex(registry)
        self.default = registry.default_instance
        self.servers = {
            (server.instance or self.default, address): server
            for server in registry.servers
            for address in server.addresses
        }
        self.public = {public.address: public.server for public in registry.public_addresses}
        self.published: dict[str, list[Address]] = {}
        for public in registry.public_addresses:
            self.published.setdefault(public.server, []).append(public.address)

    def find(self, address: Address, instance: str | None = None) -> list[Finding]:
        """Return one finding for each routing instance that knows `address`, the default one first.

        Raises
        ------
        InputError
            If `instance` is given and unknown.
        """
        names = [i.name for i in self.registry.instances]
        if instance is not None:
            if instance not in names:
                remedy = suggest(instance, names, f"use one of {', '.join(names[:20])}")
                raise InputError(f'instance "{instance}" is unknown - {remedy}')
            names = [instance]
        names.sort(key=lambda name: name != self.default)
        findings = (self._find(address, name) for name in names)
        return [finding for finding in findings if finding is not None]

    def _find(self, address: Address, instance: str) -> Finding | None:
        row = self.networks.find(instance, address)
        network = self.registry.networks[row] if row is not None else None
        own_server = self.servers.get((instance, address))
        is_default = instance == self.default
        published_for = self.public.get(address) if is_default else None
        pool = self._pool(address) if is_default else None
        name = own_server.name if own_server is not None else published_for
        applications = self._applications(address, instance, name)
        if network is None and name is None and pool is None and not applications:
            return None
        server = self.registry.server[name] if name is not None else None
        site = self.registry.site.get(server.site) if server is not None and server.site is not None else None
        return Finding(
            address=str(address),
            instance=instance,
            network=str(network.prefix) if network else None,
            department=(server and server.department) or (network and network.department) or None,
            zone=(server and server.zone) or (network and network.zone) or None,
            region=(network and network.region) or (site and site.region) or None,
            is_outside=network is not None and server is None and is_outside(self.registry, network),
            server=name,
            site=site.name if site is not None else None,
            published_as=tuple(str(a) for a in self.published.get(own_server.name, ())) if own_server else (),
            published_for=published_for,
            nat_pool=pool[0] if pool else None,
            nat_link=pool[1] if pool else None,
            applications=applications,
        )

    def _pool(self, address: Address) -> tuple[str, str | None] | None:
        for pool in self.registry.nat_pools:
            if any(address in prefix for prefix in pool.prefixes):
                return pool.name, pool.link
        return None

    def _applications(self, address: Address, instance: str, server: str | None) -> tuple[ServedApplication, ...]:
        """Return what is claimed there, the most specific claim first."""
        found: list[tuple[tuple[int, bool, int, bool], ServedApplication]] = []
        for application in self.registry.applications:
            for serve in application.serves:
                for through, length in self._claims(serve, address, instance, server):
                    served = ServedApplication(
                        name=application.name,
                        owner=application.owner,
                        protocol=spell_protocol(serve.protocol),
                        ports=tuple(spell_range(ports) for ports in serve.ports),
                        through=through,
                        importance=application.importance,
                        mlps=application.mlps,
                    )
                    found.append((_order(serve, length, False), served))
        for shared in self.registry.shared_services:
            for through, length in self._claims(shared, address, instance, server):
                served = ServedApplication(
                    name=f"shared:{shared.name}",
                    owner=None,
                    protocol=spell_protocol(shared.protocol),
                    ports=tuple(spell_range(ports) for ports in shared.ports),
                    through=through,
                    shared_by=shared.applications,
                )
                found.append((_order(shared, length, True), served))
        found.sort(key=lambda entry: (entry[0], entry[1].name))
        return tuple(served for _, served in found)

    def _claims(self, serve: Serve, address: Address, instance: str, server: str | None) -> list[tuple[str, int]]:
        """Return (prefix, its length) of each way in which `serve` claims the address."""
        claims: list[tuple[str, int]] = []
        if server is not None and server in serve.servers:
            claims.append((str(address), address.max_prefixlen))
        if serve.prefixes and (serve.instance or self.default) == instance:
            claims += [(str(prefix), prefix.prefixlen) for prefix in serve.prefixes if address in prefix]
        return claims


def _order(serve: Serve, length: int, is_shared: bool) -> tuple[int, bool, int, bool]:
    """Order by specificity: longer prefix, named protocol, narrower ports, shared service."""
    width = min((last - first for first, last in serve.ports), default=1 << 16)
    return -length, serve.protocol is None, width, not is_shared
