"""From generated datagrams through the whole pipeline: the figures against the truth that was sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from telemetryd._ext import is_disabled
from telemetryd.aggregate.interval import interval
from telemetryd.classify.compile import compile_registry
from telemetryd.ingest.generate.city import CityTraffic
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.ingest.generate.traffic import GeneratedBlock
from telemetryd.ingest.generate.truth import TrafficTruth
from telemetryd.pipeline import Pipeline
from telemetryd.registry.load import load_registry
from telemetryd.schema import Direction, LinkDirection, Table, UsageWindow

if is_disabled():
    pytest.skip(
        "the twins are held to the compiled stages elsewhere; here they would take minutes", allow_module_level=True
    )

EXAMPLE_CITY = Path(__file__).parents[2] / "policies" / "example-city"
Sums = dict[tuple[str, ...], np.ndarray]


def run(registry: Path, blocks: Iterable[GeneratedBlock]) -> tuple[list[UsageWindow], list[TrafficTruth], Pipeline]:
    pipeline = Pipeline(compile_registry(load_registry(registry)))
    windows: list[UsageWindow] = []
    truths = []
    for block in blocks:
        windows += pipeline.add(block.buffer, block.offsets, block.lengths, block.ts_ns)
        truths.append(block.truth)
    windows += pipeline.windows.flush()
    assert pipeline.decoder.stats()["errors"] == {} or not any(pipeline.decoder.stats()["errors"].values())
    return windows, truths, pipeline


def table(window: UsageWindow, which: Table) -> Sums:
    """Return (point or link, direction, department, peer, application) -> octets, packets, variance, largest."""
    columns, names = window.columns, window.names
    places = names.metering_points if which == Table.TOTALS else names.links
    kind = Direction if which == Table.TOTALS else LinkDirection
    sums: Sums = defaultdict(lambda: np.zeros(4))
    for row in np.flatnonzero(columns["table"] == which):
        key = (
            places[columns["link"][row]],
            kind(columns["direction"][row]).name.lower(),
            names.departments[columns["department"][row]],
            names.departments[columns["peer_department"][row]],
            names.applications[columns["application"][row]],
        )
        values = [columns[name][row] for name in ("octets", "packets", "octets_variance")]
        sums[key][:3] += values
        sums[key][3] = max(sums[key][3], columns["octets_largest"][row])
    return sums


def test_totals_are_exact_when_every_packet_is_a_sample(tmp_path: Path) -> None:
    """At 1:1 every key of both tables holds exactly the packets and octets that were sent, in every window."""
    write_registry(tmp_path, departments=12, applications=40, cores=4)
    blocks = list(known_truth(1, 1, 3, packets_per_s=4000, departments=12, applications=40, cores=4))
    windows, truths, _ = run(tmp_path, blocks)
    assert [w.start_ns for w in windows] == [t.start_ns for t in truths]
    for window, truth in zip(windows, truths, strict=True):
        for which, expected in ((Table.TOTALS, truth.totals), (Table.LINK_USAGE, truth.link_usage)):
            found = {key: (int(v[1]), int(v[0])) for key, v in table(window, which).items()}
            assert found == expected.totals()


@pytest.mark.parametrize("rate", [8, 256])
def test_intervals_cover_the_truth_through_the_datagrams(tmp_path: Path, rate: int) -> None:
    """At 1:N the 95 % intervals of the cells cover the truth, sampled through real datagrams and pools."""
    write_registry(tmp_path, departments=12, applications=40, cores=4)
    covered = cells = 0
    for seed in range(6):
        blocks = known_truth(seed, rate, 4, packets_per_s=200 * rate, departments=12, applications=40, cores=4)
        windows, truths, _ = run(tmp_path, list(blocks))
        for window, truth in zip(windows, truths, strict=True):
            found = table(window, Table.TOTALS)
            for key, (_, octets) in truth.totals.totals().items():
                if key not in found:
                    continue
                values = found[key]
                low, high = interval(*(np.array([values[i]]) for i in (0, 2, 3)))
                cells += 1
                covered += bool(low[0] <= octets <= high[0])
    assert cells > 500
    # Cells without a sample are left out here, so that the seen ones lean upwards: 90 % is the floor.
    assert covered / cells > 0.90


def test_the_example_city_comes_out_as_it_was_sent() -> None:
    """A second of the example city, every packet sampled: totals by department and application are exact."""
    city = CityTraffic(
        EXAMPLE_CITY / "registry", EXAMPLE_CITY / "traffic", 3, datetime(2026, 11, 28, 9, 0), scale=0.001, sampling=1
    )
    blocks = list(city.generate(2))
    windows, truths, _ = run(EXAMPLE_CITY / "registry", blocks)
    for window, truth in zip(windows, truths, strict=True):
        for which, expected in ((Table.TOTALS, truth.totals), (Table.LINK_USAGE, truth.link_usage)):
            found = {key: (int(v[1]), int(v[0])) for key, v in table(window, which).items()}
            wanted = expected.totals()
            missing = {key: wanted.get(key) for key in set(wanted) ^ set(found)}
            assert not missing, list(missing.items())[:5]
            assert found == wanted
