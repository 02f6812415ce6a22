"""The driver of Linux gateways: a tree of HTB classes and the maps that find a packet's class, as a plan of objects.

    1:1  the port, rate = ceil = capacity
      a class for each inner node of the policy's tree
        a class for each leaf that the policy names, and one rest leaf for all others of the node

Rate = allocation, ceil = ceiling; the children of a class never have more together than it has. A leaf's bfifo holds 10
to 20 ms at its rate: the power of two in between, so that it follows the rate in large steps only. `protected` finds
protected packets by either end. The others are found in two stages: `prefixes4` and `prefixes6` give the department of
the inside end, then `ports` (one port), `ranges` (several), `marks` (DSCP) and `rests` give the class of a department;
what is in none of them is in the rest leaf of the port.

Class numbers and department numbers are digests of names, so that a new one moves no other.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from telemetryd.enforce.capability import Capability
from telemetryd.enforce.intent import ClassIntent, PortIntent
from telemetryd.enforce.rounding import down, fit, up
from telemetryd.errors import InputError
from telemetryd.registry.fields import Network
from telemetryd.registry.models import Registry, Serve

#: Minor number of the class that stands for the port.
ROOT: Final = 1
#: Minor numbers of ours; the lower ones are left to others.
_FIRST, _COUNT = 0x10, 0xFFF0 - 0x10
#: Octets that a frame has beyond what the kernel counts: the frame check sequence.
OVERHEAD: Final = 4
#: Port ranges up to this size become single ports, which a hash finds.
SINGLE_PORTS: Final = 16
REST: Final = "(rest)"
_MTU: Final = 1518
#: bit/s of a class that is about to go: an octet a second, the least that HTB takes.
LEAST: Final = 8
_BURST_MS: Final = 2


class Key(NamedTuple):
    """What an object is: its kind, and its name among those of the kind."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class HtbClass:
    """A class; rates in bit/s, sizes in octets, `parent` by its minor number (0 for the qdisc)."""

    parent: int
    rate_bps: int
    ceil_bps: int
    burst: int
    cburst: int
    quantum: int
    priority: int
    overhead: int = OVERHEAD


@dataclass(frozen=True, slots=True)
class Fifo:
    """The bfifo below a leaf."""

    limit: int


@dataclass(frozen=True, slots=True)
class Element:
    """An entry of a map: the minor number of a class, or the number of a department."""

    value: int


Object = HtbClass | Fifo | Element


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """Everything of ours for one direction of one interface.

    Attributes
    ----------
    objects:
        In the order in which they are made.
    names:
        Minor number -> names from the port down.
    default:
        Minor number of the class for what no map finds.
    """

    interface: str
    direction: str
    objects: dict[Key, Object]
    names: dict[int, tuple[str, ...]]
    default: int
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Node:
    names: tuple[str, ...]
    importance: int
    is_protected: bool = False
    ceiling_bps: int = 0
    is_hard: bool = False
    rate_bps: int = 0
    promise_bps: int = 0
    need_bps: int = 0
    burst: int | None = None
    children: list[_Node] = field(default_factory=list)
    leaves: list[ClassIntent] = field(default_factory=list)


def numbers(
    names: Iterable[tuple[str, ...]], kept: Mapping[tuple[str, ...], int] | None = None
) -> dict[tuple[str, ...], int]:
    """Return a number for each of some names: the one it had, or the next free one after its digest.

    Raises
    ------
    InputError
        If there are more names than numbers.
    """
    every = sorted(set(names))
    if len(every) > _COUNT:
        raise InputError(f"{len(every)} classes are more than the {_COUNT} that a qdisc numbers")
    found = {name: number for name, number in (kept or {}).items() if name in set(every)}
    used = set(found.values())
    for name in every:
        if name not in found:
            value = int.from_bytes(hashlib.sha256("\0".join(name).encode()).digest()[:4], "big") % _COUNT
            while value + _FIRST in used:
                value = (value + 1) % _COUNT
            found[name] = value + _FIRST
            used.add(value + _FIRST)
    return {name: found[name] for name in every}


