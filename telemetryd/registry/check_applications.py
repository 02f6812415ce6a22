"""Check what applications claim, and that no two claim the same at equal specificity.

The order of specificity, most specific first: the longer prefix, a named protocol before any, the
narrower port range. Claims of equal rank that overlap therefore have the same instance, prefix,
protocol and width of ports: they are grouped by these and sorted by their first port, so that the
check needs no comparison of all with all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, TypeAlias

from telemetryd.registry.check_addresses import NetworkIndex
from telemetryd.registry.fields import MAX_PORT, PORT_PROTOCOLS, spell_protocol
from telemetryd.registry.models import Registry, Serve
from telemetryd.registry.sources import Place, Sources

_Target: TypeAlias = tuple[str, int, int, int]  # instance, IP version, network as a number, prefix length
_Group: TypeAlias = tuple[_Target, int | None, int]  # target, protocol, number of ports


class _Claim(NamedTuple):
    """One (prefix, protocol, port range) of one application or shared service."""

    first_port: int
    section: str
    row: int
    serve: int  # entry of `serves`; -1 for a shared service, which is its own
    port_entry: int  # entry of `ports`; -1 where ports are left out

    @property
    def place(self) -> Place:
        path: tuple[str | int, ...] = () if self.serve < 0 else ("serves", self.serve)
        return Place(self.section, self.row, path if self.port_entry < 0 else (*path, "ports", self.port_entry))


_ALL_PORTS: Final = ((0, MAX_PORT),)


def check_applications(registry: Registry, sources: Sources) -> None:
    """Note mistakes of applications, shared services, service and protected classes."""
    networks = NetworkIndex(registry)
    for place, serve in _serves(registry):
        _check_serve(place, serve, networks, sources)
    _check_silent(registry, sources)
    _check_dscp(registry, sources)
    for row, protected in enumerate(registry.protected_classes):
        for entry, match in enumerate(protected.match):
            place = Place("protected_classes", row, ("match", entry, "ports"))
            _check_ports(place, match.protocol, bool(match.ports), sources)
    _check_ambiguous(registry, sources)


def _serves(registry: Registry) -> Iterator[tuple[Place, Serve]]:
    for row, application in enumerate(registry.applications):
        for entry, serve in enumerate(application.serves):
            yield Place("applications", row, ("serves", entry)), serve
    for row, shared in enumerate(registry.shared_services):
        yield Place("shared_services", row), shared


def _check_serve(place: Place, serve: Serve, networks: NetworkIndex, sources: Sources) -> None:
    if not serve.servers and not serve.prefixes:
        sources.note(place, "neither servers nor prefixes are named", "name where it is served")
    if serve.instance is not None and not serve.prefixes:
        sources.warn(
            place._replace(path=(*place.path, "instance")),
            "the instance says nothing: servers have their own",
            "remove it, or name prefixes",
        )
    if serve.ports:
        _check_ports(place._replace(path=(*place.path, "ports")), serve.protocol, True, sources)
    if not sources.is_whole(("networks", "instances")):
        return
    for entry, prefix in enumerate(serve.prefixes):
        if networks.find_prefix(serve.instance, prefix) is None:
            sources.warn(
                place._replace(path=(*place.path, "prefixes", entry)),
                f"prefix {prefix} is in no network: its traffic has no department of its own",
                "declare its network, or correct the prefix or the instance",
            )


def _check_ports(place: Place, protocol: int | None, has_ports: bool, sources: Sources) -> None:
    if has_ports and protocol is not None and protocol not in PORT_PROTOCOLS:
        message = f"protocol {spell_protocol(protocol)} has no ports"
        sources.note(place, message, "leave out ports, or name tcp, udp, sctp, dccp or udplite")


def _check_silent(registry: Registry, sources: Sources) -> None:
    shared = {name for service in registry.shared_services for name in service.applications}
    for row, application in enumerate(registry.applications):
        if not application.serves and application.name not in shared:
            sources.warn(
                Place("applications", row, ("name",)),
                f'application "{application.name}" is served nowhere: no traffic will be booked for it',
                "add serves, or name it in a shared service",
            )


def _check_dscp(registry: Registry, sources: Sources) -> None:
    """A DSCP value marks one service class."""
    owners: dict[int, tuple[int, int]] = {}
    for row, service_class in enumerate(registry.service_classes):
        for entry, dscp in enumerate(service_class.dscp):
            other, other_entry = owners.setdefault(dscp, (row, entry))
            if (other, other_entry) != (row, entry):
                there = sources.where(Place("service_classes", other, ("dscp", other_entry)))
                sources.note(
                    Place("service_classes", row, ("dscp", entry)),
                    f'DSCP {dscp} marks service class "{registry.service_classes[other].name}" already',
                    f"give each value to one class (the other is at {there})",
                )


# --- ambiguity ---------------------------------------------------------------------------------------------


def _check_ambiguous(registry: Registry, sources: Sources) -> None:
    groups: dict[_Group, list[_Claim]] = {}
    targets = _server_targets(registry)
    default = registry.default_instance
    for row, application in enumerate(registry.applications):
        for entry, serve in enumerate(application.serves):
            _add_claims(groups, serve, "applications", row, entry, targets, default)
    for row, shared in enumerate(registry.shared_services):
        _add_claims(groups, shared, "shared_services", row, -1, targets, default)
    reported: set[Hashable] = set()
    for group, claims in groups.items():
        if len(claims) > 1:
            _check_group(group, claims, registry, sources, reported)


def _server_targets(registry: Registry) -> dict[str, list[_Target]]:
    """Return server -> where a packet to it can be seen: its addresses, and those published for it.

    An address of two servers is a mistake noted already: it counts for the first of them.
    """
    default = registry.default_instance
    targets: dict[str, list[_Target]] = {}
    seen: set[_Target] = set()
    places = [(server.name, server.instance or default, server.addresses) for server in registry.servers]
    places += [(public.server, default, (public.address,)) for public in registry.public_addresses]
    for name, instance, addresses in places:
        own = targets.setdefault(name, [])
        for address in addresses:
            target = (instance, address.version, int(address), address.max_prefixlen)
            if target not in seen:
                seen.add(target)
                own.append(target)
    return targets


def _add_claims(
    groups: dict[_Group, list[_Claim]],
    serve: Serve,
    section: str,
    row: int,
    serve_entry: int,
    server_targets: dict[str, list[_Target]],
    default: str,
) -> None:
    targets = [target for name in serve.servers for target in server_targets.get(name, ())]
    instance = serve.instance or default
    targets += [(instance, p.version, int(p.network_address), p.prefixlen) for p in serve.prefixes]
    protocol, offset = serve.protocol, 0 if serve.ports else -1
    for port_entry, (first, last) in enumerate(serve.ports or _ALL_PORTS, start=offset):
        claim = _Claim(first, section, row, serve_entry, port_entry)
        width = last - first + 1
        for target in targets:
            group = groups.get((target, protocol, width))
            if group is None:
                groups[target, protocol, width] = [claim]
            else:
                group.append(claim)


class _Held(NamedTuple):
    """A claim and who holds it: its application, or the shared service that stands for the application."""

    section: str
    row: int
    claim: _Claim

    def is_other(self, other: _Held) -> bool:
        return (self.section, self.row) != (other.section, other.row)

    def key(self) -> Hashable:
        """What a problem is reported once for."""
        return self.claim.place if self.section == "applications" else (self.section, self.row)


def _check_group(
    group: _Group, claims: list[_Claim], registry: Registry, sources: Sources, reported: set[Hashable]
) -> None:
    """Note claims of different holders whose ports overlap."""
    claims.sort()
    width = group[2]
    shared_at: dict[int, list[int]] = {}
    for claim in claims:
        if claim.serve < 0:
            shared_at.setdefault(claim.first_port, []).append(claim.row)
    last: _Held | None = None
    before: _Held | None = None  # the last one of another holder than `last`
    for claim in claims:
        held = _hold(claim, shared_at, registry)
        other = last if last is not None and last.is_other(held) else before
        if other is not None and claim.first_port < other.claim.first_port + width:
            _report(group, held, other, registry, sources, reported)
        if last is not None and last.is_other(held):
            before = last
        last = held


def _hold(claim: _Claim, shared_at: dict[int, list[int]], registry: Registry) -> _Held:
    """Find the holder: a shared service stands for its applications where it names exactly these ports."""
    if claim.serve >= 0:
        name = registry.applications[claim.row].name
        for row in shared_at.get(claim.first_port, ()):
            if name in registry.shared_services[row].applications:
                return _Held("shared_services", row, claim)
    return _Held(claim.section, claim.row, claim)


def _report(
    group: _Group, held: _Held, other: _Held, registry: Registry, sources: Sources, reported: set[Hashable]
) -> None:
    """Note one pair, at the claim that was written last, or at the one that is outside a shared service."""
    pair = frozenset((held.key(), other.key()))
    if pair in reported:  # on another address of the same server, or on another server
        return
    reported.add(pair)
    other, held = sorted((held, other), key=lambda h: (h.section == "applications", *h.claim[2:]))
    (instance, version, network, length), protocol, width = group
    address = _spell(version, network, length)
    first = held.claim.first_port
    ports = "all ports" if width > MAX_PORT else f"{first}" if width == 1 else f"{first}-{first + width - 1}"
    named = "any protocol," if protocol is None else spell_protocol(protocol)
    sources.note(
        held.claim.place,
        f"{_name(held, registry)} claims {named} {ports} of {address} "
        f"in instance {instance}, as {_name(other, registry)} does",
        "narrow one of the two (prefix, protocol, ports), or declare exactly this in shared_services "
        f"with both applications (the other is at {sources.where(other.claim.place)})",
    )


def _name(held: _Held, registry: Registry) -> str:
    if held.section == "shared_services":
        return f'shared service "{registry.shared_services[held.row].name}"'
    return f'application "{registry.applications[held.row].name}"'


def _spell(version: int, network: int, length: int) -> str:
    address = IPv4Address(network) if version == 4 else IPv6Address(network)
    return str(address) if length == address.max_prefixlen else f"{address}/{length}"
