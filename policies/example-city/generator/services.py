"""Servers and applications: who hosts what, on which addresses and ports, in which data centre."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from itertools import cycle
from typing import Any, Final

from .plan import OVERLAPPING, PUBLIC, City, Department, District, Entity, Pool, suffix, table, title

#: zone -> (third-octet block of the data centre's /16, servers in DC-A, servers in DC-B)
CENTRE_ZONES: Final = {
    "dc-public": ("0.0/19", 138, 94),
    "dc-internet": ("32.0/19", 94, 56),
    "dc-private": ("64.0/19", 120, 60),
    "dc-storage": ("96.0/20", 37, 23),
    "dc-video": ("112.0/20", 42, 26),
    "dc-platform": ("128.0/20", 60, 36),
    "dc-security": ("224.0/20", 25, 15),
}
CENTRES: Final = {"DC-A": ("172.16", "a"), "DC-B": ("172.17", "b")}
_DUAL_STACK: Final = ("dc-public", "dc-internet", "dc-platform")
_PORT_STEP: Final = 1000  # the second application on a shared host listens on 1443 instead of 443
_MOST_PER_HOST: Final = 8
_PORTAL_PERCENT: Final = 35  # how much of its peak a department's own website or office system carries
_CITY_PERCENT: Final = 40  # the city's share of an application that every district runs too
SHARED_PORTALS: Final = "waf-443"


#: provider -> its public addresses: the first 32 translate clients, the others publish servers
PROVIDER_POOLS: Final = {"isp1": "203.0.113.0/25", "isp2": "203.0.113.128/25", "isp3": "198.51.100.0/25"}
_TRANSLATING: Final = 32


@dataclass
class Application:
    """One application instance of the city, one of its districts or one of its departments."""

    name: str
    row: dict[str, str]
    owner: Department
    peak_mbps: float
    district: District | None = None
    copy: int = 0
    slot: int = 0  # position on a shared host
    servers: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    instance: str = PUBLIC

    @property
    def zone(self) -> str:
        """Where it is hosted: a zone of the data centres, "province" or "internet"."""
        return self.row["hosted"]

    @property
    def shareable(self) -> bool:
        """Whether it can share a host: it has no port ranges that would run into a neighbour's."""
        return self.district is not None and "-" not in self.row["services"]

    def services(self) -> list[tuple[str, list[int | str]]]:
        """Return (protocol, ports) as this instance listens on them."""
        found: list[tuple[str, list[int | str]]] = []
        for part in self.row["services"].split():
            protocol, ports = part.split("/")
            shift = self.slot * _PORT_STEP
            found.append((protocol, [p if "-" in p else int(p) + shift for p in ports.split("+")]))
        return found


@dataclass
class Host:
    """A server before it has a name and addresses."""

    zone: str
    owner: Department
    applications: list[Application]
    site: str = ""
    name: str = ""


@dataclass
class Hosting:
    """Everything that is served."""

    applications: list[Application]
    hosts: list[Host] = field(default_factory=list)
    servers: list[Entity] = field(default_factory=list)
    segments: list[Entity] = field(default_factory=list)
    provincial: list[Entity] = field(default_factory=list)
    published: list[Entity] = field(default_factory=list)
    waf: list[str] = field(default_factory=list)
    sources: dict[str, list[str]] = field(default_factory=dict)  # owner -> storage prefixes in DC-A


def applications(city: City) -> list[Application]:
    """Return every application instance, in the order of data/applications.csv."""
    found: list[Application] = []
    for copy in range(city.scale):
        for row in table("applications"):
            peak, name = float(row["peak_mbps"]), row["application"]
            if row["scope"] == "department":
                found += [
                    Application(
                        f"{name}-{owner.name}{suffix(copy)}",
                        row,
                        owner,
                        peak * _PORTAL_PERCENT / 100,
                        copy=copy,
                    )
                    for owner in city.departments
                ]
                continue
            if row["hosted"] == "internet" and copy:
                continue  # the Internet does not grow with the city
            owner = city.department(row["owner"])
            if row["scope"] == "city":
                found.append(Application(name + suffix(copy), row, owner, peak, copy=copy))
                continue
            districts = city.districts_of(row["scope"], copy)
            towns = sum(int(district.row["towns"]) for district in districts)
            found.append(Application(name + suffix(copy), row, owner, peak * _CITY_PERCENT / 100, copy=copy))
            for district in districts:
                share = (100 - _CITY_PERCENT) / 100 * int(district.row["towns"]) / towns
                found.append(
                    Application(f"{name}-{district.name}", row, owner, peak * share, district=district, copy=copy)
                )
    return found


