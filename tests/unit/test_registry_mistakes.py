"""Every mistake in a registry is reported at its line and column, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.registry_case import BASE, broken, load_text, marks

EXAM = "ports: [443, 8000-8009]}]}"

# id -> (text of BASE, what stands there instead with « before the mistake, what the problem says)
ONE_MISTAKE = {
    # --- fields ---
    "missing-field": (
        "{name: hrss, class: centralised}",
        "«{class: centralised}",
        '"name" is missing - add it: unique name',
    ),
    "unknown-field": (
        "vendor: H3C",
        "«vender: H3C",
        'unknown field "vender" - did you mean "vendor"?',
    ),
    "unknown-section": ("zones:\n", "«zone:\n", 'unknown section "zone" - did you mean "zones"?'),
    "misspelt-choice": (
        "kind: district",
        "kind: «distrikt",
        '"kind" is "distrikt" - did you mean "district"? use one of city, district, province, nation, internet',
    ),
    "name-not-a-slug": (
        "{name: video,",
        "{name: «Video,",
        '"name" is "Video", which is no name - use lower-case',
    ),
    "name-a-number": ("{name: public}", "{name: «2026}", '"name" is 2026, not a text - put it in quotes'),
    "not-a-list": ("vlans: [100-199]", "vlans: «100-199", '"vlans" is "100-199", not a list - write a list'),
    "not-a-mapping": (
        "{in: 4 Gbit/s, out: 4 Gbit/s}",
        "«4 Gbit/s",
        '"contract" is "4 Gbit/s", not a mapping',
    ),
    "empty-list": ("dscp: [26, 28]", "dscp: «[]", '"dscp" has too few entries - write at least 1'),
    "quoted-number": ("mlps: 3", 'mlps: «"3"', '"mlps" is "3", not a whole number - remove the quotes'),
    "level-out-of-range": (
        "mlps: 3",
        "mlps: «5",
        '"mlps" is 5, which is out of range - use a number of at most 4',
    ),
    "dscp-out-of-range": (
        "dscp: [26, 28]",
        "dscp: [26, «64]",
        'an entry of "dscp" is 64, which is out of range',
    ),
    "index-out-of-range": (
        "index: 2,",
        "index: «0,",
        '"index" is 0, which is out of range - use a number of at least 1',
    ),
    "flag-a-text": (
        "labelled: true",
        "labelled: «yes",
        '"labelled" is "yes", not true or false - write true or false',
    ),
    "version": ("version: 1", "version: «2", '"version" is 2 - use 1'),
    "time-zone": (
        "Asia/Shanghai",
        "«Asia/Yunhai",
        '"time_zone": unknown time zone "Asia/Yunhai" - name one of the IANA',
    ),
    # --- quantities ---
    "rate-without-unit": (
        "contract: {in: 600 Mbit/s,",
        "contract: {in: «600,",
        '"in": 600 is no rate - write number and unit, such as "600 Mbit/s"',
    ),
    "rate-unknown-unit": (
        "contract: {in: 600 Mbit/s,",
        "contract: {in: «600 Mbps,",
        '"in": "600 Mbps": unknown unit "Mbps" - use one of bit/s, kbit/s, Mbit/s, Gbit/s, Tbit/s',
    ),
    "rate-zero": (
        "contract: {in: 600 Mbit/s,",
        "contract: {in: «0 bit/s,",
        '"in": a rate of 0 bit/s - write the rate',
    ),
    "port-out-of-range": (
        EXAM,
        "ports: [443, «80000]}]}",
        'an entry of "ports": port 80000 is out of range - use 0 to 65535',
    ),
    "port-range-backwards": (EXAM, "ports: [443, «9-8]}]}", 'port range "9-8" runs backwards - write "8-9"'),
    "port-a-word": (EXAM, "ports: [443, «https]}]}", 'an entry of "ports": "https" is no port and no range'),
    "vlan-out-of-range": (
        "vlans: [100-199]",
        "vlans: [«100-4095]",
        'VLAN "100-4095" is out of range - use 1 to 4094',
    ),
    "protocol-unknown": (
        "protocol: udp, ports: [53]",
        "protocol: «upd, ports: [53]",
        '"protocol": unknown protocol "upd" - use one of any, icmp, tcp, udp',
    ),
    "source-id": ('source: "0:5"', "source: «5", '"source": 5 is no sFlow source id - write "class:index"'),
    "endpoint": (
        '"172.31.0.1:57400"',
        "«172.31.0.1",
        '"endpoint": "172.31.0.1" is no endpoint - write "host:port"',
    ),
    "port-reference": (
        "via: [AG01/XGE1/0/3,",
        "via: [«AG01,",
        '"AG01" is no port of a device - write "DEVICE/INTERFACE"',
    ),
    # --- addresses ---
    "host-bits": (
        "prefix: 172.16.9.0/24",
        "prefix: «172.16.9.1/24",
        '"prefix": prefix "172.16.9.1/24" has host bits - write "172.16.9.0/24", or the address as /32',
    ),
    "prefix-too-long": (
        "prefix: 172.16.9.0/24",
        "prefix: «172.16.9.0/33",
        '"33" is no prefix length: use 0 to 32',
    ),
    "address-too-big": (
        "addresses: [172.16.0.11]",
        "addresses: [«172.16.0.256]",
        "numbers of an IPv4 address are 0 to 255",
    ),
    "address-leading-zero": (
        "addresses: [172.16.0.11]",
        "addresses: [«172.16.0.011]",
        "remove leading zeros",
    ),
    "address-with-length": (
        "addresses: [172.16.0.11]",
        "addresses: [«172.16.0.11/32]",
        "leave out the prefix length",
    ),
    "address-with-zone": (
        "addresses: [172.16.0.11]",
        'addresses: [«"fe80::1%eth0"]',
        "holds a zone - write the address",
    ),
    # --- names ---
    "duplicate-key": (
        "role: core\n",
        "role: core\n    «role: dc\n",
        'key "role" is written twice - keep one of them (the first',
    ),
    "duplicate-name": (
        "{name: ag, device",
        "{name: «isp1, device",
        'links: name "isp1" is used twice - rename or remove one of them (the first is at',
    ),
    "reserved-name": (
        "{name: video,",
        "{name: «unclassified,",
        'name "unclassified" is reserved for traffic of no application - choose another name',
    ),
    "unknown-reference": (
        "{name: video, owner: finance",
        "{name: video, owner: «finanse",
        'department "finanse" is unknown - did you mean "finance"?',
    ),
    "unknown-reference-not-near": (
        "site: DC-A\n    profile",
        "site: «elsewhere\n    profile",
        'site "elsewhere" is unknown - declare it in sites, or correct the name',
    ),
    "unknown-server": (
        "serves: [{servers: [SRV-1]",
        "serves: [{servers: [«SRV-9]",
        'server "SRV-9" is unknown',
    ),
    "unknown-member": ("members: [isp1, isp2]", "members: [isp1, isp2, «isp3]", 'link "isp3" is unknown'),
    "unknown-path-site": ("to: DC-A", "to: «DC-B", 'site "DC-B" is unknown - did you mean "DC-A"?'),
    "unknown-serve-instance": (
        "prefixes: [172.16.1.0/24],",
        "prefixes: [172.16.1.0/24], instance: «vpn-finanz,",
        'instance "vpn-finanz" is unknown - did you mean "vpn-finance"?',
    ),
    # --- instances ---
    "second-default": (
        "{name: vpn-finance, vlans",
        "{name: vpn-finance, default: «true, vlans",
        'instance "vpn-finance" is a second default - keep one default (the first is at',
    ),
    "no-default": ("{name: pub, default: true,", "«{name: pub,", "no instance is the default one - write"),
    "vlan-twice": ("vlans: [210, 300-310]", "vlans: [210, «190-210]", 'VLAN 190 is in instance "pub" too'),
    "unknown-bound-port": (
        "interfaces: [AG01/XGE1/0/3]}\ndep",
        "interfaces: [«AG01/XGE1/0/4]}\ndep",
        'interface "XGE1/0/4" of AG01 is unknown',
    ),
    "unknown-via-device": (
        "via: [AG01/XGE1/0/3,",
        "via: [«AG02/XGE1/0/3,",
        'device "AG02" is unknown - did you mean "AG01"?',
    ),
    # --- networks, servers, NAT ---
    "network-twice": (
        '{prefix: "2001:db8:a::/48", department: hrss}',
        '{prefix: "2001:db8:a::/48", department: hrss}\n  - {prefix: «"2001:db8:a::/48"}',
        'network 2001:db8:a::/48 is declared twice in instance pub, for department "hrss" and for no department',
    ),
    "address-twice": (
        "addresses: [172.16.0.11]",
        "addresses: [«172.16.0.10]",
        'address 172.16.0.10 is server "SRV-1" too',
    ),
    "server-outside-networks": (
        "addresses: [172.16.0.11]",
        'addresses: [172.16.0.11, «"2001:db8:b::1"]',
        "address 2001:db8:b::1 is in no network of instance pub - declare its network",
    ),
    "nat-pools-overlap": (
        "203.0.113.128/25",
        "«203.0.113.64/26",
        'prefix 203.0.113.64/26 overlaps 203.0.113.0/25 of pool "pool1"',
    ),
    "public-address-twice": (
        "{address: 203.0.113.10, server: SRV-1}",
        "{address: 203.0.113.10, server: SRV-1}\n  - {address: «203.0.113.10, server: SRV-2}",
        "public address 203.0.113.10 is published twice - keep one server for it",
    ),
    "public-address-is-a-server": (
        "address: 203.0.113.10",
        "address: «172.16.0.11",
        'public address 172.16.0.11 is an own address of server "SRV-2"',
    ),
    # --- applications ---
    "serves-nothing": (
        "serves: [{servers: [SRV-1], protocol",
        "serves: [«{protocol",
        "neither servers nor prefixes are named",
    ),
    "ports-without-ports": (
        "{protocol: 89}",
        "{protocol: icmp, ports: «[8]}",
        "protocol icmp has no ports - leave out ports",
    ),
    "dscp-twice": ("dscp: [26, 28]", "dscp: [26, «26]", 'DSCP 26 marks service class "CORE" already'),
    "ambiguous": (
        "{name: forum, owner: finance, serves: [{servers: [SRV-2], protocol: tcp, ports: [443]}]}",
        "{name: forum, owner: finance, serves: [{servers: [SRV-1], protocol: tcp, ports: [80, «8005-8014]}]}",
        'application "forum" claims tcp 8005-8014 of 172.16.0.10 in instance pub, as application "exam" does',
    ),
    "shared-services-overlap": (
        "applications: [portal, forum]}",
        "applications: [portal, forum]}\n  - {name: waf2, servers: [SRV-2], protocol: tcp, ports: [«443], applications: [exam, video]}",
        'shared service "waf2" claims tcp 443 of 172.16.0.11 in instance pub, as shared service "waf" does',
    ),
    # --- devices and links ---
    "agent-twice": (
        "agents: [100.64.255.2]",
        "agents: [«100.64.255.1]",
        "agent address 100.64.255.1 is used twice",
    ),
    "interface-twice": (
        "{name: XGE1/0/2, index: 2,",
        "{name: «XGE1/0/1, index: 2,",
        'interface "XGE1/0/1" of CR01 is declared twice',
    ),
    "index-twice": (
        "{name: XGE1/0/2, index: 2,",
        "{name: XGE1/0/2, index: «1,",
        "index 1 of CR01 is used twice",
    ),
    "bundle-of-itself": (
        "{name: XGE1/0/5, speed",
        "{name: XGE1/0/5, bundle: «XGE1/0/5, speed",
        'bundle "XGE1/0/5" of CR01 is itself a member',
    ),
    "source-mapped-twice": (
        'source_map: [{source: "0:5", interface: XGE1/0/5}]',
        'source_map: [{source: "0:5", interface: XGE1/0/5}, {source: «"00:5", interface: XGE1/0/3}]',
        "source id 0:5 of CR01 is mapped twice",
    ),
    "source-map-unknown-interface": (
        "interface: XGE1/0/5}]",
        "interface: «XGE1/0/9}]",
        'interface "XGE1/0/9" of CR01 is unknown',
    ),
    "link-without-interface": (
        "{name: ag, device: AG01, interface: XGE1/0/3,",
        "«{name: ag, device: AG01,",
        '"interface" is missing',
    ),
    "link-unknown-interface": (
        "{name: isp2, device: CR01, interface: XGE1/0/3",
        "{name: isp2, device: CR01, interface: «XGE1/0/33",
        'interface "XGE1/0/33" of CR01 is unknown - did you mean',
    ),
    "link-twice": (
        "{name: ag, device: AG01, interface: XGE1/0/3,",
        "{name: ag, device: CR01, interface: «XGE1/0/3,",
        "CR01/XGE1/0/3 is a link already",
    ),
    "bundle-and-member": (
        "{name: ag, device: AG01, interface: XGE1/0/3,",
        "{name: ag, device: CR01, interface: «XGE1/0/1,",
        "CR01/XGE1/0/1 and its bundle BAGG1 are both a link - name the bundle or its members",
    ),
    "contract-above-speed": (
        "contract: {in: 2 Gbit/s, out: 2 Gbit/s}",
        "contract: {in: 2 Gbit/s, out: «20 Gbit/s}",
        'contract of link "isp2" (out: 20 Gbit/s) is above the port speed, 10 Gbit/s',
    ),
    "contract-above-bundle": (
        "contract: {in: 4 Gbit/s, out: 4 Gbit/s}",
        "contract: {in: «21 Gbit/s, out: 4 Gbit/s}",
        'contract of link "isp1" (in: 21 Gbit/s) is above the port speed, 20 Gbit/s',
    ),
    "member-twice": (
        "members: [isp1, isp2]",
        "members: [isp1, isp2, «isp2]",
        '"isp2" is in group "exit" twice',
    ),
    "failure-of-no-member": (
        "down: [isp1]",
        "down: [isp1, «ag]",
        'link "ag" is not a member of group "exit" - name members',
    ),
    "failure-state-twice": (
        "[{name: isp1-down, down: [isp1]}]",
        "[{name: isp1-down, down: [isp1]}, {name: «isp1-down, down: [isp2]}]",
        'failure state "isp1-down" of group "exit" is declared twice',
    ),
    "metering-point-unknown-port": (
        "{name: core, device: AG01, interface: XGE1/0/3",
        "{name: core, device: AG01, interface: «XGE1/0/1",
        'interface "XGE1/0/1" of AG01 is unknown',
    ),
    "metering-point-behind-nat": (
        "{name: core, device: AG01, interface: XGE1/0/3",
        "{name: core, device: CR01, interface: «XGE1/0/1",
        'metering point "core" is behind NAT pool "pool1", where no department is visible - meter inside NAT',
    ),
    "blind-port-twice": (
        "reason: no sFlow on this board}",
        "reason: no sFlow on this board}\n  - {device: CR01, interface: «XGE1/0/4}",
        "CR01/XGE1/0/4 is a blind port already",
    ),
}


def test_base_is_valid(tmp_path: Path) -> None:
    """The registry that the other tests break has no mistake."""
    assert load_text(tmp_path, BASE) == []


@pytest.mark.parametrize("name", list(ONE_MISTAKE))
def test_one_mistake(tmp_path: Path, name: str) -> None:
    """One mistake gives exactly one problem, at its exact line and column, with what to do."""
    old, new, message = ONE_MISTAKE[name]
    text = broken((old, new))
    problems = load_text(tmp_path, text)
    assert [(p.file, p.line, p.column) for p in problems] == [
        (str(tmp_path / "a.yaml"), *place) for place in marks(text)
    ], problems
    assert message in f"{problems[0].message} - {problems[0].remedy}"
    assert str(problems[0]).startswith(f"{tmp_path / 'a.yaml'}:{problems[0].line}:{problems[0].column}: ")


SEVERAL = {
    # id -> (replacements, with « at each mistake in the order of the lines; words of each message)
    "port-bound-twice": (
        [
            ("vlans: [100-199]}", "vlans: [100-199], interfaces: [AG01/XGE1/0/3]}"),
            ("300-310], interfaces: [AG01", "300-310], interfaces: [«AG01"),
        ],
        ["AG01/XGE1/0/3 is bound to an instance already - bind it to one (the first is at"],
    ),
    "beside-a-shared-service": (
        [
            (EXAM, "ports: [8000-8009]}, {servers: [SRV-2], protocol: tcp, ports: [«443]}]}"),
        ],
        ['application "exam" claims tcp 443 of 172.16.0.11 in instance pub, as shared service "waf" does'],
    ),
    "all-ports-of-a-prefix": (
        [
            (EXAM, "ports: [443]}, {prefixes: [10.0.0.0/8]}]}"),
            ('16384-32767"]}]}', '16384-32767"]}, «{prefixes: [10.0.0.0/8], protocol: any}]}'),
            ("- {prefix: 0.0.0.0/0, region: internet}", "- {prefix: 10.0.0.0/8}"),
        ],
        [
            'application "video" claims any protocol, all ports of 10.0.0.0/8 in instance pub, as application "exam" does'
        ],
    ),
    "metering-point-on-labelled-and-blind-port": (
        [
            (
                "{name: core, device: AG01, interface: XGE1/0/3",
                "{name: core, device: CR01, interface: ««XGE1/0/4",
            )
        ],
        [
            "is on a blind port - choose a port with telemetry",
            "is on a labelled port, whose ends are not looked up",
        ],
    ),
    "link-without-capacity": (
        [
            ("index: 3, speed: 10 Gbit/s}]}", "index: 3}]}"),
            ("{name: ag, device", "{name: ««ag, device"),
        ],
        ['link "ag" has no capacity (in): neither', 'link "ag" has no capacity (out): neither'],
    ),
    "one-of-each-kind": (
        [
            ("kind: district", "kind: «distrikt"),
            (
                "{prefix: 172.16.9.0/24, department: finance}",
                "{prefix: «172.16.9.1/24, department: «finanse}",
            ),
            ("mlps: 3, service_class: CORE", "mlps: «9, service_class: CORE"),
            ("{name: forum, owner: finance", "{name: forum, owner: «finanze"),
            ("vendor: H3C", "«vender: H3C"),
            ("index: 2,", "index: «1,"),
            ("members: [isp1, isp2]", "members: [isp1, «isp3]"),
        ],
        ["distrikt", "host bits", None, "out of range", "finanze", "vender", "index 1", "isp3"],
    ),
}


@pytest.mark.parametrize("name", list(SEVERAL))
def test_several_mistakes_in_one_run(tmp_path: Path, name: str) -> None:
    """All mistakes come in one run, each at its own place; a broken entry's name still counts as known."""
    replacements, words = SEVERAL[name]
    text = broken(*replacements)
    problems = load_text(tmp_path, text)
    expected = [place for place, word in zip(marks(text), words, strict=True) if word is not None]
    assert [(p.line, p.column) for p in problems] == expected, problems
    for problem, word in zip(problems, [word for word in words if word is not None], strict=True):
        assert word in f"{problem.message} - {problem.remedy}"
