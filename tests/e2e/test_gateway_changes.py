"""Changes under traffic lose nothing, and many of them leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from telemetryd.agent.qos.realiser import KernelQos
from tests import dp_tables
from tests import street as case
from tests.namespaces import DEADLINE_S, missing_tools
from tests.street import POLICY, Street, Tree

M = 10**6
KIB = 1024

pytestmark = [
    pytest.mark.no_twins,
    pytest.mark.skipif(bool(missing_tools(["ip", "nft"])), reason="ip and nft are needed"),
]


def plan(rates: tuple[int, ...], terms: int = 3) -> Tree:
    """Leaves of some rates on a port of 1 Gbit/s, the first for what no other term has."""
    leaves: Tree = {}
    case.two_rates(leaves, "telemetryd-out", 1, 1000 * M, 1000 * M, child="telemetryd-out._port")
    for i, rate in enumerate(rates):
        case.queue(leaves, f"telemetryd-q{i}")
        case.two_rates(leaves, "telemetryd-out._port", 1 << 16 | 0x10 + i, rate, rate, queue=f"telemetryd-q{i}")
    for i in range(terms):
        group = f"telemetryd-q{1 + i % (len(rates) - 1)}"
        case.term(leaves, "telemetryd-ipv", 4, f"10-{i:03}", group, protocol=17, destination_port=100 + i)
    for family in (4, 6):
        case.term(leaves, "telemetryd-ipv", family, "99-rest", "telemetryd-q0")
    case.attach(leaves, "s1", output="telemetryd-out")
    case.attach(leaves, "a1", classifier="telemetryd-ipv")
    return leaves


def test_a_stream_loses_nothing() -> None:
    """100 Mbit/s of UDP through a class whose rate changes all the time, while classes and terms come and go."""

    async def story(street: Street) -> None:
        before = plan((150 * M, M, M))
        with closing(KernelQos()) as kernel:
            await kernel.realise({}, before, before.keys())
            flow = f"4,10.9.0.2,5000,0,{100 * M},1400"
            sender = street.start("a", sys.executable, str(case.TRAFFIC), "2", flow)
            assert sender.stdin is not None
            assert sender.stdout is not None
            print(file=sender.stdin, flush=True)
            await asyncio.to_thread(sender.stdout.readline)
            last = asyncio.create_task(asyncio.to_thread(sender.stdout.readline))
            changes = 0
            while not last.done():
                rates = (120 * M + changes % 7 * 8 * M, *(M + 8 * changes,) * (2 + changes % 3))
                after = plan(rates, 3 + changes % 5)
                changed = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
                await kernel.realise(before, after, changed)
                before, changes = after, changes + 1
            output, _ = sender.communicate(timeout=DEADLINE_S)
            sent = int(output.split()[-1])
            counted = await kernel.counters()
            queue = "/qos/interfaces/interface[interface-id=s1]/output/queues/queue[name=telemetryd-q0]/state"
            assert counted[f"{queue}/dropped-pkts"] == 0
            assert changes >= 50
            end = time.monotonic() + DEADLINE_S
            while dp_tables.arrivals(street)["BE0", 4] != sent:
                assert time.monotonic() < end, f"{dp_tables.arrivals(street)['BE0', 4]} of {sent} packets came"
                await asyncio.sleep(0.1)

    with Street() as street:
        dp_tables.count_arrivals(street)
        with street.inside():
            asyncio.run(story(street))


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_many_changes_leave_nothing_behind(count: int) -> None:
    """Rates, classes, terms: afterwards there are as many classes, buffers and elements as before, and no more memory."""

    async def story() -> None:
        first = before = plan((150 * M, M, M, M), 20)
        random = Random(8)
        with closing(KernelQos()) as kernel:
            await kernel.realise({}, before, before.keys())
            found = await kernel.read()
            resident = 0
            for i in range(count):
                after = dict(before)
                if random.random() < 0.8:
                    number = random.randrange(4)
                    own = (
                        f"{POLICY}[name=telemetryd-out._port]/schedulers/scheduler[sequence={1 << 16 | 0x10 + number}]"
                    )
                    for name in ("cir", "pir"):
                        after[f"{own}/two-rate-three-color/config/{name}"] = random.randrange(1, 200) * M
                    after[f"{own}/two-rate-three-color/config/cir"] = M
                else:
                    after = plan((150 * M, *(M,) * random.randint(1, 6)), random.randrange(40))
                changed = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
                await kernel.realise(before, after, changed)
                before = after
                if i == count // 5:
                    resident = resident_kib()
            changed = [path for path in before.keys() | first.keys() if before.get(path) != first.get(path)]
            await kernel.realise(before, first, changed)
            assert await kernel.read() == found
            assert resident_kib() - resident < 8 * KIB + count // 4
            await kernel.realise(first, {}, first.keys())
            assert await kernel.read() == {}

    with Street() as street, street.inside():
        asyncio.run(story())


def resident_kib() -> int:
    """Return what this process holds in memory."""
    gc.collect()
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split("VmRSS:")[1].split()[0])
