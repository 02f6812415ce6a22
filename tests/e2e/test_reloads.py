"""Reload after reload under load: nothing is lost, no memory is kept, no window is late for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from telemetryd._ext import is_disabled
from telemetryd.cli.control import talk
from telemetryd.registry.locate import default_registry
from tests.city_load import Background, CityLoad
from tests.daemon_process import DaemonProcess
from tests.daemon_watch import Watch, resident
from tests.held_socket import held_socket, shipped_buffer

if is_disabled():
    pytest.skip("the twins cannot keep up with this rate", allow_module_level=True)

RATE, CALM_RATE = 50_000, 10_000  # samples a second
FEW, MANY = 3, 1000
QUIET_S = 60.0  # without a reload, for comparison
DELAY_S = 0.2
MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("reloads", "rate"),
    [(FEW, CALM_RATE), pytest.param(MANY, RATE, marks=[pytest.mark.long, pytest.mark.timeout(7200)])],
)
def test_reloads_cost_nothing(tmp_path: Path, reloads: int, rate: int) -> None:
    """Each swaps in a registry that differs; the count of samples is whole, memory is flat, windows stay on time."""
    registry = tmp_path / "registry"
    shutil.copytree(default_registry(), registry)
    with held_socket(shipped_buffer()) as held:
        load = CityLoad(held.port, rate // 2)
        with held.start(DaemonProcess(tmp_path, registry)) as daemon:
            traffic = Background(load, rate, 1 << 30)
            traffic.start()
            daemon.until(lambda: daemon.metrics()["telemetryd_windows_total"] > 0)
            before = Watch(daemon)
            before.start()
            if reloads == MANY:
                before.join(QUIET_S)
            before.stop()
            during, rss = Watch(daemon), []
            during.start()
            for number in range(reloads):
                (registry / "flip.yaml").write_text(f"version: 1\ndepartments: [{{name: added-{number % 2}}}]\n")
                assert talk(daemon.control, lambda client: client.reload()).reloaded
                rss.append(resident(daemon.process.pid) / MEBIBYTE)
            during.stop()
            traffic.stop()
            assert daemon.metrics()['telemetryd_reloads_total{result="done"}'] == reloads
            assert daemon.terminate() == 0, "".join(daemon.stderr)
        drops = held.drops()
    run = daemon.logged("drained")[-1]
    print(f"{reloads} reloads, {load.samples:,} samples: {drops} datagrams dropped, {run['shed']} shed")
    if reloads == MANY:
        p99 = {when: float(np.quantile(watch.delays, 0.99)) for when, watch in (("before", before), ("during", during))}
        slope = np.polyfit(np.arange(reloads - reloads // 2), rss[reloads // 2 :], 1)[0]
        quarters = [float(np.median(part)) for part in np.array_split(rss, 4)]
        print(f"p99 of the windows' delay, s: {p99}")
        print(f"resident, median of each quarter {quarters} MiB; second half {slope * 1000:+.1f} MiB per 1,000 reloads")
        assert p99["during"] <= DELAY_S
        assert quarters[-1] <= quarters[1] * 1.1
    assert (drops, run["shed"], run["flow_samples"]) == (0, 0, load.samples)
