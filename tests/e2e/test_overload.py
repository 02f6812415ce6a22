"""Three times what the daemon can take: it stays up and on time, and knows what it lost to the datagram."""

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
from telemetryd.aggregate.interval import interval
from telemetryd.classify.compile import compile_registry
from telemetryd.ingest.generate.loads import city_repeated
from telemetryd.ingest.generate.pace import Burst, Pace
from telemetryd.pipeline import Pipeline
from telemetryd.registry.load import load_registry
from telemetryd.registry.locate import default_registry
from telemetryd.schema import Table, UsageWindow
from telemetryd.store.embedded import Store
from telemetryd.store.levels import SECOND_NS
from tests.city_load import CityLoad
from tests.cpu_limit import cpu_limit
from tests.daemon_process import DaemonProcess
from tests.daemon_watch import Watch, resident

if is_disabled():
    pytest.skip("the twins are too slow for this many samples", allow_module_level=True)

SHARE = 1 / 3  # of one processor, for all of the daemon
FLUSH_RATE = 40_000.0  # samples/s, which even a third of a processor takes
DELAY_S = 0.2
MOMENT, HALF_A_MINUTE = 40, 300  # stretches, sent as fast as one sender goes
LEAST_SHARE = 1 / 10  # ... where traffic is sent that does not repeat: no sender makes enough of it for a third
UNREPEATED_RATE = 300_000.0  # samples/s
LEAST_FLUSH_RATE = 10_000.0  # samples/s, which even that share takes
FLUSHED = 60_000  # samples behind the overload: each source's last gap shows
MEBIBYTE = 1 << 20

Key = tuple[str, str, str]
Sums = dict[Key, np.ndarray]


