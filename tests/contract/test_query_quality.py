"""What `telemetryd query quality` prints: JSON by its schema, the same rows as CSV, a table with remarks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from telemetryd.cli.main import main
from telemetryd.store.embedded import Store
from telemetryd.store.quality import quality_rows
from tests.storing import BASE, S, window

SCHEMA = Path(__file__).parents[2] / "docs" / "quality.schema.json"
FIGURES = {
    ("coverage.seconds", "-"): 1.0,
    ("received.datagrams", "192.0.2.1"): 90.0,
    ("received.datagrams", "192.0.2.2"): 100.0,
    ("loss.sequence_gap", "192.0.2.1"): 10.0,
    ("loss.refused", "203.0.113.9"): 5.0,
}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `telemetryd query quality` on three seconds: arguments -> exit code, stdout, stderr."""
    with Store.open(tmp_path) as store:
        for start_ns in range(BASE, BASE + 3 * S, S):
            store.append([window(start_ns)], "live", quality_rows(window(start_ns), FIGURES))

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_info:
            main(["query", "quality", "--store", str(tmp_path), *arguments])
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out, printed.err

    return call


@pytest.mark.parametrize(
    "arguments", [[], ["-n", "1"], ["--bucket", "1s"], ["--metric", "loss", "--source", "192.0.2.1"]], ids=" ".join
)
def test_json_and_csv(run: Run, arguments: list[str]) -> None:
    """--json is valid by the published schema, which allows no unknown field, and --csv has the same rows."""
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    document = json.loads(out)
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    schema.validate(document)
    assert document["rows"]
    assert not schema.is_valid({**document, "surprise": 1})
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "--csv")[1])))
    assert [row["metric"] + row["source"] for row in rows] == [
        row["metric"] + row["source"] for row in document["rows"]
    ]
    assert [float(row["value"]) for row in rows] == [row["value"] for row in document["rows"]]


def test_table(run: Run) -> None:
    """A row a metric and source, with the share of what the agent sent; the whole is said beside it."""
    code, out, err = run()
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert code == 0
    assert ["loss.sequence_gap", "192.0.2.1", "30", "10.00", "%"] in lines
    assert ["loss.refused", "203.0.113.9", "15"] in lines
    assert err == "3 of 3 s have data, 5.00 % of the datagrams lost\n"


def test_nothing_known(run: Run) -> None:
    """A range of which nothing is known says who would store it."""
    code, _, err = run("--metric", "nonsense")
    assert code == 0
    assert "telemetryd run" in err
