"""A daemon tells a webhook that an exporter is silent, shows it, and takes another threshold at a reload."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.alert_receivers import HttpReceiver
from tests.daemon_process import DEADLINE_S, DaemonProcess
from tests.month_case import write_registry

RULE = {"name": "heard", "kind": "coverage", "below": "100 %", "over": "1 s", "hold": "0 s", "recover_hold": "0 s"}


def test_a_silent_exporter_is_told_and_shown(tmp_path: Path) -> None:
    registry = write_registry(tmp_path / "registry")
    with HttpReceiver(tmp_path) as receiver:
        state = str(tmp_path / "alerts.json")
        alerts = {
            "rules": [RULE],
            "state": state,
            "receivers": [{"name": "ops", "kind": "webhook", "url": receiver.url}],
        }
        with DaemonProcess(tmp_path, registry, {"alerts": alerts}) as daemon:
            daemon.until(receiver.requests)
            daemon.until(lambda: daemon.metrics()['telemetryd_alerts_delivered_total{receiver="ops"}'] == 1)
            assert daemon.metrics()['telemetryd_alerts_active{rule="heard",state="firing"}'] == 1
            command = [sys.executable, "-m", "telemetryd", "alerts", "--json", "--socket", str(daemon.control)]
            shown = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
            (alert,) = json.loads(shown)["alerts"]
            assert alert["note"] == "silent: CR01"

            daemon.settings["alerts"] = {**alerts, "rules": [{**RULE, "below": "0 %"}]}
            daemon.write_config()
            daemon.signal(signal.SIGHUP)
            daemon.until(lambda: len(receiver.requests()) == 2)
            assert daemon.terminate() == 0
        told = [one for request in receiver.requests() for one in request["body"]["alerts"]]
    assert [(one["rule"], one["state"]) for one in told] == [("heard", "firing"), ("heard", "resolved")]
    assert told[0]["fingerprint"] == told[1]["fingerprint"] == alert["fingerprint"]
