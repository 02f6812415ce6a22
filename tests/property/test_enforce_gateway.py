"""The promises of a gateway's plan: rates that fit at every node and at every moment, leaves that lead somewhere."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import strategies as st

from telemetryd.enforce.diff import STEPS, apply, diff
from telemetryd.enforce.gateway import GatewayPlan, plan_gateway
from telemetryd.enforce.gateway_terms import flatten, prefix_sets
from telemetryd.enforce.gateway_tree import REST, ROOT, numbers
from telemetryd.enforce.intent import ClassIntent, DeviceIntent, InnerIntent, PortIntent, apportion
from telemetryd.enforce.names import Value, is_ours
from telemetryd.enforce.readback import read_back
from telemetryd.errors import InputError
from tests import policy_case
from tests.enforce_case import M, as_json, capability
from tests.trees import for_any

LONG = 2000
GATEWAY = capability(driver="linux", queues=2000, least_rate_bps=8000, rate_step_bps=8)
APPLICATIONS = {"hrss": ("exam", "portal"), "finance": ("forum", "video")}
LEVELS = ("service_class", "department", "application")


@st.composite
def ports(draw: st.DrawFn, interface: str = "eth1", direction: str = "out") -> PortIntent:
    """Generate a tree of classes, departments and applications, some named and some only demanded."""
    capacity = draw(st.integers(10, 10_000)) * M
    inner: list[InnerIntent] = []
    leaves: list[tuple[tuple[tuple[str, str], ...], bool]] = []
    for name in ("CORE", "BIZ"):
        if not draw(st.booleans()):
            continue
        guarantee = draw(st.integers(0, capacity))
        levels = (("service_class", name),)
        inner.append(
            InnerIntent((name,), draw(st.integers(1, 5)), draw(st.integers(1, capacity)), False, guarantee, levels)
        )
        for department, applications in APPLICATIONS.items():
            own = (*levels, ("department", department))
            if draw(st.booleans()):
                inner.append(InnerIntent((name, department), draw(st.integers(1, 5)), capacity, levels=own))
            leaves += [
                ((*own, ("application", one)), draw(st.booleans()))
                for one in (*applications, "")
                if draw(st.booleans())
            ]
    if draw(st.booleans()):
        inner.append(InnerIntent(("rest",), draw(st.integers(1, 5)), capacity, levels=(("rest", "rest"),)))
        leaves.append(((("rest", "rest"), ("department", "hrss"), ("application", "")), False))
    shares = draw(st.lists(st.integers(0, 100), min_size=len(leaves), max_size=len(leaves)))
    rates = apportion(capacity * draw(st.integers(0, 99)) // 100, shares) if sum(shares) else [0] * len(leaves)
    classes = []
    for (levels, is_named), rate in zip(leaves, rates, strict=True):
        classes.append(
            ClassIntent(
                name="/".join(name for _, name in levels),
                importance=draw(st.integers(1, 5)),
                is_protected=False,
                load_bps=rate,
                promise_bps=rate * draw(st.integers(0, 90)) // 100,
                rate_bps=rate,
                ceiling_bps=draw(st.integers(rate, capacity)),
                is_hard=draw(st.integers(0, 9)) == 0,
                levels=levels,
                is_named=is_named,
            )
        )
    return PortIntent(interface, direction, capacity, tuple(classes), tuple(inner))


@st.composite
def gateways(draw: st.DrawFn) -> DeviceIntent:
    """Generate a gateway with one or two managed ports."""
    found = [draw(ports())]
    if draw(st.booleans()):
        found.append(draw(ports("eth0", draw(st.sampled_from(("in", "out"))))))
    return DeviceIntent("GW1", tuple(found), ("eth0", "eth1"))


def plan(intent: DeviceIntent | PortIntent, kept: dict[tuple[str, ...], int] | None = None) -> GatewayPlan:
    if isinstance(intent, PortIntent):
        intent = DeviceIntent("GW1", (intent,), ("eth0", "eth1"))
    return plan_gateway(intent, GATEWAY, policy_case.registry(), kept)


def schedulers(leaves: dict[str, Value]) -> dict[str, dict[str, dict[str, Value]]]:
    """Return policy -> sequence -> last step of a leaf's path -> value, as an agent reads them."""
    found: dict[str, dict[str, dict[str, Value]]] = {}
    for path, value in leaves.items():
        head, _, tail = path.partition("]/schedulers/scheduler[sequence=")
        if tail:
            sequence, _, leaf = tail.partition("]")
            own = found.setdefault(head.partition("[name=")[2], {}).setdefault(sequence, {})
            own[leaf.rpartition("/")[2]] = value
    return found


