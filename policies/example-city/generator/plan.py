"""The city's facts (data/*.csv) and its address plan: who gets which prefix, VLAN and routing instance."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any, Final

DATA: Final = Path(__file__).resolve().parents[1] / "data"
MAX_SCALE: Final = 20

#: Departments whose private LANs use the same 192.168.0.0/16, each in its own VPN.
OVERLAPPING: Final = ("finance", "tax", "court")
OVERLAP: Final = "192.168.0.0/16"
PUBLIC: Final = "pub"  # the default routing instance: everything with a city-wide unique address
INTERNET: Final = ("100.80.0.0/13", "192.0.2.0/25", "3fff::/24")  # clients on the Internet stand-in

Entity = dict[str, Any]


def table(name: str) -> list[dict[str, str]]:
    """Return the rows of data/``name``.csv, column name -> text."""
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def title(row: dict[str, str], suffix: tuple[str, str] = ("", "")) -> Entity:
    """Return the English and Chinese title of a row."""
    return {"en": row["english"] + suffix[0], "zh": row["chinese"] + suffix[1]}


class Pool:
    """Hands out aligned, disjoint subnets of some prefixes, in order."""

    def __init__(self, *prefixes: str) -> None:
        self._prefixes = [IPv4Network(prefix) for prefix in prefixes]
        self._next = int(self._prefixes[0].network_address)

    def take(self, length: int) -> IPv4Network:
        """Return the next free subnet of that prefix length; raise ``OverflowError`` when none is left."""
        size = 1 << (32 - length)
        while self._prefixes:
            start = -(-self._next // size) * size
            if start + size - 1 <= int(self._prefixes[0].broadcast_address):
                self._next = start + size
                return IPv4Network((start, length))
            del self._prefixes[0]
            self._next = int(self._prefixes[0].network_address) if self._prefixes else 0
        raise OverflowError(f"the address plan has no /{length} left: lower --scale")


@dataclass(frozen=True)
class Department:
    """One of the 60 departments and its prefixes."""

    name: str
    number: int
    row: dict[str, str]

    @property
    def site(self) -> str:
        """Where its offices are: S1 .. S4."""
        return self.row["site"]

    @property
    def block(self) -> IPv4Network:
        """Its /22 of the city's unique block."""
        return IPv4Network((int(IPv4Network("198.18.0.0/16").network_address) + self.number * 1024, 22))

    @property
    def private(self) -> str:
        """Its private LAN, inside its own VPN."""
        return f"10.{self.number}.0.0/16"

    @property
    def vpn(self) -> str:
        """The name of its VPN's routing instance."""
        return f"vpn-{self.name}"

    @property
    def overlaps(self) -> bool:
        """Whether its VPN also uses the prefix that two other VPNs use."""
        return self.name in OVERLAPPING


@dataclass(frozen=True)
class District:
    """One district (or a copy of it, in a scaled city) and its prefixes."""

    name: str
    number: int  # 1 .. 10 x scale
    row: dict[str, str]
    copy: int

    @property
    def block(self) -> IPv4Network:
        """Its /20 of unique addresses: department n's counterpart has the n-th /26 of it."""
        base = 10
        if self.number <= base:
            return IPv4Network(f"198.19.{16 * self.number}.0/20")
        return IPv4Network((int(IPv4Network("100.96.0.0/11").network_address) + (self.number - base) * 4096, 20))

    def counterpart(self, department: Department) -> IPv4Network:
        """The district's office of a department."""
        return IPv4Network((int(self.block.network_address) + department.number * 64, 26))

    def counterpart6(self, department: Department) -> str:
        """As :meth:`counterpart`, IPv6. Numbers are spelt in decimal digits, as people read them."""
        return f"2001:db8:{1000 + self.number}:{department.number}::/64"

    def cameras(self, department: Department) -> str:
        """Cameras of a department in the district, inside the video VPN."""
        second = 200 + self.number if self.number <= 10 else self.number - 11
        return f"10.{second}.{department.number}.0/24"

    def branch(self, department: Department) -> str:
        """The department's branch in the district, inside the department's VPN."""
        if self.number <= 10:
            return f"10.{department.number}.{16 * self.number}.0/20"
        return str(IPv4Network((int(IPv4Network("10.128.0.0/9").network_address) + self.number * 4096, 20)))

    @property
    def private(self) -> str:
        """Its own LAN, inside its own VPN."""
        return f"10.{100 + (self.number - 1) % 100 + 1}.0.0/16"


