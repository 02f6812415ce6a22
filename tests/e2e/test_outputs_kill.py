"""SIGKILL at random moments while the server flaps: what was acknowledged to the spool is in InfluxDB afterwards."""

from __future__ import annotations

import os
import random
import select
import socket
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from telemetryd._ext import is_disabled
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.store.influx.pieces import unpack
from telemetryd.store.spool.segment import NAME, Segment
from tests.daemon_process import DaemonProcess
from tests.flapping import Flapping
from tests.influx_servers import parse_points, start_influxd

if is_disabled():
    pytest.skip("the twins are held to the compiled stages elsewhere", allow_module_level=True)

SIZES = {"departments": 4, "applications": 8, "cores": 2}


class Traffic(threading.Thread):
    """Send a second of traffic a second, until stopped; its numbers go on."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._to = ("127.0.0.1", port)
        self._stop_it = threading.Event()
        self._blocks = known_truth(1, 1, 3600, packets_per_s=500, **SIZES)

    def run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for block in self._blocks:
                for offset, length in zip(block.offsets.tolist(), block.lengths.tolist(), strict=True):
                    sender.sendto(block.buffer[offset : offset + length], self._to)
                if self._stop_it.wait(1):
                    return

    def finish(self) -> None:
        self._stop_it.set()
        self.join(30)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def keep_segments(spool: Path, kept: Path) -> None:
    """Link the files of the spool to where it does not remove them: they hold all that was acknowledged so far.

    A file goes only when it is closed, and one that a run wrote is closed by the next run at the earliest.
    """
    for file in (spool / "segments").iterdir():
        if not (kept / file.name).exists():
            os.link(file, kept / file.name)


def spooled(kept: Path) -> dict[Any, set[Any]]:
    """Return every point that was appended, with its values: a later run may have sent it again, rounded."""
    points: dict[Any, set[Any]] = defaultdict(set)
    for file in kept.iterdir():
        assert NAME.fullmatch(file.name)
        segment, _, _ = Segment.load(file, check_payloads=True)
        for place in segment.between(0, 1 << 63):
            sequence = segment.item(place).sequence
            payload = segment.read(segment.place(sequence), sequence)  # type: ignore[arg-type]
            assert payload is not None
            for point, value in parse_points(b"".join(unpack(payload))).items():
                points[point].add(value)
    return points


def kill_and_check(tmp_path: Path, kills: int) -> None:
    registry, kept = tmp_path / "registry", tmp_path / "kept"
    registry.mkdir()
    kept.mkdir()
    write_registry(registry, **SIZES)
    moments = random.Random(20261126)
    port = free_udp_port()
    traffic = Traffic(port)
    with start_influxd(tmp_path) as server, Flapping(server.port, seed=5) as relay:
        output = {"name": "city", "url": f"http://127.0.0.1:{relay.port}", "bucket": server.bucket, "timeout": "1 s"}
        daemon = DaemonProcess(
            tmp_path,
            registry,
            {
                "listen": {"port": port, "sources": "any"},
                "spool": {"path": str(tmp_path / "spool")},
                "outputs": [{**output, "spans": ["1 s", "10 s", "1 min"]}],
            },
        )
        traffic.start()
        try:
            for _ in range(kills):
                with daemon.start():
                    daemon.until(lambda: daemon.metrics()["telemetryd_windows_total"] > 1)
                    select.select([], [], [], moments.uniform(0, 2.5))
                    daemon.kill()
                keep_segments(tmp_path / "spool", kept)
        finally:
            traffic.finish()
        relay.settle()
        with daemon.start():
            waiting = 'telemetryd_output_waiting_points{output="city"}'
            daemon.until(lambda: daemon.metrics().get(waiting) == 0)
            keep_segments(tmp_path / "spool", kept)
            status = daemon.metrics()
            assert daemon.terminate() == 0, "".join(daemon.stderr)
        keep_segments(tmp_path / "spool", kept)
        assert not [name for name in status if name.startswith("telemetryd_spool_lost_points")]
        points = spooled(kept)
        found = server.points()
    print(f"{kills} kills, {sum(relay.turns.values())} turns of the server {dict(relay.turns)}: {len(points):,} values")
    missing = [point for point, values in points.items() if found.get(point) not in values]
    assert missing == []
    assert len({point[2] for point in points if point[0] == "usage"}) > kills


def test_kills_lose_nothing_of_the_spool(tmp_path: Path) -> None:
    """Three kills."""
    kill_and_check(tmp_path, 3)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_kills_lose_nothing_of_the_spool(tmp_path: Path) -> None:
    """A hundred."""
    kill_and_check(tmp_path, 100)
