"""How packets of a class are known to a classifier: by DSCP, prefixes, protocol and ports out of the registry."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from telemetryd.policy.outline import PROTECTED
from telemetryd.registry.fields import Network
from telemetryd.registry.models import Registry, Serve

Ports = tuple[int, int]


class Match(NamedTuple):
    """Conditions that all hold; what is left out holds for any packet.

    Attributes
    ----------
    family:
        4 or 6.
    dscp:
        Any of these, in rising order.
    source, destination:
        Prefixes.
    source_set, destination_set:
        Names of prefix sets, in place of prefixes.
    source_ports, destination_ports:
        First and last.
    """

    family: int
    dscp: tuple[int, ...] = ()
    source: str = ""
    destination: str = ""
    protocol: int | None = None
    source_ports: Ports | None = None
    destination_ports: Ports | None = None
    source_set: str = ""
    destination_set: str = ""

    @property
    def needs(self) -> frozenset[str]:
        """Conditions that a classifier must look at."""
        found = set()
        if self.dscp:
            found.add("dscp")
        if self.source or self.destination or self.source_set or self.destination_set:
            found.add("ipv4-prefix" if self.family == 4 else "ipv6-prefix")
        if self.protocol is not None:
            found.add("protocol")
        if self.source_ports or self.destination_ports:
            found.add("ports")
        return frozenset(found)

    @property
    def rank(self) -> int:
        """How early it is looked at: the more specific the smaller, 10 to 90."""
        bits = sum(int(prefix.partition("/")[2]) for prefix in (self.source, self.destination) if prefix)
        most = 32 if self.family == 4 else 128
        narrow = 2 * bool(self.source_ports or self.destination_ports) + (self.protocol is not None)
        return 90 - narrow * 15 - min(30, bits * 15 // most) - 5 * bool(self.dscp)


def dscp_matches(service_class: str, registry: Registry) -> tuple[Match, ...]:
    """Return the matches of a service class by its marks; none where the registry does not know it."""
    found = registry.by_name("service_classes").get(service_class)
    return tuple(Match(family, tuple(sorted(found.dscp))) for family in (4, 6)) if found is not None else ()


def matches_of(names: Mapping[str, str], link: str, direction: str, registry: Registry) -> tuple[Match, ...]:
    """Return how a leaf's packets are known.

    An application with servers is known by them and its ports; else a department by its networks and, where the leaf is
    below a service class, by its marks; else the class by its marks alone. At an exit or uplink the inside end is the
    destination of what comes in. Networks of other routing instances than the default one are left out: their
    prefixes repeat.

    Parameters
    ----------
    names:
        Level -> name.
    """
    ends = ends_of(link, direction, registry)
    application, department = names.get("application", ""), names.get("department", "")
    if PROTECTED in names:
        return _sorted(protected_matches(application, registry))
    known = registry.application.get(application)
    if known is not None and known.serves:
        others = _networks(department, registry) if department and ends == BOTH else []
        return _sorted(match for serve in known.serves for match in _served(serve, ends, others, registry))
    dscp: tuple[int, ...] = ()
    if (marks := dscp_matches(names.get("service_class", ""), registry)) and not application:
        dscp = marks[0].dscp
    if department and not application:
        prefixes = _networks(department, registry)
        return _sorted(
            Match(prefix.version, dscp, **{end: str(prefix)})  # type: ignore[arg-type]
            for prefix in prefixes
            for end in ends
        )
    return _sorted(Match(family, dscp) for family in (4, 6)) if dscp else ()


BOTH: Final = ("source", "destination")


def ends_of(link: str, direction: str, registry: Registry) -> tuple[str, ...]:
    """Return the ends at which whose a packet is can be seen: the inside one at exits and uplinks, else both."""
    group = registry.by_name("link_groups").get(link)
    kind = registry.link[group.members[0] if group is not None else link].kind
    return (("destination",) if direction == "in" else ("source",)) if kind in ("exit", "uplink") else BOTH


def _sorted(matches: Iterable[Match]) -> tuple[Match, ...]:
    return tuple(sorted(set(matches), key=repr))


def _networks(department: str, registry: Registry) -> list[Network]:
    own = [
        one.prefix
        for one in registry.networks
        if one.department == department and (one.instance or registry.default_instance) == registry.default_instance
    ]
    found: list[Network] = []
    for family in (4, 6):
        found += ipaddress.collapse_addresses(prefix for prefix in own if prefix.version == family)  # type: ignore[type-var]
    return found


def _served(serve: Serve, ends: tuple[str, ...], others: list[Network], registry: Registry) -> Iterable[Match]:
    """Yield the matches of where an application is served, by either end; `others` is where its users are."""
    prefixes: list[Network] = list(serve.prefixes)
    for name in serve.servers:
        server = registry.server[name]
        if (server.instance or registry.default_instance) == registry.default_instance:
            prefixes += [ipaddress.ip_network(address) for address in server.addresses]
    if (serve.instance or registry.default_instance) != registry.default_instance:
        prefixes = []
    for prefix in prefixes:
        users = [str(one) for one in others if one.version == prefix.version] or [""]
        for ports in serve.port_ranges or (None,):
            for end in ends:
                for user in users:
                    is_source = end == "source"
                    yield Match(
                        prefix.version,
                        source=str(prefix) if is_source else user,
                        destination=user if is_source else str(prefix),
                        protocol=serve.protocol_number,
                        source_ports=ports if is_source else None,
                        destination_ports=None if is_source else ports,
                    )


def protected_matches(name: str, registry: Registry) -> Iterable[Match]:
    """Yield the matches of a protected class, by either end."""
    found = registry.by_name("protected_classes").get(name)
    for one in found.match if found is not None else ():
        prefixes = [(prefix.version, str(prefix)) for prefix in one.prefixes] or [(4, ""), (6, "")]
        for family, prefix in prefixes:
            for ports in one.ports or (None,):
                yield Match(family, source=prefix, protocol=one.protocol, source_ports=ports)
                yield Match(family, destination=prefix, protocol=one.protocol, destination_ports=ports)
