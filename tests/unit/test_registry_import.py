"""Importing CSV: cells keep their positions, files keep their comments, and what would not load is not written."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetryd.config.positions import parse_yaml
from telemetryd.errors import InputError, Problem, ProblemsError
from telemetryd.registry.append import append_to, apply, write_flow
from telemetryd.registry.csv_file import COLUMNS, read_csv
from telemetryd.registry.importer import plan_import
from telemetryd.registry.load import load_registry
from tests.unit.registry_case import BASE, MARK, marks


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    directory = tmp_path / "registry"
    directory.mkdir()
    (directory / "city.yaml").write_text(BASE, encoding="utf-8")
    return directory


def write_csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "new.csv"
    path.write_text(text.replace(MARK, ""), encoding="utf-8", newline="")
    return path


def run(section: str, tmp_path: Path, text: str) -> None:
    plan_import(section, write_csv(tmp_path, text), tmp_path / "registry").write()


def test_networks_make_a_new_file(tmp_path: Path, registry: Path) -> None:
    """Entries go to SECTION.yaml, which is made where it is missing; other files stay as they are."""
    run("networks", tmp_path, "prefix,department,zone,region\n10.1.0.0/16,hrss,public,\n2001:db8:c::/48,,,yundong\n")
    assert (registry / "networks.yaml").read_text() == (
        "version: 1\nnetworks:\n"
        "  - {prefix: 10.1.0.0/16, department: hrss, zone: public}\n"
        '  - {prefix: "2001:db8:c::/48", region: yundong}\n'
    )
    assert (registry / "city.yaml").read_text() == BASE
    assert [str(n.prefix) for n in load_registry(registry).networks[-2:]] == ["10.1.0.0/16", "2001:db8:c::/48"]


def test_comments_and_layout_are_kept(tmp_path: Path, registry: Path) -> None:
    """Every character that was there stays; a second import goes on where the first ended."""
    before = (
        "# our servers\nversion: 1\nservers:\n- name: SRV-8   # the eighth\n  addresses:\n  - 172.16.0.8\n"
        "  # more to come\n\nzones:  # zones too\n- {name: extra}\n"
    )
    (registry / "servers.yaml").write_text(before)
    run("servers", tmp_path, "name,addresses\nSRV-9,172.16.0.9;2001:db8:a::9\n")
    added = '- {name: SRV-9, addresses: [172.16.0.9, "2001:db8:a::9"]}\n'
    expected = before.replace("  # more to come", added + "  # more to come")
    assert (registry / "servers.yaml").read_text() == expected
    run("servers", tmp_path, "name,addresses\r\nSRV-7,172.16.0.7\r\n")
    second = "- {name: SRV-7, addresses: [172.16.0.7]}\n"
    assert (registry / "servers.yaml").read_text() == expected.replace(added, added + second)


def test_departments_with_nested_fields(tmp_path: Path, registry: Path) -> None:
    """Dotted columns fill nested fields; quoted cells may hold commas and quotes."""
    run(
        "departments",
        tmp_path,
        "name,title.en,title.zh,class,contact,contract.in,contract.out\n"
        'tax,"Tax, ""local""",税务局,transitional,a@b.example,600 Mbit/s,\n',
    )
    tax = load_registry(registry).department["tax"]
    assert tax.title is not None and (tax.title.en, tax.title.zh) == ('Tax, "local"', "税务局")
    assert tax.contract is not None and (tax.contract.in_bps, tax.contract.out_bps) == (600_000_000, None)


def test_rows_of_one_application_are_joined(tmp_path: Path, registry: Path) -> None:
    """Rows with the same name are one application, with one entry of serves a row."""
    run(
        "applications",
        tmp_path,
        "name,owner,mlps,servers,protocol,ports,prefixes\n"
        "new,hrss,2,SRV-1 SRV-2,udp,53 1000-2000,\n"
        "new,,,,6,22,172.16.2.0/24\n"
        "idle,hrss,1,,,,\n",
    )
    new = load_registry(registry).application["new"]
    assert new.mlps == 2
    assert [(s.servers, s.protocol, s.ports) for s in new.serves] == [
        (("SRV-1", "SRV-2"), 17, ((53, 53), (1000, 2000))),
        ((), 6, ((22, 22),)),
    ]
    assert load_registry(registry).application["idle"].serves == ()