def behind_waf(application: Application) -> bool:
    """Whether a website is published only through the shared web application firewall."""
    return application.row["application"] == "portal" and application.owner.row["class"] == "centralised"


def _pack(zone: str, members: list[Application], limit: int) -> list[Host]:
    """Put applications on at most ``limit`` hosts: alone where there is room, else several together."""
    for per_host in range(1, _MOST_PER_HOST + 1):
        hosts: list[Host] = []
        shared: dict[str, Host] = {}
        for application in members:
            web = behind_waf(application)
            if not (web or application.shareable):
                hosts.append(Host(zone, application.owner, [application]))
                continue
            key = "waf" if web else application.owner.name
            host = shared.get(key)
            if host is None or len(host.applications) >= (5 if web else per_host):
                host = shared[key] = Host(zone, application.owner, [])
                hosts.append(host)
            application.slot = len(host.applications) + (7 if web else 0)
            host.applications.append(application)
        if len(hosts) <= limit:
            return hosts
    raise OverflowError(f"{zone}: {len(members)} applications do not fit {limit} servers")


def _fill(hosts: list[Host], limit: int) -> None:
    """Use up the zone's servers: further ones go to whatever carries most per server."""
    heap = [
        (-sum(a.peak_mbps for a in host.applications), 1, number)
        for number, host in enumerate(hosts)
        if host.applications
    ]
    heapq.heapify(heap)
    while len(hosts) < limit:
        load, servers, number = heapq.heappop(heap)
        first = hosts[number]
        hosts.append(Host(first.zone, first.owner, first.applications, first.site))
        heapq.heappush(heap, (load * servers / (servers + 1), servers + 1, number))


def _spread(hosts: list[Host], in_a: int) -> None:
    """Give each host a data centre, ``in_a`` of them DC-A, evenly along the list."""
    total = len(hosts)
    for number, host in enumerate(hosts):
        host.site = "DC-A" if (number + 1) * in_a // total > number * in_a // total else "DC-B"


def _private_hosts(city: City, members: list[Application]) -> list[Host]:
    """Return three servers a department and copy: its office system, and its VPN's own applications."""
    hosts: list[Host] = []
    for copy in range(city.scale):
        for owner in city.departments:
            mine = [a for a in members if a.owner is owner and a.copy == copy]
            office = [a for a in mine if a.row["application"] == "oa"]
            others = [a for a in mine if a not in office]
            hosts.append(Host("dc-private", owner, office, "DC-A"))
            hosts.append(Host("dc-private", owner, others[:1] or office, "DC-A"))
            hosts.append(Host("dc-private", owner, others[1:] or others[:1] or office, "DC-B"))
    return hosts


def _storage_hosts(members: list[Application], in_a: int, in_b: int) -> list[Host]:
    """Return the copies' sources in DC-A and the targets, which serve the applications, in DC-B."""
    targets = [Host("dc-storage", a.owner, [a], "DC-B") for a in members]
    _fill(targets, in_b)
    sources = [Host("dc-storage", a.owner, [], "DC-A") for a in members]
    sources += [Host("dc-storage", members[n % len(members)].owner, [], "DC-A") for n in range(in_a - len(sources))]
    return sources + targets


def _hosts_after(prefix: str) -> Iterator[IPv4Address]:
    """Return an iterator over the addresses of a provider's pool that publish servers."""
    return iter(list(IPv4Network(prefix))[_TRANSLATING:-1])


