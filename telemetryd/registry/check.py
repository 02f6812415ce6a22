"""Check a registry as a whole: names, references, then addresses, applications and devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from telemetryd.config.explain import quote, suggest
from telemetryd.config.positions import PathInData
from telemetryd.registry.check_addresses import check_addresses
from telemetryd.registry.check_applications import check_applications
from telemetryd.registry.check_devices import check_devices
from telemetryd.registry.models import SECTIONS, UNNAMED_SECTIONS, Registry
from telemetryd.registry.sources import Place, Sources

REFERENCES: Final = (
    ("sites", "region", "region", "regions"),
    ("networks", "instance", "instance", "instances"),
    ("networks", "department", "department", "departments"),
    ("networks", "zone", "zone", "zones"),
    ("networks", "region", "region", "regions"),
    ("servers", "instance", "instance", "instances"),
    ("servers", "department", "department", "departments"),
    ("servers", "zone", "zone", "zones"),
    ("servers", "site", "site", "sites"),
    ("applications", "owner", "owner", "departments"),
    ("applications", "service_class", "service_class", "service_classes"),
    ("shared_services", "instance", "instance", "instances"),
    ("shared_services", "servers", "servers", "servers"),
    ("shared_services", "applications", "applications", "applications"),
    ("devices", "site", "site", "sites"),
    ("devices", "profile", "profile", "profiles"),
    ("links", "device", "device", "devices"),
    ("link_groups", "members", "members", "links"),
    ("metering_points", "device", "device", "devices"),
    ("blind_ports", "device", "device", "devices"),
    ("nat_pools", "link", "link", "links"),
    ("public_addresses", "server", "server", "servers"),
    ("paths", "from", "from_site", "sites"),
    ("paths", "to", "to_site", "sites"),
)
"""(section, field in the file, attribute, section that the name or the names are of)."""

MAX_SUGGESTIONS: Final = 50  # finding a near name takes some ms among thousands: not for thousands of mistakes

RESERVED: Final[Mapping[str, Mapping[str, str]]] = {
    "applications": {
        "unclassified": "traffic of no application",
        "labelled": "traffic on labelled ports",
    },
    "departments": {"unknown": "addresses that no network holds", "outside": "addresses outside the city"},
}
"""Names that results use for something else."""


def check(registry: Registry, sources: Sources) -> None:
    """Note every mistake and every suspicious thing of `registry` in `sources`."""
    names = _check_names(registry, sources)
    reference = _Reference(names, sources)
    _check_references(registry, reference)
    _check_instances(registry, sources)
    check_addresses(registry, sources)
    check_applications(registry, sources)
    check_devices(registry, sources)


def _check_names(registry: Registry, sources: Sources) -> dict[str, dict[str, int]]:
    """Return section -> name -> row; a name used twice or reserved is a mistake."""
    names: dict[str, dict[str, int]] = {}
    for section in SECTIONS:
        known = names[section] = dict[str, int]()
        if section in UNNAMED_SECTIONS:
            continue
        reserved = RESERVED.get(section, {})
        for row, entity in enumerate(registry.section(section)):
            name: str = entity.name  # type: ignore[attr-defined]
            first = known.setdefault(name, row)
            if first != row:
                there = sources.where(Place(section, first, ("name",)))
                sources.note(
                    Place(section, row, ("name",)),
                    f'{section}: name "{name}" is used twice',
                    f"rename or remove one of them (the first is at {there})",
                )
            if name in reserved:
                message = f'{section}: name "{name}" is reserved for {reserved[name]}'
                sources.note(Place(section, row, ("name",)), message, "choose another name")
    return names


class _Reference:
    """Checks one reference after the other."""

    def __init__(self, names: dict[str, dict[str, int]], sources: Sources) -> None:
        self.names = names
        self.sources = sources
        self.remedies: dict[tuple[str, str], str] = {}
        self.is_judged = {section: sources.is_known(section) for section in SECTIONS}

    def check(self, name: str, target: str, section: str, row: int, path: PathInData) -> None:
        """Note `name`, found at `path` of a section's row, unless section `target` declares it."""
        if name in self.names[target] or name in self.sources.broken[target] or not self.is_judged[target]:
            return
        otherwise = f"declare it in {target}, or correct the name"
        remedy = self.remedies.get((target, name))
        if remedy is None and len(self.remedies) < MAX_SUGGESTIONS:
            known = (*self.names[target], *self.sources.broken[target])
            remedy = self.remedies[target, name] = suggest(name, known, otherwise)
        remedy = remedy or otherwise
        self.sources.note(Place(section, row, path), f"{_SINGULAR[target]} {quote(name)} is unknown", remedy)


_SINGULAR: Final = {
    section: section.removesuffix("es" if section.endswith("sses") else "s").replace("_", " ") for section in SECTIONS
}


def _check_references(registry: Registry, reference: _Reference) -> None:
    for section, key, attribute, target in REFERENCES:
        for row, entity in enumerate(registry.section(section)):
            value = getattr(entity, attribute)
            if isinstance(value, str):
                reference.check(value, target, section, row, (key,))
                continue
            for entry, name in enumerate(value or ()):
                reference.check(name, target, section, row, (key, entry))
    for row, application in enumerate(registry.applications):
        for number, serve in enumerate(application.serves):
            for entry, name in enumerate(serve.servers):
                reference.check(name, "servers", "applications", row, ("serves", number, "servers", entry))
            if serve.instance is not None:
                path = ("serves", number, "instance")
                reference.check(serve.instance, "instances", "applications", row, path)


def _check_instances(registry: Registry, sources: Sources) -> None:
    """Exactly one default; a VLAN belongs to one instance."""
    defaults = [row for row, instance in enumerate(registry.instances) if instance.default]
    if not sources.origins["instances"]:
        return  # the implicit one
    for row in defaults[1:]:
        first = sources.where(Place("instances", defaults[0], ("default",)))
        sources.note(
            Place("instances", row, ("default",)),
            f'instance "{registry.instances[row].name}" is a second default',
            f"keep one default (the first is at {first})",
        )
    if not defaults and sources.is_whole(["instances"]):
        sources.note(
            Place("instances", 0),
            "no instance is the default one",
            'write "default: true" in the instance of packets that no binding claims',
        )
    owners: dict[int, tuple[int, int]] = {}
    for row, instance in enumerate(registry.instances):
        for entry, (first_vlan, last_vlan) in enumerate(instance.vlans):
            for vlan in range(first_vlan, last_vlan + 1):
                other, other_entry = owners.setdefault(vlan, (row, entry))
                if (other, other_entry) == (row, entry):
                    continue
                there = sources.where(Place("instances", other, ("vlans", other_entry)))
                sources.note(
                    Place("instances", row, ("vlans", entry)),
                    f'VLAN {vlan} is in instance "{registry.instances[other].name}" too',
                    f"leave it in one of them (the other is at {there})",
                )
                break  # one problem a range
