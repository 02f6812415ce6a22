"""Planning QoS for 64 switches of 48 ports each: CPU time of one thread from intents to writes, verified first."""

from __future__ import annotations

import numpy as np

from benchmarks.report import Figure, cpu_seconds
from telemetryd.enforce.capability import Capability
from telemetryd.enforce.diff import Difference, diff
from telemetryd.enforce.fold import Classes, exact, fast
from telemetryd.enforce.intent import ClassIntent, DeviceIntent, PortIntent
from telemetryd.enforce.match import Match
from telemetryd.enforce.plan import DevicePlan, plan_device

SWITCHES, PORTS = 64, 48
#: Classes: as many as queues, and more, which have to be folded.
CLASSES = (8, 11)
#: CPU seconds that planning everything may take.
LIMIT_S = 1.0
CAPACITY = 10_000_000_000
SWITCH = Capability(
    device="",
    vendor="",
    model="",
    firmware="",
    driver="openconfig",
    queues=8,
    queue_names=(),
    queue_ids="optional",
    schedulers=frozenset(("two-rate-shape", "two-rate-police")),
    conditions=frozenset(("dscp",)),
    terms=256,
    policers=8,
    weights=(1, 255),
    least_rate_bps=64_000,
    rate_step_bps=8_000,
    most_burst_octets=16_000_000,
    interface_ref="optional",
    commit_confirmed=False,
    remark=True,
    encodings=("JSON_IETF",),
)


def run(short: bool) -> list[Figure]:
    """Plan and compare; ``short`` takes 4 switches and no limit."""
    figures = []
    switches = 4 if short else SWITCHES
    for count in CLASSES:
        figures += _measure(switches, count, short)
    return figures + _measure_folding(30 if short else 300)


def _measure(switches: int, count: int, short: bool) -> list[Figure]:
    rng = np.random.default_rng(count)
    intents = [_intent(f"SW{number:02}", count, rng) for number in range(switches)]
    plans = [plan_device(one, SWITCH) for one in intents]
    for intent, plan in zip(intents, plans, strict=True):
        _verify(intent, plan)
    repeats = 1 if short else 5
    plan_s = cpu_seconds(lambda: [plan_device(one, SWITCH) for one in intents], repeats)
    same_s = cpu_seconds(lambda: [diff(plan.leaves, plan.leaves) for plan in plans], repeats)
    first_s = cpu_seconds(lambda: [diff({}, plan.leaves) for plan in plans], repeats)
    assert all(diff(plan.leaves, plan.leaves) == Difference() for plan in plans)
    leaves = sum(len(plan.leaves) for plan in plans)
    if not short:
        assert plan_s <= LIMIT_S, f"{plan_s:.2f} s for {switches} switches, the limit is {LIMIT_S:g} s"
    what = f"{switches} switches x {PORTS} ports, {count} classes"
    return [
        Figure(f"{what}: plan", plan_s * 1e3, "ms", f"limit {LIMIT_S * 1e3:g} ms; {leaves:,} leaves"),
        Figure(f"{what}: compare with itself", same_s * 1e3, "ms", "no write"),
        Figure(f"{what}: first time", first_s * 1e3, "ms", f"{leaves:,} writes"),
    ]


def _intent(name: str, count: int, rng: np.random.Generator) -> DeviceIntent:
    """Return a switch whose ports are all full; half of the classes get all they ask for."""
    ports = []
    for number in range(PORTS):
        rates = (rng.dirichlet(np.ones(count)) * CAPACITY).astype(np.int64).tolist()
        classes = tuple(
            ClassIntent(
                name=f"class{place:02}",
                importance=1 + place * 5 // count,
                is_protected=place == 0,
                load_bps=rate if place % 2 else 2 * rate,
                promise_bps=rate // 2,
                rate_bps=rate,
                ceiling_bps=CAPACITY,
                matches=(Match(4, (place,)), Match(6, (place,))),
            )
            for place, rate in enumerate(rates)
        )
        ports.append(PortIntent(f"Ethernet1/{number + 1}", "out", CAPACITY, classes))
    return DeviceIntent(name, tuple(ports), tuple(port.interface for port in ports))


def _verify(intent: DeviceIntent, plan: DevicePlan) -> None:
    """Hold a plan to its promises: sums fit, every queue has what its classes are promised, every class has a queue."""
    assert len(plan.groups) <= SWITCH.queues
    placed = sorted(name for group in plan.groups for name in group.classes)
    for port in intent.ports:
        promises = {one.name: one.promise_bps for one in port.classes}
        assert set(promises) <= set(placed)
        at = port.interface, port.direction
        assert sum(group.rates[at][0] for group in plan.groups) <= port.capacity_bps
        for group in plan.groups:
            assert group.rates[at][0] >= sum(promises.get(name, 0) for name in group.classes)


def _measure_folding(cases: int) -> list[Figure]:
    """Hold the fast search against all partitions, on 7 classes into 2 to 5 queues."""
    rng = np.random.default_rng(3)
    missed, worst, exact_s, fast_s = 0, 0.0, 0.0, 0.0
    for case in range(cases):
        rate = rng.integers(1, 1000, (7, 1 + case % 3)).astype(np.float64)
        load = rate * np.where(rng.random((7, 1)) < 0.6, 1 + 3 * rng.random(rate.shape), 1)
        promise = rate * rng.random(rate.shape) * (rng.random((7, 1)) < 0.7)
        importance = rng.integers(1, 6, 7).tolist()
        slots = 2 + case % 4

        def classes(rate=rate, promise=promise, load=load, importance=importance) -> Classes:  # type: ignore[no-untyped-def]
            return Classes(rate, promise, load, importance, [False] * 7)

        best, found = classes().total(exact(classes(), slots)), classes().total(fast(classes(), slots))
        assert found.worst >= best.worst
        missed += found.worst > best.worst
        worst = max(worst, found.worst - best.worst)
        exact_s += cpu_seconds(lambda make=classes, slots=slots: exact(make(), slots), 1)  # type: ignore[misc]
        fast_s += cpu_seconds(lambda make=classes, slots=slots: fast(make(), slots), 1)  # type: ignore[misc]
    return [
        Figure("7 classes into 2 to 5 queues: every partition", exact_s / cases * 1e3, "ms"),
        Figure("the fast search", fast_s / cases * 1e3, "ms"),
        Figure("cases in which it misses the least worst error", missed / cases * 100, "%", f"{cases} cases"),
        Figure("by how much at most", worst * 100, "points", "of a guarantee"),
    ]
