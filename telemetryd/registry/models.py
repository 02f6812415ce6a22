"""The registry's entities, as frozen pydantic models, and the :class:`Registry` that holds them all.

The descriptions of the fields are the reference documentation (docs/registry.md) and the JSON Schema.
References to other entities are names; the loader has checked them when a Registry exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from telemetryd.config.fields import part
from telemetryd.errors import Problem
from telemetryd.registry.fields import (
    AddressField,
    Dscp,
    Endpoint,
    Flag,
    IfIndex,
    MlpsLevel,
    Name,
    OctetsCorrection,
    PortRange,
    PortReference,
    PrefixField,
    Protocol,
    Range,
    Rate,
    Slug,
    SourceId,
    Text,
    TimeZone,
    VlanRange,
)


class Entity(BaseModel):
    """Base of every model: frozen, and an unknown field is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


class Title(Entity):
    """A name for people, in English, Chinese or both."""

    en: Text | None = Field(None, description="English name")
    zh: Text | None = Field(None, description="Chinese name")


def _title() -> Any:
    return Field(None, description="name for people: {en: ..., zh: ...}")


# --- places ------------------------------------------------------------------------------------------------


class City(Entity):
    """The city itself, declared once in the whole registry."""

    name: Slug = Field(description="name of the city")
    title: Title | None = _title()
    time_zone: TimeZone = Field("UTC", description="IANA time zone of schedules and reports")


class Region(Entity):
    """A part of the city, or what lies beyond it."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    kind: Literal["city", "district", "province", "nation", "internet"] = Field(
        description="networks of a province, nation or internet region lie outside the city"
    )


class Site(Entity):
    """A building or data centre."""

    name: Name = Field(description="unique name")
    title: Title | None = _title()
    region: Slug = Field(description="name of the region that it stands in")


class Zone(Entity):
    """A security zone."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()


class Instance(Entity):
    """A routing instance (VRF). An address means something only inside one.

    The binding of the ingress interface wins, else the instance of the VLAN tag, else the default.
    """

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    default: Flag = Field(False, description="true for the one instance of packets that no binding claims")
    vlans: tuple[VlanRange, ...] = Field((), description='VLANs of the instance: numbers or "low-high"')
    interfaces: tuple[PortReference, ...] = Field((), description='ports bound to it: "DEVICE/INTERFACE"')

    @property
    def vlan_ranges(self) -> tuple[Range, ...]:
        """(first, last) of the VLANs, both included."""
        return self.vlans


class Contract(Entity):
    """The rates that are paid for or promised, per direction (seen from the interface or the department)."""

    in_bps: Rate | None = Field(None, alias="in", description="rate inbound")
    out_bps: Rate | None = Field(None, alias="out", description="rate outbound")