def plan_port(
    port: PortIntent,
    capability: Capability,
    registry: Registry,
    kept: Mapping[tuple[str, ...], int] | None = None,
) -> GatewayPlan:
    """Plan one direction of a gateway's interface.

    Parameters
    ----------
    kept:
        Minor numbers in force, by names.

    Raises
    ------
    InputError
        If guarantees do not fit the port, or it has more classes than the gateway takes.
    """
    root = _tree(port)
    step, least = capability.rate_step_bps, capability.least_rate_bps
    _needs(root, step, least)
    if root.need_bps > port.capacity_bps:
        raise InputError(
            f"{port.interface} {port.direction}: its classes need {root.need_bps} bit/s, the port has "
            f"{port.capacity_bps} - lower guarantees, or name fewer classes"
        )
    every = list(_walk(root))
    if len(every) > capability.queues:
        raise InputError(
            f"{port.interface} {port.direction}: {len(every)} classes are more than the {capability.queues} that it "
            "takes - name fewer applications, the others share a rest class"
        )
    minor = {root.names: ROOT} | numbers((node.names for node in every[1:]), kept)
    objects: dict[Key, Object] = {}
    root.rate_bps = down(port.capacity_bps, step)
    root.ceiling_bps = root.rate_bps
    _add_class(objects, root, 0, minor)
    _divide(root, minor, objects, step, least)
    for node in every:
        if not node.children:
            objects[Key("fifo", f"{minor[node.names]:x}")] = Fifo(_limit(node.rate_bps))
    notes: list[str] = []
    rest = minor[(*root.names, REST)]
    _add_elements(objects, every, minor, registry, notes)
    names = {number: name for name, number in minor.items()}
    return GatewayPlan(port.interface, port.direction, objects, names, rest, tuple(notes))


def _tree(port: PortIntent) -> _Node:
    """Return the tree of what becomes a class."""
    root = _Node((), 0, ceiling_bps=port.capacity_bps)
    nodes: dict[tuple[str, ...], _Node] = {(): root}
    for inner in sorted(port.inner, key=lambda one: (len(one.names), one.names)):
        node = _Node(inner.names, inner.importance, ceiling_bps=inner.ceiling_bps, is_hard=inner.is_hard)
        nodes[inner.names] = node
        nodes[inner.names[:-1]].children.append(node)
    for one in sorted(port.classes, key=lambda one: one.name):
        names = tuple(name for _, name in one.levels)
        above = names[:-1]
        while above not in nodes:
            above = above[:-1]
        own = names if one.is_named and above == names[:-1] else (*above, REST)
        leaf = nodes.get(own)
        if leaf is None:
            leaf = nodes[own] = _Node(
                own, one.importance, one.is_protected, burst=one.burst_octets, is_hard=one.is_hard
            )
            nodes[above].children.append(leaf)
        leaf.leaves.append(one)
        leaf.ceiling_bps += one.ceiling_bps
        leaf.importance = min(leaf.importance, one.importance)
        leaf.is_hard &= one.is_hard
    for node in list(nodes.values()):
        rest = nodes.get((*node.names, REST))
        if node is not root and len(node.children) == 1 and rest is not None:
            # Nobody is named below it: it is a leaf itself.
            node.leaves, node.children, node.burst = rest.leaves, [], rest.burst
        elif (node.children or node is root) and rest is None:
            rest = nodes[(*node.names, REST)] = _Node((*node.names, REST), 9, ceiling_bps=node.ceiling_bps)
            node.children.append(rest)
    for node in sorted(nodes.values(), key=lambda node: -len(node.names)):
        node.children.sort(key=lambda child: child.names)
        node.rate_bps = sum(one.rate_bps for one in node.leaves) + sum(child.rate_bps for child in node.children)
        node.promise_bps = sum(one.promise_bps for one in node.leaves) + sum(c.promise_bps for c in node.children)
        if node.children:
            named = [child for child in node.children if child.names[-1] != REST]
            node.is_protected = bool(named) and all(child.is_protected for child in named)
    return root