def test_interfaces_go_into_their_devices(tmp_path: Path, registry: Path) -> None:
    """Interfaces are added to block and flow lists, and to a device that has none yet."""
    path = registry / "city.yaml"
    path.write_text(
        BASE.replace("links:\n", "  - {name: NEW, role: leaf}\n  - name: NEW2\n    role: leaf  # new\nlinks:\n")
    )
    before = path.read_text()
    run(
        "interfaces",
        tmp_path,
        "device,name,index,speed,alias,labelled\n"
        "CR01,XGE1/0/9,9,10 Gbit/s,to the moon,true\n"
        "AG01,XGE1/0/4,4,10 Gbit/s,,\n"
        "NEW,GE1,1,1 Gbit/s,,false\n"
        "NEW2,GE1,1,1 Gbit/s,,\n"
        "NEW2,GE2,2,1 Gbit/s,,\n",
    )
    after = path.read_text()
    new = [line for line in after.splitlines() if line not in before.splitlines()]
    assert new == [
        "      - {name: XGE1/0/9, index: 9, speed: 10 Gbit/s, alias: to the moon, labelled: true}",
        "  - {name: AG01, role: aggregation, agents: [100.64.255.2], interfaces: [{name: XGE1/0/3, index: 3, "
        "speed: 10 Gbit/s}, {name: XGE1/0/4, index: 4, speed: 10 Gbit/s}]}",
        "  - {name: NEW, role: leaf, interfaces: [{name: GE1, index: 1, speed: 1 Gbit/s, labelled: false}]}",
        "      - {name: GE1, index: 1, speed: 1 Gbit/s}",
        "      - {name: GE2, index: 2, speed: 1 Gbit/s}",
    ]
    registry_now = load_registry(registry)
    assert [p.name for p in registry_now.device["NEW2"].interfaces] == ["GE1", "GE2"]
    assert registry_now.interface["CR01", "XGE1/0/9"].labelled


@pytest.mark.parametrize(
    ("section", "text", "message"),
    [
        ("servers", "name,addresses,«departmant\n", 'unknown column "departmant" - did you mean "department"?'),
        ("servers", "name,addresses,«name\n", 'column "name" is there twice'),
        ("servers", "«addresses\n172.16.0.9\n", 'column "name" is missing'),
        ("servers", "name,addresses\nSRV-9,172.16.0.9,«x\n", "the row has 3 cells, the header 2"),
        ("servers", 'name,addresses\nSRV-9,«"172.16.0.9\n', "a quote is not closed"),
        ("servers", 'name,addresses\n«"SRV"-9,172.16.0.9\n', "a quote is not closed"),
        ("servers", "name,addresses\nSRV-9,«172.16.\x0b0.9\n", "a cell holds the character U+000B"),
        ("servers", "«", "the file is empty"),
        ("servers", "name,addresses\n\nSRV-9,«\n", '"addresses" is missing'),
        ("servers", "name,addresses\nSRV-9,172.16.0.9;  «172.16.0.300\n", "numbers of an IPv4 address are 0 to 255"),
        ("servers", 'name,addresses\nSRV-9," 172.16.0.9 «172.16.0.8/32"\n', "leave out the prefix length"),
        ("servers", "name,addresses\n«SRV-1,172.16.0.9\n", 'servers: name "SRV-1" is used twice'),
        ("servers", "name,addresses\nSRV-9,«172.16.0.10\n", 'address 172.16.0.10 is server "SRV-1" too'),
        ("servers", "name,zone,addresses\nSRV-9, «publik ,172.16.0.9\n", 'zone "publik" is unknown - did you mean "public"?'),
        ("networks", "zone,prefix\n市,10.0.0.0/8\n".replace("市", "«市"), 'which is no name'),
        ("networks", "prefix\n10.0.0.0/8\n«10.0.0.1/8\n", "has host bits"),
        ("departments", "name,class\nx,«strengthend\n", 'did you mean "strengthened"?'),
        ("departments", "name,contract.in\nx,«5 Mbps\n", 'unknown unit "Mbps"'),
        ("applications", "name,owner,mlps\nx,hrss,«high\n", '"mlps" is "high", not a whole number'),
        ("applications", "name,owner,mlps\nx,hrss,1\nx,«finance,\n", "is different in an earlier row"),
        (
            "applications",
            "name,owner,servers,protocol,ports\nx,hrss,SRV-2,udp,1\nx,,SRV-1,tcp,22 «443\n",
            'application "x" claims tcp 443 of 172.16.0.10 in instance pub, as application "exam" does',
        ),
        ("interfaces", "device,name,index\n«AG02,GE1,1\n", 'device "AG02" is unknown - did you mean "AG01"?'),
        ("interfaces", "device,name,index\nCR01,GE1,«3\n", "index 3 of CR01 is used twice"),
        ("interfaces", "device,name,labelled\nCR01,GE1,«yes\n", '"labelled" is "yes", not true or false'),
    ],
)  # fmt: skip
def test_mistakes_of_a_csv(tmp_path: Path, registry: Path, section: str, text: str, message: str) -> None:
    """A mistake of a cell is one problem at FILE.csv:line:column, and nothing is written."""
    path = write_csv(tmp_path, text)
    before = {file: file.read_bytes() for file in registry.iterdir()}
    with pytest.raises(ProblemsError) as caught:
        plan_import(section, path, registry)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column) == (str(path), *marks(text)[0])
    assert message in f"{problem.message} - {problem.remedy}"
    assert {file: file.read_bytes() for file in registry.iterdir()} == before