class Department(Entity):
    """A department, owner of networks and applications."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    department_class: Literal["strengthened", "transitional", "centralised"] = Field(
        "centralised", alias="class", description="class of the department (加强 / 过渡 / 集中)"
    )
    contact: Text | None = Field(None, description="whom to ask")
    contract: Contract | None = Field(None, description="rates promised to it: {in: rate, out: rate}")


class Network(Entity):
    """A prefix of a routing instance, and whose it is. The longest prefix that holds an address wins."""

    prefix: PrefixField = Field(description="network/length, without host bits")
    instance: Slug | None = Field(None, description="routing instance; left out = the default one")
    department: Slug | None = Field(None, description="department that uses it")
    zone: Slug | None = Field(None, description="security zone")
    region: Slug | None = Field(None, description="region; of kind internet, province or nation = outside the city")


class Server(Entity):
    """A server with its addresses inside one routing instance."""

    name: Name = Field(description="unique name")
    title: Title | None = _title()
    addresses: tuple[AddressField, ...] = Field(min_length=1, description="IPv4 and IPv6 addresses")
    instance: Slug | None = Field(None, description="routing instance; left out = the default one")
    department: Slug | None = Field(None, description="department that runs it; left out = that of the network")
    zone: Slug | None = Field(None, description="security zone; left out = that of the network")
    site: Name | None = Field(None, description="site where it stands")


# --- applications ------------------------------------------------------------------------------------------


class Serve(Entity):
    """Where an application is served: servers or prefixes, a protocol, ports.

    The most specific claim wins: longer prefix, then a named protocol, then the narrower port range.
    """

    servers: tuple[Name, ...] = Field((), description="servers, by name")
    prefixes: tuple[PrefixField, ...] = Field((), description="prefixes, where there are no single servers")
    instance: Slug | None = Field(None, description="routing instance of the prefixes; left out = the default one")
    protocol: Protocol = Field(None, description="tcp, udp, sctp, icmp (IPv4), icmpv6, a number, or any (left out)")
    ports: tuple[PortRange, ...] = Field((), description='ports: numbers or "low-high"; left out = all')

    @property
    def protocol_number(self) -> int | None:
        """IP protocol number; None = any."""
        return self.protocol

    @property
    def port_ranges(self) -> tuple[Range, ...]:
        """(first, last) of the ports, both included; empty = all."""
        return self.ports


class Application(Entity):
    """A business application. Importance (business) and MLPS level (protection) are independent."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    owner: Slug = Field(description="department that owns it")
    importance: Literal["critical", "high", "normal", "low", "background"] = Field(
        "normal", description="business importance"
    )
    mlps: MlpsLevel | None = Field(None, description="level of graded protection (MLPS 2.0), 1 to 4")
    service_class: Name | None = Field(None, description="service class that its packets should carry")
    contact: Text | None = Field(None, description="whom to ask")
    serves: tuple[Serve, ...] = Field((), description="where it is served")


class SharedService(Serve):
    """One address, protocol and port that serves several applications: booked as ``shared:<name>``."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    applications: tuple[Slug, ...] = Field(min_length=2, description="the applications behind it")


class ServiceClass(Entity):
    """A class of service and the DSCP values that mark it."""

    name: Name = Field(description="unique name")
    title: Title | None = _title()
    dscp: tuple[Dscp, ...] = Field(min_length=1, description="DSCP values, 0 to 63")


class Match(Entity):
    """Packets of a protected class."""

    protocol: Protocol = Field(None, description="tcp, udp, sctp, icmp (IPv4), icmpv6, a number, or any (left out)")
    ports: tuple[PortRange, ...] = Field((), description='ports: numbers or "low-high"; left out = all')
    prefixes: tuple[PrefixField, ...] = Field((), description="either end in one of these; left out = anywhere")


class ProtectedClass(Entity):
    """Traffic that no policy may starve: control, DNS, NTP, identity."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    match: tuple[Match, ...] = Field(min_length=1, description="what belongs to it")


# --- devices and links -------------------------------------------------------------------------------------


class Profile(Entity):
    """How a kind of device samples and counts."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    vendor: Text | None = Field(None, description="vendor")
    model: Text | None = Field(None, description="model, as enforcement knows it; left out = the profile's name")
    sampling: Literal["ingress", "egress", "both"] = Field("ingress", description="direction in which its ports sample")
    octets_correction: OctetsCorrection = Field(
        0, description="octets added to each sampled packet's length, to make it layer 2 with FCS"
    )
    counters_octets_correction: OctetsCorrection = Field(
        0, description="octets added per packet to its interface counters"
    )


class Gnmi(Entity):
    """How to reach the device's gNMI server."""

    endpoint: Endpoint = Field(description='"host:port"')
    credential: Name | None = Field(None, description="name of the credential; the secret itself is elsewhere")


class Interface(Entity):
    """A port of a device."""

    name: Text = Field(description="name as the device writes it, unique in the device")
    index: IfIndex | None = Field(None, description="ifIndex; left out where the exporter reports none")
    speed: Rate | None = Field(None, description="port speed; left out for a bundle = the sum of its members")
    alias: Text | None = Field(None, description="description configured on the port")
    bundle: Text | None = Field(
        None, description="name of the LAG that it is a member of: links and metering points may name it"
    )
    labelled: Flag = Field(False, description="true = MPLS backbone port: link totals only, ends are not looked up")


