"""Restarts under traffic: what comes while the daemon is away waits in the socket, and the next one takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetryd._ext import is_disabled
from telemetryd.registry.locate import default_registry
from telemetryd.store.embedded import Store
from telemetryd.store.levels import SECOND_NS
from tests.city_load import Background, CityLoad
from tests.daemon_process import DaemonProcess
from tests.held_socket import held_socket, shipped_buffer

if is_disabled():
    pytest.skip("the twins cannot keep up with this rate", allow_module_level=True)

RATE = 50_000  # samples a second
STRETCH = 25_000


def drained(daemon: DaemonProcess) -> dict[str, int]:
    """Return what became of all that one run received."""
    return daemon.logged("drained")[-1]


@pytest.mark.parametrize("restarts", [1, pytest.param(5, marks=pytest.mark.long)])
def test_graceful_restarts_lose_nothing(tmp_path: Path, restarts: int) -> None:
    """At 50 k samples/s with the shipped buffer, restarts lose and shed no datagram; every sample is in the store once."""
    with held_socket(shipped_buffer()) as held, held.start(DaemonProcess(tmp_path, default_registry())) as daemon:
        load = CityLoad(held.port, STRETCH)
        traffic = Background(load, RATE, 6 * (restarts + 1))
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
        assert held.drops() == 0
    assert all(run["windows"] > 0 for run in runs)
    assert sum(run["processed"] for run in runs) == load.datagrams
    assert sum(run["flow_samples"] for run in runs) == load.samples
    assert stored_samples(daemon.store) == load.samples


def test_a_kill_costs_the_open_window_only(tmp_path: Path) -> None:
    """After SIGKILL at 50 k samples/s the next run takes all that waited; lost is what the killed one held in memory."""
    with held_socket(shipped_buffer()) as held, held.start(DaemonProcess(tmp_path, default_registry())) as daemon:
        load = CityLoad(held.port, STRETCH)
        traffic = Background(load, RATE, 16)
        traffic.start()
        daemon.until(lambda: daemon.metrics()["telemetryd_store_rows_total"] > 0)
        daemon.kill()
        held.start(daemon)
        traffic.finish()
        assert daemon.terminate() == 0, "".join(daemon.stderr)
        run = drained(daemon)
        assert held.drops() == 0
    assert run["processed"] == run["received"]
    lost = load.samples - stored_samples(daemon.store)
    # The open second, and the one that was closed and on its way to the disk.
    assert 0 < lost <= 2.5 * RATE


def stored_samples(path: Path) -> int:
    """Count the samples of all origins: on the links at whose side they were taken, each once."""
    with Store.open(path, "read") as store:
        table = store.scan(span_ns=SECOND_NS)
    by_direction = {"in": 0, "out": 0}
    for which, direction, samples in zip(
        table["table"].to_pylist(), table["direction"].to_pylist(), table["samples"].to_pylist(), strict=True
    ):
        if which == "link_usage":
            by_direction[direction] += samples
    return max(by_direction.values())
