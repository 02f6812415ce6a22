"""`telemetryd query top|series|matrix --calibrated`: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json

import pytest

from telemetryd.cli.main import main
from tests.unit.test_calibrated_query import LINK, fill, spans_of
from tests.usage_windows import NAMES


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a store with 90 s of usage on two links, one of which has a counter."""
    path = tmp_path_factory.mktemp("calibrated")
    fill(path, spans_of())
    return str(path)


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Run a question that succeeds; return what it prints and what it says to people."""
    with pytest.raises(SystemExit) as ended:
        main(["query", *arguments])
    assert not ended.value.code
    printed = capsys.readouterr()
    return printed.out, printed.err


QUESTIONS = {
    "top": ("top", "--by", "department"),
    "series": ("series", "--by", "department", "--bucket", "30s"),
    "matrix": ("matrix", "--rows", "department", "--columns", "link"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_all_forms_say_the_same(store: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The octets on the link with a counter sum to it, in each form; the links without one are told."""
    chosen = (*QUESTIONS[name], "--store", store, "--table", "link_usage", "--calibrated")
    answer = json.loads(ask(capsys, *chosen, "--link", LINK, "--json")[0])
    assert (answer["query"], answer["calibrated"]) == (name, True)
    assert sum(row["octets"] for row in answer["rows"]) == pytest.approx(9 * 82e6)
    assert answer["places"][0]["estimator"] == "regression"
    assert answer["bucket_s"] == (30.0 if name == "series" else None)
    rows = list(csv.DictReader(io.StringIO(ask(capsys, *chosen, "--link", LINK, "--csv")[0])))
    assert [float(row["octets"]) for row in rows] == pytest.approx([row["octets"] for row in answer["rows"]])
    out, said = ask(capsys, *chosen)
    assert "link_usage, calibrated: " in out
    assert "tax" in out
    assert "1 of 2 links and directions have no counter" in said


def test_a_whole_series_is_a_row_a_bucket(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key there is one figure a bucket, and what the samples alone say beside it."""
    chosen = ("series", "--store", store, "--table", "link_usage", "--link", LINK, "--bucket", "30s", "--calibrated")
    out, _ = ask(capsys, *chosen)
    lines = [line for line in out.splitlines() if line.strip().startswith("20")]
    assert len(lines) == 3
    assert all("65.6 Mbit/s" in line and "64.0 Mbit/s" in line for line in lines)
    assert NAMES.links[1] == LINK
