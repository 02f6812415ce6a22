"""A small city behind a Linux gateway: its registry, its policy, and demands."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from telemetryd.allocate.demand_file import Demand
from telemetryd.enforce.capability_table import Table, load_table
from telemetryd.enforce.control import Planner
from telemetryd.policy.load import load_policies
from telemetryd.policy.loaded import Policies
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry

M = 1_000_000

REGISTRY = """\
version: 1
city: {name: yunhai, time_zone: Asia/Shanghai}
regions: [{name: city, kind: city}, {name: internet, kind: internet}]
departments: [{name: tax, class: strengthened}, {name: edu}, {name: data}]
networks:
  - {prefix: 0.0.0.0/0, region: internet}
  - {prefix: 10.1.0.0/16, department: tax, region: city}
  - {prefix: 10.2.0.0/16, department: edu, region: city}
  - {prefix: 10.3.0.0/16, department: data, region: city}
servers:
  - {name: SRV-TAX, addresses: [10.1.0.10], department: tax}
  - {name: SRV-EDU, addresses: [10.2.0.10], department: edu}
applications:
  - {name: filing, owner: tax, serves: [{servers: [SRV-TAX], protocol: tcp, ports: [5001]}]}
  - {name: films, owner: edu, serves: [{servers: [SRV-EDU], protocol: udp, ports: [5002]}]}
protected_classes:
  - {name: dns, match: [{protocol: udp, ports: [53]}]}
profiles: [{name: linux, vendor: Linux, model: telemetryd-agent, counters_octets_correction: 4}]
devices:
  - name: GW1
    role: gateway
    profile: linux
    firmware: "1"
    agents: [198.18.0.2]
    gnmi: {endpoint: "127.0.0.1:9339"}
    interfaces:
      - {name: eth0, index: 1, speed: 1 Gbit/s}
      - {name: eth1, index: 2, speed: 100 Mbit/s}
      - {name: eth2, index: 3, speed: 100 Mbit/s}
links:
  - {name: isp1, device: GW1, interface: eth1, kind: exit}
  - {name: isp2, device: GW1, interface: eth2, kind: exit}
link_groups:
  - {name: exit, members: [isp1, isp2], failure_states: [{name: isp1-down, down: [isp1]}]}
"""

POLICY = """\
version: 1
policy: small
links: [exit]
direction: out
tree: [department, application]
departments:
  - department: tax
    importance: 1
    applications:
      - application: filing
        guarantee: 40 Mbit/s
        schedule: [{hours: "08:00-18:00", guarantee: 80 Mbit/s}]
  - department: edu
    importance: 2
    applications: [{application: films, guarantee: 20 Mbit/s, ceiling: 30%}]
rest: {importance: 4, floor: 2%}
"""
TAX, FILMS = ("tax", "filing"), ("edu", "films")


@lru_cache
def registry() -> Registry:
    """Return the registry."""
    with TemporaryDirectory() as directory:
        (Path(directory) / "a.yaml").write_text(REGISTRY, encoding="utf-8")
        return load_registry(Path(directory))


def load(directory: Path, text: str = POLICY) -> Policies:
    """Write the policy, and load it."""
    (directory / "policy.yaml").write_text(text, encoding="utf-8")
    return load_policies([directory / "policy.yaml"], registry())


def table() -> Table:
    """Return the shipped table of deviations."""
    return load_table()


def planner(directory: Path, text: str = POLICY) -> Planner:
    """Return what decides for the gateway."""
    return Planner(load(directory, text), registry(), table())


def demand(who: tuple[str, str], mbps: int) -> Demand:
    """Return a demand on the exit, outwards."""
    return Demand("exit", "out", *who, mbps * M)
