"""Whether guarantees can be kept together: at every time, on every link, below every ceiling."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from telemetryd.policy.calendar import instants
from telemetryd.policy.fields import MAX_BPS
from telemetryd.policy.loaded import Policy
from telemetryd.policy.outline import Active, Rule, active_at, changes_of, outline
from telemetryd.policy.overbooking import risk
from telemetryd.registry.models import Link, Registry


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
    state:
        Failure state of the link group in which it is so; "" where all members are up.
    risk:
        Where the policy says that it overbooks, and by no more than it says: the part of the time in which not all
        that is guaranteed and demanded can be kept. None: it is refused.
    """

    policy: Policy
    link: str
    direction: str
    at: datetime
    below: tuple[str, ...]
    limit_bps: int
    promised_bps: int
    guarantees: tuple[tuple[tuple[str, ...], int, Rule], ...]
    state: str = ""
    risk: float | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the policy cannot be admitted; else it is a warning."""
        return not self.state and self.risk is None

    @property
    def missing_bps(self) -> int:
        """By how much all guarantees together exceed the limit."""
        return self.promised_bps - self.limit_bps


def capacity_bps(link: str, direction: str, registry: Registry, down: Collection[str] = ()) -> int:
    """Return what of a link or a group can be divided in a direction, "in" or "out", with some members down.

    That is the contract or the port, whichever is less; of exits and uplinks inbound, the part of it that traffic is
    shaped to inside (95 %, or what the link says), so that it queues here and not at the provider.
    """
    return _sum(registry.usable_bps, link, direction, registry, down)


def contracted_bps(link: str, direction: str, registry: Registry, down: Collection[str] = ()) -> int:
    """Return what a link or a group carries while nobody shapes it; else as :func:`capacity_bps`."""
    return _sum(registry.capacity_bps, link, direction, registry, down)


def _sum(
    of: Callable[[Link], tuple[int, int]], link: str, direction: str, registry: Registry, down: Collection[str]
) -> int:
    place = 0 if direction == "in" else 1
    groups = registry.by_name("link_groups")
    members = [one for one in groups[link].members if one not in down] if link in groups else [link]
    return min(sum(of(registry.link[member])[place] for member in members), MAX_BPS)


def admit(policy: Policy, registry: Registry, since: datetime) -> list[Conflict]:
    """Return every set of guarantees that cannot be kept, in any combination of changes of the next year.

    Those of failure states come last, where the whole group would keep them: a warning, since capacity is lost there.

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
        for link, direction in policy.places:
            whole = _conflicts(policy, registry, active, at, link, direction)
            for conflict in whole or _in_failures(policy, registry, active, at, link, direction):
                names = tuple(names for names, _, _ in conflict.guarantees) if not conflict.state else ()
                found.setdefault((link, direction, conflict.below, conflict.state, names), conflict)
    return sorted(found.values(), key=lambda conflict: (conflict.risk is not None, bool(conflict.state)))


def _conflicts(
    policy: Policy, registry: Registry, active: Active, at: datetime, link: str, direction: str
) -> list[Conflict]:
    """Return what does not fit with all members up."""
    root, limit = _outline(policy, registry, active, link, direction)
    found = []
    for names, rule in _named(root, ()):
        allowed = limit if rule is root else rule.ceiling_bps
        lines = _lines_below(rule, names)
        if rule is not root and rule.guarantee_bps > rule.ceiling_bps:
            lines = [(names, rule.guarantee_bps, rule)]
        promised = sum(bps for _, bps, _ in lines)
        overbooking = policy.file.overbooking
        if promised > allowed and rule is root and overbooking is not None and promised <= overbooking.most * allowed:
            chance = risk((bps for _, bps, _ in lines), allowed, float(overbooking.busy.value))
            smallest = _smallest(lines, allowed)
            found.append(Conflict(policy, link, direction, at, names, allowed, promised, smallest, risk=chance))
        elif promised > allowed:
            found.append(Conflict(policy, link, direction, at, names, allowed, promised, _smallest(lines, allowed)))
    return found


def _in_failures(
    policy: Policy, registry: Registry, active: Active, at: datetime, link: str, direction: str
) -> list[Conflict]:
    """Return what does not fit into the link itself in the failure states of a group: all of the capacity counts."""
    root, _ = _outline(policy, registry, active, link, direction)
    lines = _lines_below(root, ())
    promised = sum(bps for _, bps, _ in lines)
    found = []
    for name, down in failures(link, registry).items():
        left = capacity_bps(link, direction, registry, down)
        if promised > left:
            smallest = _smallest(lines, left)
            found.append(Conflict(policy, link, direction, at, (), left, promised, smallest, name))
    return found


def failures(link: str, registry: Registry) -> dict[str, tuple[str, ...]]:
    """Return the failure states of a group: those that the registry names, and the loss of each other single member."""
    group = registry.by_name("link_groups").get(link)
    if group is None:
        return {}
    states = {state.name: state.down for state in group.failure_states}
    lost = [(member,) for member in group.members if len(group.members) > 1 and (member,) not in states.values()]
    return states | {f"{member} down": (member,) for (member,) in lost}


def _outline(policy: Policy, registry: Registry, active: Active, link: str, direction: str) -> tuple[Rule, int]:
    """Return a link's outline, and what may be guaranteed on it."""
    capacity = capacity_bps(link, direction, registry)
    reserve = policy.file.reserve.of(capacity) if policy.file.reserve is not None else 0
    return outline(policy, registry, active, capacity), capacity - reserve


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
