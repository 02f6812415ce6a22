"""The example city: its files are what the generator writes, and they mean what its README says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from telemetryd._ext import load
from telemetryd.classify.compile import compile_registry
from telemetryd.config.units import parse_rate
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry
from tests.small_city import Rows

pytestmark = pytest.mark.no_twins

CITY = Path(__file__).parents[2] / "policies" / "example-city"
REGISTRY = CITY / "registry"
#: Reserved for documentation, benchmarks, private use and carrier NAT (RFC 1918, 2544, 3849, 5737, 6598, 9637).
ALLOWED = [
    ip_network(prefix)
    for prefix in (
        "198.18.0.0/15", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
        "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20",
    )
]  # fmt: skip
PATHS = {"inbound", "outbound", "district", "datacentre", "uplink", "lateral"}


def generate(*arguments: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CITY / "generate.py"), *arguments],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@cache
def registry() -> Registry:
    return load_registry(REGISTRY)


@cache
def traffic() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.load((CITY / "traffic" / "traffic.yaml").read_text("utf-8"), yaml.CSafeLoader)
    return parsed


@cache
def networks() -> dict[tuple[str, int, int], dict[int, str | None]]:
    """(instance, version, length) -> network address -> region."""
    found: dict[tuple[str, int, int], dict[int, str | None]] = {}
    for network in registry().networks:
        key = (
            network.instance or registry().default_instance,
            network.prefix.version,
            network.prefix.prefixlen,
        )
        found.setdefault(key, {})[int(network.prefix.network_address)] = network.region
    return found


def instance_of(application: str) -> str:
    serve = registry().application[application].serves[0]
    name = registry().server[serve.servers[0]].instance if serve.servers else serve.instance
    return name or registry().default_instance


def region_of(instance: str, prefix: IPv4Network | IPv6Network) -> str | None:
    """Return the region of the longest registered network that holds ``prefix``."""
    bits = prefix.max_prefixlen
    for length in range(prefix.prefixlen, -1, -1):
        region = (
            networks()
            .get((instance, prefix.version, length), {})
            .get(int(prefix.network_address) >> (bits - length) << (bits - length))
        )
        if region is not None:
            return region
    return None


# --- the files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_seed", [1, 2])
def test_the_committed_files_are_what_the_generator_writes(tmp_path: Path, hash_seed: int) -> None:
    """Every file is the generator's, byte for byte, whatever the interpreter's hash seed."""
    assert generate("--out", str(tmp_path), hash_seed=hash_seed).returncode == 0
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.yaml")}
    committed = {
        path.relative_to(CITY): path.read_bytes()
        for part in ("registry", "traffic")
        for path in (CITY / part).iterdir()
    }
    assert len(written) == 7
    assert written == committed


def test_check_finds_a_changed_a_missing_and_a_foreign_file(tmp_path: Path) -> None:
    """--check passes on fresh files and names every file that is not as generated, without writing."""
    for part in ("registry", "traffic"):
        shutil.copytree(CITY / part, tmp_path / part)
    assert generate("--check", "--out", str(tmp_path)).returncode == 0
    (tmp_path / "registry" / "city.yaml").write_text("version: 1\n")
    (tmp_path / "registry" / "links.yaml").unlink()
    (tmp_path / "traffic" / "mine.yaml").write_text("version: 1\n")
    result = generate("--check", "--out", str(tmp_path))
    assert result.returncode == 1
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [
        str(tmp_path / name) for name in ("registry/city.yaml", "registry/links.yaml", "traffic/mine.yaml")
    ]
    assert not (tmp_path / "registry" / "links.yaml").exists()


def test_a_scale_beyond_the_address_plan_is_refused() -> None:
    """A scale that the address plan cannot hold is a usage error, not a traceback."""
    result = generate("--scale", "21")
    assert result.returncode == 2
    assert "--scale must be 1 to 20" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_registry_is_small_enough_to_read_and_review() -> None:
    """All registry files together stay below 1 MiB, and every entity is on a line of its own."""
    assert sum(path.stat().st_size for path in REGISTRY.iterdir()) < 1 << 20
    servers = (REGISTRY / "servers.yaml").read_text("utf-8").splitlines()
    assert sum(line.startswith("  - {name: SRV-") for line in servers) == 826


def test_every_address_is_reserved_for_examples_or_private_use() -> None:
    """No string of any file is an address or prefix outside the reserved ranges, nor an address of a real host."""

    def walk(value: Any) -> int:
        if isinstance(value, dict):
            return sum(map(walk, value.values()))
        if isinstance(value, list):
            return sum(map(walk, value))
        if not isinstance(value, str) or (value.count(".") != 3 and "::" not in value):
            return 0
        host = value.rsplit(":", 1)[0] if value.endswith(":57400") else value
        network = ip_network(host)
        assert any(network.version == allowed.version and network.subnet_of(allowed) for allowed in ALLOWED), value
        return 1

    files = [*REGISTRY.iterdir(), *(CITY / "traffic").iterdir()]
    documents = [yaml.load(path.read_text("utf-8"), yaml.CSafeLoader) for path in files]
    for document in documents:
        for entity in document.get("departments", []) + document.get("applications", []):
            contact = entity.pop("contact", "x@yunhai.example")
            assert contact.endswith(".yunhai.example") or contact == "x@yunhai.example"
            entity.pop("title", None)
    assert walk(documents) > 6000


# --- the registry ------------------------------------------------------------------------------------------


def test_the_registry_loads_without_a_mistake_or_a_warning() -> None:
    """The shipped example has nothing that the loader objects to."""
    assert registry().warnings == ()


def test_the_city_has_the_size_it_claims() -> None:
    """The README's counts hold."""
    found = registry()
    counts = {name: len(entities) for name, entities in found}
    expected = {
        "departments": 60, "applications": 754, "servers": 826, "devices": 84, "regions": 15,
        "metering_points": 18, "public_addresses": 150, "nat_pools": 3, "shared_services": 1,
        "blind_ports": 11, "service_classes": 9, "protected_classes": 4, "instances": 73,
    }  # fmt: skip
    assert {name: counts[name] for name in expected} == expected
    assert sum(region.kind == "district" for region in found.regions) == 10
    assert Counter(server.site for server in found.servers) == {"DC-A": 516, "DC-B": 310}
    assert sum(bool(device.agents) for device in found.devices) == 80
    assert sum(len(device.interfaces) for device in found.devices) == 611
    assert set(Counter(d.department_class for d in found.departments)) == {
        "strengthened", "transitional", "centralised",
    }  # fmt: skip
    dual_stack = sum({a.version for a in server.addresses} == {4, 6} for server in found.servers)
    assert dual_stack > 400
    assert {application.mlps for application in found.applications} == {1, 2, 3}
    assert {application.importance for application in found.applications} == {
        "critical", "high", "normal", "low", "background",
    }  # fmt: skip


