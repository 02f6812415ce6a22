"""gNMI targets by the hundred: 500 simulated ones at 1 s on one loop, and 100 of them killed and brought back.

They are agents on ports of their own in another process on the same host, 4 interfaces x 11 counters each: 4
notifications a second. What subscribes is the daemon's component. Each value of one counter an interface is held to
what it has to be at its time. Intervals are those between the target's times, ages those from a target's reading until
it is handed on.
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
from telemetryd.observe import log
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
        From the start until all targets had sent.
    seen:
        What came while all streamed.
    back_s:
        For each target that was killed, from the return of all of them until it had sent again; in order.
    cpu, fleet_cpu:
        Cores that were used while all streamed.
    rss_mib:
        Resident memory: when all streamed first, and at the end.
    """

    seconds: float
    connected_s: float = 0.0
    seen: Seen = field(default_factory=lambda: Seen(0, np.zeros(0), np.zeros(0)))
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
        await collector.until_heard(range(len(fleet.ports)), CONNECTED_S)
        found.connected_s = time.monotonic() - began
        collector.look()  # what came while it was connecting
        found.rss_mib.append(resident_mib(os.getpid()))
        began, cpu, fleet_cpu = time.monotonic(), time.process_time(), cpu_s(fleet.pid)
        await asyncio.sleep(seconds)
        found.seen = collector.look()
        found.seconds = time.monotonic() - began
        found.cpu = (time.process_time() - cpu) / found.seconds
        found.fleet_cpu = (cpu_s(fleet.pid) - fleet_cpu) / found.seconds
        await asyncio.to_thread(fleet.kill, killed)
        await asyncio.sleep(min(AWAY_S, seconds))
        collector.forget()
        await asyncio.to_thread(fleet.revive)
        began = time.monotonic()
        await collector.until_heard(range(killed), BACK_S)
        found.back_s = sorted((collector.heard_s[:killed] - began).tolist())
        found.rss_mib.append(resident_mib(os.getpid()))
    if collector.wrong or not collector.checked:
        raise AssertionError(f"{len(collector.wrong)} of {collector.checked} values are wrong: {collector.wrong[:3]}")
    return found


def cpu_s(pid: int) -> float:
    """Return the processor time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def run(short: bool) -> list[Figure]:
    """Measure; the short form has 50 targets for 5 s."""
    targets, seconds, killed = (50, 5.0, 10) if short else (500, 300.0, 100)
    log.configure("error", "text")
    found = measure(targets, 4, seconds, killed)
    intervals_s, ages_s, back_s = found.seen.intervals_s, found.seen.ages_s, found.back_s
    return [
        Figure("connected, all of them", found.connected_s, "s", f"{targets} targets, one loop, 32 at a time"),
        Figure("updates", found.seen.updates / found.seconds, "updates/s", f"for {found.seconds:.0f} s"),
        Figure("interval, median", float(np.median(intervals_s)), "s", f"1 s was asked for; {len(intervals_s):,}"),
        Figure("interval, 99th percentile", float(np.quantile(intervals_s, 0.99)), "s"),
        Figure("interval, the longest", float(intervals_s.max()), "s"),
        Figure("late by more than an interval", 100 * float((intervals_s > 2).mean()), "% of intervals"),
        Figure("age, 99th percentile", float(np.quantile(ages_s, 0.99)), "s", "the batch is emptied every 0.25 s"),
        Figure("age, the greatest", float(ages_s.max()), "s"),
        Figure("CPU of the subscriber", found.cpu, "cores"),
        Figure("CPU of the targets", found.fleet_cpu, "cores"),
        Figure("resident memory, all streaming", found.rss_mib[0], "MiB"),
        Figure("resident memory, at the end", found.rss_mib[-1], "MiB"),
        Figure("killed and back: the first", back_s[0], "s", f"{killed} targets, after they listened again"),
        Figure("  half of them", back_s[len(back_s) // 2], "s"),
        Figure("  the last", back_s[-1], "s"),
        Figure("  most within one second", found.most_at_once(), "targets"),
    ]
