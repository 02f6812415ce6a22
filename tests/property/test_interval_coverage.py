"""The 95 % intervals of the real windows hold a known truth (a short form of benchmarks/coverage.py)."""

from __future__ import annotations

import csv

import pytest

from benchmarks import sparse
from benchmarks.coverage import RATES, Counts, count, pool, read
from telemetryd._ext import is_disabled

SEEDS = 2 if is_disabled() else 4


@pytest.fixture(scope="module")
def counts() -> Counts:
    """Count cells of 42,000 keys at a low, a middle and a high sampling rate."""
    found: Counts = {}
    for rate in (4, 64, 1024):
        found |= count(rate, SEEDS, windows=3)
    return found


def test_totals_are_exact_at_one_to_one() -> None:
    """Where every packet is sampled, estimate and interval are the truth, for every key."""
    found = count(1, seeds=1, windows=2)
    assert sum(one.cells for one in found.values()) > 10_000
    assert all(one.covered == one.cells for one in found.values())


@pytest.mark.parametrize("what", ["octets", "packets"])
def test_the_intervals_cover(counts: Counts, what: str) -> None:
    """93-98 % of the cells with 20 expected samples or more, at least 93 % of the others, as pooled."""
    large, small = pool(counts, what, True), pool(counts, what, False)
    assert large.cells > 1000
    assert 0.93 <= large.coverage <= 0.98
    assert small.without_samples > small.cells / 2
    assert small.coverage >= 0.93


@pytest.mark.parametrize("what", ["octets", "packets"])
def test_no_class_of_small_cells_is_left_behind(counts: Counts, what: str) -> None:
    """The many cells without a sample do not hide the few with 1 to 5: at least 93 % of these, too."""
    few = [one for (_, _, of, group), one in counts.items() if of == what and group in (2, 3)]
    assert sum(one.covered for one in few) >= 0.93 * sum(one.cells for one in few) > 0


def test_lost_samples_do_not_bias() -> None:
    """With 20 % of the samples lost the sample pool makes up for them: the intervals still cover."""
    found = count(256, SEEDS, windows=3, loss=0.2)
    large = pool(found, "octets", True)
    assert large.cells > 300
    assert 0.92 <= large.coverage <= 0.99


def test_the_committed_figures() -> None:
    """docs/figures/coverage.csv covers all rates and keeps the promise, in every class of 1,000 cells or more."""
    counts = read()
    assert {rate for rate, *_ in counts} == set(RATES)
    for key, one in counts.items():
        if one.cells >= 1000:
            assert one.coverage >= 0.93, key
    for what in ("octets", "packets"):
        large, small = pool(counts, what, True), pool(counts, what, False)
        assert 0.93 <= large.coverage <= 0.98
        assert small.coverage >= 0.93 and small.without_samples > 1_000_000


@pytest.mark.parametrize("load", sparse.LOADS)
def test_sparse_sources_are_not_biased(load: str) -> None:
    """Sources of few samples, 30 % of the datagrams lost, from the first second on: totals are true on average."""
    if is_disabled():
        pytest.skip("the twins would take minutes; test_scaling holds the same formulas")
    for bias in sparse.measure(sparse.RATE, 0.3, load, seeds=5, windows=100):
        # A fifth of a per cent is what the mean of a ratio leaves; 5 networks make the error itself uncertain.
        assert abs(bias.ratio - 1.0) < 5.0 * bias.error + 0.002
        assert bias.error < 0.1
        assert bias.coverage >= 0.93


def test_the_committed_biases() -> None:
    """docs/figures/bias.csv: every load, with and without loss, within three standard errors of the truth."""
    with (sparse.FIGURES / "bias.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(sparse.LOADS) * len(sparse.LOSSES) * 2
    for row in rows:
        assert abs(float(row["ratio"]) - 1.0) <= 3.0 * float(row["standard_error"]), row
        assert float(row["coverage"]) >= 0.93
