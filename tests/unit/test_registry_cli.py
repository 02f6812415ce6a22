"""`telemetryd registry`: what it prints, its exit codes, its JSON, and its documents."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from telemetryd.cli.main import main
from telemetryd.registry.flat import VIEWS
from telemetryd.registry.load import load_registry
from telemetryd.registry.locate import default_registry
from telemetryd.registry.models import SECTIONS
from telemetryd.registry.reference_docs import BEGIN, render_reference, update
from telemetryd.registry.schema_json import registry_schema
from tests.unit.registry_case import BASE, broken

pytestmark = pytest.mark.no_twins

DOCS = Path(__file__).parents[2] / "docs"
OUTPUT = jsonschema.Draft202012Validator(json.loads((DOCS / "registry-output.schema.json").read_text()))


@pytest.fixture
def city(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TELEMETRYD_REGISTRY", raising=False)
    directory = tmp_path / "registry"
    directory.mkdir()
    (directory / "city.yaml").write_text(BASE, encoding="utf-8")
    return directory


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["registry", *map(str, arguments)])
    output = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, output.out, output.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(capsys, *arguments, "--json")
    document: dict[str, Any] = json.loads(out)
    OUTPUT.validate(document)
    return code, document


def test_check_counts_the_sections(capsys: pytest.CaptureFixture[str], city: Path) -> None:
    """A good registry is summed up, exit code 0; the environment can name it."""
    code, out, err = run(capsys, "check", city)
    assert code == 0
    assert "yunhai" in out and "departments" in out
    assert err == "no mistakes, no warnings\n"
    code, document = run_json(capsys, "check", "--registry", city)
    assert (code, document["ok"], document["sections"]["servers"]) == (0, True, 3)


def test_check_lists_every_mistake(capsys: pytest.CaptureFixture[str], city: Path) -> None:
    """A bad registry: one line a mistake on stderr, exit code 2; the same as JSON."""
    text = broken(("kind: district", "kind: distrikt"), ("mlps: 3", "mlps: 9"))
    (city / "city.yaml").write_text(text, encoding="utf-8")
    code, out, err = run(capsys, "check", city)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[0].startswith(f"{city / 'city.yaml'}:4:27: ")
    assert lines[-1] == "telemetryd: 2 mistakes"
    code, document = run_json(capsys, "check", city)
    assert (code, document["ok"], len(document["mistakes"])) == (2, False, 2)
    assert document["mistakes"][0]["line"] == 4


def test_check_prints_warnings(capsys: pytest.CaptureFixture[str], city: Path) -> None:
    """Warnings are printed and counted, exit code 0."""
    (city / "old.yml").write_text("")
    code, _, err = run(capsys, "check", city)
    assert code == 0
    assert err.splitlines()[0].startswith(f"warning: {city / 'old.yml'}:0:0: is ignored - ")
    assert err.splitlines()[-1] == "no mistakes, 1 warning"
    assert len(run_json(capsys, "check", city)[1]["warnings"]) == 1


def test_show(capsys: pytest.CaptureFixture[str], city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections, a section, an entry; the directory may stand first or come from the environment."""
    code, out, _ = run(capsys, "show", city)
    assert code == 0 and "metering_points" in out
    monkeypatch.setenv("TELEMETRYD_REGISTRY", str(city))
    assert run_json(capsys, "show")[1]["sections"]["links"] == 3
    code, out, _ = run(capsys, "show", "departments", "finance")
    assert code == 0 and "{in: 600 Mbit/s, out: 600 Mbit/s}" in out
    _, document = run_json(capsys, "show", "applications", "exam")
    assert document["entries"][0]["serves"] == [{"servers": ["SRV-1"], "protocol": "tcp", "ports": [443, "8000-8009"]}]
    assert len(run_json(capsys, "show", "networks", "172.16.0.0/16")[1]["entries"]) == 2
    assert len(run_json(capsys, "show", "interfaces", "CR01")[1]["entries"]) == 5


@pytest.mark.parametrize("view", VIEWS)
def test_show_every_section(capsys: pytest.CaptureFixture[str], city: Path, view: str) -> None:
    """Each section can be shown as table, CSV and JSON, and its JSON could stand in a file again."""
    assert run(capsys, "show", city, view)[0] == 0
    code, out, _ = run(capsys, "show", city, view, "--csv")
    assert code == 0
    assert len(list(csv.DictReader(io.StringIO(out)))) >= 1
    entries = run_json(capsys, "show", city, view)[1]["entries"]
    if view in SECTIONS:
        model = SECTIONS[view]
        assert tuple(model.model_validate(entry) for entry in entries) == load_registry(city).section(view)