@dataclass
class City:
    """The facts at one scale."""

    scale: int
    departments: list[Department] = field(default_factory=list)
    districts: list[District] = field(default_factory=list)

    def department(self, name: str) -> Department:
        """Return a department by its name."""
        return next(department for department in self.departments if department.name == name)

    def districts_of(self, group: str, copy: int) -> list[District]:
        """Return one copy's districts: all of them for "districts", else those of a group."""
        return [
            district
            for district in self.districts
            if district.copy == copy and (group == "districts" or group in district.row["groups"].split())
        ]


def suffix(copy: int) -> str:
    """Return what the names of a scaled city's copy end with: nothing for the city itself."""
    return f"-{copy + 1}" if copy else ""


def load(scale: int) -> City:
    """Return the city; at scale k there are k copies of its districts."""
    city = City(scale)
    city.departments = sorted(
        (Department(row["department"], int(row["number"]), row) for row in table("departments")),
        key=lambda department: department.number,
    )
    rows = table("districts")
    city.districts = [
        District(row["district"] + suffix(copy), copy * len(rows) + int(row["number"]), row, copy)
        for copy in range(scale)
        for row in rows
    ]
    return city


#: (name, English, Chinese)
ZONES: Final = (
    ("office", "Offices, public network area", "办公区(公用网络区)"),
    ("hall", "Service halls and counters", "服务大厅区"),
    ("internet-access", "Workstations with Internet access", "互联网接入区"),
    ("private", "Private (VPN) network area", "专用网络区"),
    ("video", "Video surveillance", "视频专网区"),
    ("dc-public", "Data centre, public area", "数据中心公用区"),
    ("dc-internet", "Data centre, Internet area (DMZ)", "数据中心互联网区"),
    ("dc-private", "Data centre, private areas", "数据中心专用区"),
    ("dc-video", "Data centre, video platforms", "数据中心视频区"),
    ("dc-platform", "Data centre, shared platforms", "数据中心共享平台区"),
    ("dc-storage", "Data centre, storage and backup", "数据中心存储备份区"),
    ("dc-security", "Data centre, security services", "数据中心安全服务区"),
    ("infra", "Network infrastructure", "网络基础设施"),
    ("published", "Published and translated addresses", "互联网发布地址"),
    ("outside", "Outside the city", "市外"),
)

#: (name, kind, English, Chinese) beside the districts
REGIONS: Final = (
    ("yunhai", "city", "Yunhai, city level", "云海市本级"),
    ("province", "province", "Province (stand-in)", "省级"),
    ("nation", "nation", "Nation (stand-in)", "国家级"),
    ("internet", "internet", "Internet (stand-in)", "互联网"),
    ("internet-content", "internet", "Internet content networks (stand-in)", "互联网内容网络"),
)

#: (name, region, English, Chinese) beside the districts' own sites
SITES: Final = (
    ("S1", "yunhai", "Government compound", "市政府大院"),
    ("S2", "yunhai", "Service centre", "政务服务中心"),
    ("S3", "yunhai", "East office site", "东部办公区"),
    ("S4", "yunhai", "West office site", "西部办公区"),
    ("DC-A", "yunhai", "Data centre A", "数据中心A"),
    ("DC-B", "yunhai", "Data centre B", "数据中心B"),
    ("province", "province", "Province hub", "省级节点"),
    ("internet", "internet", "Internet exit", "互联网出口"),
)


def structure(city: City) -> dict[str, Any]:
    """Return the city, its regions, sites, zones, departments, service classes and protected classes."""
    regions = [
        {"name": name, "kind": kind, "title": {"en": english, "zh": chinese}}
        for name, kind, english, chinese in REGIONS
    ] + [{"name": district.name, "kind": "district", "title": title(district.row)} for district in city.districts]
    sites = [
        {"name": name, "region": region, "title": {"en": english, "zh": chinese}}
        for name, region, english, chinese in SITES
    ] + [
        {"name": district.name, "region": district.name, "title": title(district.row, (", hub", "汇聚机房"))}
        for district in city.districts
    ]
    departments = [
        {
            "name": department.name,
            "title": title(department.row),
            "class": department.row["class"],
            "contact": f"network@{department.name}.yunhai.example",
            "contract": dict.fromkeys(("in", "out"), f"{department.row['contract_mbps']} Mbit/s"),
        }
        for department in city.departments
    ]
    classes = [
        {
            "name": row["service_class"],
            "dscp": [int(value) for value in row["dscp"].split()],
            "title": title(row),
        }
        for row in table("service-classes")
    ]
    return {
        "city": {"name": "yunhai", "title": {"en": "Yunhai", "zh": "云海市"}, "time_zone": "Asia/Shanghai"},
        "regions": regions,
        "sites": sites,
        "zones": [{"name": name, "title": {"en": english, "zh": chinese}} for name, english, chinese in ZONES],
        "departments": departments,
        "service_classes": classes,
    }


