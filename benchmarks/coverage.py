"""Do the 95 % intervals hold the truth? `python -m benchmarks.coverage [--seeds N] [--write]`.

Traffic of 60 departments x 700 applications (Zipf, three frame sizes in a mix of each key's own) passes two
sources, is sampled at random 1 in N with a true sample pool, and goes through the tracker, the windows,
the scaling and the intervals that the daemon uses. A cell is a key in a window in which it sent anything;
it is covered where the interval holds its true octets (or packets), the interval of zero samples included.

Many sparse sources with lost datagrams and a cold start are run by `benchmarks.sparse`.

`--write` puts the figures into docs/figures/coverage.csv and bias.csv, and draws docs/figures/coverage.svg.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import sparse
from telemetryd._ext import load
from telemetryd.aggregate.interval import interval
from telemetryd.aggregate.windows import WINDOW_NS, Windows
from telemetryd.schema import (
    CLASS_COLUMNS,
    DATAGRAM_COLUMNS,
    SAMPLE_COLUMNS,
    TRACK_COLUMNS,
    Batch,
    Names,
    Table,
    UsageWindow,
)

DEPARTMENTS = 60
APPLICATIONS = 700
KEYS = DEPARTMENTS * APPLICATIONS
FRAME_LENGTHS = np.array([90, 576, 1518])
SOURCES = 2
START = 1_700_000_000
RATES = (1, 2, 4, 16, 64, 256, 1024, 4096)
#: Packets of a window; fewer at small N, so that a window has at most about 20,000 samples.
MOST_PACKETS = 4_000_000
MOST_SAMPLES = 20_000
#: Bounds of the classes of expected samples of a cell.
BINS = (0.0, 0.1, 1.0, 5.0, 20.0, 100.0, np.inf)
NAMES = Names(*[("-",)] * 6)
FIGURES = Path(__file__).parents[1] / "docs" / "figures"


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one window, those with true traffic; every array of shape (c,)."""

    expected: NDArray[np.float64]  # samples, on average
    truth: dict[str, NDArray[np.float64]]  # "octets", "packets"
    estimate: dict[str, NDArray[np.float64]]
    low: dict[str, NDArray[np.float64]]
    high: dict[str, NDArray[np.float64]]
    samples: NDArray[np.int64]


