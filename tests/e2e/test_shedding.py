"""Estimates under shedding: as many packets and octets as were sent, with wider intervals that still hold them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from telemetryd._ext import is_disabled, load
from telemetryd.aggregate.interval import interval
from telemetryd.classify.compile import compile_registry
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.ingest.sflow.receive import KEEP_ALL
from telemetryd.pipeline import Pipeline
from telemetryd.registry.load import load_registry
from telemetryd.schema import Table
from tests.datagrams import bound, sender, wait_for

if is_disabled():
    pytest.skip("the twins are too slow for this many samples", allow_module_level=True)

RATE = 16
SECONDS = 12
WARM = 3  # windows until every source has shown its pool


def test_shedding_leaves_estimates_unbiased_and_intervals_true(tmp_path: Path) -> None:
    """With three of four datagrams shed, totals are those sent and the 95 % intervals of the cells hold the truth."""
    network = {"departments": 8, "applications": 20, "cores": 4}
    write_registry(tmp_path, **network)
    pipeline = Pipeline(compile_registry(load_registry(tmp_path)))
    truths, windows = [], []
    with bound() as one, sender(one) as send:
        receiver = load("receive", "telemetryd.ingest.sflow.receive").Receiver(one.fileno(), 64, 2048, seed=1)
        receiver.keep(KEEP_ALL // 4)
        sent = 0
        for block in known_truth(3, RATE, SECONDS, packets_per_s=150_000, **network):
            truths.append(block.truth)
            for datagram, ts_ns in zip(block.datagrams, block.ts_ns.tolist(), strict=True):
                send(datagram)
                sent += 1
                kept = 0

                def is_received(sent: int = sent) -> bool:
                    nonlocal kept
                    kept += receiver.receive(0)
                    return bool(receiver.stats()["received"] == sent)

                wait_for(is_received, "the datagram")
                if kept:
                    at = np.full(1, ts_ns, np.int64)
                    windows += pipeline.add(receiver.buffer, receiver.offsets[:1], receiver.lengths[:1], at)
        windows += pipeline.windows.flush()
        assert receiver.stats()["shed"] == pytest.approx(0.75 * sent, abs=8)
    assert [window.start_ns for window in windows] == [truth.start_ns for truth in truths]

    estimated, true, covered, cells = 0.0, 0, 0, 0
    for window, truth in list(zip(windows, truths, strict=True))[WARM:]:
        columns, names = window.columns, window.names
        sums: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(3))
        largest: dict[tuple[str, str], float] = defaultdict(float)
        for row in np.flatnonzero(columns["table"] == Table.TOTALS).tolist():
            key = (names.departments[columns["department"][row]], names.applications[columns["application"][row]])
            sums[key] += [columns[name][row] for name in ("octets", "packets", "octets_variance")]
            largest[key] = max(largest[key], columns["octets_largest"][row])
        cells_true: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(2))
        for (_, _, department, _, application), (packets, octets) in truth.totals.totals().items():
            cells_true[(department, application)] += [packets, octets]
        estimated += sum(values[1] for values in sums.values())
        true += int(sum(values[0] for values in cells_true.values()))
        for key, (octets, _, variance) in sums.items():
            low, high = interval(octets, variance, largest[key], 0.95)
            covered += bool(low <= cells_true[key][1] <= high)
            cells += 1
    assert estimated == pytest.approx(true, rel=0.02)
    assert cells > 500
    assert 0.92 <= covered / cells <= 1.0
