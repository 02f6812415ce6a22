"""A registry small enough to follow by eye, with every difficulty of classification in it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

from telemetryd.registry.models import SECTIONS, Registry, RegistryFile
from telemetryd.schema import CLASS_COLUMNS, DATAGRAM_COLUMNS, SAMPLE_COLUMNS, Batch

SMALL_CITY: dict[str, Any] = {
    "version": 1,
    "regions": [
        {"name": "city", "kind": "city"},
        {"name": "province", "kind": "province"},
        {"name": "internet", "kind": "internet"},
    ],
    "zones": [{"name": "public"}, {"name": "private"}],
    "instances": [
        {"name": "pub", "default": True, "vlans": ["100-199"]},
        {"name": "vpn-finance", "vlans": [210], "interfaces": ["CR01/fin"]},
        {"name": "vpn-tax", "vlans": [247]},
        {"name": "dc"},
    ],
    "departments": [{"name": name} for name in ("finance", "tax", "hrss", "data")],
    "networks": [
        {"prefix": "0.0.0.0/0", "region": "internet"},
        {"prefix": "198.18.0.0/22", "department": "finance", "zone": "public", "region": "city"},
        {"prefix": "198.18.4.0/22", "department": "tax", "zone": "public", "region": "city"},
        {"prefix": "2001:db8:10::/48", "department": "finance", "zone": "public", "region": "city"},
        {"prefix": "100.80.0.0/12", "region": "province"},
        {"prefix": "192.168.0.0/16", "instance": "vpn-finance", "department": "finance", "zone": "private"},
        {"prefix": "192.168.0.0/16", "instance": "vpn-tax", "department": "tax", "zone": "private"},
        {"prefix": "172.16.0.0/16", "instance": "dc", "department": "data", "zone": "public"},
    ],
    "servers": [
        {"name": "SRV-1", "addresses": ["172.16.0.10", "2001:db8:a::10"], "instance": "dc", "department": "hrss"},
        {"name": "SRV-2", "addresses": ["172.16.0.20"], "instance": "dc"},
    ],
    "applications": [
        {"name": "exam", "owner": "hrss", "serves": [{"servers": ["SRV-1"], "protocol": "tcp", "ports": [443]}]},
        {"name": "pay", "owner": "finance", "serves": [{"servers": ["SRV-2"], "protocol": "tcp", "ports": [443]}]},
        {"name": "files", "owner": "data", "serves": [{"servers": ["SRV-2"], "protocol": "tcp", "ports": [443]}]},
        {
            "name": "voice",
            "owner": "data",
            "serves": [{"prefixes": ["172.16.0.0/24"], "instance": "dc", "protocol": "udp", "ports": ["16384-32767"]}],
        },
    ],
    "shared_services": [
        {"name": "front", "servers": ["SRV-2"], "protocol": "tcp", "ports": [443], "applications": ["pay", "files"]}
    ],
    "service_classes": [{"name": "core", "dscp": [26]}, {"name": "bulk", "dscp": [8]}],
    "profiles": [{"name": "switch"}, {"name": "two-way", "sampling": "both", "octets_correction": 4}],
    "devices": [
        {
            "name": "CR01",
            "role": "core",
            "profile": "switch",
            "agents": ["100.64.255.1"],
            "interfaces": [
                {"name": "exit", "index": 1},
                {"name": "dc", "index": 2},
                {"name": "fin", "index": 3},
                {"name": "labelled", "index": 4, "labelled": True},
                {"name": "bundle", "index": 10},
                {"name": "member", "index": 11, "bundle": "bundle"},
            ],
        },
        {
            "name": "AG01",
            "role": "aggregation",
            "profile": "two-way",
            "agents": ["2001:db8::1"],
            "interfaces": [{"name": "a", "index": 1}, {"name": "b", "index": 2}],
        },
        {
            "name": "HOST",
            "role": "gateway",
            "agents": ["100.64.255.3"],
            "interfaces": [{"name": "eth0"}],
            "source_map": [{"source": "0:5", "interface": "eth0"}],
        },
    ],
    "links": [
        {"name": "exit-isp", "device": "CR01", "interface": "exit", "kind": "exit"},
        {"name": "lag", "device": "CR01", "interface": "bundle", "kind": "backbone"},
    ],
    "metering_points": [
        {"name": "exit", "device": "CR01", "interface": "exit", "faces": "outside", "counts": ["exit"]},
        {"name": "dc", "device": "CR01", "interface": "dc", "faces": "inside", "counts": ["internal"]},
        {"name": "lag", "device": "CR01", "interface": "bundle", "faces": "outside", "counts": ["uplink"]},
        {"name": "host", "device": "HOST", "interface": "eth0", "faces": "outside", "counts": ["exit", "internal"]},
    ],
    "nat_pools": [{"name": "pool", "prefixes": ["203.0.113.0/25"]}],
    "public_addresses": [{"address": "203.0.113.200", "server": "SRV-1"}],
}  # fmt: skip

AGENTS = {"CR01": "100.64.255.1", "AG01": "2001:db8::1", "HOST": "100.64.255.3", "stranger": "192.0.2.99"}


def small_city() -> Registry:
    """Return the registry, without reading a file."""
    file = RegistryFile.model_validate(SMALL_CITY)
    return Registry(Path("small-city"), **{section: getattr(file, section) for section in SECTIONS})


class Rows:
    """Batches that a test fills row by row."""

    def __init__(self, capacity: int = 16) -> None:
        self.datagrams = Batch(DATAGRAM_COLUMNS, capacity)
        self.samples = Batch(SAMPLE_COLUMNS, capacity)
        self.classes = Batch(CLASS_COLUMNS, capacity)

    def add(self, agent: str, source: str, destination: str, **fields: int) -> int:
        """Add a datagram of one sample from a named device (or an address), between two addresses."""
        row = self.samples.n
        self.datagrams.n = self.samples.n = row + 1
        address = ip_address(AGENTS.get(agent, agent))
        self.datagrams["agent_version"][row] = address.version
        self.datagrams["agent_hi"][row], self.datagrams["agent_lo"][row] = halves(int(address), address.version)
        self.samples["datagram"][row] = row
        if source:
            for end, text in (("source", source), ("destination", destination)):
                address = ip_address(text)
                hi, lo = halves(int(address), address.version)
                self.samples[f"{end}_hi"][row], self.samples[f"{end}_lo"][row] = hi, lo
                self.samples["ip_version"][row] = address.version
        for name, value in fields.items():
            self.samples[name][row] = value
        return row


def halves(value: int, version: int) -> tuple[int, int]:
    """Split an address into the two words of the columns."""
    return (0, value) if version == 4 else (value >> 64, value & (1 << 64) - 1)
