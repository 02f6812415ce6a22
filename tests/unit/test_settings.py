"""The daemon's settings: every mistake at its place, defaults, and where each value came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telemetryd.cli.main import main
from telemetryd.config.settings import SECOND_NS, Settings, changes, load_settings, parse_settings
from telemetryd.config.settings_docs import BEGIN, DOCUMENT, SCHEMA, render_reference, render_schema, update
from telemetryd.configuration import load_configuration
from telemetryd.errors import InputError, Problem, ProblemsError

DOCS = Path(__file__).parents[2] / "docs"
BASE = """\
version: 1
registry: city
listen:
  address: "::"
  port: 6343
  sockets: 2
  receive_buffer: 128 MiB
  sources: registered
  also_from: [192.0.2.1, "2001:db8::/32"]
limits: {agent_datagrams_per_s: 1000, backlog: 64 MiB, drain: 5 s}
store: {path: /srv/store, retention: {second: 1 d, hour: 400 d}}
http: {enabled: true, address: "::1", port: 0}
control: {socket: control.sock}
log: {level: debug, format: json}
"""

# id -> (text of BASE, what stands there instead with « before the mistake, what the problem says)
MISTAKES = {
    "version": ("version: 1", "version: «2", '"version" is 2 - use 1'),
    "version-quoted": ("version: 1", 'version: «"1"', 'use 1'),
    "no-registry": ("version: 1\nregistry: city", "«version: 1", '"registry" is missing - add it'),
    "registry-number": ("registry: city", "registry: «7", '"registry": 7 is no path - write the path as a text'),
    "registry-empty": ("registry: city", 'registry: «""', '"registry": "" is no path'),
    "unknown-section": ("listen:", "«lissen:", 'unknown section "lissen" - did you mean "listen"?'),
    "unknown-field": ("address: \"::\"", "«adress: \"::\"", 'unknown field "adress" - did you mean "address"?'),
    "section-a-list": ("http: {enabled: true, address: \"::1\", port: 0}", "http: «[]", '"http" is a list, not a mapping'),
    "section-empty": ("control: {socket: control.sock}", "control: «~", '"control" is nothing, not a mapping'),
    "host-name": ("address: \"::\"", "address: «localhost", '"address": "localhost" is no IP address - write one such'),
    "port-too-high": ("port: 6343", "port: «65536", "out of range - use a number of at most 65535"),
    "port-negative": ("port: 6343", "port: «-1", "out of range - use a number of at least 0"),
    "port-quoted": ("port: 6343", 'port: «"6343"', "not a whole number - remove the quotes"),
    "port-a-fraction": ("port: 6343", "port: «1.5", '"port" is 1.5, not a whole number'),
    "port-a-flag": ("port: 6343", "port: «true", '"port" is true, not a whole number'),
    "no-socket": ("sockets: 2", "sockets: «0", "out of range - use a number of at least 1"),
    "buffer-without-unit": ("128 MiB", "«128", '"receive_buffer": 128 is no size - write number and unit'),
    "buffer-unknown-unit": ("128 MiB", "«128 MB/s", 'unknown unit "MB/s"'),
    "buffer-too-small": ("128 MiB", "«1 KiB", '"1 KiB" is out of range - use "64 KiB" to "1 GiB"'),
    "sources": ("sources: registered", "sources: «registred", 'did you mean "registered"? use one of registered, any'),
    "also-from-no-list": ('[192.0.2.1, "2001:db8::/32"]', "«192.0.2.1", "not a list - write a list"),
    "also-from-entry": ("[192.0.2.1, ", "[«192.0.2.256, ", 'an entry of "also_from": "192.0.2.256" is no IP address and no network'),
    "rate-negative": ("agent_datagrams_per_s: 1000", "agent_datagrams_per_s: «-5", "at least 0"),
    "backlog": ("backlog: 64 MiB", "backlog: «0 B", 'out of range - use "1 MiB" to "64 GiB"'),
    "drain": ("drain: 5 s", "drain: «5", '"drain": 5 is no duration - write number and unit, such as "10 s"'),
    "drain-too-long": ("drain: 5 s", "drain: «1 h", 'use "100 ms" to "10 min"'),
    "retention-field": ("hour: 400 d", "«hours: 400 d", 'unknown field "hours" - did you mean "hour"?'),
    "retention-180": ("hour: 400 d", "hour: «180 d", '"180 d" is less than 184 d - logs are kept six calendar months by law'),
    "retention-floor": ("second: 1 d", "five_minutes: «4415 h", 'have up to 184 days: write "184 d" or more; the default is "200 d"'),
    "retention-short": ("second: 1 d", "second: «1 s", 'out of range - use "1 h"'),
    "flag": ("enabled: true", "enabled: «yes", "not true or false - write true or false, without quotes"),
    "level": ("level: debug", "level: «loud", '"level" is "loud" - use one of debug, info, warning, error'),
    "format": ("format: json", "format: «jsn", 'did you mean "json"? use one of text, json'),
    "twice": ("  sockets: 2", "  sockets: 2\n  «port: 1", 'key "port" is written twice - keep one of them'),
    "syntax": ("log: {level: debug, format: json}", "log: {level: debug«", "YAML: did not find expected"),
    "a-list": (BASE, "«[1]", "the file is a list, not a mapping - start with"),
    "empty": (BASE, "«# nothing", "the file is empty"),
}  # fmt: skip


def problems_of(text: str) -> list[Problem]:
    with pytest.raises(ProblemsError) as caught:
        parse_settings(text, "telemetryd.yaml", {})
    return caught.value.problems


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_reported_at_its_place(case: tuple[str, str, str]) -> None:
    """One mistake gives one problem, with file, line, column and what to do."""
    there, instead, says = case
    assert BASE.count(there) == 1
    before, _, after = BASE.replace(there, instead).partition("«")
    (problem,) = problems_of(before + after)
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    if says.startswith("YAML"):  # where the parser gave up, behind the mistake
        assert (problem.line, problem.column) >= (line, column)
    elif "is empty" not in says:
        assert (problem.line, problem.column) == (line, column)
    assert problem.file == "telemetryd.yaml"
    assert says in f"{problem.message} - {problem.remedy}"


def test_all_mistakes_are_reported_at_once() -> None:
    """Mistakes in several sections come in one run, in the order of the file."""
    text = BASE.replace("port: 6343", "port: no").replace("drain: 5 s", "drain: soon").replace("json}", "xml}")
    assert [problem.line for problem in problems_of(text)] == [5, 10, 14]


def test_an_unreadable_file_is_a_mistake(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(ProblemsError, match=r"none\.yaml:0:0: cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml")


def test_values_are_what_was_written(tmp_path: Path) -> None:
    """Quantities are parsed, and relative paths are relative to the file."""
    file = tmp_path / "telemetryd.yaml"
    file.write_text(BASE)
    settings = load_settings(file, {}).settings
    assert settings.registry == tmp_path / "city"
    assert settings.control.socket == tmp_path / "control.sock"
    assert str(settings.store.path) == "/srv/store"
    assert settings.listen.receive_buffer == 128 << 20
    assert settings.listen.also_from == ("192.0.2.1", "2001:db8::/32")
    assert settings.limits.drain == 5 * SECOND_NS
    assert settings.store.retention.by_span()[SECOND_NS] == 86_400 * SECOND_NS


def test_listeners_are_on_loopback_by_default() -> None:
    """What is not said is secure: loopback, registered sources."""
    settings = parse_settings("version: 1\nregistry: r", "t.yaml", {}).settings
    assert settings.listen.address == settings.http.address == "127.0.0.1"
    assert settings.listen.sources == "registered"


def test_defaults_pass_their_own_checks() -> None:
    """Writing all defaults out gives the same settings."""
    settings = parse_settings("version: 1\nregistry: /r", "t.yaml", {}).settings
    written = json.dumps(settings.model_dump(mode="json"))
    assert parse_settings(written, "t.yaml", {}).settings == settings


def test_origins_are_the_file_the_environment_or_the_default() -> None:
    """Every value says where it came from; systemd's directories count only where the file is silent."""
    environment = {"STATE_DIRECTORY": "/var/lib/t:/other", "RUNTIME_DIRECTORY": "/run/t"}
    text = "version: 1\nregistry: r\ncontrol: {socket: /mine}\n"
    found = {
        row.setting: (row.value, row.origin) for row in parse_settings(text, "/etc/t.yaml", environment).effective()
    }
    assert found["registry"] == ("/etc/r", "/etc/t.yaml:2:11")
    assert found["control.socket"] == ("/mine", "/etc/t.yaml:3:19")
    assert found["store.path"] == ("/var/lib/t/store", "$STATE_DIRECTORY")
    assert found["listen.port"] == (6343, "default")
    assert found["listen.also_from"] == ([], "default")


