"""Agents with many sources of few samples, lost datagrams and a cold start: are the totals unbiased?

Each source passes packets evenly, is sampled at random 1 in N with a true sample pool, and sends a few
samples a minute; an agent packs the samples of all its sources into datagrams, and whole datagrams are
lost. Tracker, windows, scaling and intervals are those of the daemon, started in the first second.
`benchmarks.coverage` runs and reports it.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import load
from telemetryd.aggregate.interval import interval
from telemetryd.aggregate.windows import WINDOW_NS, Windows
from telemetryd.schema import CLASS_COLUMNS, DATAGRAM_COLUMNS, SAMPLE_COLUMNS, TRACK_COLUMNS, Batch, Names, UsageWindow

AGENTS = 4
SOURCES = 100  # of each agent
KEYS = 12
FRAME_LENGTHS = np.array([90, 576, 1518])
SAMPLES_A_DATAGRAM = 5
START = 1_700_000_000
MINUTE = 60
FIGURES = Path(__file__).parents[1] / "docs" / "figures"
NAMES = Names(*[("-",)] * 6)
#: What the sources of a run send, samples a minute (least, most).
LOADS: Final = {"1 to 5": (1.0, 5.0), "8 to 32": (8.0, 32.0), "1 to 100": (1.0, 100.0)}


@dataclass(slots=True)
class Totals:
    """Octets of one network, estimated and true, and its cells with traffic."""

    estimate: float = 0.0
    truth: float = 0.0
    cells: int = 0
    covered: int = 0

    @property
    def ratio(self) -> float:
        """Estimate over truth."""
        return self.estimate / self.truth


class SparseNetwork:
    """Truth and its samples, window by window, of :data:`AGENTS` x :data:`SOURCES` sources."""

    def __init__(self, seed: int, rate: int, loss: float, load_a_minute: tuple[float, float]) -> None:
        self.rng = np.random.default_rng([seed, rate])
        self.rate, self.loss = rate, loss
        n = AGENTS * SOURCES
        low, high = (math.log(bound) for bound in load_a_minute)
        self.packets = np.exp(self.rng.uniform(low, high, n)) * rate / MINUTE  # a second
        weight = self.rng.permutation(np.arange(1, KEYS * len(FRAME_LENGTHS) + 1) ** -1.0)
        self.share = weight / weight.sum()
        self.sent = np.zeros(n, np.int64)
        self.sampled = np.zeros(n, np.int64)
        self.datagram = np.zeros(AGENTS, np.int64)
        capacity = 1 << 12
        self.datagrams = Batch(DATAGRAM_COLUMNS, capacity)
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
            agents=lambda count: self.tracker.sources()["agent"][:count],
            tolerance_ns=None,
        )

    def run(self, windows: int) -> tuple[Totals, Totals]:
        """Return the totals of the first minute and of the rest.

        An agent counts from the window after the first one in which its samples were all scaled by the
        sample pool: before that its usage says that it rests on the stated rate.
        """
        totals = Totals(), Totals()
        is_known = np.zeros(AGENTS, np.bool_)
        for number in range(windows):
            truth = self._fill(number)
            self.tracker.track()
            self.windows.add()
            closed = self.windows.advance((START + number + 1) * WINDOW_NS)
            now_known = self._compare(truth, closed, is_known, totals[number >= MINUTE])
            is_known |= now_known
        return totals

    def _fill(self, number: int) -> NDArray[np.int64]:
        """Sample the packets of a window into the batches; return the octets of (agent, key)."""
        sent = self.rng.poisson(self.packets)
        by_kind = self.rng.multinomial(sent, self.share)  # (sources, kinds of packets)
        taken = self.rng.binomial(by_kind, 1.0 / self.rate)
        source, kind = np.nonzero(taken)
        of_sample = np.repeat(np.arange(len(source)), taken[source, kind])
        source, kind = source[of_sample], kind[of_sample]
        # n places among the packets of each source: a sorted draw, made distinct
        of_source = np.bincount(source, minlength=len(sent))
        place = self.rng.integers(0, (sent - of_source)[source] + 1)
        order = np.lexsort((place, source))
        source, kind, place = source[order], kind[order], place[order]
        rank = np.arange(len(source)) - np.searchsorted(source, source)
        place += rank + 1
        pool = self.sent[source] + place
        sequence = self.sampled[source] + rank + 1
        self.sent += sent
        self.sampled += of_source
        # Datagrams of an agent are filled in the order of time.
        agent = source // SOURCES
        order = np.lexsort((place / sent[source], agent))
        agent, source, kind, pool, sequence = (a[order] for a in (agent, source, kind, pool, sequence))
        position = np.arange(len(agent)) - np.searchsorted(agent, agent)
        local = position // SAMPLES_A_DATAGRAM
        per_agent = -(-np.bincount(agent, minlength=AGENTS) // SAMPLES_A_DATAGRAM)
        first = np.concatenate([[0], np.cumsum(per_agent)])
        datagram = first[agent] + local
        owner = np.repeat(np.arange(AGENTS), per_agent)
        numbers = self.datagram[owner] + np.arange(len(owner)) - first[owner] + 1
        self.datagram += per_agent
        arrives = self.rng.random(len(owner)) >= self.loss
        self._put(number, owner[arrives], numbers[arrives])
        new = np.cumsum(arrives) - 1
        kept = arrives[datagram]
        n = int(kept.sum())
        columns = {
            "datagram": new[datagram[kept]],
            "source_index": source[kept],
            "sampling_rate": self.rate,
            "sample_pool": pool[kept],
            "sequence_number": sequence[kept],
            "frame_length": FRAME_LENGTHS[kind[kept] % len(FRAME_LENGTHS)],
        }
        for name, values in columns.items():
            self.samples[name][:n] = values
        self.classes["metering_point"][:n] = agent[kept] + 1
        self.classes["application"][:n] = kind[kept] // len(FRAME_LENGTHS) + 1
        for batch in (self.samples, self.track, self.classes):
            batch.n = n
        octets = (by_kind.reshape(AGENTS, SOURCES, KEYS, -1).sum(axis=1) * FRAME_LENGTHS).sum(axis=2)
        return np.asarray(octets, np.int64)

    def _put(self, number: int, agents: NDArray[np.intp], numbers: NDArray[np.int64]) -> None:
        n = self.datagrams.n = len(agents)
        self.datagrams["ts_ns"][:n] = (START + number) * WINDOW_NS
        self.datagrams["agent_version"][:n] = 4
        self.datagrams["agent_lo"][:n] = agents + 1
        self.datagrams["sequence_number"][:n] = numbers
        self.datagrams["uptime"][:n] = number * 1000

    def _compare(
        self, truth: NDArray[np.int64], closed: list[UsageWindow], is_known: NDArray[np.bool_], totals: Totals
    ) -> NDArray[np.bool_]:
        """Add the agents that are known to the totals; return which ones had samples and none by the stated rate."""
        rates = self.windows.rates()
        deviation = np.sqrt(rates.rate * (rates.rate - 1.0))
        shape = truth.shape
        octets, variance, stated = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        largest = np.full(shape, (deviation * rates.largest).max(initial=0.0))
        for window in closed:
            usage = window.columns
            cell = usage["link"].astype(np.intp) - 1, usage["application"].astype(np.intp) - 1
            octets[cell], variance[cell] = usage["octets"], usage["octets_variance"]
            largest[cell], stated[cell] = usage["octets_largest"], usage["stated_rate_samples"]
        totals.estimate += float(octets[is_known].sum())
        totals.truth += float(truth[is_known].sum())
        low, high = interval(octets[is_known], variance[is_known], largest[is_known])
        there = truth[is_known] > 0
        totals.cells += int(there.sum())
        totals.covered += int(((low <= truth[is_known]) & (truth[is_known] <= high))[there].sum())
        has_samples = octets.sum(axis=1) > 0
        return np.asarray(has_samples & (stated.sum(axis=1) == 0), np.bool_)


@dataclass(frozen=True, slots=True)
class Bias:
    """Estimated over true octets, the mean over the networks, with its standard error."""

    ratio: float
    error: float
    coverage: float
    cells: int


def measure(rate: int, loss: float, load_a_minute: str, seeds: int, windows: int = 150) -> tuple[Bias, Bias]:
    """Run networks; return the bias of the first minute and that of what follows."""
    runs = [SparseNetwork(seed, rate, loss, LOADS[load_a_minute]).run(windows) for seed in range(seeds)]
    found = []
    for phase in range(2):
        totals = [run[phase] for run in runs if run[phase].truth]
        ratios = np.array([one.ratio for one in totals])
        cells = sum(one.cells for one in totals)
        covered = sum(one.covered for one in totals)
        error = float(ratios.std(ddof=1)) / math.sqrt(len(ratios))
        found.append(Bias(float(ratios.mean()), error, covered / cells, cells))
    return found[0], found[1]


LOSSES: Final = (0.0, 0.3)
RATE: Final = 256
COLUMNS: Final = ("samples_a_minute", "loss", "phase", "ratio", "standard_error", "cells", "coverage")
Row = tuple[str, float, str, Bias]


def measure_all(seeds: int) -> list[Row]:
    """Measure every load, with and without loss; print as it goes."""
    rows: list[Row] = []
    for load_a_minute in LOADS:
        for loss in LOSSES:
            for phase, bias in zip(("first minute", "later"), measure(RATE, loss, load_a_minute, seeds), strict=True):
                rows.append((load_a_minute, loss, phase, bias))
                print(
                    f"{load_a_minute:>8} samples a minute, loss {loss:<4g} {phase:12}: estimate / truth "
                    f"{bias.ratio:.4f} +- {bias.error:.4f}, {bias.coverage:.2%} of {bias.cells:,} cells covered",
                    flush=True,
                )
    return rows


def write(rows: list[Row], file: Path) -> None:
    """Write the table of the biases."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for load_a_minute, loss, phase, bias in rows:
            figures = [f"{bias.ratio:.4f}", f"{bias.error:.4f}", bias.cells, f"{bias.coverage:.4f}"]
            writer.writerow([load_a_minute, f"{loss:g}", phase, *figures])
