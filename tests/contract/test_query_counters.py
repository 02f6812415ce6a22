"""`telemetryd query interfaces`, `queues`, `components`: a table for people, JSON and CSV for programs, and what it says of mistakes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from telemetryd.cli.main import main
from telemetryd.counter_windows import ComponentWindow, CounterWindow, EnforcementWindow, InterfaceWindow, QueueWindow
from telemetryd.schema import COMPONENT_COLUMNS, ENFORCEMENT_COLUMNS, INTERFACE_COLUMNS, QUEUE_COLUMNS, QueueKnown
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
        opened.append([], "live:1", counters=windows)
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
        (["--store", str(tmp_path / "empty")], "has no counters of interfaces"),
    ):
        assert call(["query", "interfaces", *arguments]) == 2
        assert words in capsys.readouterr().err


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Return a store with two windows of queues and components."""
    names = (("CR01", "exit", "out", "af4"), ("CR01", "exit", "in", "be"))
    windows: list[CounterWindow] = []
    for number in range(2):
        start_ns = START_NS + number * TEN_NS
        queues = {column.name: np.full(2, 10, column.dtype) for column in QUEUE_COLUMNS}
        queues |= {"queue": np.arange(2, dtype=np.uint32), "covered_ns": np.full(2, TEN_NS)}
        queues |= {"octets": np.array([1_250_000, 0], np.uint64), "known": np.array([15, QueueKnown.PACKETS], np.uint8)}
        windows.append(QueueWindow(start_ns, TEN_NS, queues, names))
        heat = {column.name: np.full(1, 2, column.dtype) for column in COMPONENT_COLUMNS}
        heat |= {"component": np.zeros(1, np.uint32), "cpu_readings": np.zeros(1, np.uint64)}
        windows.append(ComponentWindow(start_ns, TEN_NS, heat, (("CR01", "PSU 1"),)))
    with Store.open(tmp_path / "others") as opened:
        opened.append([], "live:1", counters=windows)
    return tmp_path / "others"


def test_queues_and_components_are_shown(others: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What left a queue, what it dropped, and what is not known; means, extremes, and `-` for no reading."""
    assert call(["query", "queues", "--store", str(others)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["CR01", "exit", "out", "af4", "1", "Mbit/s", "20", "20", "20", "50.00", "%", "20"] in lines
    assert ["CR01", "exit", "in", "be", "-", "20", "-", "-", "-", "20"] in lines
    assert call(["query", "queues", "--store", str(others), "--queue", "af4", "--bucket", "10s", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["query"], len(answer["rows"]), answer["rows"][0]["drop_share"]) == ("queues", 2, 0.5)
    assert call(["query", "components", "--store", str(others)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["CR01", "PSU", "1", "1.0", "°C", "2.0", "°C", "-", "-"] in lines
    assert call(["query", "components", "--store", str(others), "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["temperature"], row["cpu"]) == ("1.0", "")


def test_what_was_delivered_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rates of a class beside its guarantee, the time in which that was missed; one class, buckets, JSON and CSV."""
    store, windows = tmp_path / "store", list[CounterWindow]()
    for number in range(2):
        columns = {column.name: np.full(2, 10, column.dtype) for column in ENFORCEMENT_COLUMNS}
        columns |= {"enforcement": np.arange(2, dtype=np.uint32), "covered_ns": np.full(2, TEN_NS)}
        columns |= {"delivered_bits": np.array([2e7, 1e7]), "missed_ns": np.array([0, number * TEN_NS])}
        names = (("exit", "out", "tax/filing"), ("exit", "out", "(rest)"))
        windows.append(EnforcementWindow(START_NS + number * TEN_NS, TEN_NS, columns, names))
    with Store.open(store) as opened:
        opened.append([], "live:1", counters=windows)
    assert call(["query", "enforcement", "--store", str(store)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    promised = ["1", "bit/s"] * 5
    assert ["exit", "out", "tax/filing", "2", "Mbit/s", *promised, "0.0", "%", "20", "20"] in lines
    assert ["exit", "out", "(rest)", "1", "Mbit/s", *promised, "50.0", "%", "20", "20"] in lines
    assert call(["query", "enforcement", "--store", str(store), "--node", "(rest)", "--bucket", "10s", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["query"] == "enforcements"
    assert [(row["node"], row["missed_share"], row["delivered_bps"]) for row in answer["rows"]] == [
        ("(rest)", 0.0, 1e6),
        ("(rest)", 1.0, 1e6),
    ]
    assert call(["query", "enforcement", "--store", str(store), "-n", "1", "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["node"], row["guarantee_bps"], row["dropped_packets"]) == ("tax/filing", "1.0", "20")
    Store.open(tmp_path / "empty").close()
    assert call(["query", "enforcement", "--store", str(tmp_path / "empty")]) == 2
    assert "docs/control-loop.md says how they come" in capsys.readouterr().err
