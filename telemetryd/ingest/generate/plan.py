"""A small network that needs no registry file: the ground for known-truth runs and benchmarks.

Every department has one client network and every application one server. Packets between them
cross one core, from the port that faces the departments (ifIndex 2) to the port that faces the
servers (ifIndex 1, the metering point), or back. :func:`write_registry` describes the same network
in the registry's format, so that results can be booked by name.
"""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.generate.layout import TCP, UDP
from telemetryd.ingest.generate.model import End, FlowSpec, Header, Hop, Model
from telemetryd.ingest.generate.wire import Agents

SERVER_PORT: Final = 1  # ifIndex, faces the servers
CLIENT_PORT: Final = 2  # ifIndex, faces the departments
MAX_DEPARTMENTS: Final = 200
MAX_APPLICATIONS: Final = 60_000

_AGENT_BASE: Final = 0x6440_FF01  # 100.64.255.1
_AGENT_BASE_IPV6: Final = 0x2001_0DB8_0000_0000_0000_0000_0000_0001
_CLIENT_BASE_IPV6: Final = 0x2001_0DB8 << 96
_SERVER_BASE_IPV6: Final = 0x2001_0DB8_FFFF << 80  # beyond the departments' numbers
_SIZES: Final = ("web", "bulk", "interactive", "video", "voice")


def department_name(number: int) -> str:
    """Return the name of department ``number``, counted from 0."""
    return f"department-{number:03d}"


def application_name(number: int) -> str:
    """Return the name of application ``number``, counted from 0."""
    return f"application-{number:05d}"


def core_name(number: int) -> str:
    """Return the name of core ``number``, counted from 0."""
    return f"CORE-{number:02d}"


def link_name(core: int, port: int) -> str:
    """Return the name of the link at a core's port."""
    return f"{core_name(core).lower()}-{'servers' if port == SERVER_PORT else 'departments'}"


def metering_point_name(core: int) -> str:
    """Return the name of a core's metering point."""
    return f"meter-{core:02d}"


def _is_ipv6(application: int) -> bool:
    return application % 5 == 4  # one application in five


def _is_tagged(department: int) -> bool:
    return department % 10 in (1, 4, 7)  # three departments in ten


def _is_ipv6_agent(core: int) -> bool:
    return core % 8 == 5


def _is_expanded(core: int) -> bool:
    return core % 8 == 3


def _has_router(core: int) -> bool:
    return core % 4 == 2


def _client(department: int, version: int) -> End:
    if version == 4:
        return End(4, 10 << 24 | (department + 1) << 16, 0x0FFF)
    return End(6, _CLIENT_BASE_IPV6 | (department + 1) << 80, 0x0FFF)


