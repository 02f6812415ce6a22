"""The settings of outputs and spool: every mistake at its place, and no place for a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telemetryd.config.settings import changes, parse_settings
from telemetryd.config.settings_docs import render_schema
from telemetryd.errors import ProblemsError

BASE = """\
version: 1
registry: city
spool: {path: spool, size: 1 GiB, age: 2 d, rejected: 16 MiB}
outputs:
- {name: city, url: "https://influx.example:8086/", org: gov, bucket: usage, token_file: token, ca_file: ca.pem}
- {name: old, url: "http://[::1]:8086", bucket: "db/rp", credential: influx, timeout: 5 s, connections: 2}
"""

# id -> (text of BASE, what stands there instead with « before the mistake, what the problem says)
MISTAKES = {
    "scheme": ('"https://influx.example:8086/"', '«"ftp://x"', '"url": "ftp://x" is no URL of a server - write one such'),
    "no-host": ('"https://influx.example:8086/"', '«"https://"', "is no URL of a server"),
    "port": ('"https://influx.example:8086/"', '«"https://x:99999"', "is no URL - write one"),
    "number": ('"https://influx.example:8086/"', "«8086", '"url": 8086 is no URL'),
    "user": ('"https://influx.example:8086/"', '«"https://u:secret@x"', "must not hold a user or a password - put user:pass"),
    "query": ('"https://influx.example:8086/"', '«"https://x?token=1"', "has a query or a fragment"),
    "name": ("name: city", "name: «City", '"name" is "City", which is no name - use lower-case letters'),
    "no-bucket": ('{name: old, url: "http://[::1]:8086", bucket: "db/rp"', '«{name: old, url: "http://[::1]:8086"', '"bucket" is missing'),
    "unknown": ("token_file: token", "«token: abc", 'unknown field "token" - did you mean "token_file"?'),
    "kind": ("connections: 2", "kind: «influx", '"kind" is "influx" - did you mean "influxdb"?'),
    "connections": ("connections: 2", "connections: «0", "use a number of at least 1"),
    "size": ("size: 1 GiB", "size: «1 MiB", "out of range"),
    "mapping": (BASE.partition("outputs:\n")[2], "  «name: city\n", "not a list"),
    "twice": (BASE.partition("outputs:\n")[2], "«- {name: a, url: 'http://x', bucket: b}\n- {name: a, url: 'http://y', bucket: b}\n", 'two outputs are called "a"'),
    "two-tokens": (BASE.partition("outputs:\n")[2], "«- {name: a, url: 'http://x', bucket: b, token_file: t, credential: c}\n", "has a token_file and a credential - keep one of them"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_reported_at_its_place(case: tuple[str, str, str]) -> None:
    """One mistake gives one problem, with line, column and what to do; no secret is repeated."""
    there, instead, says = case
    assert BASE.count(there) == 1
    before, _, after = BASE.replace(there, instead).partition("«")
    with pytest.raises(ProblemsError) as caught:
        parse_settings(before + after, "t.yaml", {})
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (before.count("\n") + 1, len(before) - before.rfind("\n"))
    assert says in f"{problem.message} - {problem.remedy}"
    assert "secret" not in str(problem)


def test_values_are_what_was_written(tmp_path: Path) -> None:
    """Paths are relative to the file, the URL has no slash at its end, and the second output its own values."""
    settings = parse_settings(BASE, str(tmp_path / "t.yaml"), {}).settings
    first, second = settings.outputs
    assert (first.url, first.token_file, first.ca_file) == (
        "https://influx.example:8086", tmp_path / "token", tmp_path / "ca.pem"
    )  # fmt: skip
    assert (second.credential, second.token_file, second.timeout, second.connections) == ("influx", None, 5 * 10**9, 2)
    assert settings.spool.path == tmp_path / "spool"
    assert settings.spool.size == 1 << 30


def test_the_spool_is_in_the_state_directory() -> None:
    """Under systemd, spool and store are neighbours; without outputs there is nothing to send."""
    loaded = parse_settings("version: 1\nregistry: r\n", "t.yaml", {"STATE_DIRECTORY": "/var/lib/t"})
    assert loaded.settings.spool.path == Path("/var/lib/t/spool")
    assert loaded.settings.store.path == Path("/var/lib/t/store")
    assert loaded.settings.outputs == ()


def test_what_is_shown_can_be_read_again() -> None:
    """The written values of outputs give the same settings, pass the published schema, and a change is named."""
    jsonschema = pytest.importorskip("jsonschema")
    settings = parse_settings(BASE, "/etc/t.yaml", {}).settings
    document = settings.model_dump(mode="json")
    assert parse_settings(json.dumps(document), "/etc/t.yaml", {}).settings == settings
    validator = jsonschema.Draft202012Validator(json.loads(render_schema()))
    assert not list(validator.iter_errors(document))
    other = parse_settings(BASE.replace("bucket: usage", "bucket: other"), "/etc/t.yaml", {}).settings
    assert changes(settings, other) == ["outputs"]
