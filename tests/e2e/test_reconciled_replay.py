"""A capture with flow samples and counters samples, replayed: coverage, and departments calibrated by the counters."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd._ext import is_disabled
from telemetryd.ingest.capture_writer import CaptureWriter
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.store import calibrated
from telemetryd.store.embedded import Store
from telemetryd.store.select import Selection

if is_disabled():
    pytest.skip(
        "the twins are held to the compiled stages elsewhere; here they would take minutes", allow_module_level=True
    )

RATE = 64
PLAN: dict[str, Any] = {"departments": 6, "applications": 12, "cores": 4}
SECONDS = 60
COUNTERS_S = 5
NS = 1_000_000_000


def replay(*arguments: object) -> str:
    """Run `telemetryd replay`; return what it printed."""
    command = [sys.executable, "-m", "telemetryd", "replay", *map(str, arguments), "--progress", "none"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, dict[tuple[str, ...], float]]:
    """Replay a minute into a store; return the summary, the store, and octets of (link, direction, department)."""
    directory = tmp_path_factory.mktemp("reconciled")
    (directory / "registry").mkdir()
    write_registry(directory / "registry", **PLAN)
    truth: dict[tuple[str, ...], float] = defaultdict(float)
    with CaptureWriter(directory / "minute.pcap") as writer:
        for block in known_truth(5, RATE, SECONDS, packets_per_s=40_000, counters_s=COUNTERS_S, **PLAN):
            writer.write(block.buffer, block.offsets, block.lengths, block.ts_ns)
            for key, (_, octets) in block.truth.link_usage.totals(("link", "direction", "department")).items():
                truth[key] += octets
    options = ("--registry", directory / "registry", "--store", directory / "store", "--json")
    return json.loads(replay(directory / "minute.pcap", *options)), directory / "store", truth


def test_samples_agree_with_the_counters(replayed: tuple[dict[str, Any], Path, Any]) -> None:
    """Every link and direction with traffic has a coverage of about 1, an interval that says so, and no alarm."""
    document, _, truth = replayed
    rows = {(row["link"], row["direction"]): row for row in document["coverage"]}
    with_traffic = {key[:2] for key in truth}
    assert with_traffic and with_traffic <= rows.keys()
    held = 0
    for place in with_traffic:
        row = rows[place]
        assert row["alarm"] is None and row["interval_s"] == pytest.approx(COUNTERS_S, rel=0.05)
        assert row["coverage"] == pytest.approx(1.0, abs=0.1)
        held += row["low"] <= 1.0 <= row["high"]
    assert held >= 0.8 * len(with_traffic)


def test_departments_sum_to_the_counters(replayed: tuple[Any, Path, dict[tuple[str, ...], float]]) -> None:
    """Calibrated departments are nearer to the truth than those of the samples alone, and their sums far nearer."""
    _, path, truth = replayed
    with Store.open(path, "read") as store:
        found = calibrated.top(store, ["link", "direction", "department"], Selection("link_usage"), n=1000)
        totals = calibrated.top(store, ["link", "direction"], Selection("link_usage"), n=1000)
    errors, raw_errors, held = [], [], 0
    seconds = (found.to_ns - found.from_ns) / NS
    for row in found.rows:
        octets = truth[row["link"], row["direction"], row["department"]]
        errors.append(row["octets"] - octets)
        raw_errors.append(row["raw_octets"] - octets)
        held += row["low_bps"] * seconds / 8 <= octets <= row["high_bps"] * seconds / 8
    rmse, raw_rmse = (float(np.sqrt(np.mean(np.square(values)))) for values in (errors, raw_errors))
    assert rmse < raw_rmse
    assert held >= 0.85 * len(found.rows)
    sums, raw_sums = [], []
    for row in totals.rows:
        whole = sum(octets for key, octets in truth.items() if key[:2] == (row["link"], row["direction"]))
        sums.append(row["octets"] / whole - 1.0)
        raw_sums.append(row["raw_octets"] / whole - 1.0)
    # Between the first reading and the last one the sum is the counter's; some seconds at the edges are estimated.
    assert np.sqrt(np.mean(np.square(sums))) < 0.7 * np.sqrt(np.mean(np.square(raw_sums)))
    assert {place["estimator"] for place in found.places} == {"regression"}


def test_metering_points_have_their_part(replayed: tuple[Any, Path, Any]) -> None:
    """What is metered is calibrated, too, by the counters of its links."""
    _, path, _ = replayed
    with Store.open(path, "read") as store:
        found = calibrated.top(store, ["department"], Selection("totals"))
    assert found.places and all(place["covered_s"] > SECONDS / 2 for place in found.places)
    for place in found.places:
        assert place["coverage"] == pytest.approx(1.0, abs=0.1)


def test_a_second_replay_stores_nothing_twice(replayed: tuple[Any, Path, Any]) -> None:
    """The figures of a capture that is replayed again into the same store stay what they are."""
    _, path, _ = replayed
    with Store.open(path, "read") as store:
        before = calibrated.top(store, ["link"], Selection("link_usage"))
    shown = replay(path.parent / "minute.pcap", "--registry", path.parent / "registry", "--store", path)
    assert "the samples agree" in shown
    with Store.open(path, "read") as store:
        assert calibrated.top(store, ["link"], Selection("link_usage")) == before


def test_coverage_of_a_store(replayed: tuple[dict[str, Any], Path, Any]) -> None:
    """`telemetryd coverage --store` shows what the replay stored, and exits with 0: no alarm fires."""
    document, path, _ = replayed
    command = [sys.executable, "-m", "telemetryd", "coverage", "--store", str(path), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    rows = {(row["link"], row["direction"]): row for row in answer["rows"]}
    assert answer["alarms"] == 0 and rows
    for row in document["coverage"]:
        if row["coverage"]:
            found = rows[row["link"], row["direction"]]
            assert found["coverage"] == pytest.approx(row["coverage"], rel=0.02)
            assert found["low"] < found["coverage"] < found["high"]