def _server(application: int, version: int) -> End:
    host = (application // 250) << 8 | (application % 250 + 1)
    base = 172 << 24 | 16 << 16 if version == 4 else _SERVER_BASE_IPV6
    return End(version, base + host, 0, _service_port(application))


def _service_port(application: int) -> int:
    return (443, 8443, 1521, 5060, 554)[application % 5]


def _protocol(application: int) -> int:
    return UDP if _service_port(application) == 5060 else TCP


@cache
def plan_model(departments: int = 60, applications: int = 700, cores: int = 64, rate: int = 1) -> Model:
    """Return the network as a model: two flows (to and from the server) per department and application.

    Flow ``2 (d applications + a)`` goes from department d to application a, the next one back.

    Raises
    ------
    ValueError
        If the address plan has no room for that many.
    """
    if not 0 < departments <= MAX_DEPARTMENTS or not 0 < applications <= MAX_APPLICATIONS:
        raise ValueError(f"at most {MAX_DEPARTMENTS} departments and {MAX_APPLICATIONS} applications")
    numbers = np.arange(cores)
    is_ipv6 = np.array([_is_ipv6_agent(core) for core in range(cores)])
    agents = Agents(
        np.where(is_ipv6, _AGENT_BASE_IPV6 >> 64, 0).astype(np.uint64),
        np.where(is_ipv6, numbers + 1, _AGENT_BASE + numbers).astype(np.uint64),
        np.where(is_ipv6, 6, 4).astype(np.uint8),
        np.zeros(cores, np.uint32),
        np.array([_is_expanded(core) for core in range(cores)]),
        np.array([_has_router(core) for core in range(cores)]),
    )
    flows = []
    for department in range(departments):
        vlan_id = 100 + department if _is_tagged(department) else 0
        for application in range(applications):
            core = (department + application) % cores
            servers, clients = link_name(core, SERVER_PORT), link_name(core, CLIENT_PORT)
            meter = (metering_point_name(core), "internal")
            to_server = Hop(2 * core + 1, CLIENT_PORT, SERVER_PORT, clients, servers, meter, vlan_id)
            to_client = Hop(2 * core, SERVER_PORT, CLIENT_PORT, servers, clients, meter, vlan_id)
            version = 6 if _is_ipv6(application) else 4
            client, server = _client(department, version), _server(application, version)
            names = application_name(application), department_name(department)
            owner = department_name(application % departments)
            protocol = _protocol(application)
            sizes = _SIZES[application % 3] if protocol == TCP else "voice"
            request = Header(*names, owner, client, server, protocol)
            response = Header(*names, owner, server, client, protocol)
            flows.append(FlowSpec(request, "requests", (to_server,)))
            flows.append(FlowSpec(response, sizes, (to_client,)))
    return Model(
        agents,
        source_agent=np.repeat(numbers, 2).astype(np.intp),
        source_index=np.tile(np.array([SERVER_PORT, CLIENT_PORT], np.uint32), cores),
        source_rate=np.full(2 * cores, rate, np.uint32),
        flows=tuple(flows),
    )


def zipf_weights(departments: int, applications: int, exponent: float = 1.0) -> NDArray[np.float64]:
    """Return the share of each (department, application), row-major, Zipf in both; sums to 1."""
    by_department = 1 / np.arange(1, departments + 1) ** exponent
    by_application = 1 / np.arange(1, applications + 1) ** exponent
    weights = np.outer(by_department, by_application).ravel()
    return np.asarray(weights / weights.sum(), np.float64)


def write_registry(directory: Path, departments: int = 60, applications: int = 700, cores: int = 64) -> None:
    """Write the network of :func:`plan_model` as the registry file ``plan.yaml`` into ``directory``."""
    lines = [
        "version: 1",
        "city: {name: plan, title: {en: Plan}, time_zone: UTC}",
        "regions: [{name: plan, kind: city, title: {en: Plan}}]",
        "sites: [{name: S1, region: plan, title: {en: Site}}]",
        "zones: [{name: clients, title: {en: Clients}}, {name: servers, title: {en: Servers}}]",
        "instances: [{name: main, default: true, title: {en: Main}}]",
        "profiles: [{name: plain, vendor: any, sampling: ingress}]",
        "departments:",
    ]
    for number in range(departments):
        name = department_name(number)
        lines.append(f"  - {{name: {name}, title: {{en: {name}}}, class: transitional, contact: {name}}}")
    lines.append("networks:")
    for number in range(departments):
        owner = f"department: {department_name(number)}, zone: clients, region: plan"
        lines.append(f"  - {{prefix: 10.{number + 1}.0.0/16, {owner}}}")
        lines.append(f'  - {{prefix: "{_text(_client(number, 6).base)}/48", {owner}}}')
    lines.append("  - {prefix: 172.16.0.0/16, zone: servers, region: plan}")
    lines.append(f'  - {{prefix: "{_text(_SERVER_BASE_IPV6)}/48", zone: servers, region: plan}}')
    lines.append("servers:")
    for number in range(applications):
        address = _text(_server(number, 6 if _is_ipv6(number) else 4).base)
        owner = department_name(number % departments)
        place = f"instance: main, department: {owner}, zone: servers, site: S1"
        lines.append(f'  - {{name: SRV-{number:05d}, addresses: ["{address}"], {place}}}')
    lines.append("applications:")
    for number in range(applications):
        name = application_name(number)
        protocol = "tcp" if _protocol(number) == TCP else "udp"
        serves = f"{{servers: [SRV-{number:05d}], protocol: {protocol}, ports: [{_service_port(number)}]}}"
        kind = f"owner: {department_name(number % departments)}, importance: normal, mlps: 2, contact: plan"
        lines.append(f"  - {{name: {name}, title: {{en: {name}}}, {kind}, serves: [{serves}]}}")
    lines.append("devices:")
    agents = plan_model(departments, applications, cores).agents
    for core in range(cores):
        address = _text(int(agents.address_hi[core]) << 64 | int(agents.address_lo[core]))
        ports = ", ".join(f"{{name: XGE{port}, index: {port}, speed: 10 Gbit/s}}" for port in (1, 2))
        identity = f'name: {core_name(core)}, role: core, site: S1, profile: plain, agents: ["{address}"]'
        lines.append(f"  - {{{identity}, interfaces: [{ports}]}}")
    lines.append("links:")
    for core in range(cores):
        for port in (SERVER_PORT, CLIENT_PORT):
            place = f"device: {core_name(core)}, interface: XGE{port}, kind: datacentre"
            lines.append(f"  - {{name: {link_name(core, port)}, {place}}}")
    lines.append("metering_points:")
    for core in range(cores):
        place = f"device: {core_name(core)}, interface: XGE{SERVER_PORT}, faces: inside, counts: [internal]"
        lines.append(f"  - {{name: {metering_point_name(core)}, {place}}}")
    (directory / "plan.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(address: int) -> str:
    return str(ip_address(address))