def test_the_exit_and_the_uplink_are_limited_by_contract() -> None:
    """Capacity is the contract: 4 + 2 + 2 Gbit/s at the exit, 2 + 1 Gbit/s to the province, on 10G ports."""
    found = registry()
    capacities = {
        group.name: [found.capacity_bps(found.link[name]) for name in group.members]
        for group in found.link_groups
        if group.name in ("exit", "uplink")
    }
    gbit = 10**9
    assert capacities == {
        "exit": [(4 * gbit, 4 * gbit), (2 * gbit, 2 * gbit), (2 * gbit, 2 * gbit)],
        "uplink": [(2 * gbit, 2 * gbit), (gbit, gbit)],
    }
    exits = next(group for group in found.link_groups if group.name == "exit")
    assert [state.down for state in exits.failure_states] == [("exit-isp1",), ("exit-isp2",), ("exit-isp3",)]
    assert {pool.link for pool in found.nat_pools} == set(exits.members)
    assert len([group for group in found.link_groups if group.name.startswith("trunk-")]) == 24


def test_one_private_prefix_lives_in_three_vpns_with_three_owners() -> None:
    """192.168.0.0/16, and one server address in it, mean three things in three routing instances."""
    owners = {n.instance: n.department for n in registry().networks if str(n.prefix) == "192.168.0.0/16"}
    assert owners == {"vpn-finance": "finance", "vpn-tax": "tax", "vpn-court": "court"}
    shared = ip_address("192.168.10.10")
    assert {s.instance for s in registry().servers if shared in s.addresses} == set(owners)


