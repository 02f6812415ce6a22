"""The promises of a plan, for any intent: rounding, folding, differences, and the order of writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from random import Random

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from telemetryd.enforce.diff import Difference, apply, diff
from telemetryd.enforce.fold import Classes, canonical, exact, fast, fold
from telemetryd.enforce.intent import DeviceIntent, PortIntent, apportion, split
from telemetryd.enforce.names import PREFIX, Value, ours
from telemetryd.enforce.plan import plan_device
from telemetryd.enforce.readback import read_back
from telemetryd.enforce.rounding import fit, weights
from tests.enforce_case import (
    FOREIGN,
    LEAST,
    STEP,
    M,
    as_json,
    capability,
    capacities,
    cls,
    dangling,
    device,
    devices,
    rates,
)  # fmt: skip
from tests.trees import for_any

LONG = 2000


@for_any(devices(), long=LONG)
def test_rounding_and_folding_keep_every_promise_within_the_port(intent: DeviceIntent) -> None:
    """Sums fit the port; a queue has what its classes are promised; cir <= pir <= port; multiples of the step."""
    plan = plan_device(intent, capability(queues=4, policers=4))
    cir, pir, room = rates(plan.leaves, "cir"), rates(plan.leaves, "pir"), capacities(plan)
    assert set(cir) == set(room)
    for port in intent.ports:
        own = cir[f"{PREFIX}{port.direction}-{port.interface.replace('/', '-')}"]
        promises = {one.name: one.promise_bps for one in port.classes}
        for group in plan.groups:
            assert own[group.number + 1] >= sum(promises.get(name, 0) for name in group.classes)
    for policy, own in cir.items():
        assert sum(own.values()) <= room[policy]
        for sequence, rate in own.items():
            assert LEAST <= rate <= pir[policy][sequence] <= room[policy]
            assert rate % STEP == 0
    assert dangling(plan.leaves) == []
    assert {name for group in plan.groups for name in group.classes} >= {one.name for one in intent.ports[0].classes}
    assert len(plan.groups) <= 4


@for_any(devices(), st.integers(0, 2**16), long=LONG)
def test_a_plan_does_not_depend_on_any_order(intent: DeviceIntent, seed: int) -> None:
    """The same leaves, in the same order of writing, however the classes of a port come."""
    random = Random(seed)
    ports = tuple(replace(port, classes=tuple(random.sample(port.classes, len(port.classes)))) for port in intent.ports)
    one, two = plan_device(intent, capability()), plan_device(replace(intent, ports=ports), capability())
    assert list(one.leaves.items()) == list(two.leaves.items())
    assert one.groups == two.groups


@for_any(devices(most_classes=7), st.integers(0, 10**6), long=LONG)
def test_unchanged_writes_nothing_and_a_changed_rate_one_leaf(intent: DeviceIntent, pick: int) -> None:
    """An allocation that moves by more than the step is one cir, where a class has a queue of its own."""
    one = plan_device(intent, capability())
    assert diff(one.leaves | FOREIGN, one.leaves) == Difference()
    port = intent.ports[pick % len(intent.ports)]
    chosen = port.classes[pick // 7 % len(port.classes)]
    # Above the least rate, above its promise by a step, and not its own ceiling.
    assume(chosen.rate_bps - 2 * STEP >= max(LEAST, chosen.promise_bps + STEP) and not chosen.is_hard)
    assume(sum(own.rate_bps for own in port.classes) + 9 * LEAST <= port.capacity_bps)
    assume(chosen.ceiling_bps > chosen.rate_bps + STEP)
    changed = replace(chosen, rate_bps=chosen.rate_bps - 2 * STEP)
    classes = tuple(changed if own is chosen else own for own in port.classes)
    ports = tuple(replace(own, classes=classes) if own is port else own for own in intent.ports)
    two = plan_device(replace(intent, ports=ports), capability(), keep=[frozenset(g.classes) for g in one.groups])
    writes = diff(one.leaves, two.leaves).writes
    assert len(writes) == 1, writes
    assert writes[0].path.endswith("/config/cir")


KINDS = (
    {},
    {"schedulers": frozenset(("weighted", "strict", "one-rate-police"))},
    {"schedulers": frozenset(("one-rate-shape", "one-rate-police"))},
    {"schedulers": frozenset(("strict", "two-rate-police"))},
    {"queues": 3, "policers": 3},
    {"queue_names": ("NC1", "AF4", "AF3", "BE1"), "queues": 4, "interface_ref": "unsupported"},
)


@for_any(devices(most_classes=6), devices(most_classes=6), st.sampled_from(KINDS), st.sampled_from(KINDS), long=LONG)
def test_writes_lead_there_without_exceeding_a_link(
    old: DeviceIntent, new: DeviceIntent, first: dict[str, object], second: dict[str, object]
) -> None:
    """Write by write no sum exceeds its port; step by step nothing dangles; the end is the plan; others' stay as they are."""
    ports = {port.interface: port for port in old.ports}
    # The same ports with the same capacity: what changes is what is asked for there.
    new = replace(
        new,
        ports=tuple(
            _shrunk(port, ports[port.interface].capacity_bps, ports[port.interface].direction)
            for port in new.ports
            if port.interface in ports
        ),
    )
    one, two = plan_device(old, capability(**first)), plan_device(new, capability(**second))
    foreign = FOREIGN | (
        {"/qos/queues/queue[name=AF4]/config/name": "AF4"} if "queue_names" in (first | second) else {}
    )
    for name in ("AF3", "BE1"):
        foreign |= {f"/qos/queues/queue[name={name}]/config/name": name}
    have: dict[str, Value] = foreign | one.leaves
    room = capacities(one) | capacities(two)
    change = diff(have, two.leaves)
    assert change.conflicts == ()
    for _, writes in change.steps:
        for write in writes:
            have = apply(have, [write])
            attached = {v for path, v in have.items() if path.endswith("put/scheduler-policy/config/name")}
            cir, pir = rates(have, "cir"), rates(have, "pir")
            for policy in attached & set(cir):
                assert sum(cir[policy].values()) <= room[policy], (write, policy)
                for sequence, ceiling in pir.get(policy, {}).items():
                    assert cir[policy].get(sequence, 0) <= ceiling, write
        assert dangling(have) == []
    assert ours(have) == ours(two.leaves)
    assert {path: have.get(path) for path in foreign} == foreign
    assert diff(have, two.leaves) == Difference()
    # And everything of ours off again.
    bare = apply(have, diff(have, {}).writes)
    assert ours(bare) == {}
    assert {path: bare.get(path) for path in foreign} == foreign