class Network:
    """Truth and its samples, window by window.

    ``loss`` is the share of samples that never arrive (lost datagrams, or dropped by the agent).
    """

    def __init__(self, seed: int, rate: int, loss: float = 0.0, exponent: float = 1.05) -> None:
        self.rng = np.random.default_rng([seed, rate])
        self.rate, self.loss = rate, loss
        packets = min(MOST_PACKETS, MOST_SAMPLES * rate)
        share = np.arange(1, KEYS + 1) ** -exponent
        mix = self.rng.dirichlet([0.6, 0.4, 1.0], KEYS)
        self.mean = packets * (self.rng.permutation(share) / share.sum())[:, None] * mix  # (k, sizes)
        self.sent = np.zeros(SOURCES, np.int64)
        self.sampled = np.zeros(SOURCES, np.int64)
        capacity = 1 << 17
        self.datagrams = Batch(DATAGRAM_COLUMNS, SOURCES)
        self.samples = Batch(SAMPLE_COLUMNS, capacity)
        self.track = Batch(TRACK_COLUMNS, capacity)
        self.classes = Batch(CLASS_COLUMNS, capacity)
        self.tracker = load("track", "telemetryd.ingest.sflow.sequence").Tracker(
            self.datagrams, self.samples, self.track
        )
        self.windows = Windows(
            self.datagrams,
            self.samples,
            self.track,
            self.classes,
            names=lambda: NAMES,
            corrections=np.zeros,
            tolerance_ns=None,
        )

    def run(self, windows: int) -> Iterator[Cells]:
        """Send, sample and estimate some windows."""
        for number in range(windows):
            truth = self.rng.poisson(self.mean)
            self._fill(number, truth)
            self.tracker.track()
            self.windows.add()
            closed = self.windows.advance((START + number + 1) * WINDOW_NS)
            yield self._cells(truth, closed)

    def _fill(self, number: int, truth: NDArray[np.int64]) -> None:
        """Sample the packets of a window into the batches, one datagram a source."""
        on_first = self.rng.binomial(truth, 0.6)
        row = 0
        for source, sent in enumerate((on_first, truth - on_first)):
            total = int(sent.sum())
            taken = self.rng.binomial(sent, 1.0 / self.rate)
            cell = np.repeat(np.arange(taken.size), taken.ravel())
            self.rng.shuffle(cell)
            n = len(cell)
            # n places among the packets: a sorted draw, made distinct
            place = np.sort(self.rng.integers(0, total - n + 1, n)) + np.arange(1, n + 1)
            sequence = self.sampled[source] + np.arange(1, n + 1)
            arrives = self.rng.random(n) >= self.loss
            cell, place, sequence = cell[arrives], place[arrives], sequence[arrives]
            rows = slice(row, row + len(cell))
            self.samples["datagram"][rows] = source
            self.samples["sequence_number"][rows] = sequence
            self.samples["source_index"][rows] = source
            self.samples["sampling_rate"][rows] = self.rate
            self.samples["sample_pool"][rows] = self.sent[source] + place
            self.samples["frame_length"][rows] = FRAME_LENGTHS[cell % len(FRAME_LENGTHS)]
            key = cell // len(FRAME_LENGTHS)
            self.classes["metering_point"][rows] = 1
            self.classes["department"][rows] = key // APPLICATIONS
            self.classes["application"][rows] = key % APPLICATIONS + 1
            self.sent[source] += total
            self.sampled[source] += n
            row = rows.stop
        self.datagrams.n = SOURCES
        self.datagrams["ts_ns"][:] = (START + number) * WINDOW_NS
        self.datagrams["agent_version"][:] = 4
        self.datagrams["sub_agent_id"][:] = np.arange(SOURCES)
        self.datagrams["sequence_number"][:] = number
        self.datagrams["uptime"][:] = number * 1000
        for batch in (self.samples, self.track, self.classes):
            batch.n = row

    def _cells(self, truth: NDArray[np.int64], closed: list[UsageWindow]) -> Cells:
        rates = self.windows.rates()
        deviation = np.sqrt(rates.rate * (rates.rate - 1.0))
        # A key without a sample may have passed either source: the wider bound holds.
        columns: dict[str, NDArray[Any]] = {
            "samples": np.zeros(KEYS, np.int64),
            "octets": np.zeros(KEYS),
            "packets": np.zeros(KEYS),
            "octets_variance": np.zeros(KEYS),
            "packets_variance": np.zeros(KEYS),
            "octets_largest": np.full(KEYS, (deviation * rates.largest).max(initial=0.0)),
            "packets_largest": np.full(KEYS, deviation.max(initial=0.0)),
        }
        for window in closed:
            usage = window.columns
            assert np.all(usage["table"] == Table.TOTALS)
            key = usage["department"].astype(np.int64) * APPLICATIONS + usage["application"] - 1
            for name, column in columns.items():
                column[key] = usage[name]
        exists = truth.sum(axis=1) > 0
        packets = truth.sum(axis=1)[exists].astype(np.float64)
        of = {name: column[exists] for name, column in columns.items()}
        bounds = {
            what: interval(of[what], of[f"{what}_variance"], of[f"{what}_largest"]) for what in ("octets", "packets")
        }
        return Cells(
            packets * (1.0 - self.loss) / self.rate,
            {"octets": (truth @ FRAME_LENGTHS)[exists].astype(np.float64), "packets": packets},
            {what: of[what] for what in bounds},
            {what: low for what, (low, _) in bounds.items()},
            {what: high for what, (_, high) in bounds.items()},
            of["samples"],
        )


@dataclass(slots=True)
class Count:
    """Cells of a class: how many, how many without a sample, how many covered."""

    cells: int = 0
    without_samples: int = 0
    covered: int = 0

    @property
    def coverage(self) -> float:
        """Share of the cells whose interval holds the truth."""
        return self.covered / self.cells if self.cells else float("nan")


Counts = dict[tuple[int, float, str, int], Count]  # (rate, loss, what, class of expected samples)


def count(rate: int, seeds: int, windows: int, loss: float = 0.0, first_seed: int = 0) -> Counts:
    """Run ``seeds`` networks for some windows and count their cells by class of expected samples.

    Raises
    ------
    AssertionError
        If an estimate at 1:1 without loss is not the truth itself.
    """
    counts: Counts = {}
    for seed in range(first_seed, first_seed + seeds):
        for cells in Network(seed, rate, loss).run(windows):
            group = np.digitize(cells.expected, BINS[1:])
            for what in ("octets", "packets"):
                low, high, truth = cells.low[what], cells.high[what], cells.truth[what]
                covered = (low <= truth) & (truth <= high)
                if rate == 1 and loss == 0.0:
                    for value in (cells.estimate[what], low, high):
                        np.testing.assert_array_equal(value, truth)
                for number in np.unique(group):
                    here = group == number
                    one = counts.setdefault((rate, loss, what, int(number)), Count())
                    one.cells += int(here.sum())
                    one.without_samples += int((cells.samples[here] == 0).sum())
                    one.covered += int(covered[here].sum())
    return counts


def pool(counts: Counts, what: str, is_large: bool, rate: int | None = None) -> Count:
    """Pool the cells with (or below) 20 expected samples, of one rate or of all."""
    large = BINS.index(20.0)
    pooled = Count()
    for (at, _, of, group), one in counts.items():
        if of == what and (group >= large) == is_large and (at == rate if rate else at > 1):
            pooled.cells += one.cells
            pooled.without_samples += one.without_samples
            pooled.covered += one.covered
    return pooled


