"""What a device's queueing is made of, as data, and the order in which one state becomes another.

    qdisc 1:        HTB; what no rule has a class for goes to 1:2
      class 1:1     the port, rate = ceil
        class 1:2   everything without a class: ARP, what the host sends itself, interfaces without a classifier
        class 1:x   inner nodes and leaves; each leaf has a bfifo x:

Values are those that the kernel keeps, so that what is read back compares equal: rates in multiples of 8 bit/s, buckets
in ticks of 64 ns. Of inner nodes the kernel keeps neither priority nor quantum: both are 0 here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

#: Minor numbers of the class that stands for the port, and of that for what has no class.
PORT, DEFAULT = 1, 2
#: Classes on the way from the port to a leaf, both included: TC_HTB_MAXDEPTH.
DEEPEST: Final = 8
#: bit/s: an octet a second, the least that HTB takes.
LEAST_BPS: Final = 8
#: The part of its rate that a class keeps that is about to go. Not less: it may have to stay, and a class owes for its
#: last packet as long as the rate took for it that it had then.
GOING_PART: Final = 256
#: Octets that a frame has beyond what the kernel counts: the frame check sequence.
OVERHEAD: Final = 4
#: ns a tick of PSCHED (include/net/pkt_sched.h: PSCHED_SHIFT 6).
TICK_NS: Final = 64
#: A bucket longer than this is cut: HTB never counts more than a minute.
_LONGEST_TICKS: Final = 60 * 10**9 // TICK_NS


class Key(NamedTuple):
    """What an object is: the device it is on, its kind (device, qdisc, class, fifo), and its minor number."""

    device: str
    kind: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.device} {self.kind} {self.number:x}" if self.kind != "device" else f"{self.device} device"


@dataclass(frozen=True, slots=True)
class Ifb:
    """A device through which packets that come in at an interface are led."""

    interface: str


@dataclass(frozen=True, slots=True)
class Root:
    """The HTB of a device."""

    default: int = DEFAULT


@dataclass(frozen=True, slots=True)
class HtbClass:
    """A class: rates in bit/s, buckets in ticks, quantum in octets, `parent` by its minor number (0 for the qdisc)."""

    parent: int
    rate_bps: int
    ceil_bps: int
    buffer: int
    cbuffer: int
    quantum: int = 0
    priority: int = 0
    overhead: int = OVERHEAD


@dataclass(frozen=True, slots=True)
class Fifo:
    """The bfifo of a leaf, its limit in octets."""

    limit: int


Object = Ifb | Root | HtbClass | Fifo


def ticks(octets: int, rate_bps: int) -> int:
    """Return how long a rate takes for some octets, as the kernel keeps the size of a bucket."""
    return max(1, min(_LONGEST_TICKS, -(-octets * 8 * 10**9 // (rate_bps * TICK_NS))))


# --- differences -----------------------------------------------------------------------------------------


class Operation(NamedTuple):
    """One change of an object: `new` is None where it goes, `old` where it comes."""

    key: Key
    old: Object | None
    new: Object | None


@dataclass(frozen=True, slots=True)
class Operations:
    """Changes in order: those before maps lead to the new classes, and those once no map leads to the old ones."""

    before: tuple[Operation, ...] = ()
    after: tuple[Operation, ...] = ()

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def diff_objects(have: Mapping[Key, Object], want: Mapping[Key, Object]) -> Operations:
    """Return the fewest changes, in an order in which children never have more than their parent.

    Besides a small part of its rate for each class that is about to go: it stays until no map leads there.
    Rates that fall from the leaves up, those that rise and what is new from the port down, then buffers; afterwards
    what goes, leaves before what is above them. A class whose parent is another one goes and comes, with all below it.
    A class that had others below it and becomes a leaf gets its priority and its buffer when they have gone. What the
    kernel takes away by itself is not named: all on a device or in a qdisc that goes, and the buffer of a class that
    goes or gets others below it.
    """
    changed = [(key, new) for key, new in want.items() if have.get(key) != new]
    if not changed and len(have) == len(want):
        return Operations()
    if len(have) == len(want) and (found := _in_place(have, want, changed)) is not None:
        return found
    moved = _moved(have, want)
    was_inner = {_parent(key, one) for key, one in have.items() if isinstance(one, HtbClass) and key not in moved}
    is_inner = {_parent(key, one) for key, one in want.items() if isinstance(one, HtbClass)}
    made: list[Operation] = []
    lower: list[Operation] = []
    raised: list[Operation] = []
    fifos: list[Operation] = []
    late: list[Operation] = []
    for key, new in want.items():
        old = None if key in moved else have.get(key)
        if old == new:
            continue
        if isinstance(new, HtbClass):
            falls = isinstance(old, HtbClass) and new.rate_bps < old.rate_bps
            (lower if falls else raised).append(Operation(key, old, new))
            if key in was_inner and key not in is_inner:
                late.append(Operation(key, new, new))
        elif isinstance(new, Fifo):
            (late if Key(key.device, "class", key.number) in was_inner else fifos).append(Operation(key, old, new))
        else:
            made.append(Operation(key, old, new))
    had, depth = _depths(have), _depths(want)
    first = [Operation(key, have[key], None) for key in moved if key.kind == "class"]
    first.sort(key=lambda one: -had[one.key])
    gone = [Operation(key, old, None) for key, old in have.items() if key not in want and key not in moved]
    gone = [one for one in gone if not _goes_along(one.key, have, want, is_inner)]
    gone.sort(key=lambda one: (_GOES[one.key.kind], -had.get(one.key, 0)))
    # Classes that go keep their place until no map leads there, and give up their rate before anybody gets it.
    first += _falls(gone)
    made.sort(key=lambda one: _COMES[one.key.kind])
    lower.sort(key=lambda one: -depth[one.key])
    raised.sort(key=lambda one: depth[one.key])
    return Operations((*first, *lower, *made, *raised, *fifos), (*gone, *late))


def _in_place(
    have: Mapping[Key, Object], want: Mapping[Key, Object], changed: Iterable[tuple[Key, Object]]
) -> Operations | None:
    """Return the changes where all that differs are rates and sizes of what is there; None where it is more."""
    operations: list[tuple[int, Operation]] = []
    for key, new in changed:
        old = have.get(key)
        if not isinstance(old, HtbClass) or not isinstance(new, HtbClass):
            return None
        if old.parent != new.parent or bool(old.quantum) != bool(new.quantum):
            return None
        depth, above = 1, new
        while above.parent and depth <= DEEPEST:
            found = want.get(_parent(key, above))
            if not isinstance(found, HtbClass):
                return None
            depth, above = depth + 1, found
        # What falls goes first, from the leaves up; then what rises, from the port down.
        operations.append((-depth - DEEPEST if new.rate_bps < old.rate_bps else depth, Operation(key, old, new)))
    operations.sort(key=lambda one: one[0])
    return Operations(tuple(one for _, one in operations))


_GOES: Final = {"fifo": 0, "class": 1, "qdisc": 2, "device": 3}
_COMES: Final = {"device": 0, "qdisc": 1}


def _parent(key: Key, one: HtbClass) -> Key:
    return Key(key.device, "class", one.parent)


def _moved(have: Mapping[Key, Object], want: Mapping[Key, Object]) -> set[Key]:
    """Return the classes that have to go before they can come elsewhere, all that is below them, and their buffers."""
    moved = set()
    for key, new in want.items():
        old = have.get(key)
        if isinstance(new, HtbClass) and isinstance(old, HtbClass) and old.parent != new.parent:
            moved.add(key)
    if not moved:
        return moved
    for key, one in have.items():
        at, own = key, one
        while isinstance(own, HtbClass) and at not in moved:
            at = _parent(at, own)
            found = have.get(at)
            if found is None:
                break
            own = found
        if at in moved:
            moved.add(key)
    return moved | {fifo for key in moved if (fifo := Key(key.device, "fifo", key.number)) in have}


def _goes_along(key: Key, have: Mapping[Key, Object], want: Mapping[Key, Object], is_inner: set[Key]) -> bool:
    """Tell whether the kernel takes an object away with another one."""
    device, qdisc = Key(key.device, "device"), Key(key.device, "qdisc", PORT)
    above = {"device": (), "qdisc": (device,)}.get(key.kind, (device, qdisc))
    if any(one in have and one not in want for one in above):
        return True
    if key.kind != "fifo":
        return False
    own = Key(key.device, "class", key.number)
    return own not in want or own in is_inner


def _falls(gone: Iterable[Operation]) -> list[Operation]:
    """Return how classes that go give up their rates, those below others first."""
    left: dict[Key, int] = {}
    falls = []
    for key, old, _ in gone:
        if isinstance(old, HtbClass):
            rate = max(LEAST_BPS, old.rate_bps // GOING_PART // 8 * 8, left.get(key, 0))
            above = _parent(key, old)
            left[above] = left.get(above, 0) + rate
            if old.rate_bps > rate:
                falls.append(Operation(key, old, replace(old, rate_bps=rate)))
    return falls


def _depths(objects: Mapping[Key, Object]) -> dict[Key, int]:
    """Return how many classes are above each."""
    result: dict[Key, int] = {}
    for key, one in objects.items():
        count, at = 0, one
        while isinstance(at, HtbClass) and at.parent and count <= DEEPEST:
            found = objects.get(Key(key.device, "class", at.parent))
            if found is None:
                break
            at, count = found, count + 1
        result[key] = count
    return result
