"""Sets on the agent, one after the other: the kernel always is what the configuration says, or as it was."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from telemetryd.agent.qos.realiser import KernelQos, named
from telemetryd.agent.refusal import RefusedError
from tests import street as case
from tests.agent_setting import target
from tests.namespaces import missing_tools, run
from tests.qos_random import INTERFACES, Generator, difference
from tests.street import Tree, inside, namespace

pytestmark = [
    pytest.mark.no_twins,
    pytest.mark.skipif(bool(missing_tools(["ip", "tc", "nft"])), reason="ip, tc and nft are needed"),
]


@contextmanager
def host() -> Iterator[str]:
    """Make a namespace with the interfaces Ethernet1 ... Ethernet4, and be in it."""
    with namespace("h") as name:
        for one, other in zip(INTERFACES[::2], INTERFACES[1::2], strict=True):
            run("ip", "-n", name, "link", "add", one, "type", "veth", "peer", "name", other)
            for link in (one, other):
                run("ip", "-n", name, "link", "set", link, "up")
        with inside(name):
            yield name


def shown(name: str) -> str:
    """Return what tc and nft show, without counters."""
    commands = (
        ["tc", "-n", name, "qdisc", "show"],
        *(["tc", "-n", name, "class", "show", "dev", one] for one in INTERFACES),
        ["ip", "-n", name, "-o", "link", "show", "type", "ifb"],
        ["ip", "netns", "exec", name, "nft", "-s", "list", "ruleset"],
    )
    text = "\n".join(subprocess.run(own, capture_output=True, text=True, check=True).stdout for own in commands)
    return re.sub(r"direct_packets_stat \d+", "", text)


async def whole(count: int, seed: int, name: str) -> dict[str, int]:
    """Carry out valid and broken Sets in turn; return how often each kind of broken one was refused."""
    refused: dict[str, int] = {}
    generator = Generator(seed)
    before: Tree = {}
    with closing(KernelQos()) as kernel:
        async with target(kernel) as one:
            for i in range(count):
                after = generator.next()
                deletes, updates = difference(before, after)
                await one.set(*deletes, update=updates)
                assert kernel._compilation is not None
                found = await kernel.read()
                assert found == named(kernel._compilation.state), f"after {i} Sets of seed {seed}"
                before = after
                leaves, listed = one.leaves(), shown(name) if i % 20 == 0 else ""
                kind, updates = generator.broken(after)
                with pytest.raises(RefusedError) as refusal:
                    await one.set(update=updates)
                assert str(refusal.value).startswith("/"), refusal.value
                refused[kind] = refused.get(kind, 0) + 1
                assert one.leaves() == leaves
                assert await kernel.read() == found, kind
                if listed:
                    assert shown(name) == listed, kind
            await one.set("/qos", "/defined-sets")
            assert await kernel.read() == {}
    return refused


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_the_kernel_is_what_is_configured(count: int) -> None:
    """Random Sets: after a valid one all objects read back as compiled; a broken one names a path and changes nothing."""
    with host() as name:
        refused = asyncio.run(whole(count, 8, name))
    assert sum(refused.values()) == count
    assert len(refused) >= 6


def test_what_others_hold_is_left_alone() -> None:
    """A root qdisc of somebody else is refused with the path; tables and qdiscs of others stay when ours go."""
    with host() as name:
        run("tc", "-n", name, "qdisc", "add", "dev", "Ethernet1", "root", "handle", "8:", "htb")
        run("ip", "netns", "exec", name, "nft", "add", "table", "inet", "others")

        async def story() -> None:
            leaves = Generator(3).next()
            path = "/qos/interfaces/interface[interface-id=Ethernet1]/output/scheduler-policy/config/name"
            assert path in leaves
            with closing(KernelQos()) as kernel:
                before = shown(name)
                async with target(kernel) as one:
                    with pytest.raises(RefusedError, match="Ethernet1 is htb 8: of somebody else") as refusal:
                        await one.set(update=leaves)
                    assert str(refusal.value).startswith(path)
                    assert refusal.value.status.name == "FAILED_PRECONDITION"
                    assert shown(name) == before
                    others = {own: value for own, value in leaves.items() if "Ethernet1" not in own}
                    await one.set(update=others)
                    await one.set("/qos", "/defined-sets")
                    assert shown(name) == before

        asyncio.run(story())


def test_what_fails_midway_is_put_back() -> None:
    """A class that somebody has put into our qdisc stops a change half-way: all is as before, and it is named."""
    with host() as name:

        async def story() -> None:
            leaves: Tree = {}
            case.queue(leaves, "telemetryd-q0")
            case.two_rates(leaves, "telemetryd-out", 1 << 16 | 0x10, 10**6, 10**7, queue="telemetryd-q0")
            case.attach(leaves, "Ethernet1", output="telemetryd-out")
            added: Tree = {}
            # A rate that falls, a class that comes, and one whose number is taken.
            case.two_rates(added, "telemetryd-out", 1 << 16 | 0x10, 10**5, 10**7)
            for number in (0x20, 0xEEEE):
                case.queue(added, f"telemetryd-{number}")
                case.two_rates(added, "telemetryd-out", 7 << 16 | number, 8000, 8000, queue=f"telemetryd-{number}")
            with closing(KernelQos()) as kernel:
                async with target(kernel) as one:
                    await one.set(update=leaves)
                    before = await kernel.read()
                    line = ["tc", "-n", name, "class", "add", "dev", "Ethernet1", "parent", "1:1", "classid", "1:eeee"]
                    run(*line, "htb", "rate", "1mbit")
                    with pytest.raises(RefusedError, match="Ethernet1 class eeee: File exists"):
                        await one.set(update=added)
                    # What the other one has added is gone too: nobody else has a place in this qdisc.
                    assert await kernel.read() == before
                    await one.set(update=added)
                    assert (await kernel.read()).keys() - before.keys() >= {
                        "Ethernet1 class eeee",
                        "Ethernet1 class 20",
                    }

        asyncio.run(story())


def test_drift_is_found_and_put_right() -> None:
    """What somebody changes in our qdiscs and tables is named; the next Set puts it right in place."""
    with host() as name:

        async def story() -> None:
            generator = Generator(5)
            with closing(KernelQos()) as kernel:
                async with target(kernel) as one:
                    leaves = generator.next()
                    await one.set(update=leaves)
                    assert await kernel.look() == ()
                    assert kernel._compilation is not None
                    tree = next(tree for tree in kernel._compilation.trees.values() if tree.direction == "output")
                    line = ["tc", "-n", name, "class", "change", "dev", tree.device, "parent", "1:1", "classid", "1:2"]
                    run(*line, "htb", "rate", "7mbit")
                    run("ip", "netns", "exec", name, "nft", "flush", "chain", "ip", "telemetryd", "classify")
                    found = await kernel.look()
                    assert found == (f"{tree.device} class 2", "ip chain classify")
                    deletes, updates = difference(leaves, generator.next())
                    await one.set(*deletes, update=updates)
                    assert await kernel.look() == ()

        asyncio.run(story())
