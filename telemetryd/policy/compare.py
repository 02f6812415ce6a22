"""What two sets of policies promise differently: by link, node and field, and at which times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from telemetryd.policy.admission import capacity_bps
from telemetryd.policy.calendar import instants
from telemetryd.policy.conditions import conditions
from telemetryd.policy.loaded import Policies, Policy
from telemetryd.policy.outline import Active, Rule, active_at, changes_of, outline
from telemetryd.registry.models import Registry

#: What is compared of a node, by the names of the outline's rules.
FIELDS: Final = (
    "guarantee_bps",
    "floor_bps",
    "ceiling_bps",
    "weight",
    "importance",
    "no_lend",
    "hard",
    "knots",
    "burst_octets",
    "dscp",
)
ALWAYS: Final = "always"
_MOST_NAMED: Final = 3

Value = int | float | bool | str | None
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one node that is different.

    Attributes
    ----------
    link, direction, node:
        Where: names from the link down.
    field:
        One of :data:`FIELDS`, or ``reserve_bps`` of the link.
    old, new:
        Values; rates in bit/s. A node that one side does not write has there what its demand would have without it.
    kind:
        ``changed``, or ``added`` or ``removed`` where one side does not write the node.
    when:
        ``always``, or the conditions under which it is so.
    first_at:
        Local time of the first moment at which it is so.
    """

    link: str
    direction: str
    node: tuple[str, ...]
    field: str
    old: Value
    new: Value
    kind: str
    when: str
    first_at: datetime


