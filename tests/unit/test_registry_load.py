"""Reading, joining and warning: what a registry is made of."""

from __future__ import annotations

import gc
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from telemetryd.errors import ProblemsError
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry
from tests.unit.registry_case import BASE, broken, load_text, marks


@pytest.fixture
def base(tmp_path: Path) -> Registry:
    (tmp_path / "city.yaml").write_text(BASE, encoding="utf-8")
    return load_registry(tmp_path)


def test_values_are_parsed(base: Registry) -> None:
    """Addresses, rates, ports and protocols become plain Python values."""
    assert base.city.time_zone == "Asia/Shanghai"
    assert base.networks[0].prefix == ip_network("172.16.0.0/16")
    assert base.server["SRV-1"].addresses == (ip_address("172.16.0.10"), ip_address("2001:db8:a::10"))
    contract = base.department["finance"].contract
    assert contract is not None and contract.in_bps == 600_000_000
    exam = base.application["exam"].serves[0]
    assert (exam.protocol_number, exam.port_ranges) == (6, ((443, 443), (8000, 8009)))
    assert base.instance["vpn-finance"].vlan_ranges == ((210, 210), (300, 310))
    assert base.device["CR01"].source_map[0].source == "0:5"
    assert base.protected_classes[0].match[1].protocol == 89


def test_capacity_is_the_lesser_of_speed_and_contract(base: Registry) -> None:
    """A link's capacity is its contract or its port speed; a bundle has the speed of its members."""
    assert base.speed_bps("CR01", "BAGG1") == 20_000_000_000
    assert base.capacity_bps(base.link["isp1"]) == (4_000_000_000, 4_000_000_000)
    assert base.capacity_bps(base.link["ag"]) == (10_000_000_000, 10_000_000_000)
    assert base.speed_bps("CR01", "nothing") is None


def test_what_comes_in_is_shaped_to_a_part_of_the_contract(base: Registry, tmp_path: Path) -> None:
    """Of exits and uplinks 95 % inbound, of other links and outbound all; a link may say another part."""
    assert base.usable_bps(base.link["isp1"]) == (3_800_000_000, 4_000_000_000)
    assert base.usable_bps(base.link["ag"]) == (10_000_000_000, 10_000_000_000)
    text = broken(
        ("out: 2 Gbit/s}}", "out: 2 Gbit/s}, shaped: 97.5%}"),
        ("kind: aggregation}", "kind: aggregation, shaped: 90 %}"),
    )
    (tmp_path / "said").mkdir()
    assert load_text(tmp_path / "said", text) == []
    said = load_registry(tmp_path / "said")
    assert said.usable_bps(said.link["isp2"]) == (1_950_000_000, 2_000_000_000)
    assert said.usable_bps(said.link["ag"]) == (9_000_000_000, 10_000_000_000)
    (problem,) = load_text(tmp_path / "said", broken(("out: 2 Gbit/s}}", "out: 2 Gbit/s}, shaped: 20 %}")))
    assert '"20 %" is out of range - use "50 %" to "100 %"' in str(problem)


def test_lookups_by_name(base: Registry) -> None:
    """Each section is found by name, in file order; sections without names refuse."""
    assert list(base.by_name("links")) == ["isp1", "isp2", "ag"]
    assert base.default_instance == "pub"
    assert [name for name, _ in base][:3] == ["regions", "sites", "zones"]
    with pytest.raises(KeyError):
        base.by_name("networks")
    with pytest.raises(KeyError):
        base.section("nothing")


def test_entities_are_frozen(base: Registry) -> None:
    """What was checked can't be changed any more."""
    with pytest.raises(ValueError, match="frozen"):
        base.regions[0].name = "other"  # type: ignore[misc]


def test_files_are_joined_in_order(tmp_path: Path) -> None:
    """The lists of all files are joined; references cross files; duplicates name both files."""
    first = "version: 1\nregions: [{name: r, kind: city}]\nzones: [{name: a}]\n"
    second = "version: 1\nsites: [{name: S1, region: r}]\nzones:\n  - {name: b}\n  - {name: «a}\n"
    problems = load_text(tmp_path, first, second)
    assert [(p.file, p.line, p.column) for p in problems] == [(str(tmp_path / "b.yaml"), *marks(second)[0])]
    assert f"the first is at {tmp_path / 'a.yaml'}:3:16" in problems[0].remedy