def test_the_nasty_places_are_there() -> None:
    """Labelled ports, blind ports and an exporter that reports no interfaces exist, at both ends of a trunk."""
    found = registry()
    labelled = {d.name for d in found.devices for port in d.interfaces if port.labelled}
    assert labelled == {"YH-S2-CR01", "YH-DCA-CR01"}
    mapped = {d.name: len(d.source_map) for d in found.devices if d.source_map}
    assert mapped == {"YH-DCA-GW01": 2, "YH-DCB-GW01": 2, "YH-hitech-GW01": 2, "YH-changyu-GW01": 2}
    speechless = {d.name for d in found.devices if not d.agents}
    assert speechless == {f"YH-{site}-FW0{n}" for site in ("DCA", "DCB") for n in (1, 2)}
    assert speechless < {port.device for port in found.blind_ports}


def test_every_way_is_metered_exactly_once() -> None:
    """Each path crosses one metering point that counts its packets: internal, exit or uplink."""
    found = registry()
    meters = {(point.device, point.interface): point.counts for point in found.metering_points}
    kinds = {"internet": "exit", "province": "uplink"}
    seen = Counter[str]()
    for path in found.paths:
        kind = next((kinds[end] for end in (path.from_site, path.to_site) if end in kinds), "internal")
        hits = [port for port in path.via if kind in meters.get(tuple(port.split("/", 1)), ())]  # type: ignore[call-overload]
        assert len(hits) == 1, (path.name, hits)
        seen[kind] += 1
    assert seen == {"internal": 14 * 2 + 1, "exit": 7 + 7 * 2 + 3, "uplink": 14 + 2}


def test_a_path_enters_and_leaves_each_device_by_ports_that_face_its_neighbours() -> None:
    """Consecutive ports of a path lie in one device, or face each other across a cable (or a firewall)."""
    found = registry()
    for path in found.paths:
        ports = [port.split("/", 1) for port in path.via]
        for here, there in pairwise(ports):
            if here[0] == there[0]:
                assert here[1] != there[1], path.name
                continue
            aliases = (found.interface[here[0], here[1]].alias, found.interface[there[0], there[1]].alias)
            firewalls = {alias for alias in aliases if alias and "-FW" in alias}
            assert aliases == (f"to {there[0]}", f"to {here[0]}") or len(firewalls) == 1, path.name


# --- the traffic -------------------------------------------------------------------------------------------


def test_the_traffic_names_every_application_once_and_no_other() -> None:
    """Traffic and registry speak of the same applications; events name applications that have traffic."""
    names = [entry["application"] for entry in traffic()["applications"]]
    assert len(names) == len(set(names))
    assert set(names) == set(registry().application)
    assert {event["application"] for event in traffic()["events"]} <= set(names)
    assert {event["name"] for event in traffic()["events"]} >= {"exam-enrolment", "backup-job"}
    shared = {entry["shared_service"] for entry in traffic()["applications"] if "shared_service" in entry}
    assert shared == {service.name for service in registry().shared_services}


def test_traffic_figures_are_usable() -> None:
    """Patterns have 24 shares of a peak that some hour reaches; rates parse; shares and factors are in range."""
    patterns = traffic()["patterns"]
    for pattern in patterns.values():
        assert len(pattern["hours"]) == 24
        assert max(pattern["hours"]) == 1.0
        assert min(pattern["hours"]) > 0
        assert 0 < pattern["weekend"] <= 1.5
    for entry in traffic()["applications"]:
        assert entry["pattern"] in patterns
        assert entry["path"] in PATHS
        assert entry["packet_sizes"] in {"web", "video", "bulk", "voice", "interactive"}
        assert 0 < entry["request_share"] < 1
        assert 0 < entry.get("idle", 1) <= 1
        assert 1_000 <= parse_rate(entry["peak"]) <= 3 * 10**9
    for event in traffic()["events"]:
        assert event["start"] < event["end"]
        assert event["factor"] > 0


