"""The agent's kernel side on a gateway between namespaces: what is made, what is read back, where packets go."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing

import pytest

from telemetryd.agent.qos.realiser import KernelQos, named
from tests import street as case
from tests.namespaces import missing_tools, run
from tests.street import Street, Tree

M = 10**6

pytestmark = pytest.mark.no_twins


@pytest.fixture
def street() -> Iterator[Street]:
    missing = missing_tools(["ip", "tc", "nft"])
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with Street() as found:
        yield found


def tree(others: int = 0) -> Tree:
    """Two departments of 50 and 100 Mbit/s on a port of 200, the first with an application of its own.

    Parameters
    ----------
    others:
        Terms besides, which no packet matches: with some there are maps, without each term is a rule.
    """
    leaves: Tree = {}
    for name in ("telemetryd-exam", "telemetryd-hrss", "telemetryd-tax", "telemetryd-rest"):
        case.queue(leaves, name)
    case.two_rates(leaves, "telemetryd-out", 1, 200 * M, 200 * M, child="telemetryd-out._port")
    case.two_rates(leaves, "telemetryd-out._port", 1 << 16 | 0x10, 50 * M, 200 * M, child="telemetryd-out.hrss")
    case.two_rates(leaves, "telemetryd-out._port", 2 << 16 | 0x11, 100 * M, 150 * M, queue="telemetryd-tax")
    case.two_rates(leaves, "telemetryd-out._port", 7 << 16 | 0x12, M, 200 * M, queue="telemetryd-rest")
    case.two_rates(leaves, "telemetryd-out.hrss", 1 << 16 | 0x20, 40 * M, 200 * M, queue="telemetryd-exam")
    case.two_rates(leaves, "telemetryd-out.hrss", 2 << 16 | 0x21, 10 * M, 200 * M, queue="telemetryd-hrss")
    case.prefix_set(leaves, 4, "telemetryd-hrss", "10.1.0.0/17", "10.1.128.0/18")
    case.prefix_set(leaves, 4, "telemetryd-tax", "10.2.0.0/16")
    case.prefix_set(leaves, 6, "telemetryd-hrss", "2001:db8:1::/64")
    for family in (4, 6):
        ends = {"source_address_prefix_set": "telemetryd-hrss"}
        case.term(
            leaves, "telemetryd-ipv", family, "30-a", "telemetryd-exam", **ends, protocol=17, destination_port=443
        )
        case.term(
            leaves,
            "telemetryd-ipv",
            family,
            "32-a",
            "telemetryd-exam",
            **ends,
            protocol=17,
            destination_port="1000..2000",
        )
        for i in range(others):
            own = {**ends, "protocol": 17, "destination_port": 30_000 + i}
            case.term(leaves, "telemetryd-ipv", family, f"31-{i:03}", "telemetryd-rest", **own)
        case.term(leaves, "telemetryd-ipv", family, "50-a", "telemetryd-exam", **ends, dscp_set=(46, 34))
        case.term(leaves, "telemetryd-ipv", family, "60-a", "telemetryd-hrss", **ends)
        if family == 4:
            tax = {"source_address_prefix_set": "telemetryd-tax"}
            case.term(leaves, "telemetryd-ipv", family, "60-b", "telemetryd-tax", **tax)
        case.term(leaves, "telemetryd-ipv", family, "99-rest", "telemetryd-rest")
    case.attach(leaves, "s1", output="telemetryd-out")
    for interface in ("a1", "b1"):
        case.attach(leaves, interface, classifier="telemetryd-ipv")
    return leaves


def tell(street: Street, story: Callable[[KernelQos], Awaitable[None]]) -> None:
    """Run a story on the gateway."""

    async def whole() -> None:
        with closing(KernelQos()) as kernel:
            await story(kernel)

    with street.inside():
        asyncio.run(whole())


SEND = """
import socket, sys
for line in sys.argv[1:]:
    family, address, port, dscp, count = line.split(",")
    kind = socket.AF_INET if family == "4" else socket.AF_INET6
    with socket.socket(kind, socket.SOCK_DGRAM) as own:
        if family == "4":
            own.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, int(dscp) << 2)
        else:
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, int(dscp) << 2)
        for _ in range(int(count)):
            own.sendto(bytes(100), (address, int(port)))
