"""A small registry that loads without a problem, and a way to break it at a marked place."""

from __future__ import annotations

from pathlib import Path

from telemetryd.errors import Problem, ProblemsError
from telemetryd.registry.load import load_registry

MARK = "«"  # stands right before the place where a mistake must be reported

BASE = """\
version: 1
city: {name: yunhai, title: {en: Yunhai, zh: 云海市}, time_zone: Asia/Shanghai}
regions:
  - {name: yundong, kind: district}
  - {name: internet, kind: internet}
sites:
  - {name: DC-A, region: yundong}
zones:
  - {name: public}
instances:
  - {name: pub, default: true, vlans: [100-199]}
  - {name: vpn-finance, vlans: [210, 300-310], interfaces: [AG01/XGE1/0/3]}
departments:
  - {name: finance, class: strengthened, contract: {in: 600 Mbit/s, out: 600 Mbit/s}}
  - {name: hrss, class: centralised}
networks:
  - {prefix: 172.16.0.0/16, department: hrss, zone: public, region: yundong}
  - {prefix: 172.16.9.0/24, department: finance}
  - {prefix: "2001:db8:a::/48", department: hrss}
  - {prefix: 0.0.0.0/0, region: internet}
  - {prefix: 172.16.0.0/16, instance: vpn-finance, department: finance}
servers:
  - {name: SRV-1, addresses: [172.16.0.10, "2001:db8:a::10"], department: hrss, zone: public, site: DC-A}
  - {name: SRV-2, addresses: [172.16.0.11], department: hrss}
  - {name: SRV-3, addresses: [172.16.0.10], instance: vpn-finance}
applications:
  - {name: exam, owner: hrss, importance: high, mlps: 3, service_class: CORE, serves: [{servers: [SRV-1], protocol: tcp, ports: [443, 8000-8009]}]}
  - {name: portal, owner: hrss, serves: [{servers: [SRV-2], protocol: tcp, ports: [443]}]}
  - {name: forum, owner: finance, serves: [{servers: [SRV-2], protocol: tcp, ports: [443]}]}
  - {name: video, owner: finance, serves: [{prefixes: [172.16.1.0/24], protocol: udp, ports: ["16384-32767"]}]}
shared_services:
  - {name: waf, servers: [SRV-2], protocol: tcp, ports: [443], applications: [portal, forum]}
service_classes:
  - {name: CORE, dscp: [26, 28]}
profiles:
  - {name: h3c, vendor: H3C, sampling: ingress}
devices:
  - name: CR01
    role: core
    site: DC-A
    profile: h3c
    agents: [100.64.255.1]
    gnmi: {endpoint: "172.31.0.1:57400", credential: default}
    interfaces:
      - {name: XGE1/0/1, index: 1, speed: 10 Gbit/s, bundle: BAGG1}
      - {name: XGE1/0/2, index: 2, speed: 10 Gbit/s, bundle: BAGG1}
      - {name: XGE1/0/3, index: 3, speed: 10 Gbit/s}
      - {name: XGE1/0/4, index: 4, speed: 10 Gbit/s, labelled: true}
      - {name: XGE1/0/5, speed: 1 Gbit/s}
    source_map: [{source: "0:5", interface: XGE1/0/5}]
  - {name: AG01, role: aggregation, agents: [100.64.255.2], interfaces: [{name: XGE1/0/3, index: 3, speed: 10 Gbit/s}]}
links:
  - {name: isp1, device: CR01, interface: BAGG1, kind: exit, contract: {in: 4 Gbit/s, out: 4 Gbit/s}}
  - {name: isp2, device: CR01, interface: XGE1/0/3, kind: exit, contract: {in: 2 Gbit/s, out: 2 Gbit/s}}
  - {name: ag, device: AG01, interface: XGE1/0/3, kind: aggregation}
link_groups:
  - {name: exit, members: [isp1, isp2], failure_states: [{name: isp1-down, down: [isp1]}]}
metering_points:
  - {name: core, device: AG01, interface: XGE1/0/3, faces: outside, counts: [exit, uplink]}
blind_ports:
  - {device: CR01, interface: XGE1/0/4, reason: no sFlow on this board}
nat_pools:
  - {name: pool1, prefixes: [203.0.113.0/25], link: isp1}
  - {name: pool2, prefixes: [203.0.113.128/25], link: isp2}
public_addresses:
  - {address: 203.0.113.10, server: SRV-1}
paths:
  - {name: self, from: DC-A, to: DC-A, via: [AG01/XGE1/0/3, CR01/XGE1/0/3]}
protected_classes:
  - {name: dns, match: [{protocol: udp, ports: [53]}, {protocol: 89}]}
"""


def load_text(directory: Path, *texts: str) -> list[Problem]:
    """Write files a.yaml, b.yaml, ... without marks, load them and return the mistakes found."""
    for name, text in zip("abcdefgh", texts, strict=False):
        (directory / f"{name}.yaml").write_text(text.replace(MARK, ""), encoding="utf-8")
    try:
        load_registry(directory)
    except ProblemsError as error:
        return error.problems
    return []


def marks(text: str) -> list[tuple[int, int]]:
    """Return the (line, column) of each mark, in order."""
    places = []
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split(MARK)
        column = 1
        for part in parts[:-1]:
            column += len(part)
            places.append((number, column))
    return places


def broken(*replacements: tuple[str, str]) -> str:
    """Return the base registry with each (old, new) replaced; old must occur exactly once."""
    text = BASE
    for old, new in replacements:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text
