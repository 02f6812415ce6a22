"""Whether guarantees can be kept together: at every time, on every link, below every ceiling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from telemetryd.policy.calendar import instants
from telemetryd.policy.loaded import Policy
from telemetryd.policy.outline import Active, Rule, active_at, changes_of, outline
from telemetryd.registry.models import LinkGroup, Registry


@dataclass(frozen=True, slots=True)
class Conflict:
    """Guarantees that cannot be kept together.

    Attributes
    ----------
    policy, link, direction:
        Where.
    at:
        Local time at which it is so first.
    below:
        Names of the node whose ceiling is too low; empty for the link itself.
    limit_bps:
        What may be guaranteed there: the ceiling, or the capacity less the reserve.
    promised_bps:
        Sum of all guarantees there.
    guarantees:
        The smallest set that does not fit: (names, bit/s, rule), the largest first.
    """

    policy: Policy
    link: str
    direction: str
    at: datetime
    below: tuple[str, ...]
    limit_bps: int
    promised_bps: int
    guarantees: tuple[tuple[tuple[str, ...], int, Rule], ...]

    @property
    def missing_bps(self) -> int:
        """By how much all guarantees together exceed the limit."""
        return self.promised_bps - self.limit_bps


def capacity_bps(link: str, direction: str, registry: Registry) -> int:
    """Return the capacity of a link or a whole group in a direction, "in" or "out"."""
    place = 0 if direction == "in" else 1
    groups = registry.by_name("link_groups")
    if link in groups:
        group: LinkGroup = groups[link]
        return sum(registry.capacity_bps(registry.link[member])[place] for member in group.members)
    return registry.capacity_bps(registry.link[link])[place]


def admit(policy: Policy, registry: Registry, since: datetime) -> list[Conflict]:
    """Return every set of guarantees that cannot be kept, in any combination of changes of the next year.

    Parameters
    ----------
    since:
        Local time to look from.
    """
    changes = [change for _, change in changes_of(policy)]
    boundaries = [at for one in policy.file.overrides for at in (one.since, one.until) if at >= since]
    times = sorted({*instants(changes, policy.calendar, since), *boundaries})
    combinations: dict[Active, datetime] = {}
    for at in times:
        combinations.setdefault(active_at(policy, at), at)
    found: dict[object, Conflict] = {}
    for active, at in combinations.items():
        for link in policy.file.links:
            for direction in policy.directions:
                for conflict in _conflicts(policy, registry, active, at, link, direction):
                    key = link, direction, conflict.below, tuple(names for names, _, _ in conflict.guarantees)
                    found.setdefault(key, conflict)
    return list(found.values())


def _conflicts(
    policy: Policy, registry: Registry, active: Active, at: datetime, link: str, direction: str
) -> Iterator[Conflict]:
    capacity = capacity_bps(link, direction, registry)
    reserve = policy.file.reserve.of(capacity) if policy.file.reserve is not None else 0
    root = outline(policy, registry, active, capacity)
    for names, rule in _named(root, ()):
        limit = capacity - reserve if rule is root else rule.ceiling_bps
        lines = _lines_below(rule, names)
        if rule is not root and rule.guarantee_bps > rule.ceiling_bps:
            lines = [(names, rule.guarantee_bps, rule)]
        promised = sum(bps for _, bps, _ in lines)
        if promised > limit:
            yield Conflict(policy, link, direction, at, names, limit, promised, _smallest(lines, limit))


def _named(rule: Rule, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Rule]]:
    yield names, rule
    for child in rule.children:
        yield from _named(child, (*names, child.name))


def _lines_below(rule: Rule, names: tuple[str, ...]) -> list[tuple[tuple[str, ...], int, Rule]]:
    return [line for child in rule.children for line in _lines(child, (*names, child.name))]


def _lines(rule: Rule, names: tuple[str, ...]) -> list[tuple[tuple[str, ...], int, Rule]]:
    """Return the guarantees that make up what a node is promised: its own, or those below it where they are more."""
    below = _lines_below(rule, names)
    own = min(rule.guarantee_bps, rule.ceiling_bps)  # what its own ceiling takes away is a conflict of its own
    if own >= sum(bps for _, bps, _ in below):
        return [(names, own, rule)] if own else []
    return below


def _smallest(
    lines: list[tuple[tuple[str, ...], int, Rule]], limit: int
) -> tuple[tuple[tuple[str, ...], int, Rule], ...]:
    """Return the fewest guarantees that are too much together: the largest ones, as many as it takes."""
    chosen, total = [], 0
    for line in sorted(lines, key=lambda line: (-line[1], line[0])):
        chosen.append(line)
        total += line[1]
        if total > limit:
            break
    return tuple(chosen)