def test_mistakes_of_csv_and_registry_in_one_run(tmp_path: Path, registry: Path) -> None:
    """Mistakes that the registry has already are listed with those of the CSV."""
    (registry / "more.yaml").write_text("version: 1\nzones: [{name: public}]\n")
    with pytest.raises(ProblemsError) as caught:
        plan_import("servers", write_csv(tmp_path, "name,addresses\nSRV-9,1.2.3\nSRV-8,1.2.3.4.5\n"), registry)
    assert [Path(p.file).name for p in caught.value.problems] == ["new.csv", "new.csv", "more.yaml"]


def test_unknown_section_and_unreadable_files(tmp_path: Path, registry: Path) -> None:
    """What can't be imported is said at once."""
    with pytest.raises(InputError, match="use one of departments"):
        plan_import("links", tmp_path / "none.csv", registry)
    with pytest.raises(ProblemsError, match="cannot be read: No such file"):
        plan_import("servers", tmp_path / "none.csv", registry)
    (tmp_path / "gbk.csv").write_bytes("name,title.zh\nx,税务局\n".encode("gbk"))
    with pytest.raises(ProblemsError, match="export the table as CSV UTF-8"):
        plan_import("departments", tmp_path / "gbk.csv", registry)


def test_a_file_changed_meanwhile_is_not_overwritten(tmp_path: Path, registry: Path) -> None:
    """Between check and write somebody else may save the file: then nothing is written."""
    (registry / "zones.yaml").write_text("version: 1\nservers: [{name: SRV-8, addresses: [172.16.0.8]}]\n")
    (registry / "zones.yaml").rename(registry / "servers.yaml")
    planned = plan_import("servers", write_csv(tmp_path, "name,addresses\nSRV-9,172.16.0.9\n"), registry)
    (registry / "servers.yaml").write_text("version: 1\n")
    with pytest.raises(InputError, match="has been changed meanwhile"):
        planned.write()
    assert (registry / "servers.yaml").read_text() == "version: 1\n"
    assert sorted(path.name for path in registry.iterdir()) == ["city.yaml", "servers.yaml"]