def status(daemon: DaemonProcess) -> dict[str, Any]:
    command = [sys.executable, "-m", "telemetryd", "status", "--socket", str(daemon.control), "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=False, text=True).stdout)
    return answer


def sums_of(windows: list[UsageWindow]) -> Sums:
    """Add up octets and packets by (table, place, department)."""
    sums: Sums = defaultdict(lambda: np.zeros(5))
    for window in windows:
        columns, names = window.columns, window.names
        for row in range(len(columns["samples"])):
            table = Table(columns["table"][row])
            places = names.links if table == Table.LINK_USAGE else names.metering_points
            key = (table.name.lower(), places[columns["link"][row]], names.departments[columns["department"][row]])
            sums[key] += [columns["octets"][row], columns["packets"][row], 0, 0, columns["samples"][row]]
    return sums


def stored(path: Path) -> Sums:
    """Add up what the store holds: octets, packets, their variance and largest, samples."""
    sums: Sums = defaultdict(lambda: np.zeros(5))
    with Store.open(path, "read") as store:
        table = store.scan(span_ns=SECOND_NS).unify_dictionaries()
        grouped = table.group_by(["table", "link", "department"]).aggregate(
            [
                ("octets", "sum"),
                ("packets", "sum"),
                ("octets_variance", "sum"),
                ("octets_largest", "max"),
                ("samples", "sum"),
            ]
        )
    for row in grouped.to_pylist():
        sums[row["table"], row["link"], row["department"]] += [
            row["octets_sum"],
            row["packets_sum"],
            row["octets_variance_sum"],
            row["octets_largest_max"],
            row["samples_sum"],
        ]
    return sums


@pytest.mark.parametrize("stretches", [MOMENT, pytest.param(HALF_A_MINUTE, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_overload_degrades_by_design(tmp_path: Path, stretches: int) -> None:
    """Everything sent is processed, shed or dropped, by socket and by agent; windows are on time.

    How late windows are is held to its promise in the long run only.
    """
    registry = default_registry()
    with cpu_limit() as cpu:
        # What was not stored in a third of a processor is to be stored at the end.
        limits = {"agent_datagrams_per_s": 0, "drain": "50 s"}
        daemon = DaemonProcess(tmp_path, registry, {"limits": limits}).start(prefix=cpu.prefix)
        with daemon:
            load = CityLoad(daemon.sflow[1])
            cpu.set(SHARE)
            load.send(1, Pace(samples_per_s=FLUSH_RATE))
            before = resident(daemon.process.pid)
            watch = Watch(daemon)
            watch.start()
            run = load.send(stretches, Pace())
            watch.stop()
            load.send(1, Pace(samples_per_s=FLUSH_RATE))  # each agent's last gap shows behind it

            sent = load.datagrams
            daemon.until(lambda: accounted(daemon.metrics()) == sent)
            metrics = daemon.metrics()
            agents = {agent["name"]: agent["counts"] for agent in status(daemon)["agents"]}
            cpu.set(1.0)
            assert daemon.terminate() == 0, "".join(daemon.stderr)

    rate = run.total().flow_samples / run.elapsed_s
    outcome = {name: outcomes(metrics, name) for name in ("processed", "shed", "capped", "refused", "short")}
    drops = metrics['telemetryd_receive_kernel_drops_total{socket="0"}']
    print(f"sent {rate:,.0f} samples/s for {run.elapsed_s:.1f} s; {outcome}; kernel drops {drops:,.0f} of {sent:,}")
    print(
        f"delays {sorted(watch.delays)[-3:]}; resident {before / MEBIBYTE:.0f} -> {max(watch.rss) / MEBIBYTE:.0f} MiB"
    )
    assert sum(outcome.values()) + drops == sent
    assert outcome["processed"] < 0.9 * sent, "the load was no overload"
    assert outcome["shed"] > 0

    # by agent: what was received and what its sequence numbers say is missing
    assert {name for name in agents if name != "other"} == set(load.by_agent)
    for name, datagrams in load.by_agent.items():
        counts = {key: int(value) for key, value in agents[name].items()}
        outside = counts.get("lost", 0) - counts.get("shed", 0) - counts.get("capped", 0)
        assert counts["received"] + outside == datagrams, name

    if stretches == HALF_A_MINUTE:
        assert np.quantile(watch.delays, 0.99) <= DELAY_S
    quarter = len(watch.rss) // 4
    assert np.median(watch.rss[-quarter:]) < np.median(watch.rss[quarter : 2 * quarter]) * 1.25 + 64 * MEBIBYTE


@pytest.mark.parametrize("samples", [1_500_000, pytest.param(9_000_000, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_intervals_hold_in_overload(tmp_path: Path, samples: int) -> None:
    """With most of it lost, the 95 % intervals hold the truth: what exporters sampled, estimated without any loss.

    Nothing comes twice in this traffic. Of a stretch that repeats, losses that keep step with it take the same samples
    each time, and no interval knows of that.
    """
    registry = default_registry()
    with cpu_limit() as cpu:
        limits = {"agent_datagrams_per_s": 0, "drain": "120 s"}
        with DaemonProcess(tmp_path, registry, {"limits": limits}).start(prefix=cpu.prefix) as daemon:
            load = CityLoad(daemon.sflow[1], samples)
            cpu.set(LEAST_SHARE)
            factor = UNREPEATED_RATE / LEAST_FLUSH_RATE
            overload = Burst(factor, (samples - FLUSHED) / UNREPEATED_RATE, every_s=600)
            load.send(1, Pace(samples_per_s=LEAST_FLUSH_RATE, burst=overload))
            sent = load.datagrams
            daemon.until(lambda: accounted(daemon.metrics()) == sent)
            processed = outcomes(daemon.metrics(), "processed")
            cpu.set(1.0)
            assert daemon.terminate() == 0, "".join(daemon.stderr)
    print(f"processed {processed:,.0f} of {sent:,} datagrams")
    assert processed < sent / 2, "the load was no overload"
    covered, cells = coverage(stored(daemon.store), lossless(registry, samples))
    print(f"intervals hold the truth in {covered} of {cells} departments and links")
    assert cells > 200
    assert covered >= 0.93 * cells


def outcomes(metrics: dict[str, float], outcome: str) -> float:
    return sum(
        value
        for name, value in metrics.items()
        if name.startswith("telemetryd_receive_datagrams_total") and f'outcome="{outcome}"' in name
    )


def accounted(metrics: dict[str, float]) -> float:
    names = ("processed", "shed", "capped", "refused", "short")
    return sum(outcomes(metrics, name) for name in names) + sum(
        value for name, value in metrics.items() if name.startswith("telemetryd_receive_kernel_drops_total")
    )


def lossless(registry: Path, samples: int) -> Sums:
    """Estimate from all that was sent: the same stretch of so many samples, offline."""
    pipeline = Pipeline(compile_registry(load_registry(registry)))
    sent = next(city_repeated(registry, samples, 1, 1_000_000.0)).datagrams
    windows = pipeline.add(sent.buffer, sent.offsets, sent.lengths, sent.ts_ns)
    return sums_of(windows + pipeline.windows.flush())


def coverage(estimates: Sums, truths: Sums) -> tuple[int, int]:
    """Count the sums whose 95 % interval holds the truth, among those with 20 samples or more."""
    keys = [key for key in truths if estimates[key][4] >= 20]
    octets, _, variance, largest, _ = np.array([estimates[key] for key in keys]).T
    low, high = interval(octets, variance, largest, 0.95)
    true = np.array([truths[key][0] for key in keys])
    return int(np.count_nonzero((low <= true) & (true <= high))), len(keys)