def overfull(leaves: dict[str, Value]) -> list[str]:
    """Return the schedulers whose children have more together than they have themselves, or a ceiling below the rate."""
    every = schedulers(leaves)
    found = []
    for policy, own in every.items():
        for sequence, one in own.items():
            if "cir" not in one:
                continue
            below = every.get(str(one.get("child-scheduler", "")), {})
            total = sum(int(child["cir"]) for child in below.values() if "cir" in child)  # type: ignore[call-overload]
            if total > int(one["cir"]) or ("pir" in one and int(one["pir"]) < int(one["cir"])):  # type: ignore[call-overload]
                found.append(f"{policy} {sequence}: {total} of {one}")
    return found


def dangling(leaves: dict[str, Value]) -> list[str]:
    """Return the leaves that refer to what is not there."""
    lists = {
        "/target-group": "/qos/forwarding-groups/forwarding-group",
        "/output-queue": "/qos/queues/queue",
        "/config/queue": "/qos/queues/queue",
        "/child-scheduler": "/qos/scheduler-policies/scheduler-policy",
        "put/scheduler-policy/config/name": "/qos/scheduler-policies/scheduler-policy",
    }
    found = []
    for path, value in leaves.items():
        targets = [target for end, target in lists.items() if path.endswith(end)]
        if path.endswith("-address-prefix-set"):
            family = "ipv6" if "/ipv6/" in path else "ipv4"
            targets.append(f"/defined-sets/{family}-prefix-sets/{family}-prefix-set")
        if "put/queues/queue[" in path:
            targets.append("/qos/queues/queue")
        found += [path for target in targets if f"{target}[name={value}]/config/name" not in leaves]
    return found


@for_any(gateways(), long=LONG)
def test_every_node_holds_what_is_below_it(intent: DeviceIntent) -> None:
    """Sums fit at every node, promises hold, a ceiling is within the parent's, every leaf has its queue; all is ours."""
    found = plan(intent)
    assert overfull(found.leaves) == []
    assert dangling(found.leaves) == []
    for port, own in zip(intent.ports, found.ports, strict=True):
        assert (port.interface, port.direction) == (own.interface, own.direction)
        nodes = {node.names: node for node in own.nodes}
        assert nodes[()].rate_bps <= port.capacity_bps
        assert nodes[()].number == ROOT
        for names, node in nodes.items():
            assert 8000 <= node.rate_bps <= node.ceiling_bps
            assert node.rate_bps % 8 == 0
            if names:
                assert node.ceiling_bps <= max(node.rate_bps, nodes[names[:-1]].ceiling_bps)
            assert bool(node.queue) == (not any(other[:-1] == names for other in nodes if other))
            assert found.leaves[f"{node.path}/two-rate-three-color/config/cir"] == node.rate_bps
        promised: dict[str, int] = {}
        leaf_of = {name: node for node in own.nodes for name in node.classes}
        for one in port.classes:
            promised[leaf_of[one.name].queue] = promised.get(leaf_of[one.name].queue, 0) + one.promise_bps
        for queue, promise in promised.items():
            assert own.queues[queue].rate_bps >= promise
        assert nodes[REST,].queue == found.rest
    assert all(is_ours(path, found.leaves) for path in found.leaves if "/interface-ref/" not in path
               and not path.endswith("/config/interface-id"))  # fmt: skip


