"""A daemon estimates what is demanded of ruled links: status, metrics, store; a broken policy is refused whole."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from telemetryd._ext import is_disabled
from telemetryd.ingest.generate.plan import write_registry
from tests.commands import run_command
from tests.daemon_process import DaemonProcess, send
from tests.e2e.test_daemon import SIZES, datagrams, traffic

if is_disabled():
    pytest.skip("the twins are held to the compiled stages elsewhere", allow_module_level=True)

LINK = "core-00-servers"
POLICY = f"""\
version: 1
policy: servers
links: [{LINK}]
direction: out
tree: [department, application]
rest: {{importance: 4}}
"""


def test_demand_is_estimated_shown_and_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Periods of two seconds; a reload takes another policy, or keeps all as it is where it is broken."""
    registry, policy = tmp_path / "registry", tmp_path / "policy.yaml"
    registry.mkdir()
    write_registry(registry, **SIZES)
    policy.write_text(POLICY, encoding="utf-8")
    octets = list(datagrams(traffic(1)))
    with DaemonProcess(tmp_path, registry, {"policies": [str(policy)], "demand": {"period": "2 s"}}) as daemon:
        rate = f'telemetryd_demand_bits_per_second{{direction="out",kind="%s",link="{LINK}"}}'

        def has_demand() -> bool:
            send(daemon.sflow, octets)
            metrics = daemon.metrics()
            return metrics.get(rate % "usage", 0) > 0 and metrics["telemetryd_demand_periods_total"] > 3

        daemon.until(has_demand)
        metrics = daemon.metrics()
        assert metrics[rate % "demand"] >= metrics[rate % "usage"] and metrics[rate % "damped"] > 0
        code, shown, _ = run_command(capsys, "status", "--json", "--socket", daemon.control)
        (row,) = json.loads(shown)["demand"]
        assert code == 0 and (row["policy"], row["link"], row["direction"]) == ("servers", LINK, "out")
        assert row["capacity_bps"] == 10e9 and row["classes"] > 1 and row["end_ns"] - row["start_ns"] == 2_000_000_000

        policy.write_text(POLICY.replace(LINK, "nowhere"), encoding="utf-8")
        daemon.signal(signal.SIGHUP)
        assert 'unknown link "nowhere"' in daemon.wait_for("reload refused")["first"]
        daemon.until(has_demand)
        policy.write_text(POLICY.replace("importance: 4", "importance: 5"), encoding="utf-8")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("reloaded")
        daemon.until(has_demand)
        daemon.until(lambda: has_demand() and daemon.metrics()["telemetryd_demand_periods_total"] > 7)
        assert daemon.terminate() == 0, "".join(daemon.stderr)
    code, text, _ = run_command(capsys, "query", "demand", "--store", daemon.store, "--link", LINK, "--json")
    answer = json.loads(text)
    assert code == 0 and answer["query"] == "demands" and answer["rows"]
    assert all(row["demand_bps"] > 0 and row["link"] == LINK for row in answer["rows"])
