"""Does a subscriber's memory stay flat? `python -m benchmarks.gnmi_soak [--minutes N] [--targets N] [--write]`.

Simulated targets at 1 s, 4 interfaces each; every few minutes a fifth of them is killed and comes back. Once in ten
seconds the subscriber's resident memory and what it has seen are noted.

`--write` puts them into docs/figures/gnmi-soak.csv.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import sys
import time
from dataclasses import astuple, dataclass, fields

import numpy as np
import uvloop

from benchmarks.soak import FIGURES, held_text, resident_mib
from telemetryd.observe import log
from tests.gnmi_collector import Collector
from tests.gnmi_fleet import Fleet

EVERY_S = 10.0
#: Looks between two kills, and looks that the killed stay away.
KILL_EVERY, AWAY = 30, 2
CONNECTED_S = 300.0


@dataclass(frozen=True, slots=True)
class Point:
    """What was seen at a time, and since the one before."""

    seconds: float
    rss_mib: float
    fleet_rss_mib: float
    targets_heard: int
    updates: int
    late_percent: float
    longest_interval_s: float
    greatest_age_s: float
    wrong: int


async def soak(fleet: Fleet, minutes: float) -> list[Point]:
    """Subscribe for so long, and look on.

    Raises
    ------
    AssertionError
        If a value was not that of its time, or a target that came back was not found again.
    """
    points, collector = [], Collector(fleet)
    async with collector.running():
        await collector.until_heard(range(len(fleet.ports)), CONNECTED_S)
        collector.look()
        collector.forget()
        begun, looks = time.monotonic(), round(minutes * 60 / EVERY_S)
        for number in range(1, looks + 1):
            await asyncio.sleep(max(0.0, begun + number * EVERY_S - time.monotonic()))
            seen = collector.look()
            points.append(
                Point(
                    round(time.monotonic() - begun, 1),
                    round(resident_mib(os.getpid()), 1),
                    round(resident_mib(fleet.pid), 1),
                    int(np.isfinite(collector.heard_s).sum()),
                    seen.updates,
                    round(100 * float((seen.intervals_s > 2).mean()), 3),
                    round(float(seen.intervals_s.max()), 3),
                    round(float(seen.ages_s.max()), 3),
                    len(collector.wrong),
                )
            )
            collector.forget()
            print(
                "  ".join(f"{f.name} {v:,}" for f, v in zip(fields(Point), astuple(points[-1]), strict=True)),
                flush=True,
            )
            if number % KILL_EVERY == 0 and number < looks - KILL_EVERY // 2:
                await asyncio.to_thread(fleet.kill, len(fleet.ports) // 5)
            elif number % KILL_EVERY == AWAY and number > AWAY:
                await asyncio.to_thread(fleet.revive)
        await collector.until_heard(range(len(fleet.ports)), CONNECTED_S)
    if collector.wrong or not collector.checked:
        raise AssertionError(f"{len(collector.wrong)} of {collector.checked} values are wrong: {collector.wrong[:3]}")
    print(f"{collector.checked:,} values checked, {held_text(points)}")
    return points


def main() -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--targets", type=int, default=500)
    parser.add_argument("--write", action="store_true", help="write docs/figures/gnmi-soak.csv")
    arguments = parser.parse_args()
    log.configure("error", "text")
    with Fleet(arguments.targets, 4) as fleet, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        points = runner.run(soak(fleet, arguments.minutes))
    if arguments.write:
        with (FIGURES / "gnmi-soak.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([f.name for f in fields(Point)])
            writer.writerows(map(astuple, points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
