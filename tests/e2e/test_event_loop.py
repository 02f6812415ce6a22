"""The daemon's event loop: nothing blocks it, and asyncio's own checks find nothing wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from telemetryd._ext import is_disabled
from telemetryd.cli.control import talk
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from tests.daemon_process import DaemonProcess, send

if is_disabled():
    pytest.skip("the twins are held to the compiled stages elsewhere", allow_module_level=True)

SIZES = {"departments": 12, "applications": 40, "cores": 4}
WRONG = ("never awaited", "thread-safe", "was destroyed but it is pending", "exception was never retrieved")


def test_nothing_blocks_the_loop(tmp_path: Path) -> None:
    """A whole life under load - windows, status, metrics, a reload, a refused one, the drain - has no blocking call."""
    registry = tmp_path / "registry"
    registry.mkdir()
    write_registry(registry, **SIZES)
    (tmp_path / "sitecustomize.py").write_text("from tests.blocking import watched\nwatched().activate()\n")
    paths = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    environment = {"PYTHONPATH": paths, "PYTHONASYNCIODEBUG": "1"}
    with DaemonProcess(tmp_path, registry).start(environment=environment) as daemon:
        (block,) = known_truth(1, 1, 1, packets_per_s=2000, **SIZES)
        offsets, lengths = block.offsets.tolist(), block.lengths.tolist()
        send(daemon.sflow, (block.buffer[at : at + n].tobytes() for at, n in zip(offsets, lengths, strict=True)))
        daemon.until(lambda: daemon.metrics()["telemetryd_store_rows_total"] > 0)
        assert talk(daemon.control, lambda client: client.status())["state"] == "ok"
        assert talk(daemon.control, lambda client: client.reload()).reloaded
        (registry / "broken.yaml").write_text("version: 1\ndepartments: [{name: 1}]\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("reload refused")
        assert daemon.get("/readyz")[0] == 200
        assert daemon.terminate() == 0, "".join(daemon.stderr)
    said = "".join(daemon.stderr)
    assert not [word for word in (*WRONG, "BlockingError") if word in said], said


def test_a_blocking_call_would_be_found(tmp_path: Path) -> None:
    """The check itself works in the daemon's process: the loop that reads a file ends with the reason."""
    registry = tmp_path / "registry"
    registry.mkdir()
    write_registry(registry, **SIZES)
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\n"
        "from tests.blocking import watched\n"
        "from telemetryd import daemon\n"
        "watched().activate()\n"
        "daemon.Daemon._status_line = lambda self: Path(__file__).read_text()\n"
    )
    paths = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    daemon = DaemonProcess(tmp_path, registry).start(wait=False, environment={"PYTHONPATH": paths})
    with daemon:
        assert daemon.wait() == 1
    assert "BlockingError" in "".join(daemon.stderr)