"""


def packets(street: Street) -> dict[str, int]:
    """Return the packets of each class of the port as tc counts them."""
    shown = street.run("g", "tc", "-s", "class", "show", "dev", "s1")
    return {number: int(count) for number, count in re.findall(r"class htb (\S+) .*\n Sent \d+ bytes (\d+) pkt", shown)}


@pytest.mark.parametrize("others", [0, 40])
def test_packets_find_their_classes(street: Street, others: int) -> None:
    """By prefix set, port, range of ports and DSCP, of both families; the first term counts; the rest is in the rest."""
    sent = {
        "a": {
            "4,10.9.0.2,443,0,3": "1:20",
            "4,10.9.0.2,1000,0,5": "1:20",
            "4,10.9.0.2,2001,46,7": "1:20",
            "4,10.9.0.2,999,0,11": "1:21",
            "6,2001:db8:9::2,443,0,13": "1:20",
            "6,2001:db8:9::2,2000,0,17": "1:20",
            "6,2001:db8:9::2,53,34,19": "1:20",
            "6,2001:db8:9::2,53,10,23": "1:21",
        },
        "b": {"4,10.9.0.2,443,46,29": "1:11", "6,2001:db8:9::2,443,0,31": "1:12"},
    }

    async def story(kernel: KernelQos) -> None:
        leaves = tree(others)
        await kernel.realise({}, leaves, leaves.keys())
        assert await kernel.look() == ()
        before = packets(street)
        for where, lines in sent.items():
            street.run(where, "python3", "-c", SEND, *lines)
        after = packets(street)
        counts: dict[str, int] = {}
        for lines in sent.values():
            for line, number in lines.items():
                counts[number] = counts.get(number, 0) + int(line.rpartition(",")[2])
        assert {number: after[number] - before[number] for number in counts} == counts
        counted = await kernel.counters()
        port = "/qos/interfaces/interface[interface-id=s1]/output/queues/queue"
        assert counted[f"{port}[name=telemetryd-tax]/state/transmit-pkts"] == 29
        # 100 octets of UDP: 14 of Ethernet, 20 of IPv4, 8 of UDP before them, and 4 behind.
        assert counted[f"{port}[name=telemetryd-tax]/state/transmit-octets"] == 29 * 146
        # The classifier is at two inputs: whose packets a term has counted cannot be told. At one it can.
        assert not any("/terms/" in path for path in counted)
        one = {path: value for path, value in leaves.items() if "interface-id=b1" not in path}
        await kernel.realise(leaves, one, [path for path in leaves if path not in one])
        street.run("a", "python3", "-c", SEND, "4,10.9.0.2,443,0,3", "6,2001:db8:9::2,53,10,2")
        counted = await kernel.counters()
        terms = (
            "/qos/interfaces/interface[interface-id=a1]/input/classifiers/classifier[type={}]/terms/term[id={}]/state"
        )
        matched = {name: f"{terms.format('IPV4', '30-a')}/matched-{name}" for name in ("packets", "octets")}
        if others:
            # Of so many terms only those count that are rules of their own.
            assert matched["packets"] not in counted
        else:
            assert int(str(counted[matched["packets"]])) >= 3
            assert counted[matched["octets"]] == 146 * int(str(counted[matched["packets"]]))
            assert int(str(counted[f"{terms.format('IPV6', '60-a')}/matched-packets"])) >= 2
        await kernel.realise(one, {}, one.keys())
        assert await kernel.read() == {}

    tell(street, story)
    assert "htb" not in street.run("g", "tc", "qdisc", "show")
    assert street.run("g", "nft", "list", "ruleset") == ""


def test_the_kernel_is_what_was_compiled(street: Street) -> None:
    """Each object reads back as the model has it; a realiser that starts later finds nothing to do, or puts it right."""

    async def story(kernel: KernelQos) -> None:
        leaves = tree()
        await kernel.realise({}, leaves, leaves.keys())
        found = await kernel.read()
        assert kernel._compilation is not None
        assert found == named(kernel._compilation.state)
        street.run("a", "python3", "-c", SEND, "4,10.9.0.2,443,0,3")
        before = packets(street)
        with closing(KernelQos()) as again:
            await again.realise(leaves, leaves, ())
            assert await again.read() == found
        # Meanwhile somebody changes a rate, takes a class and an element away, and adds a class: all of it is put right.
        for line in (
            "tc class change dev s1 parent 1:10 classid 1:20 htb rate 1mbit",
            "tc class del dev s1 classid 1:11",
            "tc class add dev s1 parent 1:1 classid 1:77 htb rate 1mbit",
            "nft flush chain ip telemetryd classify",
        ):
            street.run("g", *line.split())
        with closing(KernelQos()) as again:
            await again.realise(leaves, leaves, ())
            assert await again.read() == found
        # In place: the counters go on.
        assert packets(street)["1:20"] == before["1:20"] >= 3

    tell(street, story)


WITHOUT = """
import asyncio
from contextlib import closing
from telemetryd.agent.qos.realiser import KernelQos
from telemetryd.agent.refusal import RefusedError

async def story():
    with closing(KernelQos()) as kernel:
        assert kernel.features == ()
        await kernel.realise({}, {}, ())
        try:
            await kernel.realise({}, {"/qos/queues/queue[name=a]/config/name": "a"}, ["/qos/queues/queue[name=a]/config/name"])
        except RefusedError as refusal:
            print(refusal.status.name, refusal)

asyncio.run(story())
"""


def test_without_the_right_to_change_it_only_reads() -> None:
    """Nothing is there: fine. To set something: refused, with the reason."""
    missing = missing_tools(["setpriv"])
    if missing:
        pytest.skip("setpriv is needed")
    found = run("setpriv", "--bounding-set=-net_admin", sys.executable, "-c", WITHOUT)
    assert found == "FAILED_PRECONDITION /qos: this process may not change queues: it has no CAP_NET_ADMIN\n"