def instances(city: City, bindings: dict[str, list[str]]) -> list[Entity]:
    """Return the routing instances; ``bindings`` names the interfaces that belong to one by themselves."""
    found: list[Entity] = [
        {
            "name": PUBLIC,
            "default": True,
            "vlans": ["100-199", "301-399", "500-599"],
            "title": {"en": "Public, Internet and data-centre areas", "zh": "公用网络区"},
        },
        {"name": "video", "vlans": ["700-799"], "title": {"en": "Video", "zh": "视频专网"}},
        {"name": "mgmt", "vlans": ["900-999"], "title": {"en": "Out-of-band management", "zh": "带外管理"}},
    ]
    for department in city.departments:
        found.append({"name": department.vpn, "vlans": [200 + department.number], "title": title(department.row)})
    for district in city.districts:
        entity: Entity = {"name": f"vpn-{district.name}", "title": title(district.row)}
        if district.number < 100:  # 401 .. 499: further districts are bound by interface
            entity["vlans"] = [400 + district.number]
        found.append(entity)
    for entity in found:
        if interfaces := bindings.get(entity["name"]):
            entity["interfaces"] = interfaces
    return found


def networks(city: City, segments: list[Entity], provincial: list[Entity], video_owners: set[str]) -> list[Entity]:
    """Return every network: offices, districts, cameras, VPNs, data centres, province, Internet."""
    found: list[Entity] = []

    def add(prefix: object, region: str, zone: str, department: str = "", instance: str = "") -> None:
        entity: Entity = {"prefix": str(ip_network(str(prefix)))}
        if instance:
            entity["instance"] = instance
        if department:
            entity["department"] = department
        found.append(entity | {"zone": zone, "region": region})

    for department in city.departments:
        office, rest = department.block.subnets(prefixlen_diff=1)
        hall, access = rest.subnets(prefixlen_diff=1)
        add(office, "yunhai", "office", department.name)
        add(hall, "yunhai", "hall", department.name)
        add(access, "yunhai", "internet-access", department.name)
        add(f"2001:db8:{department.number}::/48", "yunhai", "office", department.name)
        add(f"2001:db8:{department.number}:3::/64", "yunhai", "internet-access", department.name)
        add(department.private, "yunhai", "private", department.name, department.vpn)
        if department.overlaps:
            add(OVERLAP, "yunhai", "private", department.name, department.vpn)
            for district in city.districts:
                add(district.branch(department), district.name, "private", department.name, department.vpn)
    for district in city.districts:
        add(district.block, district.name, "infra")
        add(f"2001:db8:{1000 + district.number}::/48", district.name, "infra")
        add(district.private, district.name, "private", "", f"vpn-{district.name}")
        for department in city.departments:
            add(district.counterpart(department), district.name, "office", department.name)
            add(district.counterpart6(department), district.name, "office", department.name)
            if department.name in video_owners:
                add(district.cameras(department), district.name, "video", department.name, "video")
    found += segments
    add("100.64.0.0/17", "yunhai", "infra", "data")
    add("100.64.240.0/20", "yunhai", "infra", "data")
    add("2001:db8::/48", "yunhai", "infra", "data")
    add("172.31.0.0/16", "yunhai", "infra", "data", "mgmt")
    for prefix in ("203.0.113.0/25", "203.0.113.128/25", "198.51.100.0/25"):
        add(prefix, "yunhai", "published", "data")
    add("198.19.192.0/19", "province", "outside")
    add("198.19.224.0/19", "nation", "outside")
    add("2001:db8:f000::/36", "province", "outside")
    add("2001:db8:e000::/36", "nation", "outside")
    found += provincial
    for prefix in ("100.80.0.0/12", "192.0.2.0/24", "3fff::/20"):
        add(prefix, "internet", "outside")
    for prefix in ("100.88.0.0/13", "192.0.2.128/25", "198.51.100.128/25", "3fff:100::/24"):
        add(prefix, "internet-content", "outside")
    return found
