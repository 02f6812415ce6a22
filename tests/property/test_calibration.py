"""Calibration on simulated truth (a short form of benchmarks/calibration.py), and its committed figures."""

from __future__ import annotations

import csv

import pytest

from benchmarks.calibration import (
    FAULTS,
    FEW,
    FIGURES,
    INTERVALS,
    SAMPLES,
    SHARES,
    Case,
    Result,
    measure,
    mistakes,
    pool,
)


@pytest.fixture(scope="module")
def results() -> dict[Case, Result]:
    """Run a few cases: without a fault, with lost datagrams and with a wrong rate."""
    chosen = [
        Case("large and small", 200, "none"),
        Case("two", 1000, "counter 1 % more"),
        Case("one large", 1000, "5 % of datagrams lost"),
        Case("large and small", 1000, "1 in 2N, stated 1 in N"),
    ]
    return {case: measure(case, runs=60, seed=3) for case in chosen}


def test_totals_are_the_counter_and_no_class_is_worse(results: dict[Case, Result]) -> None:
    """Sums equal the counter, errors are not larger than without it, the alarm fires with a fault and only then."""
    for case, result in results.items():
        assert mistakes(case, result) == [], case
        assert result.classes[0].cells > 1000
        # The largest class gains most.
        assert result.classes[0].calibrated_rmse < 0.8 * result.classes[0].rmse


def test_the_intervals_cover(results: dict[Case, Result]) -> None:
    """93 to 98 % of the calibrated intervals hold the truth, with faults as without."""
    assert 0.93 <= pool(results).calibrated <= 0.98
    assert pool(results, "1 in 2N, stated 1 in N").covered < 0.5


def test_the_committed_figures() -> None:
    """docs/figures/calibration.csv: every case is there, and keeps its promise."""
    with (FIGURES / "calibration.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(map(len, SHARES.values())) * len(SAMPLES) * len(FAULTS)
    cells = covered = 0.0
    for row in rows:
        if row["fault"] == "none":
            assert int(row["cells"]) >= 1000 * INTERVALS * 0.99
            assert float(row["excess_in_standard_errors"]) <= 3.0, row
        if float(row["share"]) * int(row["samples_an_interval"]) >= FEW:
            cells += int(row["cells"])
            covered += int(row["cells"]) * float(row["calibrated_coverage"])
    assert 0.93 <= covered / cells <= 0.98


def test_the_committed_alarms() -> None:
    """docs/figures/coverage-alarm.csv: no false alarm, every fault found where there are samples enough."""
    with (FIGURES / "coverage-alarm.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(SHARES) * len(SAMPLES) * len(FAULTS)
    for row in rows:
        assert int(row["runs"]) >= 1000 and float(row["worst_deviation_of_a_sum"]) < 1e-9
        assert row["false_alarms"] == "0"
        if FAULTS[row["fault"]].fires and int(row["samples_an_interval"]) * INTERVALS >= 50_000:
            assert min(int(row["fired"]), int(row["cleared"])) >= 0.98 * int(row["runs"])