@pytest.mark.parametrize("section", ["departments", "networks", "servers", "applications", "interfaces"])
def test_csv_can_be_imported_again(
    capsys: pytest.CaptureFixture[str], city: Path, tmp_path: Path, section: str
) -> None:
    """What `show --csv` prints, `import` reads: the registry is the same afterwards."""
    before = load_registry(city)
    _, out, _ = run(capsys, "show", city, section, "--csv")
    (tmp_path / "all.csv").write_text(out, encoding="utf-8")
    data = yaml.safe_load(BASE)
    if section == "interfaces":
        for device in data["devices"]:
            del device["interfaces"]
    else:
        del data[section]
    (city / "city.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    code, _, err = run(capsys, "import", section, tmp_path / "all.csv", "-r", city)
    assert code == 0, err
    assert load_registry(city) == before


def test_import_dry_run(capsys: pytest.CaptureFixture[str], city: Path, tmp_path: Path) -> None:
    """A dry run prints what would change and writes nothing."""
    (tmp_path / "new.csv").write_text("name,addresses\nSRV-9,172.16.0.9\n")
    code, out, err = run(capsys, "import", "servers", tmp_path / "new.csv", "-r", city, "--dry-run")
    assert code == 0
    assert "+  - {name: SRV-9, addresses: [172.16.0.9]}" in out.splitlines()
    assert err == f"1 servers would be added to {city / 'servers.yaml'}\n"
    assert [path.name for path in city.iterdir()] == ["city.yaml"]
    arguments = ("import", "servers", tmp_path / "new.csv", "-r", city)
    assert run_json(capsys, *arguments, "--dry-run")[1]["written"] is False
    assert run_json(capsys, *arguments)[1]["written"] is True
    assert "SRV-9" in load_registry(city).server


def test_import_wants_to_be_told_the_registry(capsys: pytest.CaptureFixture[str], city: Path) -> None:
    """Nothing is ever written to the shipped example city by default."""
    code, _, err = run(capsys, "import", "servers", "x.csv")
    assert code == 2 and "no registry to write to" in err


def test_import_mistake(capsys: pytest.CaptureFixture[str], city: Path, tmp_path: Path) -> None:
    """A mistake in the CSV: its line and column, exit code 2."""
    path = tmp_path / "new.csv"
    path.write_text("name,addresses\nSRV-9,172.16.0.900\n")
    code, _, err = run(capsys, "import", "servers", path, "-r", city)
    assert code == 2
    assert err.startswith(f"{path}:2:7: ")


def test_find(capsys: pytest.CaptureFixture[str], city: Path) -> None:
    """What is known of an address, in every instance; exit code 1 if an address is unknown."""
    code, out, _ = run(capsys, "find", "172.16.0.10", "-r", city)
    assert code == 0
    assert "172.16.0.10 in instance pub" in out and "172.16.0.10 in instance vpn-finance" in out
    assert "exam (tcp 443 8000-8009 at 172.16.0.10, owner hrss)" in out
    code, document = run_json(capsys, "find", "172.16.0.10", "2001:db8:ffff::1", "-r", city)
    assert code == 1
    assert [len(entry["findings"]) for entry in document["addresses"]] == [2, 0]
    code, _, err = run(capsys, "find", "2001:db8:ffff::1", "-r", city)
    assert (code, err) == (1, "2001:db8:ffff::1: in no routing instance\n")
    code, document = run_json(capsys, "find", "172.16.0.10", "-i", "vpn-finance", "-r", city)
    assert [f["instance"] for f in document["addresses"][0]["findings"]] == ["vpn-finance"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("find", "nonsense"),
        ("find", "1.2.3.4", "-i", "nowhere"),
        ("show", "nothing"),
        ("show", "departments", "finanse"),
        ("show", "departments", "finance", "more"),
        ("check", "/nonexistent"),
        ("nothing",),
    ],
)
def test_wrong_command_lines(capsys: pytest.CaptureFixture[str], city: Path, arguments: tuple[str, ...]) -> None:
    """A wrong command line says what is wrong, exit code 2, never a traceback."""
    option = () if arguments[0] in ("check", "nothing") else ("-r", city)
    code, out, err = run(capsys, *arguments, *option)
    assert (code, out) == (2, "")
    assert err and "Traceback" not in err


def test_schema_accepts_what_loads_and_refuses_wrong_forms(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON Schema is valid, knows every section, and agrees with the loader on forms."""
    code, out, _ = run(capsys, "schema")
    assert code == 0
    schema = json.loads(out)
    assert schema == registry_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    data = yaml.safe_load(BASE)
    validator.validate(data)
    for section, entry in [
        ("links", {"name": "x"}),
        ("regions", {"name": "x", "kind": "moon"}),
        ("departments", {"name": "Bad Name"}),
        ("departments", {"name": "x", "contract": {"in": "600"}}),
        ("networks", {"prefix": "10.0.0.0/8", "more": 1}),
    ]:
        assert not validator.is_valid({**data, section: [entry]}), (section, entry)


def test_schema_accepts_the_example_city() -> None:
    """Every file of the shipped example city follows the JSON Schema."""
    validator = jsonschema.Draft202012Validator(registry_schema())
    for path in default_registry().glob("*.yaml"):
        validator.validate(yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader))


def test_reference_is_up_to_date() -> None:
    """docs/registry.md holds what the models say: `python -m telemetryd.registry.reference_docs docs/registry.md`."""
    text = (DOCS / "registry.md").read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].lstrip("\n") == render_reference()
    assert update(text) == text


def test_the_document_example_loads(tmp_path: Path) -> None:
    """The smallest registry of docs/registry.md is a registry without warnings."""
    text = (DOCS / "registry.md").read_text(encoding="utf-8")
    (tmp_path / "a.yaml").write_text(text.partition("```yaml\n")[2].partition("```")[0])
    assert load_registry(tmp_path).warnings == ()