class SourceMapEntry(Entity):
    """An sFlow source id that stands for an interface, where the exporter reports none."""

    source: SourceId = Field(description='"class:index", such as "0:5"')
    interface: Text = Field(description="interface of this device")


class Device(Entity):
    """A switch, router or gateway that exports telemetry."""

    name: Name = Field(description="unique name")
    title: Title | None = _title()
    role: Literal["core", "dc", "leaf", "aggregation", "access", "exit", "uplink", "gateway"] = Field(
        description="place in the network"
    )
    site: Name | None = Field(None, description="site where it stands")
    profile: Slug | None = Field(None, description="device profile")
    firmware: Text | None = Field(None, description="version of its software; left out = nothing is written to it")
    agents: tuple[AddressField, ...] = Field((), description="sFlow agent addresses, unique over all devices")
    gnmi: Gnmi | None = Field(None, description="gNMI server: {endpoint, credential}")
    interfaces: tuple[Interface, ...] = Field((), description="its ports")
    source_map: tuple[SourceMapEntry, ...] = Field(
        (), description="sFlow source ids -> interfaces, where samples carry no interface"
    )


class Link(Entity):
    """A capacity to manage: an interface, with a contract where one limits it.

    Its capacity per direction is the port speed or the contract, whichever is less.
    """

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    device: Name = Field(description="device")
    interface: Text = Field(description="interface of the device")
    kind: Literal["exit", "uplink", "backbone", "aggregation", "access", "datacentre"] = Field(
        description="what the link is for"
    )
    contract: Contract | None = Field(None, description="contracted rates: {in: rate, out: rate}")
    shaped: Annotated[float, *part(0.5, 1.0)] | None = Field(
        None,
        description="part of the inbound capacity that is divided: inbound traffic is shaped to it inside, so that it "
        "queues here and not at the far end; left out = 95 % of exits and uplinks, all of others",
    )


class FailureState(Entity):
    """A state of a link group that policies plan for."""

    name: Slug = Field(description="name, unique in the group")
    title: Title | None = _title()
    down: tuple[Slug, ...] = Field(min_length=1, description="members that are down in it")


class LinkGroup(Entity):
    """Links that share one job, such as the providers of the exit."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    members: tuple[Slug, ...] = Field(min_length=1, description="links, by name")
    failure_states: tuple[FailureState, ...] = Field((), description="states to plan for")


class MeteringPoint(Entity):
    """An interface where traffic counts towards department and application totals, once."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    device: Name = Field(description="device")
    interface: Text = Field(description="interface of the device, inside NAT")
    faces: Literal["outside", "inside"] = Field(description="what lies beyond the interface")
    counts: tuple[Literal["exit", "uplink", "internal"], ...] = Field(
        min_length=1,
        description="packets that count here: exit = one end in an internet region or unregistered, "
        "uplink = one end in a province or nation region, internal = both ends inside",
    )


class BlindPort(Entity):
    """A port without telemetry: shown as blind, never as zero."""

    device: Name = Field(description="device")
    interface: Text = Field(description="interface of the device")
    reason: Text | None = Field(None, description="why nothing is seen there")


