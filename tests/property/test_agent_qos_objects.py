"""Changes of queueing objects: they lead there, and at no moment does a class have less than those below it."""

from __future__ import annotations

from hypothesis import strategies as st

from telemetryd.agent.qos.objects import (
    DEEPEST,
    GOING_PART,
    LEAST_BPS,
    PORT,
    Fifo,
    HtbClass,
    Ifb,
    Key,
    Object,
    Operation,
    Root,
    diff_objects,
    ticks,
)
from tests.trees import for_any

LONG = 3000
CAPACITY = 10**9


@st.composite
def devices(draw: st.DrawFn, name: str) -> dict[Key, Object]:
    """Generate the objects of a device: a tree in which sums fit, or nothing."""
    objects: dict[Key, Object] = {}
    if draw(st.integers(0, 9)) == 0:
        return objects
    if name.startswith("td-"):
        objects[Key(name, "device")] = Ifb("eth1")
    objects[Key(name, "qdisc", PORT)] = Root()
    depth = {PORT: 1}
    parents = {PORT: 0}
    for number in draw(st.lists(st.integers(0x10, 0x1C), unique=True, max_size=10)):
        parent = draw(st.sampled_from([one for one, at in depth.items() if at < DEEPEST]))
        depth[number], parents[number] = depth[parent] + 1, parent
    inner = set(parents.values())
    rates: dict[int, int] = {}
    for number in sorted(parents, key=lambda one: -depth[one]):
        below = sum(rates[one] for one, parent in parents.items() if parent == number)
        rates[number] = below + draw(st.integers(1, CAPACITY // 128)) * 8
    rates[PORT] = CAPACITY
    for number, parent in parents.items():
        rate = rates[number]
        leaf = number not in inner
        objects[Key(name, "class", number)] = HtbClass(
            parent,
            rate,
            CAPACITY,
            ticks(3000, rate),
            ticks(3000, CAPACITY),
            1514 * leaf,
            draw(st.integers(0, 7)) * leaf,
        )
        if leaf:
            objects[Key(name, "fifo", number)] = Fifo(draw(st.sampled_from((16_384, 32_768))))
    return objects


@st.composite
def hosts(draw: st.DrawFn) -> dict[Key, Object]:
    """Generate the objects of a host with two devices."""
    return {**draw(devices("eth1")), **draw(devices("td-1"))}


def classes_of(objects: dict[Key, Object]) -> dict[Key, HtbClass]:
    return {key: one for key, one in objects.items() if isinstance(one, HtbClass)}


def carry_out(objects: dict[Key, Object], operation: Operation) -> None:
    """Do as the kernel does, and refuse what it refuses."""
    key, _, new = operation
    below = [one for one, own in classes_of(objects).items() if one.device == key.device and own.parent == key.number]
    if new is None:
        assert key in objects, key
        if key.kind == "class":
            assert not below, f"{key} has classes below it"
            objects.pop(Key(key.device, "fifo", key.number), None)
        objects.pop(key)
        if key.kind in ("qdisc", "device"):
            for other in [
                one for one in objects if one.device == key.device and one.kind in ("qdisc", "class", "fifo")
            ]:
                objects.pop(other)
        return
    if isinstance(new, HtbClass):
        assert Key(key.device, "qdisc", PORT) in objects, "no qdisc"
        if new.parent:
            assert Key(key.device, "class", new.parent) in objects, f"{key} comes before its parent"
            objects.pop(Key(key.device, "fifo", new.parent), None)
        old = objects.get(key)
        if isinstance(old, HtbClass):
            assert old.parent == new.parent, "the kernel moves no class"
            if below:
                new = HtbClass(new.parent, new.rate_bps, new.ceil_bps, new.buffer, new.cbuffer, 0, 0)
    elif isinstance(new, Fifo):
        assert Key(key.device, "class", key.number) in objects, "no class"
        assert not below, f"{key}: a buffer below an inner node"
    objects[key] = new


def overfull(objects: dict[Key, Object], slack_bps: int) -> list[Key]:
    found = classes_of(objects)
    return [
        key
        for key, own in found.items()
        if (below := [one for at, one in found.items() if at.device == key.device and one.parent == key.number])
        and sum(one.rate_bps for one in below) > own.rate_bps + slack_bps
    ]


@for_any(hosts(), hosts(), long=LONG)
def test_changes_lead_there_and_no_sum_is_ever_too_large(have: dict[Key, Object], want: dict[Key, Object]) -> None:
    """Every operation is one that the kernel takes; after each the sums fit; at the end everything is as wanted."""
    objects = dict(have)
    slack = sum(max(LEAST_BPS, one.rate_bps // GOING_PART) for key, one in classes_of(have).items() if key not in want)
    operations = diff_objects(have, want)
    for one in (*operations.before, *operations.after):
        carry_out(objects, one)
        assert overfull(objects, slack) == [], one
    assert objects == want
    assert diff_objects(want, want) == diff_objects({}, {})


@for_any(hosts(), hosts(), long=LONG)
def test_a_class_stays_until_no_map_leads_there(have: dict[Key, Object], want: dict[Key, Object]) -> None:
    """Before the maps change no class goes besides those that come elsewhere, with what is below them."""
    operations = diff_objects(have, want)
    gone = {one.key for one in operations.before if one.new is None}
    moved = {
        key
        for key, one in classes_of(have).items()
        if isinstance(other := want.get(key), HtbClass) and other.parent != one.parent
    }

    def is_below(key: Key) -> bool:
        while key not in moved:
            own = have.get(key)
            if not isinstance(own, HtbClass):
                return False
            key = Key(key.device, "class", own.parent)
        return True

    assert all(is_below(key) for key in gone)


def test_one_changed_rate_is_one_operation() -> None:
    """Nothing but the class itself is named."""
    key = Key("eth1", "class", 0x10)
    have: dict[Key, Object] = {
        Key("eth1", "qdisc", PORT): Root(),
        Key("eth1", "class", PORT): HtbClass(0, CAPACITY, CAPACITY, 1000, 1000),
        key: HtbClass(PORT, 8000, CAPACITY, 1000, 1000, 1514, 3),
        Key("eth1", "fifo", 0x10): Fifo(16_384),
    }
    raised = HtbClass(PORT, 16_000, CAPACITY, 1000, 1000, 1514, 3)
    operations = diff_objects(have, {**have, key: raised})
    assert operations.before == (Operation(key, have[key], raised),)
    assert operations.after == ()
    assert [one.key.kind for one in diff_objects(have, {}).after] == ["qdisc"]
