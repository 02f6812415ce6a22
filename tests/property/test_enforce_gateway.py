"""The promises of a gateway's plan: rates that fit at every node and at every moment, stable numbers, exact prefixes."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import strategies as st

from telemetryd.enforce.gateway import (
    LEAST,
    REST,
    ROOT,
    Element,
    Fifo,
    GatewayPlan,
    HtbClass,
    Key,
    Object,
    diff_objects,
    flatten,
    numbers,
    plan_port,
)
from telemetryd.enforce.intent import ClassIntent, InnerIntent, PortIntent, apportion
from telemetryd.errors import InputError
from tests import policy_case
from tests.enforce_case import M, capability
from tests.trees import for_any

LONG = 2000
GATEWAY = capability(driver="linux", queues=2000, least_rate_bps=8000, rate_step_bps=8)
APPLICATIONS = {"hrss": ("exam", "portal"), "finance": ("forum", "video")}


@st.composite
def ports(draw: st.DrawFn) -> PortIntent:
    """Generate a tree of classes, departments and applications, some named and some only demanded."""
    capacity = draw(st.integers(10, 10_000)) * M
    inner: list[InnerIntent] = []
    leaves: list[tuple[tuple[tuple[str, str], ...], bool]] = []
    for name in ("CORE", "BIZ"):
        if not draw(st.booleans()):
            continue
        inner.append(InnerIntent((name,), draw(st.integers(1, 5)), draw(st.integers(1, capacity))))
        for department, applications in APPLICATIONS.items():
            if draw(st.booleans()):
                inner.append(InnerIntent((name, department), draw(st.integers(1, 5)), capacity))
            leaves += [
                ((("service_class", name), ("department", department), ("application", own)), draw(st.booleans()))
                for own in (*applications, "")
                if draw(st.booleans())
            ]
    shares = draw(st.lists(st.integers(0, 100), min_size=len(leaves), max_size=len(leaves)))
    rates = apportion(capacity * draw(st.integers(0, 100)) // 100, shares) if sum(shares) else [0] * len(leaves)
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
    return PortIntent("eth1", "out", capacity, tuple(classes), tuple(inner))


def plan(port: PortIntent, kept: dict[tuple[str, ...], int] | None = None) -> GatewayPlan:
    return plan_port(port, GATEWAY, policy_case.registry(), kept)


def overfull(objects: dict[Key, Object], slack_bps: int = 0) -> list[str]:
    """Return the classes whose children have more together than they have themselves."""
    classes = {int(key.name, 16): one for key, one in objects.items() if isinstance(one, HtbClass)}
    return [
        f"{number:x}"
        for number, own in classes.items()
        if sum(one.rate_bps for one in classes.values() if one.parent == number) > own.rate_bps + slack_bps
    ]


@for_any(ports(), long=LONG)
def test_every_node_holds_what_is_below_it(port: PortIntent) -> None:
    """Sums fit at every node, promises hold, ceil is between the rate and the parent's, every leaf has its buffer."""
    found = plan(port)
    classes = {int(key.name, 16): one for key, one in found.objects.items() if isinstance(one, HtbClass)}
    assert overfull(found.objects) == []
    assert classes[ROOT].rate_bps <= port.capacity_bps
    parents = {one.parent for one in classes.values()}
    for number, one in classes.items():
        assert 8000 <= one.rate_bps <= one.ceil_bps
        assert one.rate_bps % 8 == 0
        if number != ROOT:
            assert one.ceil_bps <= max(one.rate_bps, classes[one.parent].ceil_bps)
            assert found.names[one.parent] == found.names[number][:-1]
        has_fifo = Key("fifo", f"{number:x}") in found.objects
        assert has_fifo == (number not in parents)
        if has_fifo:
            fifo = found.objects[Key("fifo", f"{number:x}")]
            assert isinstance(fifo, Fifo)
            assert fifo.limit <= max(16_384, one.rate_bps // 400)
    promised: dict[tuple[str, ...], int] = {}
    for own in port.classes:
        names = tuple(name for _, name in own.levels)
        while names not in found.names.values():
            names = names[:-1]
        promised[names] = promised.get(names, 0) + own.promise_bps
    number_of = {names: number for number, names in found.names.items()}
    for names, promise in promised.items():
        assert classes[number_of[names]].rate_bps >= promise
    if len(classes) > 1:
        assert found.names[found.default] == (REST,)
    assert all(
        one.value in found.names for key, one in found.objects.items() if key.kind in ("ports", "marks", "rests")
    )


@for_any(ports(), ports(), long=LONG)
def test_changes_lead_there_and_no_sum_is_ever_too_large(old: PortIntent, new: PortIntent) -> None:
    """Operation by operation every node holds its children, parents are there before them, and maps lead to classes."""
    new = replace(new, capacity_bps=old.capacity_bps, classes=_scaled(new, old.capacity_bps))
    one = plan(old)
    two = plan(new, {names: number for number, names in one.names.items()})
    have = dict(one.objects)
    assert diff_objects(have, one.objects) == []
    slack = LEAST * len(set(one.objects) - set(two.objects))
    for key, _, after in diff_objects(have, two.objects):
        if after is None:
            have.pop(key)
        else:
            have[key] = after
        if key.kind == "class":
            assert overfull(have, slack) == [], key
        numbers_there = {int(key.name, 16) for key in have if key.kind == "class"}
        for one_key, one_object in have.items():
            if isinstance(one_object, HtbClass):
                assert one_object.parent in numbers_there | {0}, one_key
            elif isinstance(one_object, Element) and one_key.kind in ("ports", "marks", "rests"):
                assert one_object.value in numbers_there, one_key
    assert have == two.objects
    off = diff_objects(have, {})
    assert len(off) == len(have)


def _scaled(port: PortIntent, capacity: int) -> tuple[ClassIntent, ...]:
    used = min(capacity, sum(one.rate_bps for one in port.classes))
    rates = apportion(used, [one.rate_bps for one in port.classes])
    return tuple(
        replace(one, rate_bps=rate, promise_bps=min(one.promise_bps, rate * 9 // 10), ceiling_bps=max(rate, 1))
        for one, rate in zip(port.classes, rates, strict=True)
    )


@for_any(ports(), st.integers(0, 2**16), long=LONG)
def test_a_plan_does_not_depend_on_the_order_of_classes(port: PortIntent, seed: int) -> None:
    """The same objects in the same order."""
    classes = tuple(Random(seed).sample(port.classes, len(port.classes)))
    one, two = plan(port), plan(replace(port, classes=classes))
    assert list(one.objects.items()) == list(two.objects.items())


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


def test_one_changed_rate_is_one_class() -> None:
    """A leaf's rate in place; its parent keeps its own, the rest leaf too."""
    levels = (("service_class", "CORE"), ("department", "hrss"), ("application", "exam"))
    one = ClassIntent("CORE/hrss/exam", 1, False, 50 * M, 10 * M, 50 * M, 90 * M, levels=levels)
    other = replace(one, name="CORE/hrss/portal", levels=(*levels[:2], ("application", "portal")), rate_bps=30 * M)
    inner = (InnerIntent(("CORE",), 1, 100 * M), InnerIntent(("CORE", "hrss"), 1, 100 * M))
    before = plan(PortIntent("eth1", "out", 100 * M, (one, other), inner))
    grown = replace(one, rate_bps=52 * M), replace(other, rate_bps=28 * M)
    after = plan(PortIntent("eth1", "out", 100 * M, grown, inner))
    changes = diff_objects(before.objects, after.objects)
    assert [(key.kind, old.rate_bps - new.rate_bps) for key, old, new in changes] == [  # type: ignore[union-attr]
        ("class", 2 * M),
        ("class", -2 * M),
    ]
    assert {key.kind for key in before.objects} >= {"class", "fifo", "ports", "prefixes4", "prefixes6"}


def test_more_than_fits_is_refused() -> None:
    """Promises above the port, and more classes than the gateway takes."""
    levels = (("department", "hrss"), ("application", "exam"))
    one = ClassIntent("hrss/exam", 1, False, 50 * M, 50 * M, 50 * M, 90 * M, levels=levels)
    inner = (InnerIntent(("hrss",), 1, 100 * M),)
    with pytest.raises(InputError, match="lower guarantees"):
        plan(PortIntent("eth1", "out", 50 * M, (one,), inner))
    with pytest.raises(InputError, match="are more than the 3"):
        plan_port(PortIntent("eth1", "out", 90 * M, (one,), inner), replace(GATEWAY, queues=3), policy_case.registry())
