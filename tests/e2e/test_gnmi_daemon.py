"""The daemon and gNMI targets, each as a process: what the counters really grew by is in the store, over reload and loss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from telemetryd.agent.interfaces import COUNTERS
from telemetryd.store.counter_query import interfaces
from telemetryd.store.embedded import Store
from tests.daemon_process import DaemonProcess
from tests.gnmi_fleet import HOST, Fleet

pytestmark = pytest.mark.no_twins

TEN_NS = 10_000_000_000
DEVICES = ("CR01", "AG01", "HOST")
INTERFACES = 2


def status(daemon: DaemonProcess) -> dict[str, dict[str, Any]]:
    """Return the rows of the targets, by name."""
    command = [sys.executable, "-m", "telemetryd", "status", "--json", "--socket", str(daemon.control)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {row["name"]: row for row in answer["targets"]}


def whole_windows(store: Path) -> list[dict[str, Any]]:
    """Return the rows of 10 s that the counters tell all of."""
    return [
        row for row in Store.open(store, "read").scan("interface", TEN_NS).to_pylist() if row["covered_ns"] == TEN_NS
    ]


def test_counters_reach_the_store(tmp_path: Path) -> None:
    """Windows hold what the targets counted; a reload leaves streams alone that it does not concern; a target that is
    gone is named, and the others go on."""
    registry = tmp_path / "registry"
    registry.mkdir()
    ports = [{"name": f"Ethernet{number}", "index": number} for number in range(1, INTERFACES + 1)]
    devices = [{"name": name, "role": "core", "interfaces": ports} for name in DEVICES]
    (registry / "city.yaml").write_text(json.dumps({"version": 1, "city": {"name": "small"}, "devices": devices}))
    with Fleet(len(DEVICES), INTERFACES) as fleet:
        targets = [
            {"name": name, "address": HOST, "port": port} for name, port in zip(DEVICES, fleet.ports, strict=True)
        ]
        gnmi = {"sample_interval": "1 s", "insecure": True, "targets": targets[:2]}
        with DaemonProcess(tmp_path, registry, {"gnmi": gnmi}) as daemon:
            daemon.until(lambda: daemon.metrics().get('telemetryd_gnmi_targets{phase="streaming"}') == 2)

            gnmi["targets"] = [targets[0], targets[2]]
            daemon.settings["gnmi"] = gnmi
            daemon.write_config()
            daemon.signal(1)  # SIGHUP
            assert "gnmi.targets" in daemon.wait_for("reloaded")["changes"]
            daemon.until(lambda: daemon.metrics().get('telemetryd_gnmi_updates_total{target="HOST"}', 0) > 0)
            rows = status(daemon)
            assert set(rows) == {"CR01", "HOST"}
            assert rows["CR01"]["counts"]["connections"] == 1
            assert rows["CR01"]["secure"] is False

            daemon.until(lambda: {row["device"] for row in whole_windows(daemon.store)} >= {"CR01", "HOST"})
            assert status(daemon)["CR01"]["skew_ns"] is not None
            fleet.kill(1)
            daemon.until(lambda: "CR01: " in " ".join(json.loads(daemon.get("/healthz")[1])["reasons"]))
            before = daemon.metrics()['telemetryd_gnmi_updates_total{target="HOST"}']
            daemon.until(lambda: daemon.metrics()['telemetryd_gnmi_updates_total{target="HOST"}'] > before)
            assert daemon.terminate() == 0, "".join(daemon.stderr)
    found = whole_windows(tmp_path / "store")
    for row in found:
        # A counter grows by its factor every ms; a reading is of the ms that it was taken in.
        target, port = DEVICES.index(row["device"]), int(row["interface"].removeprefix("Ethernet"))
        for column, leaf in (("in_octets", "in-octets"), ("out_octets", "out-octets"), ("in_packets", "in-pkts")):
            factor = (target + 1) * port * (COUNTERS.index(leaf) + 1)
            assert abs(row[column] - factor * 10_000) <= 2 * factor
        assert (row["capacity_bps"], row["up"], row["flags"], row["source"]) == (1e10, 1, 0, "gnmi")
    with Store.open(tmp_path / "store", "read") as store:
        answer = interfaces(store, devices=["CR01"])
    assert {row["interface"] for row in answer.rows} == {"Ethernet1", "Ethernet2"}
