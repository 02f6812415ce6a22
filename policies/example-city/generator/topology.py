"""Devices, interfaces, links, metering points and paths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from .plan import OVERLAPPING, City, Entity
from .services import PROVIDER_POOLS

TEN: Final = "10 Gbit/s"
ONE: Final = "1 Gbit/s"
LEAFS: Final = {"DC-A": 22, "DC-B": 14}
TOWN_PORTS: Final = 2
_FIRST_BUNDLE_INDEX: Final = 1000

#: profile -> (vendor, sampling, octets added to its own counters, port name by speed, first ifIndex)
PROFILES: Final = {
    "h3c-s12500x": ("H3C", "ingress", 0, {TEN: "Ten-GigabitEthernet1/0/{}", ONE: "GigabitEthernet2/0/{}"}, 1),
    "h3c-s6850": ("H3C", "ingress", 0, {TEN: "Ten-GigabitEthernet1/0/{}"}, 1),
    "huawei-s12700": (
        "Huawei",
        "ingress",
        0,
        {TEN: "XGigabitEthernet1/0/{}", ONE: "GigabitEthernet2/0/{}"},
        6,
    ),
    "huawei-ne40e": ("Huawei", "ingress", 0, {TEN: "XGigabitEthernet0/1/{}"}, 9),
    "huawei-usg": ("Huawei", "ingress", 0, {TEN: "XGigabitEthernet0/0/{}"}, 7),
    "linux-hsflowd": ("Linux", "ingress", 4, {TEN: "eth{}"}, 2),
}
#: (name, exit router, contract): all three on 10G ports
ISPS: Final = (("isp1", "DC-A", "4 Gbit/s"), ("isp2", "DC-B", "2 Gbit/s"), ("isp3", "DC-B", "2 Gbit/s"))
#: (name, PE, contract)
CARRIERS: Final = (("a", "DC-A", "2 Gbit/s"), ("b", "S1", "1 Gbit/s"))


@dataclass
class Device:
    """A device under construction."""

    name: str
    role: str
    site: str
    profile: str
    agents: list[str]
    interfaces: list[Entity] = field(default_factory=list)
    bundles: dict[str, Entity] = field(default_factory=dict)  # neighbour -> the interface that joins the members
    source_map: list[Entity] = field(default_factory=list)

    @property
    def short(self) -> str:
        """Its name within link names."""
        return self.name.removeprefix("YH-").lower()

    def port(self, speed: str, alias: str, bundle: str = "", labelled: bool = False) -> str:
        """Add an interface and return its name."""
        _, _, _, names, first = PROFILES[self.profile]
        same = sum(interface["speed"] == speed for interface in self.interfaces)
        name = names[speed].format(same + (0 if self.profile == "linux-hsflowd" else 1))
        interface: Entity = {
            "name": name,
            "index": first + len(self.interfaces),
            "speed": speed,
            "alias": alias,
        }
        if bundle:
            interface["bundle"] = bundle
        if labelled:
            interface["labelled"] = True
        self.interfaces.append(interface)
        return name

    def bundle(self, neighbour: str) -> str:
        """Return the name of the aggregated interface towards a neighbour; make it when it is new."""
        if neighbour not in self.bundles:
            trunk = "Eth-Trunk" if "huawei" in self.profile else "Bridge-Aggregation"
            number = len(self.bundles) + 1
            self.bundles[neighbour] = {
                "name": f"{trunk}{number}",
                "index": _FIRST_BUNDLE_INDEX + number,
                "alias": f"trunk to {neighbour}",
            }
        return str(self.bundles[neighbour]["name"])


class Topology:
    """The network, built from the backbone outwards."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.devices: dict[str, Device] = {}
        self.links: list[Entity] = []
        self.metering_points: list[Entity] = []
        self.blind_ports: list[Entity] = []
        self.paths: list[Entity] = []
        self.bindings: dict[str, list[str]] = {}
        self._agents = 0
        self._ports: dict[tuple[str, str], str] = {}  # (device, neighbour) -> first interface
        self._link_names: dict[str, int] = {}
        self._backbone()
        self._centres()
        self._aggregation()
        self._districts()
        self._exit()
        self._uplink()
        self._gateways()
        self._paths()

    def _device(self, site: str, code: str, number: int, role: str, profile: str, exports: bool = True) -> Device:
        place = site.replace("-", "") if site.startswith("DC") else site
        self._agents += 1
        agents = [
            f"100.64.255.{self._agents}"
            if self._agents < 255
            else f"100.64.{240 + self._agents // 256}.{self._agents % 256}"
        ]
        if role == "uplink":  # these export over IPv6 only
            agents = [f"2001:db8::ff:{self._agents}"]
        device = Device(f"YH-{place}-{code}{number:02d}", role, site, profile, agents if exports else [])
        self.devices[device.name] = device
        return device

    def _link(self, name: str, device: Device, interface: str, kind: str, contract: str = "") -> str:
        count = self._link_names[name] = self._link_names.get(name, 0) + 1
        name = name if count == 1 else f"{name}-{count}"
        link: Entity = {"name": name, "device": device.name, "interface": interface, "kind": kind}
        if contract:
            link["contract"] = {"in": contract, "out": contract}
        self.links.append(link)
        return name

    def _join(
        self,
        here: Device,
        there: Device,
        kind: str,
        members: int = 1,
        labelled: bool = False,
        both: bool = True,
        trunk: bool = True,
    ) -> None:
        """Connect two devices with 10G ports; every port is a link, on one side only unless ``both``."""
        for _ in range(members):
            for device, neighbour in ((here, there), (there, here)):
                bundle = device.bundle(neighbour.name) if trunk and members > 1 else ""
                port = device.port(TEN, f"to {neighbour.name}", bundle, labelled)
                self._ports.setdefault((device.name, neighbour.name), port)
                if both or device is here:
                    self._link(f"{kind}-{device.short}-{neighbour.short}", device, port, kind)

    def _meter(self, name: str, device: Device, interface: str, faces: str, counts: str) -> None:
        self.metering_points.append(
            {"name": name, "device": device.name, "interface": interface, "faces": faces, "counts": [counts]}
        )

    def _backbone(self) -> None:
        """Four cores in a full mesh of 2 x 10G; one of the six trunks carries labelled packets."""
        self.cores = {site: self._device(site, "CR", 1, "core", "h3c-s12500x") for site in ("S1", "S2", "DC-A", "DC-B")}
        sites = list(self.cores)
        for number, here in enumerate(sites):
            for there in sites[number + 1 :]:
                labelled = (here, there) == ("S2", "DC-A")
                self._join(self.cores[here], self.cores[there], "backbone", members=2, labelled=labelled)

    def _centres(self) -> None:
        """Two data-centre cores a site, with leafs below, and two paths between the data centres.

        A packet between a user and a server crosses exactly one of the ports towards the backbone, a
        packet between the data centres exactly one of DC-A's ports towards DC-B: these meter what is
        internal, so that it counts once.
        """
        self.centre_cores: dict[str, list[Device]] = {}
        for site, leafs in LEAFS.items():
            pair = [self._device(site, "DR", number, "dc", "h3c-s12500x") for number in (1, 2)]
            self.centre_cores[site] = pair
            for device in pair:
                self._join(device, self.cores[site], "datacentre", members=2)
                for interface in device.interfaces:
                    self._meter(
                        f"internal-{device.short}-{interface['index']}",
                        device,
                        interface["name"],
                        "inside",
                        "internal",
                    )
            for number in range(1, leafs + 1):
                leaf = self._device(site, "LF", number, "leaf", "h3c-s6850")
                for device in pair:
                    self._join(device, leaf, "datacentre", members=2, both=False, trunk=False)
        for here, there in zip(*self.centre_cores.values(), strict=True):
            self._join(here, there, "datacentre", members=2)
            for interface in here.interfaces[-2:]:
                self._meter(
                    f"internal-{here.short}-{interface['index']}",
                    here,
                    interface["name"],
                    "inside",
                    "internal",
                )
        for device in self.centre_cores["DC-B"]:
            port = device.port(TEN, "storage test bed")
            self.blind_ports.append(
                {"device": device.name, "interface": port, "reason": "the card has no sampling licence"}
            )

    def _primary(self, site: str, number: int) -> str:
        """Return which of the two city cores a site prefers."""
        return "S1" if number % 2 else "S2"

    def _aggregation(self) -> None:
        """Two aggregation switches a site; departments' access links alternate between them."""
        self.aggregation: dict[str, list[Device]] = {}
        for number, site in enumerate(("S1", "S2", "S3", "S4"), 1):
            pair = [self._device(site, "AG", k, "aggregation", "huawei-s12700") for k in (1, 2)]
            self.aggregation[site] = pair
            first = self._primary(site, number)
            for device in pair:
                for core in (first, "S2" if first == "S1" else "S1"):
                    self._join(device, self.cores[core], "aggregation")
        turn: dict[str, int] = {}
        for department in self.city.departments:
            turn[department.site] = turn.get(department.site, 0) + 1
            device = self.aggregation[department.site][turn[department.site] % 2]
            contract = int(department.row["contract_mbps"])
            port = device.port(TEN if contract > 1000 else ONE, f"{department.name} offices")
            self._link(f"access-{department.name}", device, port, "access", f"{contract} Mbit/s")
            if department.name in OVERLAPPING:
                port = device.port(ONE, f"{department.name} private LAN")
                self._link(f"access-{department.name}-vpn", device, port, "access")
                self.bindings[department.vpn] = [f"{device.name}/{port}"]

    def _districts(self) -> None:
        """Two aggregation switches a district, each with one uplink to either city core."""
        for district in self.city.districts:
            pair = [self._device(district.name, "AG", k, "aggregation", "huawei-s12700") for k in (1, 2)]
            self.aggregation[district.name] = pair
            first = self._primary(district.name, district.number)
            for device in pair:
                for core in (first, "S2" if first == "S1" else "S1"):
                    self._join(device, self.cores[core], "aggregation")
            port = pair[0].port(TEN, f"{district.name} district offices")
            self._link(f"access-{district.name}", pair[0], port, "access")
            for town in range(1, TOWN_PORTS + 1):
                port = pair[town % 2].port(ONE, f"{district.name} towns {town}")
                self._link(f"access-{district.name}-towns", pair[town % 2], port, "access")
            port = pair[1].port(ONE, f"{district.name} private LAN")
            self._link(f"access-{district.name}-vpn", pair[1], port, "access")
            self.bindings[f"vpn-{district.name}"] = [f"{pair[1].name}/{port}"]
            if "coastal" in district.row["groups"] and "rural" in district.row["groups"]:
                port = pair[1].port(ONE, "microwave and sea-cable backup")
                self._link(f"aggregation-{district.name}-backup", pair[1], port, "aggregation", "600 Mbit/s")
                self.blind_ports.append(
                    {
                        "device": pair[1].name,
                        "interface": port,
                        "reason": "the switch samples eight ports at most",
                    }
                )

    def _exit(self) -> None:
        """Two exit routers behind two firewalls each; exit traffic is metered inside the firewalls' NAT."""
        self.exit_links: list[str] = []
        self.exit_routers: dict[str, Device] = {}
        for site in ("DC-A", "DC-B"):
            router = self._device(site, "XR", 1, "exit", "huawei-ne40e")
            self.exit_routers[site] = router
            for name, where, contract in ISPS:
                if where == site:
                    port = router.port(TEN, f"{name}, {contract}")
                    self._ports[router.name, name] = port
                    self.exit_links.append(self._link(f"exit-{name}", router, port, "exit", contract))
            for number in (1, 2):
                firewall = self._device(site, "FW", number, "exit", "huawei-usg", exports=False)
                self._join(router, firewall, "exit", both=False)
                core = self.cores[site]
                self._join(core, firewall, "exit", both=False)
                port = self._ports[core.name, firewall.name]
                # the firewall between the two has no telemetry: paths pass from one to the other
                self._ports.setdefault((core.name, router.name), port)
                self._ports.setdefault((router.name, core.name), self._ports[router.name, firewall.name])
                self._meter(f"exit-{core.short}-{number}", core, port, "outside", "exit")
                self.blind_ports += [
                    {
                        "device": firewall.name,
                        "interface": i["name"],
                        "reason": "session logs only, no sampling",
                    }
                    for i in firewall.interfaces
                ]

    def _uplink(self) -> None:
        """Two PE routers towards the province: one active line, one standby."""
        self.uplink_links: list[str] = []
        self.edges: dict[str, Device] = {}
        for name, site, contract in CARRIERS:
            edge = self._device(site, "PE", 1, "uplink", "huawei-ne40e")
            self.edges[site] = edge
            port = edge.port(TEN, f"carrier {name} to the province, {contract}")
            self._ports[edge.name, "province"] = port
            self.uplink_links.append(self._link(f"uplink-{name}", edge, port, "uplink", contract))
            self._meter(f"uplink-{name}", edge, port, "outside", "uplink")
            self._join(edge, self.cores[site], "uplink")

    def _gateways(self) -> None:
        """Linux gateways: two for slices of the exit, one each for two districts.

        Their exporter reports no interfaces in its samples, only the source id.
        """
        for site in ("DC-A", "DC-B", "hitech", "changyu"):
            gateway = self._device(site, "GW", 1, "gateway", "linux-hsflowd")
            for number, alias in enumerate(("outer", "inner")):
                port = gateway.port(TEN, alias)
                gateway.source_map.append({"source": f"0:{number + 2}", "interface": port})
                self._link(f"gateway-{gateway.short}-{alias}", gateway, port, "access")

    def _paths(self) -> None:
        """Say how each site reaches the data centres, the exit and the province.

        ``via`` goes device by device: the interface a packet enters by, then the one it leaves by. At a
        path's two ends inside the city only the interface towards the path is given: the other one depends
        on the user (``access-...`` links) or on the server's leaf. Exit routers lie outside NAT.
        """

        def way(name: str, start: str, end: str, devices: list[Device], first: str = "", last: str = "") -> None:
            via: list[str] = []
            for number, device in enumerate(devices):
                before: Device | str = devices[number - 1] if number else first
                after: Device | str = devices[number + 1] if number + 1 < len(devices) else last
                via += [
                    f"{device.name}/{self._ports[device.name, side if isinstance(side, str) else side.name]}"
                    for side in (before, after)
                    if side
                ]
            self.paths.append({"name": name.lower(), "from": start, "to": end, "via": via})

        cores = self.cores
        for number, (site, pair) in enumerate(self.aggregation.items(), 1):
            number = number if site.startswith("S") else number - 4
            core = cores[self._primary(site, number)]
            for centre in LEAFS:
                way(
                    f"{site}-{centre}",
                    site,
                    centre,
                    [pair[0], core, cores[centre], self.centre_cores[centre][0]],
                )
            for name, centre, _ in ISPS:
                if centre == ("DC-A" if number % 2 else "DC-B"):
                    inside = [pair[0], core, cores[centre], self.exit_routers[centre]]
                    way(f"{site}-internet-{name}", site, "internet", inside, last=name)
            inside = [pair[0], core, cores["DC-A"], self.edges["DC-A"]]
            way(f"{site}-province", site, "province", inside, last="province")
        for name, centre, _ in ISPS:
            inside = [self.exit_routers[centre], cores[centre], self.centre_cores[centre][0]]
            way(f"internet-{name}-{centre}", "internet", centre, inside, first=name)
        for centre in LEAFS:
            inside = [cores[centre], self.centre_cores[centre][0]]
            across = inside if centre == "DC-A" else [cores["DC-A"], *inside]
            way(f"province-{centre}", "province", centre, [self.edges["DC-A"], *across], first="province")
        way("dc-a-dc-b", "DC-A", "DC-B", [self.centre_cores["DC-A"][0], self.centre_cores["DC-B"][0]])

    def sections(self) -> dict[str, Any]:
        """Return the registry sections of this module, in the order in which they are read best."""
        return {
            "profiles": [
                {
                    "name": name,
                    "vendor": vendor,
                    "sampling": sampling,
                    "octets_correction": 0,
                    "counters_octets_correction": correction,
                }
                for name, (vendor, sampling, correction, _, _) in PROFILES.items()
            ],
            "devices": [self._entity(device) for device in self.devices.values()],
        }

    def _entity(self, device: Device) -> Entity:
        entity: Entity = {
            "name": device.name,
            "role": device.role,
            "site": device.site,
            "profile": device.profile,
        }
        entity["agents"] = device.agents
        if device.role in ("core", "dc", "gateway"):
            number = list(self.devices).index(device.name) + 1
            entity["gnmi"] = {
                "endpoint": f"172.31.{number // 256}.{number % 256}:57400",
                "credential": "yunhai-telemetry",
            }
        entity["interfaces"] = device.interfaces + list(device.bundles.values())
        if device.source_map:
            entity["source_map"] = device.source_map
        return entity

    def link_groups(self) -> list[Entity]:
        """Return the groups that share one job: the exit, the uplink and every trunk."""
        groups: list[Entity] = []
        for name, members in (("exit", self.exit_links), ("uplink", self.uplink_links)):
            states = [{"name": f"{link.removeprefix('exit-')}-down", "down": [link]} for link in members]
            groups.append({"name": name, "members": members, "failure_states": states})
        for device in self.devices.values():
            for neighbour, trunk in device.bundles.items():
                members = [
                    link["name"]
                    for link in self.links
                    for port in device.interfaces
                    if link["device"] == device.name
                    and link["interface"] == port["name"]
                    and port.get("bundle") == trunk["name"]
                ]
                there = self.devices[neighbour].short
                states = [{"name": f"member-{n}-down", "down": [link]} for n, link in enumerate(members, 1)]
                groups.append({"name": f"trunk-{device.short}-{there}", "members": members, "failure_states": states})
        return groups

    def nat_pools(self) -> list[Entity]:
        """Return each provider's pool of translated addresses."""
        return [
            {"name": f"{name}-pool", "prefixes": [prefix], "link": f"exit-{name}"}
            for name, prefix in PROVIDER_POOLS.items()
        ]