def _address(hosting: Hosting, city: City) -> None:
    """Give every host its name, its segment's next addresses and, in the Internet area, a published one."""
    pools = {
        (site, zone): Pool(f"{octets}.{block}")
        for site, (octets, _) in CENTRES.items()
        for zone, (block, _, _) in CENTRE_ZONES.items()
    }
    groups: dict[tuple[str, str, str], list[Host]] = {}
    for number, host in enumerate(hosting.hosts, 1):
        host.name = f"SRV-{number:04d}"
        groups.setdefault((host.site, host.zone, host.owner.name), []).append(host)
    addresses: dict[str, list[str]] = {}
    for (site, zone, owner), members in groups.items():
        length = min(27, 32 - (len(members) + 5).bit_length())
        segment = pools[site, zone].take(length)
        instance = f"vpn-{owner}" if zone == "dc-private" else "video" if zone == "dc-video" else ""
        entity: Entity = {"prefix": str(segment)}
        if instance:
            entity["instance"] = instance
        entity |= {"department": owner, "zone": zone, "region": "yunhai"}
        hosting.segments.append(entity)
        octets, letter = CENTRES[site]
        first = int(segment.network_address)
        index = (first - int(IPv4Network(f"{octets}.0.0/16").network_address)) // 32
        prefix6 = f"2001:db8:{letter}:{index:x}::" if index else f"2001:db8:{letter}::"
        if zone in _DUAL_STACK:
            hosting.segments.append(entity | {"prefix": f"{prefix6}/64"})
        if zone == "dc-storage" and site == "DC-A":
            hosting.sources.setdefault(owner, []).append(str(segment))
        for number, host in enumerate(members, 4):
            mine = addresses[host.name] = [str(segment[number])]
            if zone in _DUAL_STACK:
                mine.append(f"{prefix6}{number:x}")
            if zone == "dc-private" and owner in OVERLAPPING:
                copy, place = divmod(number - 4, 200)
                mine.append(f"192.168.{10 + 2 * copy + (site == 'DC-B')}.{place + 10}")
    published = {
        "DC-A": cycle([_hosts_after(PROVIDER_POOLS["isp1"])]),
        "DC-B": cycle([_hosts_after(PROVIDER_POOLS["isp2"]), _hosts_after(PROVIDER_POOLS["isp3"])]),
    }
    for host in hosting.hosts:
        instance = (
            f"vpn-{host.owner.name}" if host.zone == "dc-private" else "video" if host.zone == "dc-video" else PUBLIC
        )
        server: Entity = {"name": host.name, "addresses": addresses[host.name]}
        if instance != PUBLIC:
            server["instance"] = instance
        hosting.servers.append(server | {"department": host.owner.name, "zone": host.zone, "site": host.site})
        for application in host.applications:
            application.servers.append(host.name)
            application.instance = instance
        if host.zone == "dc-internet":
            address = next(next(published[host.site]), None)
            if address is not None:  # a scaled city has more servers than public addresses
                hosting.published.append({"address": str(address), "server": host.name})


def _elsewhere(hosting: Hosting, city: City) -> None:
    """Give the applications that the province or the Internet hosts their prefixes there."""
    province = Pool("198.19.208.0/20", "100.72.0.0/13")
    content = Pool("192.0.2.128/25")
    for application in hosting.applications:
        if application.zone == "province":
            application.prefixes = [str(province.take(28))]
            if application.owner.overlaps:
                application.instance = application.owner.vpn
        elif application.row["application"] == "webex":
            application.prefixes = ["100.88.0.0/13", "198.51.100.128/25", "3fff:100::/24"]
        elif application.zone == "internet":
            application.prefixes = [str(content.take(28))]
    prefixes = ["198.19.192.0/19"]
    if city.scale > 1:
        prefixes.append("100.72.0.0/13")
        hosting.provincial.append({"prefix": "100.72.0.0/13", "zone": "outside", "region": "province"})
    hosting.provincial += [
        {"prefix": prefix, "instance": f"vpn-{name}", "zone": "outside", "region": "province"}
        for name in OVERLAPPING
        for prefix in prefixes
    ]


