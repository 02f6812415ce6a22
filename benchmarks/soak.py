"""Does the daemon's memory stay flat? `python -m benchmarks.soak [--minutes N] [--rate N] [--write]`.

The example city's traffic is sent to `telemetryd run`, as it is shipped, at a quarter of what the receiver takes.
Once in ten seconds its resident memory and its own figures are noted.

`--write` puts them into docs/figures/soak.csv and draws docs/figures/soak.svg.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import threading
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from telemetryd.registry.locate import default_registry
from tests.city_load import Background, CityLoad
from tests.daemon_process import DaemonProcess
from tests.held_socket import held_socket, shipped_buffer

RATE = 400_000.0  # flow samples/s: a quarter of 1.6 M
EVERY_S = 10.0
STRETCH_SAMPLES = 200_000
FIGURES = Path(__file__).parents[1] / "docs" / "figures"
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Point:
    """What was seen at a time."""

    seconds: float
    rss_mib: float
    datagrams: int
    shed: int
    kernel_drops: int
    delay_ms: float
    rows_stored: int
    backlog_windows: int


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / MEBIBYTE


def look(daemon: DaemonProcess, seconds: float) -> Point:
    """Ask the daemon how it is."""
    metrics = daemon.metrics()

    def of_socket(name: str, outcome: str = "") -> int:
        return int(sum(v for n, v in metrics.items() if n.startswith(name) and outcome in n))

    return Point(
        round(seconds, 1),
        round(resident_mib(daemon.process.pid), 1),
        of_socket("telemetryd_receive_datagrams_total"),
        of_socket("telemetryd_receive_datagrams_total", 'outcome="shed"'),
        of_socket("telemetryd_receive_kernel_drops_total"),
        round(1000 * metrics["telemetryd_window_delay_seconds"], 1),
        int(metrics["telemetryd_store_rows_total"]),
        int(metrics["telemetryd_store_backlog_windows"]),
    )


def soak(minutes: float, rate: float) -> list[Point]:
    """Send for so long, and look on.

    Raises
    ------
    AssertionError
        If the daemon ends, does not end when told to, or a datagram is without its number.
    """
    points = []
    with tempfile.TemporaryDirectory() as directory, held_socket(shipped_buffer()) as held:
        daemon = held.start(DaemonProcess(Path(directory), default_registry()))
        with daemon:
            load = CityLoad(held.port, STRETCH_SAMPLES)
            traffic = Background(load, rate, round(minutes * 60 * rate / STRETCH_SAMPLES))
            begun, tick = time.monotonic(), threading.Event()
            traffic.start()
            while traffic.is_alive():
                tick.wait(EVERY_S)
                points.append(look(daemon, time.monotonic() - begun))
                print("  ".join(f"{f.name} {v:,}" for f, v in zip(fields(Point), astuple(points[-1]), strict=True)))
                sys.stdout.flush()
            traffic.finish()
            daemon.until(lambda: look(daemon, 0).datagrams + held.drops() == load.datagrams)
            assert daemon.terminate() == 0, "".join(daemon.stderr)
    print(f"{load.samples:,} samples in {load.datagrams:,} datagrams, {held_text(points)}")
    return points


def held_text(points: list[Point]) -> str:
    """Say how the memory went, by the second half of the time: the start fills caches and open roll-ups."""
    half = points[len(points) // 2 :]
    times, rss = (np.array([getattr(point, name) for point in half]) for name in ("seconds", "rss_mib"))
    slope = np.polyfit(times / 60, rss, 1)[0]
    return f"second half: {rss.min():.0f} to {rss.max():.0f} MiB, {slope:+.2f} MiB a minute"


def draw(points: list[Point]) -> None:
    """Draw the memory over time; the same points give the same octets."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "telemetryd"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.plot([point.seconds / 60 for point in points], [point.rss_mib for point in points], color="tab:blue")
    axes.set_xlabel("minutes under load")
    axes.set_ylabel("resident memory, MiB")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    figure.savefig(FIGURES / "soak.svg", metadata={"Date": None, "Creator": None})


def main() -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=RATE, help="flow samples a second")
    parser.add_argument("--write", action="store_true", help="write docs/figures/soak.csv and soak.svg")
    arguments = parser.parse_args()
    points = soak(arguments.minutes, arguments.rate)
    if arguments.write:
        with (FIGURES / "soak.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([f.name for f in fields(Point)])
            writer.writerows(map(astuple, points))
        draw(points)
    return 0


if __name__ == "__main__":
    sys.exit(main())
