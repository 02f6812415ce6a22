"""What devices shall do, without a word of any vendor: classes with rates on ports, and how their packets are known.

An intent is made of the allocations of links and link groups. A group's shares are split over its members in proportion
to their capacities, to the bit: the members' parts of a class add up to its share, and no member's sum exceeds its
capacity (:func:`apportion`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from telemetryd.allocate.divide import Allocation
from telemetryd.allocate.place import Placed
from telemetryd.enforce.match import Match, dscp_matches, ends_of, matches_of
from telemetryd.policy.outline import PROTECTED, REST, Rule
from telemetryd.registry.models import Device, Registry

#: How many times its rate a class is taken to send at most where no demand is known.
OVERLOAD = 3


@dataclass(frozen=True, slots=True)
class ClassIntent:
    """What one leaf of a policy's tree shall have on a port; rates in bit/s.

    Attributes
    ----------
    name:
        Names from the link down, with slashes.
    importance, is_protected:
        1 is the most important; protected classes come before all.
    load_bps:
        The most that it sends: its demand up to its ceiling.
    promise_bps:
        What it must have, whatever is rounded or folded: its guarantee up to its demand, and its part of the guarantees
        above it.
    rate_bps:
        Its allocation.
    ceiling_bps, is_hard, burst_octets, dscp:
        Terms of the policy; a hard one gets its allocation as ceiling.
    matches:
        How its packets are known; none: it is what no other class matches.
    coarse:
        How those of its whole service class are known by their marks, for a classifier that has no room for more.
    levels:
        (level, name) from the link down.
    is_named:
        Whether the policy names it; else it is there because it has a demand.
    """

    name: str
    importance: int
    is_protected: bool
    load_bps: int
    promise_bps: int
    rate_bps: int
    ceiling_bps: int
    is_hard: bool = False
    burst_octets: int | None = None
    dscp: int | None = None
    matches: tuple[Match, ...] = ()
    coarse: tuple[Match, ...] = ()
    levels: tuple[tuple[str, str], ...] = ()
    is_named: bool = True


@dataclass(frozen=True, slots=True)
class InnerIntent:
    """An inner node of the tree above the classes: the names that lead to it, and its terms.

    ``levels`` are (level, name) from the link down.
    """

    names: tuple[str, ...]
    importance: int
    ceiling_bps: int
    is_hard: bool = False
    guarantee_bps: int = 0
    levels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PortIntent:
    """A port in one direction, "in" or "out"; the rates of its classes fit into its capacity.

    ``inner`` holds the nodes above the classes, for devices that have a tree; the link itself is not among them.
    ``ends`` are the ends of a packet at which whose it is can be seen: the inside one where the link leads outside.
    """

    interface: str
    direction: str
    capacity_bps: int
    classes: tuple[ClassIntent, ...]
    inner: tuple[InnerIntent, ...] = ()
    ends: tuple[str, ...] = ("source", "destination")


@dataclass(frozen=True, slots=True)
class DeviceIntent:
    """A device: the ports to manage, and the interfaces at which packets enter."""

    device: str
    ports: tuple[PortIntent, ...]
    inputs: tuple[str, ...] = ()


def members_of(link: str, registry: Registry) -> tuple[str, ...]:
    """Return the links of a group, or the link itself."""
    group = registry.by_name("link_groups").get(link)
    return group.members if group is not None else (link,)


def intents(
    divided: Iterable[tuple[Placed, Allocation]],
    registry: Registry,
    overload: int | None = None,
    down: Collection[str] = (),
    *,
    is_matched: bool = True,
) -> list[DeviceIntent]:
    """Return what each device shall do, in the order of their names.

    Parameters
    ----------
    down:
        Members of link groups that carry nothing: the others share their classes.
    is_matched:
        Whether classes say how their packets are known; gateways find that for their trees as a whole.
    overload:
        Where demands are not known but assumed: how many times its rate a class sends at most.
    """
    ports: dict[str, list[PortIntent]] = {}
    for placed, allocation in divided:
        classes = _classes(placed, allocation, registry, overload, is_matched=is_matched)
        above = _inner(placed, allocation)
        members = [registry.link[name] for name in members_of(placed.link, registry) if name not in down]
        side = 0 if placed.direction == "in" else 1
        capacities = apportion(placed.capacity_bps, [registry.usable_bps(member)[side] for member in members])
        for member, capacity, own in zip(members, capacities, split(classes, capacities), strict=True):
            whole = max(1, placed.capacity_bps)
            inner = tuple(
                replace(
                    one,
                    ceiling_bps=one.ceiling_bps * capacity // whole,
                    guarantee_bps=one.guarantee_bps * capacity // whole,
                )
                for one in above
            )
            ends = ends_of(placed.link, placed.direction, registry)
            port = PortIntent(member.interface, placed.direction, capacity, own, inner, ends)
            ports.setdefault(member.device, []).append(port)
    return [
        DeviceIntent(
            name,
            tuple(sorted(ports[name], key=lambda port: (port.interface, port.direction))),
            inputs_of(registry.device[name]),
        )
        for name in sorted(ports)
    ]


def inputs_of(device: Device) -> tuple[str, ...]:
    """Return the interfaces at which packets enter: a bundle stands for its members."""
    return tuple(dict.fromkeys(port.bundle or port.name for port in device.interfaces))


def apportion(value: int, weights: Sequence[int]) -> list[int]:
    """Split a whole number in proportion to weights, exactly; no part exceeds its weight where the value fits.

    One part after the other is rounded down, of what is left by the weights that are left: then what the others get is
    rounded up, and fits as well.
    """
    left, total = value, sum(weights)
    parts = []
    for weight in weights:
        part = left * weight // total if total else 0
        parts.append(part)
        left, total = left - part, total - weight
    if left and parts:
        parts[-1] += left
    return parts


def split(classes: Sequence[ClassIntent], capacities: Sequence[int]) -> list[tuple[ClassIntent, ...]]:
    """Split classes over the members of a group; the sum of each class is kept, and so is each member's capacity.

    Rounding is cumulative along the classes (:func:`_columns`), so that a member's sum is that of all classes, rounded.
    """
    rates = _columns([one.rate_bps for one in classes], capacities)
    result: list[list[ClassIntent]] = [[] for _ in capacities]
    for one, row in zip(classes, rates, strict=True):
        promises = apportion(one.promise_bps, row)
        loads, ceilings = apportion(one.load_bps, capacities), apportion(one.ceiling_bps, capacities)
        for member, rate in enumerate(row):
            result[member].append(
                replace(
                    one,
                    rate_bps=rate,
                    promise_bps=promises[member],
                    load_bps=max(loads[member], rate),
                    ceiling_bps=max(min(ceilings[member], capacities[member]), rate),
                )
            )
    return [tuple(own) for own in result]


def _columns(values: Sequence[int], capacities: Sequence[int]) -> list[list[int]]:
    """Split each value over the capacities: rows add up to the values, columns stay within the capacities."""
    if len(capacities) == 1:
        return [[value] for value in values]
    total = sum(capacities)
    first, rest = [], []
    run = before = 0
    for value in values:
        run += value
        so_far = run * capacities[0] // total if total else 0
        first.append(so_far - before)
        rest.append(value - (so_far - before))
        before = so_far
    return [[own, *row] for own, row in zip(first, _columns(rest, capacities[1:]), strict=True)]


def _classes(
    placed: Placed, allocation: Allocation, registry: Registry, overload: int | None, *, is_matched: bool
) -> list[ClassIntent]:
    """Return the leaves of a link's tree, the protected and the important first."""
    promises = _promises(allocation)
    leaf = allocation.tree.is_leaf
    classes = []
    for number in range(1, len(placed.names)):
        position = int(allocation.tree.place[number])
        if not leaf[position]:
            continue
        rule = placed.rules[number]
        path = _levels(placed, number)
        rate = int(allocation.bps[position])
        is_protected = (PROTECTED, PROTECTED) in path
        want = int(allocation.bounds.want[position])
        names = dict(path)
        classes.append(
            ClassIntent(
                name="/".join(name or "-" for name in placed.names[number]),
                importance=rule.importance,
                is_protected=is_protected,
                load_bps=max(want if overload is None else min(want, overload * rate), rate),
                promise_bps=rate if is_protected else promises[position],
                rate_bps=rate,
                ceiling_bps=max(min(rule.ceiling_bps, placed.capacity_bps), rate),
                is_hard=rule.hard,
                burst_octets=rule.burst_octets,
                dscp=rule.dscp,
                matches=matches_of(names, placed.link, placed.direction, registry) if is_matched else (),
                coarse=dscp_matches(names.get("service_class", ""), registry) if is_matched else (),
                levels=path,
                is_named=_is_written(rule) or is_protected,
            )
        )
    return sorted(classes, key=lambda one: (not one.is_protected, one.importance, one.name))