def host(city: City) -> Hosting:
    """Return the applications with their servers, segments and published addresses."""
    hosting = Hosting(applications(city))
    for zone, (_, in_a, in_b) in CENTRE_ZONES.items():
        in_a, in_b = in_a * city.scale, in_b * city.scale
        members = [a for a in hosting.applications if a.zone == zone]
        if zone == "dc-private":
            hosting.hosts += _private_hosts(city, members)
            continue
        if zone == "dc-storage":
            hosting.hosts += _storage_hosts(members, in_a, in_b)
            continue
        waf = [Host(zone, city.department("data"), []) for _ in range(2)] if zone == "dc-internet" else []
        hosts = _pack(zone, members, in_a + in_b - len(waf))
        _fill(hosts, in_a + in_b - len(waf))
        _spread(hosts := waf + hosts, in_a)
        hosting.hosts += hosts
    _address(hosting, city)
    hosting.waf = [h.name for h in hosting.hosts if h.zone == "dc-internet" and not h.applications]
    _elsewhere(hosting, city)
    return hosting


def application_entities(hosting: Hosting) -> list[Entity]:
    """Return the registry's applications."""
    media = sorted({s["prefix"] for s in hosting.segments if s["zone"] == "dc-video"})
    found: list[Entity] = []
    for application in hosting.applications:
        row = application.row
        names = ("", "")
        if application.district:
            names = (f" ({application.district.row['english']})", f"({application.district.row['chinese']})")
        elif row["scope"] == "department":
            names = (f" ({application.owner.row['english']})", f"({application.owner.row['chinese']})")
        where: Entity = {"servers": application.servers} if application.servers else {"prefixes": application.prefixes}
        if application.prefixes and application.instance != PUBLIC:
            where["instance"] = application.instance
        serves = [where | {"protocol": protocol, "ports": ports} for protocol, ports in application.services()]
        if application.name == "vidshare":
            # media relays answer from anywhere in the video zone; a platform's own server is more specific
            serves.append({"prefixes": media, "instance": "video", "protocol": "udp", "ports": ["30000-30500"]})
        found.append(
            {
                "name": application.name,
                "title": title(row, names),
                "owner": application.owner.name,
                "importance": row["importance"],
                "mlps": int(row["mlps"]),
                "service_class": row["service_class"],
                "contact": f"{row['application']}@{application.owner.name}.yunhai.example",
                "serves": serves,
            }
        )
    return found


def shared_services(hosting: Hosting) -> list[Entity]:
    """Return the one address that answers for many departments' websites."""
    return [
        {
            "name": SHARED_PORTALS,
            "servers": hosting.waf,
            "protocol": "tcp",
            "ports": [80, 443],
            "applications": [a.name for a in hosting.applications if behind_waf(a)],
        }
    ]


def protected_classes(hosting: Hosting) -> list[Entity]:
    """Return what no policy may starve: control, name service, time and identity."""
    identity = [a for a in hosting.applications if a.name == "unifid"]
    own: list[str] = sorted(
        {
            f"{address}/{128 if ':' in address else 32}"
            for server in hosting.servers
            for address in server["addresses"]
            if any(server["name"] in a.servers for a in identity)
        }
    )
    match: dict[str, list[dict[str, Any]]] = {
        "control": [
            {"protocol": "tcp", "ports": [179, 646]},
            {"protocol": "udp", "ports": [646, 3784, 4784]},
            {"protocol": 89},
            {"protocol": 112},
        ],
        "dns": [{"protocol": "udp", "ports": [53]}, {"protocol": "tcp", "ports": [53]}],
        "ntp": [{"protocol": "udp", "ports": [123]}],
        "identity": [
            {"protocol": "tcp", "ports": [636], "prefixes": own},
            {"protocol": "tcp", "ports": [443], "prefixes": own},
            {"protocol": "udp", "ports": [1812, 1813]},
        ],
    }
    return [{"name": name, "match": rules} for name, rules in match.items()]
