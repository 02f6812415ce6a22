"""`telemetryd query interfaces`: a table for people, JSON and CSV for programs, and what it says of mistakes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from telemetryd.cli.main import main
from telemetryd.schema import INTERFACE_COLUMNS, InterfaceWindow
from telemetryd.store.embedded import Store

TEN_NS = 10_000_000_000
START_NS = 1_790_000_040_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store with a minute of two interfaces."""
    windows = []
    for number in range(6):
        columns = {column.name: np.ones(2, column.dtype) for column in INTERFACE_COLUMNS}
        columns["interface"] = np.arange(2, dtype=np.uint32)
        columns["in_octets"] = np.array([1_250_000_000, 125], np.uint64)
        columns["capacity_bps"] = np.array([10e9, 0.0])
        columns["covered_ns"] = np.full(2, TEN_NS)
        columns["up"] = np.array([1, 2], np.uint8)
        names = (("CR01", "exit"), ("192.0.2.9", "ifIndex 7"))
        windows.append(InterfaceWindow(START_NS + number * TEN_NS, TEN_NS, columns, names))
    with Store.open(tmp_path / "store") as opened:
        opened.append([], "live:1", interfaces=windows)
    return tmp_path / "store"


def call(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_what_is_printed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rates, share of the speed, drops, errors, state and the seconds that are known, the busiest first."""
    assert call(["query", "interfaces", "--store", str(store), "--from", "-20s"]) == 0
    out = capsys.readouterr().out
    assert "interfaces: 2026-09-21T14:14:40Z to 2026-09-21T14:15:00Z" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["CR01", "exit", "1", "Gbit/s", "(10.00", "%)"] in [line[:6] for line in lines]
    assert ["yes", "20"] in [line[-2:] for line in lines] and ["-", "20"] in [line[-2:] for line in lines]


def test_programs_get_every_figure(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and CSV hold the same rows; buckets have their time."""
    chosen = ["query", "interfaces", "--store", str(store), "--device", "CR01", "--bucket", "30s"]
    assert call([*chosen, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["bucket_s"], answer["window_s"], len(answer["rows"])) == (30.0, [10.0], 2)
    row = answer["rows"][0]
    assert (row["time"], row["in_octets"], row["in_bps"]) == ("2026-09-21T14:14:00Z", 3_750_000_000, 1e9)
    assert (row["in_share"], row["up"], row["capacity_bps"], row["covered_s"]) == (0.1, True, 1e10, 30.0)
    assert call([*chosen, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["time"], row["in_octets"]) for row in rows] == [
        (r["time"], str(r["in_octets"])) for r in answer["rows"]
    ]


def test_mistakes_are_told(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Odd buckets, an empty range, no store and a store without counters: exit code 2 and what to do."""
    Store.open(tmp_path / "empty").close()
    for arguments, words in (
        (["--store", str(store), "--bucket", "7s"], "multiple"),
        (["--store", str(store), "--from", "2030-01-01"], "the range is empty"),
        ([], "say which store"),
        (["--store", str(tmp_path / "empty")], "has no interface counters"),
    ):
        assert call(["query", "interfaces", *arguments]) == 2
        assert words in capsys.readouterr().err