def test_mode_and_line_ends_are_kept(tmp_path: Path, registry: Path) -> None:
    """A file keeps its mode, its byte order mark and its line ends."""
    path = registry / "servers.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\r\nservers:\r\n  - {name: SRV-8, addresses: [172.16.0.8]}")
    path.chmod(0o640)
    run("servers", tmp_path, "name,addresses\nSRV-9,172.16.0.9\n")
    assert path.read_bytes() == (
        b"\xef\xbb\xbfversion: 1\r\nservers:\r\n  - {name: SRV-8, addresses: [172.16.0.8]}\r\n"
        b"  - {name: SRV-9, addresses: [172.16.0.9]}\r\n"
    )
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "text",
    [
        "zones: []\n",
        "zones: []  # none\nother: 1\n",
        "zones: [{name: a}]",
        "zones: [\n  {name: a},  # first\n  {name: b},\n]\n",
        "zones:\n- {name: a}  # first\n- name: b\n  note: >\n    folded\n    text\nother: {x: 1}\n",
        "zones:\n    - name: a\n      note: |+\n        kept\n\n\nother: 1\n",
        "zones:\n  - name: a\n    note:\nother: 1\n",
        "zones:\n  - name: a\n    note:   # nothing\n\n# end\n",
        'zones:\n  - name: "a\n      b"\nother: 1\n',
        "other: 1",
        "other: 1\n# the end\n",
        "other: 1\n...\n",
        "{other: 1}",
        "{}",
        "  other: 1\n  more: [1,\n   2]\n",
        "名称: 云海市\nzones:  # 区\n  - {name: 公用}  # 公\nother: 1\n",
    ],
)
def test_appending_adds_the_entry_and_nothing_else(text: str) -> None:
    """However a file is laid out, its data gains the entries, and no character of it is lost."""
    entry = {"name": "new", "title": {"zh": "新"}}
    document = parse_yaml(text, "f.yaml", [])
    assert document is not None
    edit = append_to(document, ("zones",), [entry, entry])
    after = apply(text, [edit])
    problems: list[Problem] = []
    again = parse_yaml(after, "f.yaml", problems)
    assert problems == []
    assert again is not None
    assert again.data == {**document.data, "zones": [*document.data.get("zones", []), entry, entry]}
    assert after[: edit.offset] + after[edit.offset + len(edit.text) :] == text


def test_a_layout_that_cannot_be_extended_is_refused(tmp_path: Path, registry: Path) -> None:
    """Where the entry would land elsewhere, the file is left alone and the operator told."""
    # The last value is an alias, whose text is that of its anchor, further up.
    before = "version: 1\nsites:\n  - {name: A1, region: &r\n      yundong}\n  - name: A2\n    region: *r\n"
    (registry / "departments.yaml").write_text(before)
    with pytest.raises(InputError, match="nothing can be added safely"):
        plan_import("departments", write_csv(tmp_path, "name\nx\n"), registry)


@pytest.mark.parametrize(
    "value",
    ["a", "on", "Yes", "12", "1.5", "1e3", "0x1f", "1:30", "18:00", "2026-11-28", "10.0.0.0/8", "::1", "", " a", "a ",
     "a: b", "a #b", "#a", "- a", "*a", "{a}", "[a", "a, b", '"a"', "'a'", "云海", "a\\b", "~", "null", "=", "<<", "!x",
     "100-199", "10 Gbit/s", "a@b.example", "%a", "1_000", "中文（市）", "?", "-", ".", "+1"],
)  # fmt: skip
def test_flow_style_round_trips(value: str) -> None:
    """A text written in flow style reads back as the same text, here and by YAML 1.1's rules."""
    import yaml

    data = {"key": [value, {"inner": value}], "n": 1, "flag": True}
    text = write_flow(data)
    document = parse_yaml(text, "f.yaml", [])
    assert document is not None
    assert document.data == data
    assert yaml.safe_load(text) == data


def test_every_column_is_a_field() -> None:
    """The columns of CSV name fields that the models have."""
    from telemetryd.config.explain import field_names, model_at
    from telemetryd.registry.models import SECTIONS, Interface, Serve

    for section, columns in COLUMNS.items():
        for name, column in columns.items():
            if (section, name) == ("interfaces", "device"):
                continue
            top = Serve if column.is_serve else Interface if section == "interfaces" else SECTIONS[section]
            model = model_at(top, column.path[:-1])
            assert model is not None and column.path[-1] in field_names(model)


def test_cells_of_a_csv_have_their_positions(tmp_path: Path) -> None:
    """Positions count lines inside quoted cells and columns after them."""
    problems: list[Problem] = []
    text = 'name,addresses,site\n"SRV-9","172.16.0.9 172.16.0.8",«DC-A\nSRV-8 , ,\n'
    document = read_csv(write_csv(tmp_path, text), "servers", problems)
    assert problems == []
    assert document.data["servers"] == [
        {"name": "SRV-9", "addresses": ["172.16.0.9", "172.16.0.8"], "site": "DC-A"},
        {"name": "SRV-8"},
    ]
    assert document.where(("servers", 0, "site"))[1:] == marks(text)[0]
    assert document.where(("servers", 0, "addresses", 1))[1:] == (2, 21)
    assert document.where(("servers", 1, "instance"))[1:] == (3, 1)