def test_changes_name_the_settings_that_differ() -> None:
    """A reload says exactly what changed."""
    old = parse_settings(BASE, "t.yaml", {}).settings
    new = parse_settings(BASE.replace("6343", "6344").replace("debug", "info"), "t.yaml", {}).settings
    assert changes(old, new) == ["listen.port", "log.level"]
    assert changes(old, old) == []


def test_the_registry_is_loaded_with_the_settings(tmp_path: Path) -> None:
    """A registry that is not there is a mistake at the setting that names it."""
    file = tmp_path / "telemetryd.yaml"
    file.write_text("version: 1\nregistry: nowhere\n")
    with pytest.raises(ProblemsError, match=r"telemetryd\.yaml:2:11: .*nowhere does not exist"):
        load_configuration(file)


def test_the_reference_is_up_to_date() -> None:
    """docs/ holds what the models say: `python -m telemetryd.config.settings_docs docs`."""
    text = (DOCS / DOCUMENT).read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].lstrip("\n") == render_reference()
    assert (DOCS / SCHEMA).read_text(encoding="utf-8") == render_schema()
    with pytest.raises(InputError):
        update("no mark")


def test_the_schema_accepts_what_the_loader_accepts() -> None:
    """The published schema takes the written defaults and refuses an unknown field."""
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(render_schema()))
    document = parse_settings(BASE, "t.yaml", {}).settings.model_dump(mode="json")
    assert not list(validator.iter_errors(document))
    assert list(validator.iter_errors({**document, "lissen": {}}))


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


def test_config_check_prints_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`config check` exits 2 with one line a mistake; 0 for a good file with its registry."""
    file = tmp_path / "telemetryd.yaml"
    file.write_text("version: 1\nregistry: r\nlog: {level: loud}\nhttp: {port: x}\n")
    assert run(["config", "check", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"{file}:").split(":")[0] for line in lines[:2]] == ["3", "4"]
    example = Path(__file__).parents[2] / "policies" / "example-city" / "registry"
    file.write_text(f"version: 1\nregistry: {example}\n")
    assert run(["config", "check", str(file)]) == 0
    assert "no mistakes" in capsys.readouterr().err


def test_config_show_and_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`config show --json` gives value and origin of every setting; `config schema` the schema."""
    file = tmp_path / "telemetryd.yaml"
    file.write_text("version: 1\nregistry: r\nlog: {level: error}\n")
    assert run(["config", "show", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["log.level"] == {"value": "error", "origin": f"{file}:3:14"}
    assert shown["http.port"] == {"value": 9343, "origin": "default"}
    assert run(["config", "show", str(file)]) == 0
    assert "listen.receive_buffer" in capsys.readouterr().out
    assert run(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(render_schema())
    assert set(json.loads(render_schema())["properties"]) == set(Settings.model_fields)