def class_name(group: int) -> str:
    """Name a class of expected samples."""
    low, high = BINS[group], BINS[group + 1]
    return f"{low:g} and more" if high == np.inf else f"{low:g} to {high:g}"


def write(counts: Counts) -> None:
    """Write the table."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    with (FIGURES / "coverage.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["sampling_rate", "loss", "measure", "expected_samples", "cells", "without_samples", "coverage"]
        )
        for (rate, loss, what, group), one in sorted(counts.items()):
            row = [rate, f"{loss:g}", what, class_name(group), one.cells, one.without_samples]
            writer.writerow([*row, f"{one.coverage:.4f}"])


def read() -> Counts:
    """Read the table back; the covered cells follow from its rounded shares."""
    groups = {class_name(group): group for group in range(len(BINS) - 1)}
    counts: Counts = {}
    with (FIGURES / "coverage.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = int(row["sampling_rate"]), float(row["loss"]), row["measure"], groups[row["expected_samples"]]
            cells = int(row["cells"])
            counts[key] = Count(cells, int(row["without_samples"]), round(cells * float(row["coverage"])))
    return counts


def draw() -> None:
    """Draw the table, by sampling rate and by expected samples; the same table gives the same octets."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "telemetryd"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt

    counts = read()
    figure, (by_rate, by_class) = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    styles = {("octets", True): "o-", ("packets", True): "s--", ("octets", False): "o-", ("packets", False): "s--"}
    rates = sorted({rate for rate, *_ in counts if rate > 1})
    for (what, is_large), style in styles.items():
        colour = "tab:blue" if is_large else "tab:orange"
        size = ">= 20" if is_large else "< 20"
        points = [(rate, pool(counts, what, is_large, rate)) for rate in rates]
        points = [(rate, one) for rate, one in points if one.cells]
        by_rate.plot(
            [rate for rate, _ in points],
            [100 * one.coverage for _, one in points],
            style,
            color=colour,
            label=f"{what}, {size} expected samples",
        )
    by_rate.set_xscale("log", base=2)
    by_rate.set_xlabel("sampling rate, 1 in N")
    by_rate.set_ylabel("cells whose 95 % interval holds the truth, %")
    groups = sorted({group for *_, group in counts})
    for what, style in (("octets", "o-"), ("packets", "s--")):
        values = []
        for group in groups:
            ones = [one for (rate, _, of, at), one in counts.items() if rate > 1 and of == what and at == group]
            cells = sum(one.cells for one in ones)
            values.append(100 * sum(one.covered for one in ones) / cells if cells else np.nan)
        by_class.plot(range(len(groups)), values, style, color="tab:green", label=what)
    by_class.set_xticks(range(len(groups)), [class_name(group) for group in groups], rotation=20)
    by_class.set_xlabel("expected samples of the cell, all sampling rates")
    for axes in (by_rate, by_class):
        axes.axhspan(93, 98, color="tab:gray", alpha=0.2, label="93 to 98 %")
        axes.set_ylim(90, 100.3)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    figure.savefig(FIGURES / "coverage.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    """Count, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--sparse-seeds", type=int, default=100)
    parser.add_argument("--write", action="store_true", help="write docs/figures/{coverage.csv,coverage.svg,bias.csv}")
    arguments = parser.parse_args()
    counts: Counts = {}
    for rate, loss in [*((rate, 0.0) for rate in RATES), (1024, 0.05)]:
        of_rate = count(rate, arguments.seeds, arguments.windows, loss)
        counts |= of_rate
        for (_, _, what, group), one in sorted(of_rate.items()):
            print(
                f"1:{rate:<5} loss {loss:<4g} {what:8} {class_name(group):12} expected samples: "
                f"{one.cells:>10,} cells, {one.coverage:7.2%} covered",
                flush=True,
            )
    biases = sparse.measure_all(arguments.sparse_seeds)
    if arguments.write:
        write(counts)
        draw()
        sparse.write(biases, FIGURES / "bias.csv")
    fails = sum(abs(bias.ratio - 1.0) > 3.0 * bias.error or bias.coverage < 0.93 for *_, bias in biases)
    for what in ("octets", "packets"):
        large, small = pool(counts, what, True), pool(counts, what, False)
        print(f"{what}: {large.coverage:.2%} of {large.cells:,} cells with >= 20 expected samples (93 to 98 %),")
        print(f"{what}: {small.coverage:.2%} of {small.cells:,} others, {small.without_samples:,} without a sample")
        fails += not (0.93 <= large.coverage <= 0.98 and small.coverage >= 0.93)
    return 1 if fails else 0


if __name__ == "__main__":
    sys.exit(main())