def test_mistakes_of_all_files_in_one_run(tmp_path: Path) -> None:
    """A file that can't be parsed doesn't hide the others' mistakes, and makes no name unknown."""
    syntax = "version: 1\nservers: [{name: SRV-1, «]\n"
    typed = "version: 1\nzones: [{name: «Bad Name}]\n"
    refers = (
        "version: 1\npublic_addresses: [{address: 203.0.113.1, server: SRV-1}]\nregions: [{name: r, kind: «city1}]\n"
    )
    problems = load_text(tmp_path, syntax, typed, refers)
    assert [(Path(p.file).name, p.line, p.column) for p in problems] == [
        ("a.yaml", *marks(syntax)[0]),
        ("b.yaml", *marks(typed)[0]),
        ("c.yaml", *marks(refers)[0]),
    ]


def test_broken_entries_count_as_known(tmp_path: Path) -> None:
    """An entry with a mistake is reported itself; references to it are not called unknown."""
    text = broken(("{name: hrss, class: centralised}", "{name: hrss, class: «central}"))
    problems = load_text(tmp_path, text)
    assert [(p.line, p.column) for p in problems] == marks(text)


def test_a_section_that_is_no_list_judges_no_reference(tmp_path: Path) -> None:
    """Where a section can't be read, nobody knows which of its names are unknown."""
    text = "version: 1\nregions: «{name: r}\nsites: [{name: S1, region: r}]\n"
    problems = load_text(tmp_path, text)
    assert [(p.line, p.column) for p in problems] == marks(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("«", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("«[1, 2]\n", "the file is a list, not a mapping"),
        ("«{}\n", '"version" is missing'),
        ("version: 1\nversion: «1.5\n".replace("version: 1\n", ""), '"version" is 1.5'),
        ("version: 1\na: [b\nc«: d\n", "YAML: did not find expected"),
        ("version: 1\n«\tzones: []\n", "YAML: found a tab character"),
        ("version: 1\nzones: [{name: a«: b: c}]\n", None),
    ],
)
def test_unusable_files(tmp_path: Path, text: str, message: str | None) -> None:
    """Files without usable content are mistakes at their place, never a traceback."""
    problems = load_text(tmp_path, text)
    assert len(problems) == 1
    if message is not None:
        assert message in problems[0].message
        assert (problems[0].line, problems[0].column) == (marks(text) or [(1, 1)])[0]


def test_city_twice(tmp_path: Path) -> None:
    """The city is declared once in the whole registry."""
    text = "version: 1\ncity: {name: a}\n"
    problems = load_text(tmp_path, text, text)
    assert [(Path(p.file).name, p.line, p.column) for p in problems] == [("b.yaml", 2, 1)]
    assert problems[0].message == "the city is declared twice"


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_directory_that_holds_no_registry(tmp_path: Path, kind: str) -> None:
    """A directory without registry files is an input error that names it."""
    directory = tmp_path / "registry"
    if kind == "file":
        directory.write_text("version: 1\n")
    elif kind == "empty":
        directory.mkdir()
    with pytest.raises(ProblemsError) as caught:
        load_registry(directory)
    assert str(caught.value).startswith(f"{directory}:0:0: ")
    assert caught.value.exit_code == 2


def test_implicit_instance_and_city(tmp_path: Path) -> None:
    """A small registry needs no routing instance and no city of its own."""
    (tmp_path / "a.yaml").write_text("version: 1\nzones: [{name: a}]\n")
    registry = load_registry(tmp_path)
    assert registry.default_instance == "default"
    assert registry.instances[0].default
    assert registry.city.time_zone == "UTC"
    assert registry.warnings == ()


