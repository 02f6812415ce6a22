"""What `telemetryd query` prints: JSON by its schema, CSV, tables, and what it says about mistakes."""

import csv
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from telemetryd.cli.main import main
from telemetryd.store.embedded import Store
from telemetryd.store.when import format_time
from tests.storing import BASE, NAMES, S, expected_rows, window

DOCS = Path(__file__).parents[2] / "docs"
WINDOWS = [window(BASE + i * S, rows=15) for i in range(90)]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a minute and a half of traffic."""
    path = tmp_path_factory.mktemp("city") / "store"
    with Store.open(path) as store:
        store.append(WINDOWS, "capture")
    return path


@pytest.fixture
def run(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `telemetryd query` on that store: arguments -> exit code, stdout, stderr."""
    monkeypatch.setenv("TELEMETRYD_STORE", str(path))

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_info:
            main(["query", *arguments])
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    """The published schema."""
    document = json.loads((DOCS / "query.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


QUESTIONS = [
    ["top"],
    ["top", "--by", "zone_pair", "-n", "2"],
    ["top", "--by", "", "--table", "link_usage", "--link", "core-1 up"],
    ["top", "--by", "link,direction,service_class,peer_department", "--tz", "Asia/Shanghai"],
    ["top", "--from", "1999-01-01", "--to", "1999-01-02"],
    ["series"],
    ["series", "--by", "department", "-n", "1", "--bucket", "20s", "--direction", "inbound"],
    ["matrix", "-n", "1", "--n-columns", "1"],
    ["matrix", "--rows", "source_zone", "--columns", "destination_zone"],
    ["percentile", "--bin", "10s"],
    ["percentile", "--by", "application", "--percent", "50", "--bin", "1s", "-n", "1"],
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: " ".join(q))
def test_json_follows_the_published_schema(
    run: Run, schema: jsonschema.Draft202012Validator, question: list[str]
) -> None:
    """Every --json output is valid by docs/query.schema.json, which allows no unknown field."""
    code, out, _ = run(*question, "--json")
    assert code == 0
    document = json.loads(out)
    schema.validate(document)
    broken = {**document, "surprise": 1}
    assert not schema.is_valid(broken)
    if document["rows"]:
        row = dict(document["rows"][0])
        del row["samples"]
        assert not schema.is_valid({**document, "rows": [row]})


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: " ".join(q))
def test_csv_has_the_rows_of_json(run: Run, question: list[str]) -> None:
    """--csv has the same rows and values as --json, by column."""
    document = json.loads(run(*question, "--json")[1])
    rows = list(csv.DictReader(io.StringIO(run(*question, "--csv")[1])))
    assert len(rows) == len(document["rows"])
    for found, expected in zip(rows, document["rows"], strict=True):
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert found[name] == csv_text(value), name


def csv_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(value) if isinstance(value, list) else str(value)


def test_top_as_a_table(run: Run) -> None:
    """The table has a row a department with rate, interval, volume, samples and share, and the total below."""
    code, out, _ = run("top")
    assert code == 0
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    assert lines[0] == f"totals: {format_time(BASE)} to {format_time(BASE + 90 * S)}"
    assert re.split(r"\s{2,}", lines[1]) == ["department", "rate", "95 %", "volume", "samples", "share"]
    samples = dict.fromkeys(NAMES.departments, 0)
    for row in expected_rows(WINDOWS, "capture"):
        if row["table"] == "totals":
            samples[row["department"]] += row["samples"]
    body = [re.split(r"\s{2,}", line) for line in lines[3:]]
    assert {line[0]: int(line[4].replace(",", "")) for line in body} == {**samples, "total": sum(samples.values())}
    assert body[-1][5] == "100.0 %"
    for line in body:
        assert re.fullmatch(r"[\d.]+ [kMG]bit/s", line[1])
        assert re.fullmatch(r"± [\d.]+ %", line[2])


def test_grids(run: Run) -> None:
    """matrix and series by key print a grid, with the total of a line and every bucket a line."""
    _, out, _ = run("matrix", "-n", "2", "--n-columns", "1")
    lines = [line for line in out.splitlines() if line.strip()]
    heads = re.split(r"\s{2,}", lines[1].strip())
    assert [heads[0], *heads[2:]] == ["department", "other", "total"]
    assert heads[1] in NAMES.applications
    assert len(lines) == 3 + 3
    _, out, _ = run("series", "--by", "department", "--bucket", "30s", "-n", "1")
    lines = [line for line in out.splitlines() if line.strip()]
    assert len(lines) == 3 + 3
    assert re.match(r" *2026-\S+Z  +[\d.]+ [kMG]bit/s ± [\d.]+ %  +[\d.]+ [kMG]bit/s ± [\d.]+ %", lines[3])


def test_remarks_go_to_stderr(run: Run) -> None:
    """What a reader should know of a table is said beside it: stated rates, link_usage without a link, silence."""
    _, _, err = run("top", "--table", "link_usage")
    assert "stated sampling rate" in err
    assert "counts a packet on every link" in err
    assert "every link" not in run("top", "--table", "link_usage", "--by", "link")[2]
    code, _, err = run("top", "--from", "1999-01-01", "--to", "1999-01-02")
    assert code == 0
    assert err.startswith("no traffic in this range")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["top", "--by", "colour"], 2, "zone_pair"),
        (["top", "--from", "yesterday"], 2, "ISO 8601"),
        (["top", "--from=-5x"], 2, "duration"),
        (["top", "--from=-0s"], 2, "duration"),
        (["top", "--tz", "Mars/Olympus"], 2, "Asia/Shanghai"),
        (["top", "--department", "educatoin"], 2, "education"),
        (["series", "--bucket", "soon"], 2, "5min"),
        (["percentile"], 2, "smaller --bin"),
        (["top", "--store", "/nowhere/store"], 1, "telemetryd replay"),
        (["top", "-n", "0"], 2, ""),
        (["sum"], 2, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes(run: Run, arguments: list[str], code: int, message: str) -> None:
    """A mistake ends with its exit code, says what to do on stderr, and prints nothing on stdout."""
    found, out, err = run(*arguments)
    assert found == code
    assert message in err
    assert err.strip()
    assert "Traceback" not in err
    assert out == ""


def test_no_store_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --store and TELEMETRYD_STORE the command says how to name one."""
    monkeypatch.delenv("TELEMETRYD_STORE")
    code, _, err = run("top")
    assert code == 2
    assert "--store PATH" in err


COMMANDS = [
    line.strip() for line in (DOCS / "query.md").read_text().splitlines() if line.startswith("    telemetryd query ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_documentation_run(run: Run, path: Path, command: str) -> None:
    """Every example command of docs/query.md works on a store that holds such data."""
    words = [str(path) if word.startswith("/var/lib") else word for word in shlex.split(command)[2:]]
    day = re.compile(r"2026-11-21T(08|18)")
    words = [day.sub(lambda m: {"08": "2026-01-01T00", "18": "2027-01-01T00"}[m[1]], word) for word in words]
    if "--bucket" in words:
        words[words.index("--bucket") + 1] = "1d"
    code, out, err = run(*words)
    assert (code, "Traceback" in err) == (0, False), err
    assert out.strip()