def _shrunk(port: PortIntent, capacity: int, direction: str) -> PortIntent:
    used = sum(one.rate_bps for one in port.classes)
    scale = min(capacity, used)
    rates = apportion(scale, [one.rate_bps for one in port.classes])
    classes = tuple(
        replace(one, rate_bps=rate, promise_bps=min(one.promise_bps, rate * 9 // 10), ceiling_bps=capacity)
        for one, rate in zip(port.classes, rates, strict=True)
    )
    return PortIntent(port.interface, direction, capacity, classes)


@for_any(devices(most_classes=3), st.sampled_from(KINDS), long=LONG)
def test_what_a_device_reads_back_compares(intent: DeviceIntent, kind: dict[str, object]) -> None:
    """JSON_IETF with module names and 64-bit numbers as texts, and a flat mapping, are the leaves that were written."""
    leaves = plan_device(intent, capability(**kind)).leaves
    assert read_back(as_json(leaves)) == dict(sorted(leaves.items()))
    assert diff(read_back(as_json(leaves)), leaves) == Difference()
    flat = {path: list(value) if isinstance(value, tuple) else value for path, value in leaves.items()}
    assert read_back(flat) == dict(sorted(leaves.items()))


# --- folding ---------------------------------------------------------------------------------------------


def random_classes(seed: int, count: int, ports: int) -> Classes:
    """Return classes of which some get all they ask for, others too little."""
    random = np.random.default_rng(seed)
    rate = random.integers(0, 1000, (count, ports)).astype(np.float64) * (random.random((count, ports)) < 0.9)
    load = rate + np.floor(rate * random.random((count, ports)) * 3) * (random.random((count, 1)) < 0.6)
    promise = np.floor(rate * random.random((count, ports))) * (random.random((count, 1)) < 0.7)
    importance = random.integers(1, 6, count).tolist()
    return Classes(rate, promise, load, importance, [place == 0 and seed % 2 == 0 for place in range(count)])


def every_partition(count: int, slots: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield every partition, by brute force: all assignments of classes to queues."""
    seen = set()
    for queues in product(range(slots), repeat=count):
        partition = canonical(tuple(i for i in range(count) if queues[i] == slot) for slot in range(slots))
        if partition not in seen:
            seen.add(partition)
            yield partition


@for_any(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), long=LONG)
def test_the_exact_search_finds_the_cheapest_of_all(seed: int, count: int, ports: int, slots: int) -> None:
    """No partition at all is cheaper."""
    classes = random_classes(seed, count, ports)
    found = exact(classes, slots)
    best = min((classes.total(partition), partition) for partition in every_partition(count, slots))
    assert (classes.total(found), found) == best


@for_any(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 3), st.integers(1, 8), long=LONG)
def test_folding_is_a_partition_that_keeps_the_protected_apart(seed: int, count: int, ports: int, slots: int) -> None:
    """Everybody is in one queue, there are no more queues than there may be, and a tolerable partition in force stays."""
    classes = random_classes(seed, count, ports)
    found = fold(classes, slots)
    assert sorted(member for group in found for member in group) == list(range(count))
    assert len(found) <= slots
    if slots > 1:
        assert classes.total(found).mixed == 0
    if count <= slots:
        assert classes.total(found).worst == 0
    assert fold(classes, slots, previous=found) == found


@for_any(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 3), long=LONG)
def test_pairs_cost_the_same_at_once_and_one_by_one(seed: int, count: int, ports: int) -> None:
    """To the last bit."""
    primed, plain = random_classes(seed, count, ports), random_classes(seed, count, ports)
    primed.prime()
    for i in range(count):
        for j in range(i + 1, count):
            assert primed.cost((i, j)) == plain.cost((i, j))


def test_the_fast_search_is_near_the_exact_one() -> None:
    """Of 60 cases of 6 classes, the fast search finds the least worst error in nine of ten, and never misses it by much."""
    misses = []
    for seed in range(60):
        classes = random_classes(seed, 6, 1 + seed % 3)
        slots = 2 + seed % 4
        best, found = classes.total(exact(classes, slots)), classes.total(fast(classes, slots))
        assert found.mixed == best.mixed
        assert found.worst >= best.worst
        misses.append(found.worst - best.worst)
    assert sum(miss > 0 for miss in misses) <= 6, sum(miss > 0 for miss in misses)
    assert max(misses) <= 0.12, max(misses)


# --- arithmetic ------------------------------------------------------------------------------------------

amounts = st.lists(st.integers(0, 10**10), min_size=1, max_size=8)


@for_any(amounts, st.lists(st.integers(0, 10), min_size=8, max_size=8), st.integers(1, 10**6), st.integers(0, 100))
def test_fitting_rounds_by_less_than_a_step_where_there_is_room(
    wanted: list[int], parts: list[int], step: int, room: int
) -> None:
    """Promises hold, the sum fits, and only a full link takes from one class for the rounding of another."""
    promises = [rate * part // 10 for rate, part in zip(wanted, parts, strict=False)]
    capacity = sum(wanted) + room * step
    least = step
    assume(sum(max(least, -(-promise // step) * step) for promise in promises) <= capacity)
    found = fit(wanted, promises, capacity, step, least)
    assert sum(found) <= capacity
    for rate, promise, given in zip(wanted, promises, found, strict=True):
        assert given >= promise
        assert given >= least
        assert given % step == 0
        if room >= len(wanted):
            assert rate - step < given < rate + step or given == least


@for_any(amounts, st.lists(st.integers(1, 10**10), min_size=1, max_size=4))
def test_a_group_is_split_to_the_bit(values: list[int], capacities: list[int]) -> None:
    """Each class keeps its sum and its promise, each member its capacity, and no part has more promise than rate."""
    total = sum(capacities)
    if sum(values) > total:
        values = apportion(total, values)
    classes = [cls(f"c{i}", value, promise=value * 2 // 3) for i, value in enumerate(values)]
    members = split(classes, capacities)
    for own, capacity in zip(members, capacities, strict=True):
        assert sum(one.rate_bps for one in own) <= capacity
        assert all(0 <= one.promise_bps <= one.rate_bps <= one.ceiling_bps for one in own)
    for i, one in enumerate(classes):
        assert sum(own[i].rate_bps for own in members) == one.rate_bps
        assert sum(own[i].promise_bps for own in members) == one.promise_bps


@for_any(st.lists(st.integers(0, 1000), min_size=1, max_size=8), st.sampled_from((15, 100, 255)))
def test_weights_keep_promises_that_leave_room(shares: list[int], most: int) -> None:
    """Weights are in their range, and with a tenth of the link unpromised everybody has the promise."""
    wanted = [share * M for share in shares]
    capacity = max(sum(wanted), 1)
    promises = [rate * 9 // 10 if rate * 50 > capacity else 0 for rate in wanted]
    found, sure = weights(wanted, promises, capacity, 1, most)
    assert all(1 <= weight <= most for weight in found)
    if most >= 100:
        assert all(has >= promise - 1 for has, promise in zip(sure, promises, strict=True)), (found, sure, promises)


def test_no_port_is_no_plan() -> None:
    """A device without a port to manage has nothing of ours."""
    assert plan_device(device(), capability()).leaves == {}