@for_any(gateways(), gateways(), long=LONG)
def test_writes_lead_there_and_no_sum_is_ever_too_large(old: DeviceIntent, new: DeviceIntent) -> None:
    """Write by write every node holds its children, step by step nothing dangles; the end is the plan, or nothing."""
    capacities = {port.interface: port.capacity_bps for port in old.ports}
    new = replace(
        new,
        ports=tuple(
            replace(
                port,
                capacity_bps=capacities.get(port.interface, port.capacity_bps),
                classes=_scaled(port, capacities.get(port.interface, port.capacity_bps)),
            )
            for port in new.ports
        ),
    )
    one = plan(old)
    two = plan(new, {node.names: node.number for port in one.ports for node in port.nodes if node.names})
    assert diff(one.leaves, one.leaves).writes == []
    have = dict(one.leaves)
    change = diff(have, two.leaves)
    assert [name for name, _ in change.steps] == [name for name in STEPS if name in dict(change.steps)]
    assert change.conflicts == ()
    for name, writes in change.steps:
        for write in writes:
            have = apply(have, [write])
            if name in ("lower", "raise") and write.path.endswith(("/cir", "/pir")):
                assert overfull(have) == [], write
        assert dangling(have) == [], name
        assert overfull(have) == [], name
    assert {path: value for path, value in have.items() if is_ours(path, have)} == {
        path: value for path, value in two.leaves.items() if is_ours(path, two.leaves)
    }
    off = apply(have, diff(have, {}).writes)
    assert [path for path in off if is_ours(path, off)] == []


def _scaled(port: PortIntent, capacity: int) -> tuple[ClassIntent, ...]:
    used = min(capacity * 99 // 100, sum(one.rate_bps for one in port.classes))
    rates = apportion(used, [one.rate_bps for one in port.classes])
    return tuple(
        replace(one, rate_bps=rate, promise_bps=min(one.promise_bps, rate * 9 // 10), ceiling_bps=max(rate, 1))
        for one, rate in zip(port.classes, rates, strict=True)
    )


@for_any(gateways(), st.integers(0, 2**16), long=LONG)
def test_a_plan_does_not_depend_on_the_order_of_classes(intent: DeviceIntent, seed: int) -> None:
    """The same leaves in the same order."""
    random = Random(seed)
    shuffled = tuple(
        replace(port, classes=tuple(random.sample(port.classes, len(port.classes)))) for port in intent.ports
    )
    one, two = plan(intent), plan(replace(intent, ports=shuffled))
    assert list(one.leaves.items()) == list(two.leaves.items())


@for_any(gateways(), long=LONG)
def test_what_a_gateway_reads_back_compares(intent: DeviceIntent) -> None:
    """Leaves as JSON_IETF, read again, need no write; a leaf-list has no order."""
    leaves = plan(intent).leaves
    document = {**as_json(leaves), "openconfig-defined-sets:defined-sets": as_json(leaves, "defined-sets")}
    assert diff(read_back(document), leaves).writes == []
    assert (
        diff(
            {path: value[::-1] if isinstance(value, tuple) else value for path, value in leaves.items()}, leaves
        ).writes
        == []
    )


@for_any(st.sets(st.text("abc", min_size=1, max_size=4), max_size=40), st.sets(st.text("abc", max_size=3), max_size=5))
def test_numbers_are_unique_and_kept(names: set[str], more: set[str]) -> None:
    """A new name moves none that has a number."""
    first = numbers((name,) for name in names)
    second = numbers(((name,) for name in names | more), first)
    assert len(set(second.values())) == len(second)
    assert {name: second[name] for name in first} == first


@for_any(
    st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32), st.sampled_from("abc")), max_size=12),
    long=LONG,
)
def test_ranges_are_what_the_longest_prefix_says(drawn: list[tuple[int, int, str]]) -> None:
    """Every address of the net has the owner of its longest prefix, ranges do not overlap."""
    owners = {
        ipaddress.ip_network((0x0A000000 + address, length), strict=False): name for address, length, name in drawn
    }
    ranges = flatten(owners.items())
    spans = [(int(ipaddress.ip_address(low)), int(ipaddress.ip_address(high)), name) for low, high, name in ranges]
    assert all(one[1] < two[0] for one, two in pairwise(spans))
    for number in range(0x0A000000, 0x0A000100):
        address = ipaddress.ip_address(number)
        own = max((prefix for prefix in owners if address in prefix), key=lambda prefix: prefix.prefixlen, default=None)
        found = next((name for low, high, name in spans if low <= number <= high), None)
        assert found == (owners[own] if own is not None else None), str(address)


