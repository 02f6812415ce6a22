"""The Linux gateway: installing and changing a plan, the cost of classification a packet, what a core carries.

A plan of 700 applications x 60 departments, in namespaces with veth: one core does everything for a packet, from the
sender's packet socket to the drop at the receiver. Ratios and differences are within one run.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.report import Figure
from telemetryd.agent.qos import netlink
from telemetryd.agent.qos.changes import State
from telemetryd.agent.qos.objects import Fifo, HtbClass, Key
from telemetryd.agent.qos.realiser import KernelQos
from tests import street as case
from tests.street import Street, Tree

SENDER: Final = Path(__file__).with_name("gateway_frames.py")
DEPARTMENTS, APPLICATIONS = 60, 700
CLASSES: Final = (100, 1000, 2000)
SIZES: Final = (256, 800)
G: Final = 10**9
#: Never reached: queues stay empty, so that the cost is that of going through them.
CAPACITY: Final = 100 * G
#: Different packets, all of which some term of the plan matches.
PACKETS: Final = 4096
#: What the project holds itself to.
MOST_LOOKUP_NS, MOST_CHANGE_US, MOST_INSTALL_S = 1600, 100, 2.0


def run(short: bool) -> list[Figure]:
    """Measure; ``short`` takes a small plan and few packets."""
    departments, applications = (6, 7) if short else (DEPARTMENTS, APPLICATIONS)
    count, repeats = (2_000, 1) if short else (200_000, 5)
    figures: list[Figure] = []
    with Street() as street:
        street.run("g", "ip", "route", "add", "10.64.0.0/10", "via", "10.9.0.2")
        street.run("g", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.a1.rp_filter=0")
        drop = "add table inet d; add chain inet d c { type filter hook prerouting priority -300; }; add rule inet d c"
        street.run("s", "nft", f"{drop} counter drop")
        street.run("g", "ip", "route", "add", "10.32.0.0/11", "via", "10.1.0.2")
        with street.inside():
            figures += _install(departments, applications, 24 if short else 1000)
            figures += _classes(200 if short else 2000)
        figures += _lookups(street, departments, applications, count, repeats)
        figures += _carries(street, (20,) if short else CLASSES, count, repeats)
    return figures


def plan(departments: int, applications: int, classes: int) -> Tree:
    """Return leaves: a node a department, leaves for applications up to a number of classes, a term each pair."""
    leaves: Tree = {}
    per = max(1, classes // departments - 1)
    named = min(applications, per)
    case.two_rates(leaves, "telemetryd-out", 1, CAPACITY, CAPACITY, child="telemetryd-out._port")
    number = 0x10
    rest: dict[int, str] = {}
    own: dict[tuple[int, int], str] = {}
    rate = CAPACITY // departments // (named + 2) // 8 * 8
    for d in range(departments):
        child = f"telemetryd-out.d{d}"
        number += 1
        case.two_rates(
            *(leaves, "telemetryd-out._port", 1 << 16 | number, rate * (named + 1), CAPACITY),
            child=child,
        )
        for a in (*range(named), -1):
            queue = f"telemetryd-d{d}.{'rest' if a < 0 else f'a{a}'}"
            case.queue(leaves, queue)
            number += 1
            case.two_rates(leaves, child, 2 << 16 | number, rate, CAPACITY, queue=queue)
            own[d, a] = queue
        rest[d] = own[d, -1]
        case.prefix_set(leaves, 4, f"telemetryd-d{d}", *(f"10.{64 + d}.{third}.0/19" for third in range(0, 256, 64)))
    for a in range(applications):
        case.prefix_set(leaves, 4, f"telemetryd-served.a{a}", f"{_server(a)}/32")
    for d in range(departments):
        for a in range(applications):
            case.term(
                *(leaves, "telemetryd-ipv", 4, f"21-{d:03}-{a:04}", own.get((d, a), rest[d])),
                source_address_prefix_set=f"telemetryd-served.a{a}",
                destination_address_prefix_set=f"telemetryd-d{d}",
                protocol=17,
                source_port=443 + a % 3,
            )
        end = f"telemetryd-d{d}"
        case.term(leaves, "telemetryd-ipv", 4, f"60-{d:03}", rest[d], destination_address_prefix_set=end)
    case.term(leaves, "telemetryd-ipv", 4, "99-rest", rest[0])
    case.term(leaves, "telemetryd-ipv", 6, "99-rest", rest[0])
    case.attach(leaves, "s1", output="telemetryd-out")
    case.attach(leaves, "a1", classifier="telemetryd-ipv")
    return leaves


def _server(application: int) -> str:
    return f"10.{32 + application // 250}.{application % 250}.9"


def _lines(departments: int, applications: int) -> list[str]:
    random.seed(8)
    found = []
    for _ in range(PACKETS):
        d, a = random.randrange(departments), random.randrange(applications)
        third = random.randrange(4) * 64 + random.randrange(32)
        found.append(f"{_server(a)},10.{64 + d}.{third}.{random.randrange(1, 255)},{443 + a % 3}")
    return found


def _install(departments: int, applications: int, classes: int) -> list[Figure]:
    leaves = plan(departments, applications, classes)
    terms = departments * applications
    figures: list[Figure] = []

    async def story() -> None:
        with closing(KernelQos()) as kernel:
            begun = time.perf_counter()
            await kernel.realise({}, leaves, leaves.keys())
            figures.append(
                Figure(
                    f"plan of {applications} x {departments}: from leaves to the kernel",
                    time.perf_counter() - begun,
                    "s",
                    f"{len(leaves):,} leaves, {terms:,} terms",
                )
            )
            assert kernel._compilation is not None
            state = kernel._compilation.state
            assert await kernel.look() == ()
            begun = time.perf_counter()
            await kernel.read()
            figures.append(
                Figure("the same read back", time.perf_counter() - begun, "s", f"{len(state.objects):,} objects")
            )
            kernel._kernel.change(state, State())
            begun = time.perf_counter()
            kernel._kernel.change(State(), state)
            figures.append(Figure("the same, kernel only", time.perf_counter() - begun, "s"))
            path = next(path for path in leaves if path.endswith("/cir") and "telemetryd-out.d0]" in path)
            before = dict(leaves)
            took = []
            for i in range(20):
                after = {**before, path: int(before[path]) - 8 * (i + 1)}  # type: ignore[arg-type]
                begun = time.perf_counter()
                await kernel.realise(before, after, [path])
                took.append(time.perf_counter() - begun)
                before = after
            figures.append(Figure("one changed rate: from the leaf to the kernel", 1000 * min(took), "ms"))
            await kernel.realise(before, {}, before.keys())

    asyncio.run(story())
    return figures


def _classes(count: int) -> list[Figure]:
    """Measure classes alone: making them, and changing one in place."""
    index = netlink.index_of("s1")
    with netlink.TcSocket() as tc:
        rate = 8_000_000
        one = HtbClass(1, rate, CAPACITY, 1000, 1000, 1514, 1)
        port = HtbClass(0, CAPACITY, CAPACITY, 1000, 1000)
        begun = time.perf_counter()
        tc.send([netlink.set_root(index), netlink.set_class(index, 1, port, is_new=True)])
        messages = []
        for number in range(0x10, 0x10 + count):
            messages.append(netlink.set_class(index, number, one, is_new=True))
            messages.append(netlink.set_fifo(index, number, Fifo(65_536)))
        tc.send(messages)
        made = time.perf_counter() - begun
        took = []
        for i in range(1000):
            change = netlink.set_class(
                index, 0x10 + i % count, HtbClass(1, rate + 8 * i, CAPACITY, 1000, 1000, 1514, 1), is_new=False
            )
            begun = time.perf_counter()
            tc.send([change])
            took.append(time.perf_counter() - begun)
        found = tc.classes(index, "s1")
        last = 0x10 + 999 % count
        assert found[Key("s1", "class", last)][0].rate_bps == rate + 8 * 999
        begun = time.perf_counter()
        tc.classes(index, "s1")
        read = time.perf_counter() - begun
        tc.send([netlink.delete_root(index)])
    return [
        Figure(f"{count:,} classes with buffers made", made, "s", f"limit {MOST_INSTALL_S:g} s"),
        Figure(
            "a rate changed in place, acknowledged", 1e6 * sorted(took)[500], "us", f"median; limit {MOST_CHANGE_US} us"
        ),
        Figure(f"{count:,} classes read with counters", 1000 * read, "ms"),
    ]


def _send(street: Street, count: int, size: int, lines: list[str], repeats: int) -> float:
    """Return the least CPU seconds a packet."""
    macs = "02000000010" + "2", "02000000010" + "1"
    least = float("inf")
    for _ in range(repeats):
        command = [sys.executable, str(SENDER), "a0", str(count), str(size), *macs]
        output = street.pipe("a", "\n".join(lines), *command)
        seconds, sent = output.split()
        least = min(least, float(seconds) / int(sent))
    return least


def _realised(
    street: Street, leaves: Tree, count: int, sizes: tuple[int, ...], lines: list[str], repeats: int
) -> list[float]:
    found: list[float] = []

    async def story() -> None:
        with closing(KernelQos()) as kernel:
            await kernel.realise({}, leaves, leaves.keys())
            before = await kernel.counters()
            for size in sizes:
                found.append(await asyncio.to_thread(_send, street, count, size, lines, repeats))
            after = await kernel.counters()
            if any("classifier" in path for path in leaves):
                _verify(before, after, count * repeats * len(sizes))
            await kernel.realise(leaves, {}, leaves.keys())

    with street.inside():
        asyncio.run(story())
    return found


def _verify(before: Mapping[str, object], after: Mapping[str, object], least: int) -> None:
    """Check that packets went through the classes, and through many."""
    sent = {
        path: int(str(value)) - int(str(before.get(path, 0)))
        for path, value in after.items()
        if path.endswith("transmit-pkts")
    }
    if sum(sent.values()) < least:
        raise SystemExit(f"only {sum(sent.values())} of {least} packets went through the classes")


def _lookups(street: Street, departments: int, applications: int, count: int, repeats: int) -> list[Figure]:
    lines = _lines(departments, applications)
    size = SIZES[0]
    bare = _send(street, count, size, lines, repeats)
    few_departments, few_applications = (3, 4) if departments < 20 else (20, 50)
    cases = {
        "default only": {
            path: value
            for path, value in plan(departments, applications, 1000).items()
            if "classifier" not in path and "defined-sets" not in path
        },
        "few": plan(few_departments, few_applications, 1000),
        "many": plan(departments, applications, 1000),
    }
    cost: dict[str, float] = {}
    for name, leaves in cases.items():
        own = _lines(few_departments, few_applications) if name == "few" else lines
        (cost[name],) = _realised(street, leaves, count, (size,), own, repeats)
    few, many = few_departments * few_applications, departments * applications
    added = {name: 1e9 * (cost[name] - cost["default only"]) for name in ("few", "many")}
    return [
        Figure("a packet through the gateway without a qdisc", 1e9 * bare, "ns", f"{size} octets"),
        Figure("with HTB of 1,000 classes, unclassified", 1e9 * cost["default only"], "ns"),
        Figure(f"classified by {few:,} terms: beyond that", added["few"], "ns"),
        Figure(f"classified by {many:,} terms: beyond that", added["many"], "ns", f"limit {MOST_LOOKUP_NS} ns"),
        Figure(f"{many:,} terms to {few:,}: whole packet", cost["many"] / cost["few"], "ratio", "flat: 1"),
    ]


def _carries(street: Street, classes: tuple[int, ...], count: int, repeats: int) -> list[Figure]:
    figures = []
    for number in classes:
        departments = min(DEPARTMENTS, number // 4)
        leaves = plan(departments, 20, number)
        lines = _lines(departments, 20)
        found = _realised(street, leaves, count, SIZES, lines, repeats)
        for size, seconds in zip(SIZES, found, strict=True):
            rate = size * 8 / seconds / G
            figures.append(
                Figure(
                    f"{number:,} classes, {size} octets: a core carries",
                    1e-3 / seconds,
                    "k packets/s",
                    f"{rate:.2f} Gbit/s",
                )
            )
    return figures


def main() -> None:
    """Run alone."""
    for figure in run(short="--short" in sys.argv):
        print(figure)


if __name__ == "__main__":
    main()