def test_warnings_do_not_refuse(tmp_path: Path) -> None:
    """What is suspicious but loadable is kept as a warning at its place."""
    replacements = [
        ('ports: ["16384-32767"]}]}', 'ports: ["16384-32767"]}]}\n  - {name: «silent, owner: hrss}'),
        ("prefixes: [172.16.1.0/24]", 'prefixes: [172.16.1.0/24, «"2001:db8:ffff::/48"]'),
        ("addresses: [172.16.0.11]", "addresses: [172.16.0.11, «9.9.9.9]"),
        ("{name: waf, servers", "{name: waf, instance: «pub, servers"),
        ("{name: core, device: AG01, interface: XGE1/0/3", "{name: core, device: AG01, interface: «XGE1/0/3"),
        ("agents: [100.64.255.2], ", ""),
        ("{address: 203.0.113.10, server: SRV-1}", '{address: «"2001:db8:ffff::1", server: SRV-2}'),
    ]
    text = broken(*replacements)
    assert load_text(tmp_path, text) == []
    (tmp_path / "old.yml").write_text("ignored")
    warnings = load_registry(tmp_path).warnings
    assert [(w.line, w.column) for w in warnings[:-1]] == marks(text)
    for warning, word in zip(
        warnings,
        [
            "outside the city",
            "is in no network",
            "served nowhere",
            "the instance says nothing",
            "no agent address",
            "no IPv6 address behind",
            "is ignored",
        ],
        strict=True,
    ):
        assert word in warning.message


def test_source_map_or_index_matches_a_metering_point(tmp_path: Path) -> None:
    """A metering point without ifIndex is fine where a source id stands for it, else a warning."""
    text = broken(("{name: core, device: AG01, interface: XGE1/0/3", "{name: core, device: CR01, interface: XGE1/0/5"))
    assert load_text(tmp_path, text) == []
    assert load_registry(tmp_path).warnings == ()
    text = text.replace('    source_map: [{source: "0:5", interface: XGE1/0/5}]\n', "")
    assert load_text(tmp_path, text) == []
    assert ["neither index nor source id" in w.message for w in load_registry(tmp_path).warnings] == [True]


def test_equal_claims_in_other_instances_and_at_other_ranks_are_fine(tmp_path: Path) -> None:
    """Another instance, prefix length, named protocol or width of ports decides between applications."""
    text = broken(
        (
            "{name: forum, owner: finance, serves: [{servers: [SRV-2], protocol: tcp, ports: [443]}]}",
            "{name: forum, owner: finance, serves: [{servers: [SRV-3], protocol: tcp, ports: [443]},"
            " {servers: [SRV-1], protocol: any, ports: [443]}, {servers: [SRV-1], protocol: tcp, ports: [443-444]},"
            " {prefixes: [172.16.0.0/28], protocol: tcp, ports: [443]}, {servers: [SRV-1], protocol: udp, ports: [443]},"
            " {servers: [SRV-2], protocol: tcp, ports: [443]}]}",
        )
    )
    assert load_text(tmp_path, text) == []


def test_many_applications_of_one_port_are_compared_by_sorting(tmp_path: Path) -> None:
    """Each application of a crowd on one port is reported once, not once for each pair."""
    crowd = "".join(
        f"  - {{name: app-{n}, owner: hrss, serves: [{{servers: [SRV-1], protocol: udp, ports: [53]}}]}}\n"
        for n in range(200)
    )
    problems = load_text(tmp_path, broken(("shared_services:\n", crowd + "shared_services:\n")))
    assert len(problems) == 199


def test_the_cycle_collector_is_left_as_it_was(base: Registry, tmp_path: Path) -> None:
    """Loading pauses the cycle collector and turns it on again, also after a mistake."""
    assert gc.isenabled()
    load_text(tmp_path, "version: 1\nzones: [")
    assert gc.isenabled()


def test_equal_registries_compare_equal(base: Registry, tmp_path: Path) -> None:
    """A reload can tell whether anything has changed."""
    assert load_registry(tmp_path) == base
    (tmp_path / "more.yaml").write_text("version: 1\nzones: [{name: new}]\n")
    assert load_registry(tmp_path) != base
