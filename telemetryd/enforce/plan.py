"""From an intent and a device's capability to the whole configuration that is ours on it, and what that costs.

A pure function: the same intent and capability give the same leaves in the same order. One classifier serves all ports
of a device, and cannot know where a packet will leave; so classes are folded once for a device, for all of its ports
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from telemetryd.config.units import spell_rate
from telemetryd.enforce import openconfig_qos as driver
from telemetryd.enforce.capability import Capability
from telemetryd.enforce.fold import Classes, Partition, canonical, fold
from telemetryd.enforce.intent import ClassIntent, DeviceIntent, PortIntent
from telemetryd.enforce.match import Match
from telemetryd.enforce.names import PREFIX, Value, plain
from telemetryd.enforce.rounding import down, fit, weights
from telemetryd.errors import InputError

#: The class of what nothing matches, where the policy has none.
REST = "everything-else"


@dataclass(frozen=True, slots=True)
class Group:
    """A queue: the classes that share it, and its rates.

    Attributes
    ----------
    rates:
        (interface, direction) -> (rate, ceiling) in bit/s.
    is_rest:
        Whether what nothing matches is in it.
    """

    number: int
    queue: str
    classes: tuple[str, ...]
    rates: dict[tuple[str, str], tuple[int, int]]
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class FoldCost:
    """What sharing a queue costs a class, at the port where it is worst; bit/s.

    Attributes
    ----------
    sure_bps:
        What it surely has when all others send their most.
    missing:
        Part of its promise that is missing then.
    ceiling_bps, may_reach_bps:
        Its own ceiling, and the queue's.
    """

    name: str
    queue: str
    shares_with: tuple[str, ...]
    interface: str
    direction: str
    promise_bps: int
    sure_bps: int
    missing: float
    ceiling_bps: int
    may_reach_bps: int


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """Everything of ours on one device.

    Attributes
    ----------
    leaves:
        Path -> value, in the order of writing.
    capacities:
        (interface, direction) -> bit/s of the port.
    costs, notes:
        What folding costs, and what else is not as the policy says.
    """

    device: str
    capability: Capability
    leaves: dict[str, Value]
    groups: tuple[Group, ...] = ()
    capacities: dict[tuple[str, str], int] = field(default_factory=dict)
    costs: tuple[FoldCost, ...] = ()
    notes: tuple[str, ...] = ()


def plan_device(
    intent: DeviceIntent, capability: Capability, keep: Sequence[frozenset[str]] | None = None
) -> DevicePlan:
    """Plan one device.

    Parameters
    ----------
    keep:
        Names of the classes of each queue in force, in the order of queues: kept while it is nearly as good.

    Raises
    ------
    InputError
        If guarantees do not fit a port, rounded to what the device takes.
    """
    notes: list[str] = []
    ports = _usable(intent, capability, notes)
    if not ports:
        return DevicePlan(intent.device, capability, {}, notes=tuple(notes))
    classes = _joined(ports)
    seen, matches = _tell_apart(classes, capability, notes)
    slots = min(capability.queues, capability.policers) if _polices(ports) else capability.queues
    groups, tables = _fold(ports, classes, seen, slots, keep)
    rest = next(number for number, names in enumerate(groups) if any(not matches[name] for name in names))
    leaves = driver.queue_leaves(len(groups), capability)
    terms = [
        (match, number, classes[name].dscp)
        for number, names in enumerate(groups)
        for name in names
        for match in matches[name]
    ]
    leaves.update(driver.classifier_leaves(_first(terms, notes), rest, capability))
    short = plain(port.interface for port in ports)
    rates: list[dict[tuple[str, str], tuple[int, int]]] = [{} for _ in groups]
    policies: dict[str, list[tuple[str, str]]] = {}
    for port in ports:
        kind = driver.encoding(port.direction, capability)
        assert kind is not None, "ports without an encoding are left out"
        own = _rates(port, groups, kind, capability, notes)
        for one in own:
            rates[one.queue][port.interface, port.direction] = one.cir_bps, one.pir_bps
        policy = f"{PREFIX}{port.direction}-{short[port.interface]}"
        leaves.update(driver.scheduler_leaves(policy, kind, own, port.capacity_bps, capability))
        policies.setdefault(port.interface, []).append((port.direction, policy))
    inputs = dict.fromkeys((*intent.inputs, *policies))
    for interface in inputs:
        leaves.update(driver.port_leaves(interface, policies.get(interface, ()), True, len(groups), capability))
    made = tuple(
        Group(number, driver.queue_name(number, capability), names, rates[number], number == rest)
        for number, names in enumerate(groups)
    )
    capacities = {(port.interface, port.direction): port.capacity_bps for port in ports}
    costs = _costs(ports, made, tables, list(classes))
    return DevicePlan(intent.device, capability, leaves, made, capacities, costs, tuple(dict.fromkeys(notes)))


def _usable(intent: DeviceIntent, capability: Capability, notes: list[str]) -> list[PortIntent]:
    """Return the ports that can be managed; note what encoding the others get, and what that loses."""
    ports = []
    for port in intent.ports:
        kind = driver.encoding(port.direction, capability)
        if kind is None:
            notes.append(f"{port.interface} {port.direction}: the device has no scheduler for it, nothing is planned")
            continue
        if driver.LOST[kind]:
            notes.append(f"{port.direction}: {kind}: {driver.LOST[kind]}")
        rest = ClassIntent(REST, 9, False, 0, 0, 0, port.capacity_bps)
        if all(one.matches for one in port.classes):
            port = PortIntent(port.interface, port.direction, port.capacity_bps, (*port.classes, rest))
        ports.append(port)
    return ports


def _polices(ports: Iterable[PortIntent]) -> bool:
    return any(port.direction == "in" for port in ports)


@dataclass(slots=True)
class _Joined:
    """A class as all ports of a device see it together."""

    importance: int
    is_protected: bool
    dscp: int | None
    matches: dict[Match, None] = field(default_factory=dict)
    coarse: tuple[Match, ...] = ()


def _joined(ports: Sequence[PortIntent]) -> dict[str, _Joined]:
    classes: dict[str, _Joined] = {}
    for port in ports:
        for one in port.classes:
            known = classes.get(one.name)
            if known is None:
                known = classes[one.name] = _Joined(one.importance, one.is_protected, one.dscp, coarse=one.coarse)
            known.importance = min(known.importance, one.importance)
            known.matches.update(dict.fromkeys(one.matches))
    return dict(sorted(classes.items(), key=lambda item: (not item[1].is_protected, item[1].importance, item[0])))


def _tell_apart(
    classes: dict[str, _Joined], capability: Capability, notes: list[str]
) -> tuple[list[list[str]], dict[str, tuple[Match, ...]]]:
    """Return the classes that the classifier cannot tell from each other, and the matches that it can look at."""
    matches: dict[str, tuple[Match, ...]] = {}
    for name, one in classes.items():
        lost = sorted({need for match in one.matches for need in match.needs} - capability.conditions)
        usable = tuple(match for match in one.matches if match.needs <= capability.conditions and match.needs)
        if lost:
            notes.append(f"{name}: the device does not look at {', '.join(lost)}, what needs it is not told apart")
        families = {match.family for match in one.matches} - {match.family for match in usable}
        if usable and families:
            notes.append(f"{name}: its IPv{min(families)} packets go to {REST}")
        matches[name] = usable
    _make_room(classes, matches, capability, notes)
    alike: dict[object, list[str]] = {}
    for name in classes:
        alike.setdefault(matches[name] and frozenset(matches[name]), []).append(name)
    return list(alike.values()), matches


def _make_room(
    classes: dict[str, _Joined], matches: dict[str, tuple[Match, ...]], capability: Capability, notes: list[str]
) -> None:
    """Where there are more terms than a classifier takes, know classes by their marks: those with the most terms first.

    A class that is known by the marks of its service class alone cannot be told from the others that are.
    """
    coarse = {
        name: tuple(match for match in one.coarse if match.needs <= capability.conditions)
        for name, one in classes.items()
    }

    def is_full(family: int) -> bool:
        return (
            len({match for own in matches.values() for match in own if match.family == family}) > capability.terms - 1
        )

    order = sorted(
        matches, key=lambda name: (classes[name].is_protected, -len(matches[name]), -classes[name].importance)
    )
    for name in order:
        if not (is_full(4) or is_full(6)):
            return
        if len(matches[name]) > len(coarse[name]):
            instead = "its service class" if coarse[name] else "everything else"
            notes.append(f"{name}: {len(matches[name])} terms are too many, it is not told from {instead}")
            matches[name] = coarse[name]


def _fold(
    ports: Sequence[PortIntent],
    classes: dict[str, _Joined],
    seen: Sequence[Sequence[str]],
    slots: int,
    keep: Sequence[frozenset[str]] | None,
) -> tuple[list[tuple[str, ...]], Classes]:
    """Return the classes of each queue, the protected and important ones first, and every class by itself."""
    place = {name: number for number, name in enumerate(classes)}
    rate, promise, load = (np.zeros((len(classes), len(ports))) for _ in range(3))
    for column, port in enumerate(ports):
        for one in port.classes:
            row = place[one.name]
            rate[row, column], promise[row, column], load[row, column] = one.rate_bps, one.promise_bps, one.load_bps
    every = Classes(
        rate,
        promise,
        load,
        [one.importance for one in classes.values()],
        [one.is_protected for one in classes.values()],
    )
    if len(seen) == len(classes):
        items = every
    else:
        rows = [[place[name] for name in names] for names in seen]
        items = Classes(
            np.array([rate[own].sum(axis=0) for own in rows]),
            np.array([promise[own].sum(axis=0) for own in rows]),
            np.array([load[own].sum(axis=0) for own in rows]),
            [min(every.importance[row] for row in own) for own in rows],
            [all(every.is_protected[row] for row in own) for own in rows],
        )
    previous = _previous(seen, keep)
    if len(seen) <= slots and previous is None:
        partition: Partition = canonical((number,) for number in range(len(seen)))
    else:
        partition = fold(items, slots, previous)
    names = list(classes)
    found = [
        tuple(sorted((name for item in group for name in seen[item]), key=place.__getitem__)) for group in partition
    ]
    if previous is not None and keep is not None and partition == canonical(previous):
        order = {name: number for number, kept in enumerate(keep) for name in kept}
        found.sort(key=lambda group: min(order.get(name, len(names)) for name in group))
    else:
        found.sort(key=lambda group: min(place[name] for name in group))
    return found, every


def _previous(seen: Sequence[Sequence[str]], keep: Sequence[frozenset[str]] | None) -> Partition | None:
    """Return the partition in force by numbers; None where the classes are others, or cannot be told apart so."""
    if keep is None or {name for kept in keep for name in kept} != {name for names in seen for name in names}:
        return None
    number = {name: queue for queue, kept in enumerate(keep) for name in kept}
    groups: dict[int, list[int]] = {}
    for item, names in enumerate(seen):
        if len({number[name] for name in names}) > 1:
            return None
        groups.setdefault(number[names[0]], []).append(item)
    return canonical(groups.values())


def _first(terms: Sequence[tuple[Match, int, int | None]], notes: list[str]) -> list[tuple[Match, int, int | None]]:
    """Keep the first of terms with the same conditions: that of the more important class."""
    kept: dict[Match, tuple[Match, int, int | None]] = {}
    for term in terms:
        if kept.setdefault(term[0], term)[1] != term[1]:
            notes.append(f"two classes have packets of {_spell(term[0])}: the more important one gets them")
    return list(kept.values())


def _spell(match: Match) -> str:
    return " ".join(
        f"{name} {value}" for name, value in match._asdict().items() if value not in ("", (), None) and name != "family"
    )


def _rates(
    port: PortIntent, groups: Sequence[tuple[str, ...]], kind: str, capability: Capability, notes: list[str]
) -> list[driver.QueueRate]:
    """Return what each queue gets on a port."""
    by_name = {one.name: one for one in port.classes}
    members = [[by_name[name] for name in names if name in by_name] for names in groups]
    step = capability.rate_step_bps
    wanted = [sum([one.rate_bps for one in own]) for own in members]
    promised = [sum([one.promise_bps for one in own]) for own in members]
    try:
        rates = fit(wanted, promised, port.capacity_bps, step, capability.least_rate_bps)
    except InputError as error:
        raise InputError(f"{capability.device} {port.interface} {port.direction}: {error}") from None
    shares = [1] * len(groups)
    if kind == "weighted":
        shares, sure = weights(wanted, promised, port.capacity_bps, *capability.weights)
        for names, promise, has in zip(groups, promised, sure, strict=True):
            if has < promise:
                notes.append(
                    f"{port.interface} {port.direction}: weights of {capability.weights[0]} to {capability.weights[1]} "
                    f"leave {', '.join(names)} {spell_rate(has)} of {spell_rate(promise)}"
                )
    result = []
    for number, (own, rate) in enumerate(zip(members, rates, strict=True)):
        most, is_hard, is_protected = 0, bool(own), bool(own)
        burst: int | None = None
        for one in own:
            most += one.ceiling_bps
            is_hard &= one.is_hard
            is_protected &= one.is_protected
            if one.burst_octets is not None:
                burst = max(burst or 0, one.burst_octets)
        most = min(port.capacity_bps, most) if own else port.capacity_bps
        ceiling = rate if is_hard else max(rate, down(most, step))
        result.append(driver.QueueRate(number, rate, ceiling, burst, shares[number], is_protected))
    return result


def _costs(
    ports: Sequence[PortIntent], groups: Sequence[Group], classes: Classes, names: Sequence[str]
) -> tuple[FoldCost, ...]:
    """Say what each class that shares a queue loses by it."""
    place = {name: number for number, name in enumerate(names)}
    ceilings = [{one.name: one.ceiling_bps for one in port.classes} for port in ports]
    costs = []
    for group in groups:
        if len(group.classes) == 1:
            continue
        rows = [place[name] for name in group.classes]
        part = classes.delivered(rows)
        for name, row, own in zip(group.classes, rows, part, strict=True):
            column = int(own.argmin())
            promise = int(classes.promise[row, column])
            port = ports[column]
            costs.append(
                FoldCost(
                    name=name,
                    queue=group.queue,
                    shares_with=tuple(other for other in group.classes if other != name),
                    interface=port.interface,
                    direction=port.direction,
                    promise_bps=promise,
                    sure_bps=int(promise * float(own[column])),
                    missing=1.0 - float(own[column]),
                    ceiling_bps=ceilings[column].get(name, port.capacity_bps),
                    may_reach_bps=group.rates[port.interface, port.direction][1],
                )
            )
    return tuple(costs)