@dataclass(frozen=True, slots=True)
class Promise:
    """What is guaranteed in total on a link at the moment at which the new policy guarantees most.

    Attributes
    ----------
    link, direction, capacity_bps, first_at, when:
        Where and when.
    old_bps, new_bps:
        Sum of what is guaranteed; None where a side has no policy for it.
    """

    link: str
    direction: str
    capacity_bps: int
    first_at: datetime
    when: str
    old_bps: int | None
    new_bps: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is different between two sets of policies.

    Attributes
    ----------
    added, removed:
        (link, direction) that only the new, and only the old side has a policy for.
    differences:
        Sorted by link, direction and node.
    promises:
        One for each link and direction.
    """

    added: tuple[Place, ...]
    removed: tuple[Place, ...]
    differences: tuple[Difference, ...]
    promises: tuple[Promise, ...]


@dataclass(frozen=True, slots=True)
class _Moment:
    """A combination of what is in force on both sides."""

    at: datetime
    old: Active | None
    new: Active | None
    holds: frozenset[str]


def compare(old: Policies, new: Policies, registry: Registry, since: datetime, days: int = 366) -> Comparison:
    """Compare every node at every combination of events, schedules and overrides of the next days.

    Parameters
    ----------
    since:
        With a time zone.
    """
    before, after = _by_place(old), _by_place(new)
    differences: list[Difference] = []
    promises: list[Promise] = []
    moments: dict[tuple[str | None, str | None], list[_Moment]] = {}
    for place in sorted({*before, *after}):
        pair = before.get(place), after.get(place)
        names = pair[0].name if pair[0] else None, pair[1].name if pair[1] else None
        if names not in moments:
            moments[names] = _moments(*pair, since, days)
        found, promise = _compare(place, *pair, moments[names], registry)
        differences += found
        promises.append(promise)
    return Comparison(
        tuple(sorted(set(after) - set(before))),
        tuple(sorted(set(before) - set(after))),
        tuple(differences),
        tuple(promises),
    )


def promised_bps(rule: Rule) -> int:
    """Return what a node is guaranteed: its own guarantee, or the sum of those below it where that is more."""
    return max(min(rule.guarantee_bps, rule.ceiling_bps), sum(promised_bps(child) for child in rule.children))


def _by_place(policies: Policies) -> dict[Place, Policy]:
    return {(link, direction): policy for policy, link, direction in policies.ruled()}


def _moments(old: Policy | None, new: Policy | None, since: datetime, days: int) -> list[_Moment]:
    """Return each combination once, at its first moment."""
    zone = (new or old).zone  # type: ignore[union-attr]
    times = {at for policy in (old, new) if policy is not None for at in _instants(policy, since, days)}
    found: dict[tuple[Active | None, Active | None], _Moment] = {}
    changes = [changes_of(one) if one is not None else [] for one in (old, new)]
    for at in sorted(times):
        states = [
            active_at(one, _local(at, one.zone), own) if one is not None else None
            for one, own in zip((old, new), changes, strict=True)
        ]
        if (states[0], states[1]) not in found:
            sides = [
                conditions(one, state)
                for one, state in zip((old, new), states, strict=True)
                if one is not None and state is not None
            ]
            found[states[0], states[1]] = _Moment(_local(at, zone), states[0], states[1], frozenset().union(*sides))
    return list(found.values())


def _instants(policy: Policy, since: datetime, days: int) -> Iterator[datetime]:
    """Yield the aware times at which what is in force may change."""
    local = _local(since, policy.zone)
    changes = [change for _, change in changes_of(policy)]
    for at in instants(changes, policy.calendar, local, days):
        yield at.replace(tzinfo=policy.zone)
    for override in policy.file.overrides:
        for at in (override.since, override.until):
            if at >= local:
                yield at.replace(tzinfo=policy.zone)


def _local(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def _compare(
    place: Place, old: Policy | None, new: Policy | None, moments: list[_Moment], registry: Registry
) -> tuple[list[Difference], Promise]:
    """Compare one link in one direction."""
    link, direction = place
    capacity = capacity_bps(link, direction, registry)
    seen: dict[tuple[tuple[str, ...], str, Value, Value, str], list[int]] = {}
    totals: list[tuple[int | None, int | None]] = []
    for number, moment in enumerate(moments):
        sides = [
            outline(policy, registry, active, capacity) if policy is not None and active is not None else None
            for policy, active in ((old, moment.old), (new, moment.new))
        ]
        totals.append((_total(sides[0]), _total(sides[1])))
        if sides[0] is None or sides[1] is None:
            continue
        for key in _node_differences(sides[0], sides[1], ()):
            seen.setdefault(key, []).append(number)
    if old is not None and new is not None:
        reserves = [one.file.reserve.of(capacity) if one.file.reserve is not None else 0 for one in (old, new)]
        if reserves[0] != reserves[1]:
            seen[(), "reserve_bps", reserves[0], reserves[1], "changed"] = list(range(len(moments)))
    rows = [
        Difference(link, direction, node, field, was, now, kind, _when(numbers, moments), moments[numbers[0]].at)
        for (node, field, was, now, kind), numbers in seen.items()
    ]
    most = max(range(len(moments)), key=lambda number: (totals[number][1] or 0, totals[number][0] or 0))
    promise = Promise(link, direction, capacity, moments[most].at, _when([most], moments), *totals[most])
    return sorted(rows, key=lambda row: (row.node, FIELDS.index(row.field) if row.node else -1, row.first_at)), promise


def _total(root: Rule | None) -> int | None:
    return None if root is None else sum(promised_bps(child) for child in root.children)


def _node_differences(
    old: Rule | None, new: Rule | None, names: tuple[str, ...], above: tuple[Rule, Rule] | None = None
) -> Iterator[tuple[tuple[str, ...], str, Value, Value, str]]:
    """Yield (names, field, old, new, kind) of a node and everything below it."""
    kind = "added" if old is None else "removed" if new is None else "changed"
    was = old if old is not None else _plain(new, above[0])  # type: ignore[index,arg-type]
    now = new if new is not None else _plain(old, above[1])  # type: ignore[index,arg-type]
    for field in FIELDS:
        values = getattr(was, field), getattr(now, field)
        if values[0] != values[1]:
            yield names, field, *values, kind
    sides = [{child.name: child for child in rule.children} for rule in (was, now)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        yield from _node_differences(sides[0].get(name), sides[1].get(name), (*names, name), (was, now))


def _plain(written: Rule, parent: Rule) -> Rule:
    """Return the rule of a node that is not written: weight 1, no guarantee, the parent's importance and ceiling."""
    return Rule(written.level, written.name, None, parent.importance, ceiling_bps=parent.ceiling_bps)


def _when(numbers: list[int], moments: list[_Moment]) -> str:
    """Say at which combinations something is so: always, during or except during conditions, or the first one."""
    chosen, every = set(numbers), range(len(moments))
    if len(chosen) == len(moments):
        return ALWAYS
    names = sorted(frozenset().union(*(moment.holds for moment in moments)))
    holding = {name: {number for number in every if name in moments[number].holds} for name in names}
    for words, wanted in (("during", chosen), ("except during", set(every) - chosen)):
        inside = [name for name in names if holding[name] <= wanted]
        if len(inside) <= _MOST_NAMED and set().union(*(holding[name] for name in inside)) == wanted:
            return f"{words} {' or '.join(inside)}"
    first = " + ".join(sorted(moments[numbers[0]].holds)) or "plain times"
    return first if len(numbers) == 1 else f"{first}, and {len(numbers) - 1} other combinations"
