"""Check devices, links, link groups, metering points and the ports that they refer to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from telemetryd.config.explain import suggest
from telemetryd.config.positions import PathInData
from telemetryd.config.units import spell_rate
from telemetryd.registry.fields import Address, split_port
from telemetryd.registry.models import Device, Interface, Registry
from telemetryd.registry.sources import Place, Sources

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(slots=True)
class _Ports:
    """The ports of one device: interfaces by name, and bundles with their members."""

    interfaces: dict[str, Interface] = field(default_factory=dict)
    bundles: dict[str, list[str]] = field(default_factory=dict)
    mapped: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        return name in self.interfaces or name in self.bundles

    def members(self, name: str) -> list[Interface]:
        """Return the interfaces whose packets a port stands for."""
        own = [self.interfaces[name]] if name in self.interfaces else []
        return own + [self.interfaces[member] for member in self.bundles.get(name, ())]


def check_devices(registry: Registry, sources: Sources) -> None:
    """Note mistakes of devices and of all that refers to their ports."""
    ports = {device.name: _ports(device) for device in reversed(registry.devices)}
    _check_agents(registry, sources)
    for row, device in enumerate(registry.devices):
        _check_interfaces(row, device, sources)
        _check_source_map(row, device, ports[device.name], sources)
    _check_port_fields(registry, ports, sources)
    _check_bindings(registry, ports, sources)
    _check_links(registry, ports, sources)
    _check_groups(registry, sources)
    _check_metering_points(registry, ports, sources)


def _ports(device: Device) -> _Ports:
    ports = _Ports(mapped={entry.interface for entry in device.source_map})
    for port in device.interfaces:
        ports.interfaces.setdefault(port.name, port)
        if port.bundle is not None:
            ports.bundles.setdefault(port.bundle, []).append(port.name)
    return ports


def _check_unique(
    keys: Iterable[tuple[_Key, Place]], what: Callable[[_Key], str], remedy: str, sources: Sources
) -> None:
    """Note every key that comes a second time."""
    first_places: dict[_Key, Place] = {}
    for key, place in keys:
        first = first_places.setdefault(key, place)
        if first != place:
            sources.note(place, what(key), f"{remedy} (the first is at {sources.where(first)})")


def _check_agents(registry: Registry, sources: Sources) -> None:
    agents: list[tuple[Address, Place]] = [
        (address, Place("devices", row, ("agents", entry)))
        for row, device in enumerate(registry.devices)
        for entry, address in enumerate(device.agents)
    ]
    _check_unique(agents, lambda address: f"agent address {address} is used twice", "give it to one device", sources)


def _check_interfaces(row: int, device: Device, sources: Sources) -> None:
    def at(entry: int, key: str) -> Place:
        return Place("devices", row, ("interfaces", entry, key))

    entries = list(enumerate(device.interfaces))
    _check_unique(
        ((port.name, at(entry, "name")) for entry, port in entries),
        lambda name: f'interface "{name}" of {device.name} is declared twice',
        "remove one of them",
        sources,
    )
    _check_unique(
        ((port.index, at(entry, "index")) for entry, port in entries if port.index is not None),
        lambda index: f"index {index} of {device.name} is used twice",
        "give each interface its own ifIndex",
        sources,
    )
    member_of = {port.name: port.bundle for port in device.interfaces if port.bundle is not None}
    for entry, port in entries:
        if port.bundle is not None and (port.bundle == port.name or port.bundle in member_of):
            sources.note(
                at(entry, "bundle"),
                f'bundle "{port.bundle}" of {device.name} is itself a member of a bundle',
                "name the bundle that stands for the port",
            )


def _check_source_map(row: int, device: Device, ports: _Ports, sources: Sources) -> None:
    def at(entry: int, key: str) -> Place:
        return Place("devices", row, ("source_map", entry, key))

    _check_unique(
        ((item.source, at(entry, "source")) for entry, item in enumerate(device.source_map)),
        lambda source: f"source id {source} of {device.name} is mapped twice",
        "remove one of them",
        sources,
    )
    for entry, item in enumerate(device.source_map):
        if item.interface not in ports.interfaces:
            _note_unknown_port(at(entry, "interface"), device.name, item.interface, ports.interfaces, sources)


def _note_unknown_port(place: Place, device: str, name: str, known: Iterable[str], sources: Sources) -> None:
    remedy = suggest(name, known, f"declare it in the interfaces of {device}, or correct the name")
    sources.note(place, f'interface "{name}" of {device} is unknown', remedy)


def _check_port_fields(registry: Registry, ports: dict[str, _Ports], sources: Sources) -> None:
    """Links, metering points and blind ports name a port that exists, each port once."""
    for section, what in (
        ("links", "link"),
        ("metering_points", "metering point"),
        ("blind_ports", "blind port"),
    ):
        places: list[tuple[tuple[str, str], Place]] = []
        for row, entity in enumerate(registry.section(section)):
            device: str = entity.device  # type: ignore[attr-defined]
            interface: str = entity.interface  # type: ignore[attr-defined]
            place = Place(section, row, ("interface",))
            places.append(((device, interface), place))
            known = ports.get(device)
            if known is not None and interface not in known:
                _note_unknown_port(place, device, interface, (*known.interfaces, *known.bundles), sources)
        _check_unique(
            places,
            lambda port, what=what: f"{port[0]}/{port[1]} is a {what} already",  # type: ignore[misc]
            "remove one of them",
            sources,
        )
        if section == "blind_ports":
            continue
        used = {port for port, _ in places}
        for (device, interface), place in places:
            port = ports[device].interfaces.get(interface) if device in ports else None
            if port is not None and port.bundle is not None and (device, port.bundle) in used:
                sources.note(
                    place,
                    f"{device}/{interface} and its bundle {port.bundle} are both a {what}",
                    "name the bundle or its members, not both",
                )


def _check_bindings(registry: Registry, ports: dict[str, _Ports], sources: Sources) -> None:
    """Ports bound to an instance or passed by a path exist; a port is bound to one instance."""
    bindings: list[tuple[str, Place]] = []
    for row, instance in enumerate(registry.instances):
        for entry, reference in enumerate(instance.interfaces):
            place = Place("instances", row, ("interfaces", entry))
            _check_reference(reference, place, ports, sources)
            bindings.append((reference, place))
    _check_unique(bindings, lambda port: f"{port} is bound to an instance already", "bind it to one", sources)
    for row, path in enumerate(registry.paths):
        for entry, reference in enumerate(path.via):
            _check_reference(reference, Place("paths", row, ("via", entry)), ports, sources)


def _check_reference(reference: str, place: Place, ports: dict[str, _Ports], sources: Sources) -> None:
    device, interface = split_port(reference)
    known = ports.get(device)
    if known is not None:
        if interface not in known:
            _note_unknown_port(place, device, interface, (*known.interfaces, *known.bundles), sources)
    elif sources.is_known("devices") and device not in sources.broken["devices"]:
        remedy = suggest(device, ports, "declare it in devices, or correct the name")
        sources.note(place, f'device "{device}" is unknown', remedy)


def _check_links(registry: Registry, ports: dict[str, _Ports], sources: Sources) -> None:
    for row, link in enumerate(registry.links):
        if link.device not in ports or link.interface not in ports[link.device]:
            continue
        speed = registry.speed_bps(link.device, link.interface)
        for key, rate in (
            ("in", link.contract.in_bps if link.contract else None),
            ("out", link.contract.out_bps if link.contract else None),
        ):
            path: PathInData = ("contract", key)
            if rate is None and speed is None:
                sources.note(
                    Place("links", row, ("contract",) if link.contract else ("name",)),
                    f'link "{link.name}" has no capacity ({key}): neither a port speed nor a contract',
                    f"give {link.device}/{link.interface} its speed, or the link a contract",
                )
            elif rate is not None and speed is not None and rate > speed:
                sources.note(
                    Place("links", row, path),
                    f'contract of link "{link.name}" ({key}: {spell_rate(rate)}) is above the port speed, '
                    f"{spell_rate(speed)}",
                    f"correct the contract, or the speed of {link.device}/{link.interface}",
                )


def _check_groups(registry: Registry, sources: Sources) -> None:
    for row, group in enumerate(registry.link_groups):
        _check_unique(
            ((name, Place("link_groups", row, ("members", entry))) for entry, name in enumerate(group.members)),
            lambda name, group=group: f'"{name}" is in group "{group.name}" twice',  # type: ignore[misc]
            "remove one of them",
            sources,
        )
        _check_unique(
            (
                (state.name, Place("link_groups", row, ("failure_states", entry, "name")))
                for entry, state in enumerate(group.failure_states)
            ),
            lambda name, group=group: f'failure state "{name}" of group "{group.name}" is declared twice',  # type: ignore[misc]
            "rename or remove one of them",
            sources,
        )
        for entry, state in enumerate(group.failure_states):
            for number, name in enumerate(state.down):
                if name not in group.members:
                    sources.note(
                        Place("link_groups", row, ("failure_states", entry, "down", number)),
                        f'link "{name}" is not a member of group "{group.name}"',
                        suggest(name, group.members, "name members of the group"),
                    )


def _check_metering_points(registry: Registry, ports: dict[str, _Ports], sources: Sources) -> None:
    links = registry.link
    nat_ports = {
        _canonical(link.device, link.interface, ports): pool.name
        for pool in registry.nat_pools
        if pool.link is not None and (link := links.get(pool.link)) is not None
    }
    blind = {(port.device, port.interface): row for row, port in enumerate(registry.blind_ports)}
    for row, point in enumerate(registry.metering_points):
        known = ports.get(point.device)
        if known is None or point.interface not in known:
            continue
        place = Place("metering_points", row, ("interface",))
        members = known.members(point.interface)
        pool = nat_ports.get(_canonical(point.device, point.interface, ports))
        if pool is not None:
            sources.note(
                place,
                f'metering point "{point.name}" is behind NAT pool "{pool}", where no department is visible',
                "meter inside NAT, on the port that faces the firewall",
            )
        if any(port.labelled for port in members):
            sources.note(
                place,
                f'metering point "{point.name}" is on a labelled port, whose ends are not looked up',
                "meter on a port without labels, or remove labelled from the port",
            )
        if (point.device, point.interface) in blind:
            there = sources.where(Place("blind_ports", blind[point.device, point.interface], ("interface",)))
            sources.note(
                place,
                f'metering point "{point.name}" is on a blind port',
                f"choose a port with telemetry, or remove the blind port at {there}",
            )
        if all(port.index is None and port.name not in known.mapped for port in members):
            sources.warn(
                place,
                f"{point.device}/{point.interface} has neither index nor source id: no sample will match it",
                "add its ifIndex, or a source_map entry",
            )
        if not registry.device[point.device].agents:
            sources.warn(
                place,
                f"{point.device} has no agent address: no sample will match it",
                "add the device's agents",
            )


def _canonical(device: str, interface: str, ports: dict[str, _Ports]) -> tuple[str, str]:
    """Return the bundle of a LAG member, else the port itself."""
    port = ports[device].interfaces.get(interface) if device in ports else None
    return device, port.bundle if port is not None and port.bundle is not None else interface
