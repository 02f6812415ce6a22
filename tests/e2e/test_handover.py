"""Restarts under traffic: what comes while the daemon is away waits in the socket, and the next one takes it."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from telemetryd._ext import is_disabled
from telemetryd.ingest.generate.pace import Pace
from telemetryd.registry.locate import default_registry
from telemetryd.store.embedded import Store
from telemetryd.store.levels import SECOND_NS
from tests.city_load import Background, CityLoad
from tests.daemon_process import DaemonProcess
from tests.held_socket import held_socket, shipped_buffer

if is_disabled():
    pytest.skip("the twins cannot keep up with these rates", allow_module_level=True)

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
RATE, CALM_RATE = 50_000, 20_000  # samples a second; the buffer bridges 7 and 17 s: a busy machine needs them to start
PARTS_A_SECOND = 2
NOT_STORED_S = 2.5  # at the kill: the open second, and the one that was closed and on its way to the disk

many_at_full_rate = pytest.param(RATE, 5, marks=[pytest.mark.long, pytest.mark.timeout(600)])
at_full_rate = pytest.param(RATE, marks=pytest.mark.long)


def drained(daemon: DaemonProcess) -> dict[str, int]:
    """Return what became of all that one run received."""
    return daemon.logged("drained")[-1]


@pytest.mark.parametrize(("rate", "restarts"), [(CALM_RATE, 1), many_at_full_rate])
def test_graceful_restarts_lose_nothing(tmp_path: Path, rate: int, restarts: int) -> None:
    """With the shipped buffer, restarts lose and shed no datagram, and every sample is in the store once."""
    with held_socket(shipped_buffer()) as held:
        load = CityLoad(held.port, rate // PARTS_A_SECOND)
        with held.start(DaemonProcess(tmp_path, default_registry())) as daemon:
            traffic = Background(load, rate, 3 * PARTS_A_SECOND * (restarts + 1))
            traffic.start()
            runs = []
            for _ in range(restarts):
                daemon.until(lambda: daemon.metrics()["telemetryd_store_rows_total"] > 0)
                assert daemon.terminate() == 0, "".join(daemon.stderr)
                runs.append(drained(daemon))
                held.start(daemon)
            traffic.finish()
            assert daemon.terminate() == 0, "".join(daemon.stderr)
            runs.append(drained(daemon))
            print(f"{restarts} restarts at {rate:,} samples/s: {held.drops()} of {load.datagrams:,} datagrams dropped")
            assert held.drops() == 0
    assert all(run["windows"] > 0 for run in runs)
    assert [run["shed"] for run in runs] == [0] * len(runs)
    assert sum(run["processed"] for run in runs) == load.datagrams
    assert sum(run["flow_samples"] for run in runs) == load.samples
    assert sum(stored_samples(daemon.store)) == load.samples


@pytest.mark.parametrize("rate", [CALM_RATE, at_full_rate])
def test_a_kill_costs_the_open_window_only(tmp_path: Path, rate: int) -> None:
    """After SIGKILL the next run processes and stores all that waited; lost is what the killed one held in memory."""
    with held_socket(shipped_buffer()) as held:
        load = CityLoad(held.port, rate // PARTS_A_SECOND)
        with held.start(DaemonProcess(tmp_path, default_registry())) as daemon:
            traffic = Background(load, rate, 8 * PARTS_A_SECOND)
            traffic.start()
            daemon.until(lambda: daemon.metrics()["telemetryd_store_rows_total"] > 0)
            daemon.kill()
            held.start(daemon)
            traffic.finish()
            assert daemon.terminate() == 0, "".join(daemon.stderr)
            run = drained(daemon)
            assert held.drops() == 0
    killed, second = stored_samples(daemon.store)
    lost = load.samples - killed - second
    print(
        f"killed at {rate:,} samples/s: {lost:,} samples lost; the next run received {run['received']:,} "
        f"datagrams, shed {run['shed']:,}, of {load.datagrams:,} in all"
    )
    assert run["processed"] == run["received"]
    assert second == run["flow_samples"]
    assert killed > 0
    assert lost >= 0
    if rate == RATE:
        assert lost <= NOT_STORED_S * rate


def test_the_shipped_buffer_bridges_what_is_promised() -> None:
    """The gaps that docs/operating.md promises for the shipped buffer, at each rate, fit into it."""
    line = re.search(r"held ([\d,]+) datagrams", OPERATING.read_text(encoding="utf-8"))
    rates = re.search(r"\| samples a second .*?\|(.*)\|", OPERATING.read_text(encoding="utf-8"))
    gaps = re.search(r"\| bridged, s \|(.*)\|", OPERATING.read_text(encoding="utf-8"))
    assert line and rates and gaps
    promised = int(line[1].replace(",", ""))
    with held_socket(shipped_buffer()) as held:
        load = CityLoad(held.port, RATE)
        while not held.drops():
            load.send(1, Pace())
        room = load.datagrams - held.drops()
        samples_a_datagram = load.samples / load.datagrams
    assert room == pytest.approx(promised, rel=0.02)
    table = zip(rates[1].split("|"), gaps[1].split("|"), strict=True)
    for rate, gap in ((float(rate.replace(",", "")), float(gap)) for rate, gap in table):
        assert 0.9 * room < rate * gap / samples_a_datagram < 1.01 * room


def stored_samples(path: Path) -> list[int]:
    """Count the samples of each origin, by its time: on the links at whose side they were taken, each once."""
    with Store.open(path, "read") as store:
        table = store.scan(span_ns=SECOND_NS)
    counts: dict[str, dict[str, int]] = defaultdict(lambda: {"in": 0, "out": 0})
    columns = (table[name].to_pylist() for name in ("origin", "table", "direction", "samples"))
    for origin, which, direction, samples in zip(*columns, strict=True):
        if which == "link_usage":
            counts[origin][direction] += samples
    return [max(by_direction.values()) for _, by_direction in sorted(counts.items())]