class NatPool(Entity):
    """Public addresses that inside addresses are translated to."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    prefixes: tuple[PrefixField, ...] = Field(min_length=1, description="its public prefixes")
    link: Slug | None = Field(None, description="exit link that uses it")


class PublicAddress(Entity):
    """A published address that is translated to a server."""

    address: AddressField = Field(description="public address")
    server: Name = Field(description="server behind it")


class Path(Entity):
    """The way from one site to another."""

    name: Slug = Field(description="unique name")
    title: Title | None = _title()
    from_site: Name = Field(alias="from", description="site where it starts")
    to_site: Name = Field(alias="to", description="site where it ends")
    via: tuple[PortReference, ...] = Field((), description='ports on the way, in order: "DEVICE/INTERFACE"')


# --- the whole ---------------------------------------------------------------------------------------------


class RegistryFile(Entity):
    """One file of a registry; the lists of all files are joined."""

    version: Literal[1] = Field(description="version of this format")
    city: City | None = Field(None, description="the city, in one file only")
    regions: tuple[Region, ...] = Field((), description="parts of the city and what lies beyond")
    sites: tuple[Site, ...] = Field((), description="buildings and data centres")
    zones: tuple[Zone, ...] = Field((), description="security zones")
    instances: tuple[Instance, ...] = Field((), description="routing instances")
    departments: tuple[Department, ...] = Field((), description="departments")
    networks: tuple[Network, ...] = Field((), description="prefixes and whose they are")
    servers: tuple[Server, ...] = Field((), description="servers")
    applications: tuple[Application, ...] = Field((), description="business applications")
    shared_services: tuple[SharedService, ...] = Field((), description="service addresses of several applications")
    service_classes: tuple[ServiceClass, ...] = Field((), description="classes of service")
    profiles: tuple[Profile, ...] = Field((), description="device profiles")
    devices: tuple[Device, ...] = Field((), description="switches, routers and gateways")
    links: tuple[Link, ...] = Field((), description="capacities to manage")
    link_groups: tuple[LinkGroup, ...] = Field((), description="links that share one job")
    metering_points: tuple[MeteringPoint, ...] = Field((), description="where totals are counted")
    blind_ports: tuple[BlindPort, ...] = Field((), description="ports without telemetry")
    nat_pools: tuple[NatPool, ...] = Field((), description="pools of translated addresses")
    public_addresses: tuple[PublicAddress, ...] = Field((), description="published addresses of servers")
    paths: tuple[Path, ...] = Field((), description="ways between sites")
    protected_classes: tuple[ProtectedClass, ...] = Field((), description="traffic that must not starve")


SECTIONS: Final[dict[str, type[Entity]]] = {
    "regions": Region,
    "sites": Site,
    "zones": Zone,
    "instances": Instance,
    "departments": Department,
    "networks": Network,
    "servers": Server,
    "applications": Application,
    "shared_services": SharedService,
    "service_classes": ServiceClass,
    "profiles": Profile,
    "devices": Device,
    "links": Link,
    "link_groups": LinkGroup,
    "metering_points": MeteringPoint,
    "blind_ports": BlindPort,
    "nat_pools": NatPool,
    "public_addresses": PublicAddress,
    "paths": Path,
    "protected_classes": ProtectedClass,
}
"""Every list section -> the model of its entries, in the order of the documentation."""

UNNAMED_SECTIONS: Final = frozenset(section for section, model in SECTIONS.items() if "name" not in model.model_fields)
IMPLICIT_CITY: Final = City(name="city")
IMPLICIT_INSTANCE: Final = Instance(name="default", default=True)


@dataclass(frozen=True)
class Registry:
    """Everything that the registry says, checked; the one source of truth.

    One tuple a section. ``warnings`` holds what is suspicious but loadable.
    """

    directory: FilePath
    city: City = IMPLICIT_CITY
    regions: tuple[Region, ...] = ()
    sites: tuple[Site, ...] = ()
    zones: tuple[Zone, ...] = ()
    instances: tuple[Instance, ...] = (IMPLICIT_INSTANCE,)
    departments: tuple[Department, ...] = ()
    networks: tuple[Network, ...] = ()
    servers: tuple[Server, ...] = ()
    applications: tuple[Application, ...] = ()
    shared_services: tuple[SharedService, ...] = ()
    service_classes: tuple[ServiceClass, ...] = ()
    profiles: tuple[Profile, ...] = ()
    devices: tuple[Device, ...] = ()
    links: tuple[Link, ...] = ()
    link_groups: tuple[LinkGroup, ...] = ()
    metering_points: tuple[MeteringPoint, ...] = ()
    blind_ports: tuple[BlindPort, ...] = ()
    nat_pools: tuple[NatPool, ...] = ()
    public_addresses: tuple[PublicAddress, ...] = ()
    paths: tuple[Path, ...] = ()
    protected_classes: tuple[ProtectedClass, ...] = ()
    warnings: tuple[Problem, ...] = field(default=(), compare=False)

    def section(self, name: str) -> tuple[Entity, ...]:
        """Return the entities of a section, in the order of the files."""
        if name not in SECTIONS:
            raise KeyError(name)
        entities: tuple[Entity, ...] = getattr(self, name)
        return entities

    @cached_property
    def _names(self) -> dict[str, dict[str, Any]]:
        return {}

    def by_name(self, section: str) -> Mapping[str, Any]:
        """Return name -> entity of a section; made once."""
        names = self._names.get(section)
        if names is None:
            if section in UNNAMED_SECTIONS:
                raise KeyError(section)
            names = self._names[section] = {}
            for entity in self.section(section):
                names.setdefault(entity.name, entity)  # type: ignore[attr-defined]
        return names

    @property
    def region(self) -> Mapping[str, Region]:
        """Regions by name."""
        return self.by_name("regions")

    @property
    def site(self) -> Mapping[str, Site]:
        """Sites by name."""
        return self.by_name("sites")

    @property
    def instance(self) -> Mapping[str, Instance]:
        """Routing instances by name."""
        return self.by_name("instances")

    @property
    def department(self) -> Mapping[str, Department]:
        """Departments by name."""
        return self.by_name("departments")

    @property
    def server(self) -> Mapping[str, Server]:
        """Servers by name."""
        return self.by_name("servers")

    @property
    def application(self) -> Mapping[str, Application]:
        """Applications by name."""
        return self.by_name("applications")

    @property
    def device(self) -> Mapping[str, Device]:
        """Devices by name."""
        return self.by_name("devices")

    @property
    def link(self) -> Mapping[str, Link]:
        """Links by name."""
        return self.by_name("links")

    @cached_property
    def default_instance(self) -> str:
        """Name of the routing instance of packets that no binding claims."""
        return next((instance.name for instance in self.instances if instance.default), IMPLICIT_INSTANCE.name)

    @cached_property
    def interface(self) -> Mapping[tuple[str, str], Interface]:
        """(device, interface) -> interface."""
        return {(device.name, port.name): port for device in self.devices for port in device.interfaces}

    @cached_property
    def _speeds(self) -> Mapping[tuple[str, str], int]:
        members: dict[tuple[str, str], int] = {}
        for (device, _), port in self.interface.items():
            if port.bundle is not None and port.speed is not None:
                members[device, port.bundle] = members.get((device, port.bundle), 0) + port.speed
        own = {place: port.speed for place, port in self.interface.items() if port.speed is not None}
        return members | own

    def speed_bps(self, device: str, interface: str) -> int | None:
        """Return the speed of a port in bit/s; that of a bundle is the sum of its members."""
        return self._speeds.get((device, interface))

    def capacity_bps(self, link: Link) -> tuple[int, int]:
        """Return a link's capacity (in, out) in bit/s: port speed or contract, whichever is less."""
        speed = self.speed_bps(link.device, link.interface)
        limits = link.contract or Contract()
        both = [min(x for x in (speed, rate, _UNLIMITED) if x is not None) for rate in (limits.in_bps, limits.out_bps)]
        return both[0], both[1]

    def usable_bps(self, link: Link) -> tuple[int, int]:
        """Return what of a link can be divided, (in, out) in bit/s: inbound, the part that it is shaped to inside."""
        inbound, outbound = self.capacity_bps(link)
        shaped = link.shaped if link.shaped is not None else SHAPED if link.kind in FAR_QUEUES else 1.0
        return inbound * round(shaped * _PARTS) // _PARTS, outbound

    def __iter__(self) -> Iterator[tuple[str, tuple[Entity, ...]]]:
        """Yield (section, entities) of every section."""
        return ((name, self.section(name)) for name in SECTIONS)


_UNLIMITED: Final = 2**63 - 1
_PARTS: Final = 1_000_000
#: Part of an inbound contract that is divided where nothing else is said, and the kinds of links where the other end's
#: queue would fill first, which nobody here can schedule.
SHAPED: Final = 0.95
FAR_QUEUES: Final = frozenset({"exit", "uplink"})
