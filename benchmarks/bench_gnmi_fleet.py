"""gNMI targets by the hundred: 500 simulated ones at 1 s on one loop, and 100 of them killed and brought back.

They are agents on ports of their own in another process on the same host, 4 interfaces x 11 counters each: 4
notifications a second. Each value of one counter an interface is held to what it has to be at its time. Intervals are
those between the target's times, delays those from a target's reading to our reception.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.report import Figure
from benchmarks.soak import resident_mib
from tests.gnmi_collector import Collector, Seen
from tests.gnmi_fleet import Fleet

#: It takes seven minutes.
ONLY_BY_NAME = True

CONNECTED_S = 120.0
AWAY_S = 15.0
BACK_S = 120.0
LOOK_S = 0.02
TICKS_A_SECOND = 100


@dataclass
class Measured:
    """What was seen.

    Attributes
    ----------
    connected_s:
        From the start until all targets streamed.
    back_s:
        For each target that was killed, from the return of all of them until it streamed again; in order.
    cpu, fleet_cpu:
        Cores that were used while all streamed.
    rss_mib:
        Resident memory: when all streamed first, and at the end.
    """

    seconds: float
    connected_s: float = 0.0
    intervals: Seen = field(default_factory=lambda: Seen(0, np.zeros(1, np.int64), 0.0, []))
    cpu: float = 0.0
    fleet_cpu: float = 0.0
    rss_mib: list[float] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)

    def most_at_once(self) -> int:
        """Return how many targets came back within one second, at most."""
        back = np.array(self.back_s)
        return max(int(((back >= first) & (back < first + 1)).sum()) for first in self.back_s)


def measure(targets: int, interfaces: int, seconds: float, killed: int) -> Measured:
    """Subscribe to a fleet for a while; then kill some of it and bring them back.

    Raises
    ------
    AssertionError
        If a value was not that of its time.
    """
    with Fleet(targets, interfaces) as fleet, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(fleet, seconds, killed))


async def _measure(fleet: Fleet, seconds: float, killed: int) -> Measured:
    found, collector = Measured(seconds), Collector(fleet)
    began = time.monotonic()
    async with collector.running():
        await collector.until_streaming(len(fleet.ports), CONNECTED_S)
        found.connected_s = time.monotonic() - began
        collector.look()  # what came while it was connecting
        found.rss_mib.append(resident_mib(os.getpid()))
        began, cpu, fleet_cpu = time.monotonic(), time.process_time(), cpu_s(fleet.pid)
        await asyncio.sleep(seconds)
        found.intervals = collector.look()
        found.seconds = time.monotonic() - began
        found.cpu = (time.process_time() - cpu) / found.seconds
        found.fleet_cpu = (cpu_s(fleet.pid) - fleet_cpu) / found.seconds
        await asyncio.to_thread(fleet.kill, killed)
        await collector.until_streaming(len(fleet.ports) - killed, CONNECTED_S)
        await asyncio.sleep(AWAY_S if seconds > AWAY_S else seconds / 4)
        await asyncio.to_thread(fleet.revive)
        found.back_s = await _back(collector, killed)
        found.rss_mib.append(resident_mib(os.getpid()))
    if collector.wrong or not collector.checked:
        raise AssertionError(f"{len(collector.wrong)} of {collector.checked} values are wrong: {collector.wrong[:3]}")
    return found


async def _back(collector: Collector, killed: int) -> list[float]:
    """Return when each of the targets that were killed streamed again."""
    began, away, back = time.monotonic(), set(range(killed)), []
    async with asyncio.timeout(BACK_S):
        while away:
            for number in [one for one in away if collector.is_streaming(one)]:
                away.remove(number)
                back.append(time.monotonic() - began)
            await asyncio.sleep(LOOK_S)
    return back


def cpu_s(pid: int) -> float:
    """Return the processor time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def run(short: bool) -> list[Figure]:
    """Measure; the short form has 50 targets for 5 s."""
    targets, seconds, killed = (50, 5.0, 10) if short else (500, 300.0, 100)
    found = measure(targets, 4, seconds, killed)
    seen, back = found.intervals, found.back_s
    return [
        Figure("connected, all of them", found.connected_s, "s", f"{targets} targets, one loop, 32 at a time"),
        Figure("updates", seen.updates / found.seconds, "updates/s", f"{found.seconds:.0f} s, each value checked"),
        Figure("interval, 99th percentile (upper end of a bin)", seen.quantile(0.99), "s", "1 s was asked for"),
        Figure("interval, the longest", seen.most_s, "s"),
        Figure("late by more than an interval", 100 * seen.late(), "% of intervals"),
        Figure("delay, median of the targets' longest", float(np.median(seen.delays_s)), "s"),
        Figure("delay, the longest", max(seen.delays_s), "s"),
        Figure("CPU of the subscriber", found.cpu, "cores"),
        Figure("CPU of the targets", found.fleet_cpu, "cores"),
        Figure("resident memory, all streaming", found.rss_mib[0], "MiB"),
        Figure("resident memory, at the end", found.rss_mib[-1], "MiB"),
        Figure("killed and back: the first", back[0], "s", f"{killed} targets, after they listened again"),
        Figure("  half of them", back[len(back) // 2], "s"),
        Figure("  the last", back[-1], "s"),
        Figure("  most within one second", found.most_at_once(), "targets"),
    ]