def _levels(placed: Placed, number: int) -> tuple[tuple[str, str], ...]:
    """Return (level, name) from the link down to a node."""
    path = []
    while number > 0:
        path.append((str(placed.rules[number].level), placed.rules[number].name))
        number = placed.parents[number]
    return tuple(reversed(path))


def _is_written(rule: Rule) -> bool:
    """Tell whether a node is there for everybody, not only because of a demand."""
    return rule.path is not None or rule.level in (PROTECTED, REST)


def _inner(placed: Placed, allocation: Allocation) -> list[InnerIntent]:
    """Return the inner nodes of a link's tree, without the link."""
    leaf = allocation.tree.is_leaf
    return [
        InnerIntent(
            placed.names[number],
            rule.importance,
            min(rule.ceiling_bps, placed.capacity_bps),
            rule.hard,
            rule.guarantee_bps,
            _levels(placed, number),
        )
        for number, rule in enumerate(placed.rules)
        if number and not leaf[int(allocation.tree.place[number])] and _is_written(rule)
    ]


def _promises(allocation: Allocation) -> list[int]:
    """Return what each node must have: its guarantee, and together with its siblings that of their parent."""
    tree, bps = allocation.tree, allocation.bps.tolist()
    promises = [min(int(g), x) for g, x in zip(allocation.bounds.guarantee, bps, strict=True)]
    leaf = tree.is_leaf

    def below(position: int) -> list[int]:
        children = tree.children(position)
        return [position] if not children else [leaf for child in children for leaf in below(child)]

    for position in reversed(range(len(tree))):
        if leaf[position]:
            continue
        leaves = below(position)
        missing = promises[position] - sum(promises[one] for one in leaves)
        spare = [bps[one] - promises[one] for one in leaves]
        if missing > 0:
            for one, more in zip(leaves, apportion(min(missing, sum(spare)), spare), strict=True):
                promises[one] += more
    return promises