def _walk(node: _Node) -> Iterable[_Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _needs(node: _Node, step: int, least: int) -> None:
    """Set the least rate of each node: its promise, and what those below it need."""
    for child in node.children:
        _needs(child, step, least)
    own = max(up(node.promise_bps, step), up(least, step))
    node.need_bps = max(own, sum(child.need_bps for child in node.children))


def _divide(
    node: _Node, minor: Mapping[tuple[str, ...], int], objects: dict[Key, Object], step: int, least: int
) -> None:
    """Give the children of a node rates that fit into its own."""
    if not node.children:
        return
    rates = fit(
        [child.rate_bps for child in node.children],
        [child.need_bps for child in node.children],
        node.rate_bps,
        step,
        least,
    )
    for child, rate in zip(node.children, rates, strict=True):
        child.rate_bps = rate
        ceiling = rate if child.is_hard else down(min(child.ceiling_bps, node.ceiling_bps), step)
        child.ceiling_bps = max(rate, ceiling)
        _add_class(objects, child, minor[node.names], minor)
        _divide(child, minor, objects, step, least)


def _add_class(objects: dict[Key, Object], node: _Node, parent: int, minor: Mapping[tuple[str, ...], int]) -> None:
    objects[Key("class", f"{minor[node.names]:x}")] = HtbClass(
        parent=parent,
        rate_bps=node.rate_bps,
        ceil_bps=node.ceiling_bps,
        burst=_bucket(node.burst, node.rate_bps),
        cburst=_bucket(None, node.ceiling_bps),
        quantum=min(60_000, max(_MTU, _power(node.rate_bps // 80_000))),
        priority=0 if node.is_protected else min(7, node.importance),
    )


def _bucket(given: int | None, rate_bps: int) -> int:
    return given if given is not None else max(2 * _MTU, _power(rate_bps * _BURST_MS // 8000))


def _limit(rate_bps: int) -> int:
    """Return the power of two that holds 10 to 20 ms of a rate, at least some frames."""
    return max(16_384, _power(2 * (rate_bps // 800)))


def _power(value: int) -> int:
    """Return the largest power of two that is not above a number; 0 for 0."""
    return 1 << (value.bit_length() - 1) if value > 0 else 0


# --- maps ------------------------------------------------------------------------------------------------


def _add_elements(
    objects: dict[Key, Object],
    nodes: Sequence[_Node],
    minor: Mapping[tuple[str, ...], int],
    registry: Registry,
    notes: list[str],
) -> None:
    departments = numbers((one.name,) for one in registry.departments)
    for family in (4, 6):
        for low, high, name in flatten(_owners(registry, family)):
            objects[Key(f"prefixes{family}", f"{low}-{high}")] = Element(departments[name,])
    for node in nodes:
        for one in node.leaves:
            levels = dict(one.levels)
            department, application = levels.get("department", ""), levels.get("application", "")
            number = departments.get((department,), 0)
            known = registry.application.get(application)
            marks = registry.by_name("service_classes").get(levels.get("service_class", ""))
            found: list[Key] = []
            if one.is_protected:
                found = list(_protected(application, registry))
            elif known is not None and known.serves:
                owner = number or departments.get((known.owner,), 0)
                found = [key for serve in known.serves for key in _ports(serve, owner)]
            elif application:
                notes.append(
                    f"{one.name}: the registry does not say where it is served, its packets go to a rest class"
                )
            elif marks is not None:
                found = [Key("marks", f"{number} . {dscp}") for dscp in marks.dscp]
            elif number:
                found = [Key("rests", str(number))]
            for key in found:
                value = Element(minor[node.names])
                if objects.setdefault(key, value) != value:
                    notes.append(f"{one.name}: another class has its packets of {key.kind} {key.name} already")


def _protected(name: str, registry: Registry) -> Iterable[Key]:
    known = registry.by_name("protected_classes").get(name)
    for one in known.match if known is not None else ():
        for prefix in one.prefixes or ("any",):
            for first, last in one.ports or ((0, 65535),):
                yield Key("protected", f"{prefix} . {'any' if one.protocol is None else one.protocol} . {first}-{last}")


def _ports(serve: Serve, department: int) -> Iterable[Key]:
    protocol = serve.protocol_number
    if protocol is None:
        yield Key("rests", str(department))
        return
    for first, last in serve.port_ranges or ((0, 65535),):
        if last - first < SINGLE_PORTS:
            for port in range(first, last + 1):
                yield Key("ports", f"{department} . {protocol} . {port}")
        else:
            yield Key("ranges", f"{department} . {protocol} . {first}-{last}")


def _owners(registry: Registry, family: int) -> list[tuple[Network, str]]:
    default = registry.default_instance
    found: list[tuple[Network, str]] = [
        (one.prefix, one.department)
        for one in registry.networks
        if one.department is not None and one.prefix.version == family and (one.instance or default) == default
    ]
    for server in registry.servers:
        if server.department is not None and (server.instance or default) == default:
            own = (ipaddress.ip_network(address) for address in server.addresses)
            found += [(prefix, server.department) for prefix in own if prefix.version == family]
    return found


def flatten(owners: Iterable[tuple[Network, str]]) -> list[tuple[str, str, str]]:
    """Return (first address, last address, owner) of ranges that do not overlap; the longest prefix owns an address."""
    ordered = sorted(dict(owners).items(), key=lambda one: (int(one[0][0]), one[0].prefixlen))
    result: list[tuple[int, int, str]] = []
    stack: list[tuple[int, str]] = []
    at = 0

    def fill(until: int) -> None:
        """Give what is left below an address to whoever is on the stack."""
        nonlocal at
        while stack and at < until:
            last, name = stack[-1]
            end = min(until, last + 1)
            if end > at:
                if result and result[-1][2] == name and result[-1][1] == at - 1:
                    result[-1] = (result[-1][0], end - 1, name)
                else:
                    result.append((at, end - 1, name))
                at = end
            if last < until:
                stack.pop()

    make = type(ordered[0][0][0]) if ordered else ipaddress.IPv4Address
    for prefix, name in ordered:
        first = int(prefix[0])
        fill(first)
        while stack and stack[-1][0] < first:
            stack.pop()
        at = first
        stack.append((int(prefix[-1]), name))
    if ordered:
        fill(max(last for last, _ in stack) + 1)
    return [(str(make(low)), str(make(high)), name) for low, high, name in result]


# --- differences -----------------------------------------------------------------------------------------


class Operation(NamedTuple):
    """One change of an object: `new` is None where it goes, `old` where it comes."""

    key: Key
    old: Object | None
    new: Object | None


def diff_objects(have: Mapping[Key, Object], want: Mapping[Key, Object]) -> list[Operation]:
    """Return the fewest changes, in an order in which children never have more than their parent.

    Besides an octet a second for each class that is about to go: it stays until no map leads there.
    Rates that fall from the leaves up, those that rise and what is new from the port down, then buffers and maps, then
    what goes: map entries first, then leaves before what is above them. A class whose parent is another one goes and
    comes.
    """
    moved = {
        key
        for key, new in want.items()
        if isinstance(new, HtbClass) and isinstance(old := have.get(key), HtbClass) and old.parent != new.parent
    }
    moved |= {fifo for key in moved if (fifo := Key("fifo", key.name)) in have}
    depth = {**_depths(have), **_depths(want)}
    lower: list[Operation] = []
    raised: list[Operation] = []
    others: list[Operation] = []
    for key, new in want.items():
        old = None if key in moved else have.get(key)
        if old == new:
            continue
        falls = isinstance(new, HtbClass) and isinstance(old, HtbClass) and new.rate_bps < old.rate_bps
        (lower if falls else raised if isinstance(new, HtbClass) else others).append(Operation(key, old, new))
    gone = [Operation(key, old, None) for key, old in have.items() if key not in want]
    gone.sort(key=lambda one: (one.key.kind in ("class", "fifo"), one.key.kind == "class", -depth.get(one.key, 0)))
    first = [Operation(key, have[key], None) for key in sorted(moved, key=lambda key: -depth.get(key, 16))]
    # Classes that go keep their place until no map leads there, and give up their rate before anybody gets it.
    if want:
        first += _falls(gone)
    lower.sort(key=lambda one: -depth[one.key])
    raised.sort(key=lambda one: depth[one.key])
    return [*first, *lower, *raised, *others, *gone]


def _falls(gone: Iterable[Operation]) -> list[Operation]:
    """Return how classes that go give up their rates, those below others first."""
    left: dict[int, int] = {}
    falls = []
    for key, old, _ in gone:
        if isinstance(old, HtbClass):
            rate = max(LEAST, left.get(int(key.name, 16), 0))
            left[old.parent] = left.get(old.parent, 0) + rate
            if old.rate_bps > rate:
                falls.append(Operation(key, old, HtbClass(old.parent, rate, old.ceil_bps, *_sizes(old))))
    return falls


def _sizes(old: HtbClass) -> tuple[int, int, int, int, int]:
    return old.burst, old.cburst, old.quantum, old.priority, old.overhead


def _depths(objects: Mapping[Key, Object]) -> dict[Key, int]:
    parents = {key: one.parent for key, one in objects.items() if isinstance(one, HtbClass)}
    result: dict[Key, int] = {}
    for key in parents:
        count, at = 0, key
        while at in parents and count < 16:
            at, count = Key("class", f"{parents[at]:x}"), count + 1
        result[key] = count
    return result