def test_clients_live_in_registered_networks_of_the_right_kind() -> None:
    """A client prefix is known where the application is served, and lies where its path says."""
    kinds = {region.name: region.kind for region in registry().regions}
    wanted = {"inbound": {"internet"}, "outbound": {"city"}, "datacentre": {"city"}}
    outside = {"uplink": {"city", "district", "province", "nation"}}
    for entry in traffic()["applications"]:
        instance = instance_of(entry["application"])
        assert entry["users"]
        for text in entry["users"]:
            region = region_of(instance, ip_network(text))
            assert region is not None, (entry["application"], text)
            path = entry["path"]
            assert kinds[region] in (wanted | outside).get(path, {"city", "district"}), (
                entry["application"],
                text,
            )


def test_an_ordinary_tuesday_at_ten_loads_the_exit_and_the_uplink_as_planned() -> None:
    """The exit carries 4.3 to 4.8 Gbit/s and the uplink 1.3 to 1.6 Gbit/s, both directions together."""
    rate = Counter[str]()
    for entry in traffic()["applications"]:
        share = traffic()["patterns"][entry["pattern"]]["hours"][10] * entry.get("idle", 1)
        rate[entry["path"]] += round(parse_rate(entry["peak"]) * share)
    assert 4.3e9 < rate["inbound"] + rate["outbound"] < 4.8e9
    assert 1.3e9 < rate["uplink"] < 1.6e9


def test_every_application_is_found_again_from_its_packets() -> None:
    """A packet from an application's clients to its server classifies as it, inside its routing instance."""
    found, entries = registry(), traffic()["applications"]
    vlans = {instance.name: instance.vlans[0][0] for instance in found.instances if instance.vlans}
    rows = Rows(len(entries))
    expected = []
    for entry in entries:
        name = entry["application"]
        service = entry.get("shared_service")
        serve = (
            next(s for s in found.shared_services if s.name == service)
            if service
            else found.application[name].serves[0]
        )
        server = found.server[serve.servers[0]].addresses[0] if serve.servers else serve.prefixes[0][9]
        client = next(n for n in map(ip_network, entry["users"]) if n.version == server.version)[7]
        rows.add(
            str(found.device["YH-DCA-DR01"].agents[0]),
            str(client),
            str(server),
            input=1,
            output=11,
            protocol=serve.protocol or 0,
            source_port=61_000,
            destination_port=serve.ports[-1][0],
            vlan_id=vlans[instance_of(name)] if instance_of(name) != found.default_instance else 0,
        )
        expected.append(f"shared:{service}" if service else name)
    tables = compile_registry(found)
    load("match", "telemetryd.classify.reference").Classifier(
        rows.datagrams, rows.samples, rows.classes, tables
    ).classify()
    classified = [tables.names.applications[int(code)] for code in rows.classes["application"][: len(entries)]]
    assert classified == expected


# --- scale -------------------------------------------------------------------------------------------------


def scaled(tmp_path: Path, scale: int) -> Registry:
    assert generate("--scale", str(scale), "--out", str(tmp_path)).returncode == 0
    return load_registry(tmp_path / "registry")


def test_a_scaled_city_loads_without_collisions(tmp_path: Path) -> None:
    """At twice the size nothing collides: the loader, which refuses collisions, has nothing to say."""
    found = scaled(tmp_path, 2)
    assert found.warnings == ()
    assert len(found.servers) == 2 * 826
    assert len(found.applications) == 2 * 754 - 6  # what the Internet hosts does not grow
    assert len(found.departments) == 60


@pytest.mark.long
def test_a_city_ten_times_as_large_is_as_large_as_it_should_be(tmp_path: Path) -> None:
    """At scale 10 there are over 7,000 applications and 8,000 servers, without a collision."""
    found = scaled(tmp_path, 10)
    assert found.warnings == ()
    assert len(found.servers) == 8260
    assert len(found.applications) == 7486
