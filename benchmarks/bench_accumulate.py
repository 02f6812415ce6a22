"""Tracking, accumulation and intervals: CPU time of one thread per row.

Batches hold 4,096 rows of random keys, so that neither the keys nor their sources are found in the cache
by luck. The answer is verified: every row is in the window that is closed at the end.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.report import Figure, cpu_seconds
from telemetryd._ext import load
from telemetryd.aggregate.interval import interval
from telemetryd.aggregate.rollup import merge_windows
from telemetryd.schema import (
    CLASS_COLUMNS,
    DATAGRAM_COLUMNS,
    KEY_COLUMNS,
    SAMPLE_COLUMNS,
    SUM_COLUMNS,
    TRACK_COLUMNS,
    Batch,
    Names,
    UsageWindow,
)

ROWS = 4096
SAMPLES_PER_DATAGRAM = 6
AGENTS = 20
PORTS = 48
LIMITS_NS = {8_000: 12.0, 50_000: 30.0}  # aims, on an idle machine


def accumulate(keys: int, sources: int, batches: int) -> tuple[float, float]:
    """Return ns a row (median over batches, once every key is known) and ms to close the window."""
    rng = np.random.default_rng(keys + sources)
    datagrams = Batch(DATAGRAM_COLUMNS, ROWS)
    samples, track = Batch(SAMPLE_COLUMNS, ROWS), Batch(TRACK_COLUMNS, ROWS)
    classes = Batch(CLASS_COLUMNS, ROWS)
    samples.n = ROWS
    samples["datagram"][:] = np.arange(ROWS) // SAMPLES_PER_DATAGRAM
    samples["sampling_rate"][:] = 1000
    track["pool_valid"][:] = 1
    track["pool_growth"][:] = 1000
    accumulator = load("accumulate", "telemetryd.aggregate.accumulate_reference").Accumulator(
        datagrams, samples, track, classes
    )
    accumulator.open(0)
    times = []
    for batch in range(2 * batches):
        key = rng.integers(0, keys, ROWS)
        classes["department"][:] = key % 60
        classes["application"][:] = key // 60 + 1
        classes["link_in"][:] = key % 7
        classes["link_out"][:] = key % 11
        classes["metering_point"][:] = key % 2
        track["source"][:] = key % sources + 1
        samples["frame_length"][:] = rng.choice([64, 576, 1518], ROWS)
        start = time.thread_time()
        accumulator.add(0)
        if batch >= batches:
            times.append(time.thread_time() - start)
    start = time.thread_time()
    columns, of_sources = accumulator.close()
    closing = time.thread_time() - start
    assert int(columns["samples"].sum()) == int(of_sources["samples"].sum()) == 2 * batches * ROWS
    return float(np.median(times)) / ROWS * 1e9, closing * 1e3


def track(batches: int) -> float:
    """Return ns a row of tracking 20 agents with 48 ports each."""
    rng = np.random.default_rng(1)
    datagrams, samples = Batch(DATAGRAM_COLUMNS, ROWS), Batch(SAMPLE_COLUMNS, ROWS)
    tracker = load("track", "telemetryd.ingest.sflow.sequence").Tracker(datagrams, samples, Batch(TRACK_COLUMNS, ROWS))
    n = -(-ROWS // SAMPLES_PER_DATAGRAM)
    datagrams.n, samples.n = n, ROWS
    datagrams["agent_version"][:n] = 4
    samples["datagram"][:] = np.arange(ROWS) // SAMPLES_PER_DATAGRAM
    samples["sampling_rate"][:] = 1000
    sent = np.zeros(AGENTS, np.int64)
    sampled = np.zeros((AGENTS, PORTS), np.int64)
    times = []
    for _ in range(batches):
        agent = rng.integers(0, AGENTS, n)
        port = rng.integers(0, PORTS, ROWS)
        for row, at in enumerate(agent):
            sent[at] += 1
            datagrams["sequence_number"][row] = datagrams["uptime"][row] = sent[at]
        datagrams["agent_lo"][:n] = agent
        for row, (at, of) in enumerate(zip(agent[samples["datagram"]], port, strict=True)):
            sampled[at, of] += 1
            samples["sequence_number"][row] = sampled[at, of]
        samples["sample_pool"][:] = samples["sequence_number"] * 1000
        samples["source_index"][:] = port
        start = time.thread_time()
        tracker.track()
        times.append(time.thread_time() - start)
    assert int(tracker.sources()["samples"].sum()) == batches * ROWS
    assert int(tracker.sources()["lost"].sum()) == 0
    return float(np.median(times[batches // 5 :])) / ROWS * 1e9


def window(rows: int, seed: int) -> UsageWindow:
    """Return a window of ``rows`` distinct random keys."""
    rng = np.random.default_rng(seed)
    key = rng.choice(4 * rows, rows, replace=False)
    columns = {column.name: np.zeros(rows, column.dtype) for column in KEY_COLUMNS}
    columns["department"][:] = key % 60
    columns["application"][:] = key // 60
    columns |= {column.name: rng.integers(1, 1000, rows).astype(column.dtype) for column in SUM_COLUMNS}
    return UsageWindow(0, 10**9, columns, Names(*[("-",)] * 6))


def run(short: bool) -> list[Figure]:
    """Measure each stage."""
    batches = 4 if short else 256
    figures = [Figure("track a sample (960 sources)", track(batches), "ns")]
    for keys, aim in LIMITS_NS.items():
        for sources in (1, 1000):
            ns, ms = accumulate(keys, sources, batches)
            what = f"accumulate a row, {keys:,} keys, {sources:,} source{'s' * (sources > 1)}"
            figures.append(Figure(what, ns, "ns", f"aim {aim:g}"))
            figures.append(Figure(f"close that window, {keys:,} keys", ms, "ms"))
    rows = 1_000 if short else 50_000
    windows = [window(rows, seed) for seed in range(10)]
    seconds = cpu_seconds(lambda: merge_windows(windows, 0, 10**10), 1 if short else 5)
    figures.append(Figure(f"roll up 10 windows of {rows:,} keys", seconds / (10 * rows) * 1e9, "ns a row"))
    rng = np.random.default_rng(5)
    octets = rng.uniform(1, 100, rows)
    variance = octets**2 / rng.uniform(1, 300, rows)
    seconds = cpu_seconds(lambda: interval(octets, variance, np.sqrt(variance)), 1 if short else 5)
    figures.append(Figure(f"intervals of {rows:,} keys", seconds / rows * 1e9, "ns a key"))
    return figures
