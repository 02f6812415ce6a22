"""A subscriber of two targets in a process of its own, so that its memory is its own.

`python -m tests.gnmi_memory TRANSPORT MESSAGE_OCTETS MAD_PORT WELL_PORT` prints a line when both stream, and reads a
line that says what to wait for: a text that is said of the target that is mad, or how many updates of it there shall
be. Then it prints how it is and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from telemetryd.ingest.gnmi import target as target_module
from telemetryd.ingest.gnmi.backoff import Backoff
from telemetryd.ingest.gnmi.login import Login
from telemetryd.ingest.gnmi.path import parse
from telemetryd.ingest.gnmi.paths import PathTable
from telemetryd.ingest.gnmi.subscription import Mode, Subscription, Wanted
from telemetryd.observe import log
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import UpdateBatch
from telemetryd.subscriber import Subscriber
from telemetryd.targets import TargetPlan
from tests.gnmi_client import endpoint

SECOND_NS = 1_000_000_000
DEADLINE_S = 90
MIB = 1 << 20


def memory_mib(what: str) -> float:
    """Return the memory of this process: ``VmRSS``, or the most that it ever had, ``VmHWM``."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024 / MIB
    raise LookupError(what)


async def watch(transport: str, message_octets: int, ports: dict[str, int]) -> None:
    """Subscribe, and say how it went."""
    rows: Counter[str] = Counter()
    gaps_s: dict[str, float] = {}
    heard_s: dict[str, float] = {}

    def take(batch: UpdateBatch, paths: PathTable, plans: Mapping[int, TargetPlan]) -> None:
        now = time.monotonic()
        for number, count in Counter(batch["target"][: batch.n].tolist()).items():
            name = plans[number].name
            rows[name] += count
            gaps_s[name] = max(gaps_s.get(name, 0.0), now - heard_s.get(name, now))
            heard_s[name] = now

    subscriptions = (Subscription(parse("/a"), Mode.SAMPLE, SECOND_NS),)
    plans = [
        TargetPlan(
            Wanted(
                name,
                endpoint(port, transport, max_message_octets=message_octets),
                subscriptions,
                encoding=gnmi_pb2.PROTO,
                cpu_share=10.0,
            ),
            Login(),
            False,
            64,
            SECOND_NS,
        )
        for name, port in ports.items()
    ]
    subscriber = Subscriber(plans, 4, take)
    running = asyncio.create_task(subscriber.run())

    def said() -> list[str]:
        return [trouble for one in subscriber.counters() if one.name == "mad" for trouble in one.troubles]

    async with asyncio.timeout(DEADLINE_S):
        while len(rows) < len(ports):
            await asyncio.sleep(0.05)
        before = memory_mib("VmRSS")
        print("streaming", flush=True)
        wanted = (await asyncio.to_thread(sys.stdin.readline)).strip()
        until = int(wanted) if wanted.isdigit() else 0
        while not (rows["mad"] >= until if until else any(wanted in one for one in said())):
            await asyncio.sleep(0.05)
        reasons = said()
        well = rows["well"]
        while rows["well"] < well + 10:
            await asyncio.sleep(0.05)
    print(
        json.dumps(
            {
                "said": reasons,
                "rows": rows,
                "connections": {one.name: one.state.connections for one in subscriber.counters()},
                "grown_mib": memory_mib("VmHWM") - before,
                "kept_mib": memory_mib("VmRSS") - before,
                "longest_gap_s": gaps_s["well"],
            }
        ),
        flush=True,
    )
    subscriber.stop()
    await running


if __name__ == "__main__":
    log.configure("critical", "text")
    target_module.Backoff = lambda: Backoff(0.2, 0.5)  # type: ignore[assignment,misc]
    asyncio.run(watch(sys.argv[1], int(sys.argv[2]), {"mad": int(sys.argv[3]), "well": int(sys.argv[4])}))
