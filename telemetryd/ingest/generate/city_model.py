"""Turn a city's registry and traffic files into flows: who talks to whom, along which interfaces.

Every pair of a client prefix and a server of an application makes two flows, there and back. On
each device of the way that exports sFlow the packets are sampled on their own. What each hop counts
towards follows the registry: links by interface, totals where the interface is a metering point for
this kind of packet, names translated where NAT stands between (exit routers see public addresses).
Server leafs and gateways sample nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from typing import Final, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from telemetryd.config.units import parse_rate
from telemetryd.errors import InputError
from telemetryd.ingest.generate.layout import TCP, UDP
from telemetryd.ingest.generate.model import End, FlowSpec, Header, Hop, Model
from telemetryd.ingest.generate.places import UNKNOWN, Place, Places, Side
from telemetryd.ingest.generate.routes import Routes, Step
from telemetryd.ingest.generate.traffic_file import EXIT, ApplicationTraffic, TrafficFile
from telemetryd.ingest.generate.wire import Agents
from telemetryd.registry.fields import Address
from telemetryd.registry.models import Registry, Serve

UNCLASSIFIED: Final = "unclassified"
LABELLED: Final = "labelled"
UNCLASSIFIED_SHARE: Final = 0.02  # of what goes out to the Internet: services that no registry lists
_UNLISTED_PORT: Final = 51413
_DEFAULT_RATE: Final = 4096
_NAT_PREFIX_LENGTH: Final = 27
_LOW_64: Final = 2**64 - 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Service:
    """One address and port of an application (or shared service)."""

    name: str
    owner: str | None
    end: End
    protocol: int
    instance: str
    site: str | None
    place: Place
    server: str | None


@dataclass(frozen=True, slots=True)
class CityModel:
    """A city's model, and what drives it.

    Attributes
    ----------
    model:
        Flows and paths.
    application:
        intp, shape (f,): row of ``traffic.applications`` of each flow.
    share:
        float64, shape (f,): the flow's share of its application's octets.
    """

    model: Model
    application: NDArray[np.intp]
    share: NDArray[np.float64]


def build_city(registry: Registry, traffic: TrafficFile, sampling: int | None = None) -> CityModel:
    """Build the model of a city; ``sampling`` overrides the files' 1 in N everywhere.

    Raises
    ------
    InputError
        If the traffic names what the registry does not have, or there is no path for it.
    """
    return CityBuilder(registry, traffic, sampling).build()


class CityBuilder:
    """Builds the flows of a city; :func:`build_city` is its ordinary use."""

    def __init__(self, registry: Registry, traffic: TrafficFile, sampling: int | None) -> None:
        self.registry = registry
        self.traffic = traffic
        self.sampling = sampling
        self.places = Places(registry)
        self.routes = Routes(registry)
        self.rates = {parse_rate(k): rate for k, rate in traffic.sampling.items() if k != EXIT}
        self.devices = [device for device in registry.devices if device.agents]
        self.agent_row = {device.name: row for row, device in enumerate(self.devices)}
        self.sources: dict[tuple[str, str], int] = {}
        self.source_rows: list[tuple[int, int, int]] = []
        profiles = {profile.name: profile.sampling for profile in registry.profiles}
        self.samples_at = {d.name: profiles.get(d.profile or "", "ingress") for d in registry.devices}
        self.links: dict[tuple[str, str], str] = {}
        for link in registry.links:
            self.links.setdefault((link.device, link.interface), link.name)
        self.meters = {(p.device, p.interface): p for p in registry.metering_points}
        self.blind = {(port.device, port.interface) for port in registry.blind_ports}
        self.published = {
            (public.server, public.address.version): public.address for public in registry.public_addresses
        }
        self.nat = {
            pool.link: (pool.name, end)
            for pool in registry.nat_pools
            if pool.link is not None and (end := self._translated(pool.prefixes)) is not None
        }
        self.classes = {one.name: one.dscp[0] for one in registry.service_classes}
        self.sites = {site.region: site.name for site in reversed(registry.sites)}
        self.region_kinds = {region.name: region.kind for region in registry.regions}
        self.segment_sites = self._segments()
        self.vlans = {i.name: i.vlan_ranges[0][0] if i.vlan_ranges and not i.default else 0 for i in registry.instances}
        self.department_vlans = self._department_vlans()

    def build(self) -> CityModel:
        """Return every application's flows."""
        flows: list[FlowSpec] = []
        rows: list[int] = []
        shares: list[float] = []
        for row, entry in enumerate(self.traffic.applications):
            for flow, share in self._flows(entry):
                flows.append(flow)
                rows.append(row)
                shares.append(share)
        model = self.model(flows)
        return CityModel(model, np.array(rows, np.intp), np.array(shares, np.float64))

    def model(self, flows: list[FlowSpec]) -> Model:
        """Return the model of ``flows`` over the city's exporters."""
        agents = [device.agents[0] for device in self.devices]
        routers = [device.role in ("core", "exit", "uplink") for device in self.devices]
        expanded = [device.role in ("uplink", "dc") for device in self.devices]
        columns = np.array(self.source_rows, np.int64).reshape(-1, 3)
        return Model(
            Agents(
                np.array([_words(agent)[0] for agent in agents], np.uint64),
                np.array([_words(agent)[1] for agent in agents], np.uint64),
                np.array([agent.version for agent in agents], np.uint8),
                np.zeros(len(agents), np.uint32),
                np.array(expanded, bool),
                np.array(routers, bool),
            ),
            source_agent=columns[:, 0].astype(np.intp),
            source_index=columns[:, 1].astype(np.uint32),
            source_rate=columns[:, 2].astype(np.uint32),
            flows=tuple(flows),
            speeds_bps={
                (row, port.index): port.speed
                for row, device in enumerate(self.devices)
                for port in device.interfaces
                if port.index is not None and port.speed is not None
            },
        )

    # --- pairs of client and server -----------------------------------------------------------------

    def _flows(self, entry: ApplicationTraffic) -> Iterator[tuple[FlowSpec, float]]:
        """Yield an application's flows with their shares of its octets."""
        services = list(self.services(entry))
        if not services:
            raise InputError(f"traffic: {entry.application} is served nowhere: give it servers or prefixes")
        pairs = []
        for version in (4, 6):
            users = [prefix for prefix in entry.users if prefix.version == version]
            offered = [service for service in services if service.end.version == version]
            if users and offered:
                count = max(len(users), len(offered))
                pairs += [(users[i % len(users)], offered[i % len(offered)]) for i in range(count)]
        if not pairs:
            raise InputError(f"traffic: {entry.application} has no server of its users' IP version")
        # unequal shares, as people are; which user is first differs from application to application
        turn = crc32(entry.application.encode())
        weights = [1 / (1 + (number + turn) % len(pairs)) ** 0.5 for number in range(len(pairs))]
        total = sum(weights)
        for number, (prefix, service) in enumerate(pairs):
            share = weights[number] / total
            client = self.places.find(prefix.network_address, service.instance)
            user = self.places.hosts(prefix, service.instance)
            other = self._unlisted(service) if entry.path == "outbound" and user.version == 4 else None
            listed = 1 - UNCLASSIFIED_SHARE if other else 1.0
            yield from self.pair(entry, service, client, user, share * listed, number + turn)
            if other is not None:
                yield from self.pair(entry, other, client, user, share - share * listed, number + turn)

    def pair(
        self,
        entry: ApplicationTraffic,
        service: Service,
        client: Place,
        user: End,
        share: float,
        choice: int,
        only: int | None = None,
    ) -> Iterator[tuple[FlowSpec, float]]:
        """Yield the flows between a client prefix and a service, there and back, with their shares.

        ``choice`` picks among equal ways, ``only`` one device of the way to sample at instead of all.

        Raises
        ------
        InputError
            If the registry has no path between them.
        """
        start = self._user_site(client, user, service.instance)
        access = None
        if client.side == "inside" and start not in self.segment_sites.values():
            is_district = self.region_kinds.get(client.region or "") == "district"
            access = self.routes.access(client.department, client.region or "", service.instance, is_district, choice)
            if access is not None and not is_district:
                start = self.registry.device[access[0]].site or start
        way = self.routes.way(start or "", service.site or "", access, choice)
        if way is None:
            raise InputError(f"traffic: {entry.application}: the registry has no path from {start} to {service.site}")
        vlan_id = self.vlans.get(service.instance, 0) or self.department_vlans.get(client.department, 0)
        application = self.registry.application.get(service.name)
        dscp = self.classes.get((application.service_class if application else None) or "", 0)
        sizes: tuple[str, str] = ("requests", entry.packet_sizes)
        if entry.request_share > 0.5:
            sizes = sizes[::-1]
        elif entry.request_share == 0.5:
            sizes = (entry.packet_sizes, entry.packet_sizes)
        for is_request in (True, False):
            header = self._header(service, client, user, is_request, dscp)
            steps = way if is_request else tuple(step.reverse() for step in reversed(way))
            source, destination = (client.side, service.place.side)[:: 1 if is_request else -1]
            hops: list[Hop] = []
            if only is not None:
                steps = (steps[only % len(steps)],)
            for step in steps:
                seen = self._seen(header, step, service, client, is_request)
                if seen is not None:
                    hops += self._hops(step, header, seen, source, destination, vlan_id)
            part = entry.request_share if is_request else 1 - entry.request_share
            if hops and part:
                yield FlowSpec(header, sizes[0 if is_request else 1], tuple(hops)), share * part

    def _header(self, service: Service, client: Place, user: End, is_request: bool, dscp: int) -> Header:
        owner = service.owner or service.place.department
        names = _departments(client, service.place, owner, is_request)
        ends = (user, service.end) if is_request else (service.end, user)
        return Header(service.name, *names, *ends, service.protocol, dscp)

    def services(self, entry: ApplicationTraffic) -> Iterator[Service]:
        """Yield where an application is served: every address with one of its ports."""
        serves: tuple[Serve, ...]
        if entry.shared_service is not None:
            shared = {one.name: one for one in self.registry.shared_services}.get(entry.shared_service)
            if shared is None:
                raise InputError(f"traffic: there is no shared service {entry.shared_service}")
            name, owner, serves = f"shared:{shared.name}", None, (shared,)
        else:
            application = self.registry.application.get(entry.application)
            if application is None:
                raise InputError(f"traffic: there is no application {entry.application} in the registry")
            name, owner, serves = application.name, application.owner, application.serves
        default = self.registry.default_instance
        turn = crc32(entry.application.encode())
        for serve in serves:
            protocol = serve.protocol_number or TCP
            if protocol not in (TCP, UDP):
                continue
            for number, server_name in enumerate(serve.servers):
                server = self.registry.server[server_name]
                instance = server.instance or default
                for address in server.addresses:
                    port = _port(serve, turn + number)
                    place = self.places.find(address, instance)
                    if server.department is not None:
                        place = replace(place, department=server.department)
                    end = End(address.version, int(address), 0, port)
                    yield Service(name, owner, end, protocol, instance, server.site, place, server_name)
            for number, prefix in enumerate(serve.prefixes):
                instance = serve.instance or default
                place = self.places.find(prefix.network_address, instance)
                end = self.places.hosts(prefix, instance, _port(serve, turn + number))
                site = self._user_site(place, end, instance)
                yield Service(name, owner, end, protocol, instance, site, place, None)

    # --- hops -----------------------------------------------------------------------------------------

    def _hops(
        self, step: Step, flow: Header, seen: Header, source: Side, destination: Side, vlan_id: int
    ) -> Iterator[Hop]:
        """Yield what a device samples of a flow: once, or at both its interfaces if it samples so."""
        device = step.device
        mode = self.samples_at[device.name]
        enter, leave = (device.name, step.enter), (device.name, step.leave)
        interfaces = self.registry.interface
        if interfaces[enter].labelled:
            seen = replace(seen, application=LABELLED, department=UNKNOWN, peer_department=UNKNOWN)
            direction, category = "unknown", ""
        else:
            direction = _direction(source, destination)
            category = _category(source, destination)
        sides = {"ingress": (True,), "egress": (False,), "both": (True, False)}[mode]
        for at_ingress in sides:
            port = enter if at_ingress else leave
            if port in self.blind or device.name not in self.agent_row:
                continue
            counts_in = mode != "both" or at_ingress
            counts_out = mode != "both" or not at_ingress
            totals = None
            for place, counted in ((enter, counts_in), (leave, counts_out)):
                meter = self._of_port(self.meters, place)
                if totals is None and counted and meter and (not category or category in meter.counts):
                    totals = (meter.name, direction)
            yield Hop(
                self._source(port),
                interfaces[enter].index or 0,
                interfaces[leave].index or 0,
                self._link(enter) if counts_in else "",
                self._link(leave) if counts_out else "",
                totals,
                vlan_id,
                None if seen is flow else seen,
            )

    def _seen(self, header: Header, step: Step, service: Service, client: Place, is_request: bool) -> Header | None:
        """Return a header as a device sees it: exit routers see public addresses; None: it sees nothing.

        IPv6 is not translated; a server without a published address cannot be reached from outside.
        """
        outside = {client.side, service.place.side} & {"internet"}
        if step.device.role != "exit" or not outside or service.end.version == 6:
            return header
        if client.side == "internet":
            public = self.published.get((service.server or "", 4))
            if public is None:
                return None
            end = replace(service.end, base=int(public))
            return replace(header, destination=end) if is_request else replace(header, source=end)
        link = self._link((step.device.name, step.leave if is_request else step.enter))
        if link not in self.nat:
            return None
        pool, end = self.nat[link]
        named = replace(header, department=f"nat:{pool}")
        return replace(named, source=end) if is_request else replace(named, destination=end)

    def _of_port(self, found: dict[tuple[str, str], T], port: tuple[str, str]) -> T | None:
        """Return what belongs to a port, or else to the bundle that it is a member of."""
        bundle = self.registry.interface[port].bundle
        return found.get(port) or (found.get((port[0], bundle)) if bundle else None)

    def _link(self, port: tuple[str, str]) -> str:
        """Return a port's link; where the registry names none, it is called by device and interface."""
        name = self._of_port(self.links, port)
        return name or f"{port[0]}/{self.registry.interface[port].bundle or port[1]}"

    def _source(self, port: tuple[str, str]) -> int:
        if port not in self.sources:
            self.sources[port] = len(self.source_rows)
            index = self.registry.interface[port].index or 0
            self.source_rows.append((self.agent_row[port[0]], index, self._rate(*port)))
        return self.sources[port]

    def _rate(self, device: str, interface: str) -> int:
        if self.sampling is not None:
            return self.sampling
        meter = self._of_port(self.meters, (device, interface))
        is_exit = self.registry.device[device].role == "exit" or (meter is not None and EXIT in meter.counts)
        if is_exit and EXIT in self.traffic.sampling:
            return self.traffic.sampling[EXIT]
        speed = self.registry.speed_bps(device, interface) or 0
        return self.rates.get(speed, max(self.rates.values(), default=_DEFAULT_RATE))

    # --- places ---------------------------------------------------------------------------------------

    def _user_site(self, place: Place, end: End, instance: str) -> str | None:
        if place.side != "inside":
            return self.sites.get("internet" if place.side == "internet" else "province")
        key = (instance, str(place.prefix))
        if key in self.segment_sites:
            return self.segment_sites[key]
        return self.sites.get(place.region or "")

    def _segments(self) -> dict[tuple[str, str], str]:
        """Return the site of every network that holds servers."""
        found: dict[tuple[str, str], str] = {}
        for server in self.registry.servers:
            instance = server.instance or self.registry.default_instance
            for address in server.addresses:
                place = self.places.find(address, instance)
                # an address that a data centre has in its department's LAN makes that LAN no segment
                if server.site is not None and place.prefix is not None and place.zone == server.zone:
                    found.setdefault((instance, str(place.prefix)), server.site)
        return found

    def _unlisted(self, service: Service) -> Service | None:
        """Return a service on the Internet that the registry does not list, reached as ``service`` is."""
        for entry in self.traffic.applications:
            for prefix in entry.users:
                if entry.path == "inbound" and prefix.version == 4:
                    end = self.places.hosts(prefix, service.instance, _UNLISTED_PORT)
                    place = self.places.find(prefix.network_address, service.instance)
                    return replace(service, name=UNCLASSIFIED, owner=None, end=end, protocol=UDP, place=place)
        return None

    def _department_vlans(self) -> dict[str, int]:
        """Return a VLAN of the default instance for each department, as far as there are enough."""
        default = next((i for i in self.registry.instances if i.default), None)
        numbers = (
            number for first, last in (default.vlan_ranges if default else ()) for number in range(first, last + 1)
        )
        return dict(zip((d.name for d in self.registry.departments), numbers, strict=False))

    def _translated(self, prefixes: tuple[object, ...]) -> End | None:
        """Return the part of a NAT pool that no server is published under."""
        public = {int(address) for address in self.published.values()}
        for prefix in prefixes:
            if not isinstance(prefix, IPv4Network):
                continue
            length = max(_NAT_PREFIX_LENGTH, prefix.prefixlen)
            for part in prefix.subnets(new_prefix=length):
                base, mask = int(part.network_address), int(part.hostmask)
                if not any(base <= address <= base | mask for address in public):
                    return End(4, base, mask)
        return None


def _departments(client: Place, server: Place, owner: str, is_request: bool) -> tuple[str, str]:
    """Return (department, peer): the inside end at the city's edge, and the user inside the network."""
    source, destination = (client.department, owner)[:: 1 if is_request else -1]
    if client.side == server.side == "inside":
        return client.department, owner
    destination_is_inside = (server.side if is_request else client.side) == "inside"
    return (destination, source) if destination_is_inside else (source, destination)


def _direction(source: Side, destination: Side) -> str:
    if destination == "inside":
        return "internal" if source == "inside" else "inbound"
    return "outbound" if source == "inside" else "transit"


def _category(source: Side, destination: Side) -> str:
    """Return which metering points count such packets."""
    if source == destination == "inside":
        return "internal"
    return "exit" if "internet" in (source, destination) else "uplink"


def _port(serve: Serve, turn: int) -> int:
    """Return one of the ports of a service; of a range, one inside it."""
    if not serve.port_ranges:
        return _UNLISTED_PORT
    first, last = serve.port_ranges[turn % len(serve.port_ranges)]
    return first + turn // 7 % (last - first + 1)


def _words(address: Address) -> tuple[int, int]:
    return int(address) >> 64, int(address) & _LOW_64