def test_sets_of_a_family_do_not_overlap() -> None:
    """Sets of departments among themselves, and sets of where applications are served."""
    registry = policy_case.registry()
    for family in (4, 6):
        sets = prefix_sets(registry, family, sorted(registry.application))
        served = {name for own in sets.served.values() for name, _ in own}
        assert served
        for names in (set(sets.departments.values()), served):
            every = sorted(
                (ipaddress.ip_network(one) for name in names for one in sets.prefixes[name]),
                key=lambda prefix: int(prefix[0]),
            )
            assert all(int(one[-1]) < int(two[0]) for one, two in pairwise(every))


def test_one_changed_rate_is_one_leaf() -> None:
    """A leaf's rate in place; its parent keeps its own, the rest leaf too."""
    levels = (("service_class", "CORE"), ("department", "hrss"), ("application", "exam"))
    one = ClassIntent("CORE/hrss/exam", 1, False, 50 * M, 10 * M, 50 * M, 90 * M, levels=levels)
    other = replace(one, name="CORE/hrss/portal", levels=(*levels[:2], ("application", "portal")), rate_bps=30 * M)
    inner = (
        InnerIntent(("CORE",), 1, 100 * M, levels=levels[:1]),
        InnerIntent(("CORE", "hrss"), 1, 100 * M, levels=levels[:2]),
    )
    before = plan(PortIntent("eth1", "out", 100 * M, (one, other), inner))
    grown = replace(one, rate_bps=52 * M), replace(other, rate_bps=28 * M)
    after = plan(PortIntent("eth1", "out", 100 * M, grown, inner))
    writes = diff(before.leaves, after.leaves).writes
    changed = [(write.path.rpartition("/")[2], int(write.value) - int(write.old)) for write in writes]  # type: ignore[arg-type]
    assert changed == [("cir", -2 * M), ("cir", 2 * M)]


@pytest.mark.parametrize("demand_bps", [60 * M, 100 * M - 1000, 100 * M])
def test_a_protected_class_may_demand_the_whole_port(demand_bps: int) -> None:
    """It keeps all but what the others need at least; guarantees beside it stay whole."""
    protected = (("protected", "protected"), ("application", "dns"))
    dns = ClassIntent("protected/-/dns", 0, True, demand_bps, demand_bps, demand_bps, 100 * M, levels=protected)
    levels = (("department", "hrss"), ("application", "exam"))
    left = 100 * M - demand_bps
    exam = ClassIntent("hrss/exam", 1, False, 50 * M, left, left, 90 * M, levels=levels)
    inner = (
        InnerIntent(("protected",), 0, 100 * M, levels=protected[:1]),
        InnerIntent(("hrss",), 1, 100 * M, levels=levels[:1]),
    )
    (port,) = plan(PortIntent("eth1", "out", 100 * M, (dns, exam), inner)).ports
    rates = {node.names: node.rate_bps for node in port.nodes if node.queue}
    assert rates["protected", "dns"] >= demand_bps - 100_000
    assert rates["hrss", "exam"] >= left
    assert sum(rates.values()) <= 100 * M


def test_more_than_fits_is_refused() -> None:
    """Promises above the port, and more classes than the gateway takes."""
    levels = (("department", "hrss"), ("application", "exam"))
    one = ClassIntent("hrss/exam", 1, False, 50 * M, 50 * M, 50 * M, 90 * M, levels=levels)
    inner = (InnerIntent(("hrss",), 1, 100 * M, levels=levels[:1]),)
    with pytest.raises(InputError, match="lower guarantees"):
        plan(PortIntent("eth1", "out", 50 * M, (one,), inner))
    port = PortIntent("eth1", "out", 90 * M, (one,), inner)
    with pytest.raises(InputError, match="are more than the 3"):
        plan_gateway(DeviceIntent("GW1", (port,)), replace(GATEWAY, queues=3), policy_case.registry())
