"""The tree of a policy at one moment, for one link and direction: terms in bit/s, before there is a demand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from telemetryd.config.positions import PathInData
from telemetryd.policy.calendar import applies
from telemetryd.policy.fields import Amount, Knots
from telemetryd.policy.loaded import Policy
from telemetryd.policy.models import CHILDREN, Change, Level, Node, Override, PolicyFile, Terms, children_of, merged
from telemetryd.registry.models import Registry

#: Names of the nodes that no policy writes.
REST: Final = "rest"
PROTECTED: Final = "protected"
#: Traffic that is protected even where the registry lists nothing.
BUILT_IN: Final = ("control", "network-control", "dns", "ntp", "identity")
NORMAL: Final = 3


@dataclass(slots=True)
class Rule:
    """A node of the outline.

    Attributes
    ----------
    level, name:
        Level of the tree, and its name on it; "" for the link.
    path:
        Where it is written; None for what no policy writes.
    importance, weight, guarantee_bps, floor_bps, ceiling_bps, no_lend, hard, function, burst_octets, dscp:
        The terms in force; None where the policy says nothing.
    children:
        Rules below it, by level.
    """

    level: Level | str
    name: str
    path: PathInData | None
    importance: int = NORMAL
    weight: float = 1.0
    guarantee_bps: int = 0
    floor_bps: int = 0
    ceiling_bps: int = 0
    no_lend: bool = False
    hard: bool = False
    function: Knots | None = None
    burst_octets: int | None = None
    dscp: int | None = None
    children: list[Rule] = field(default_factory=list)

    @property
    def knots(self) -> str | None:
        """The bandwidth function as text."""
        return None if self.function is None else str(self.function.as_written())

    def walk(self) -> Iterator[Rule]:
        """Yield the rule and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Active:
    """What is in force at a moment beside the plain terms: changes by place, and overrides by number."""

    changes: frozenset[PathInData]
    overrides: frozenset[int]


def active_at(policy: Policy, at: datetime, changes: list[tuple[PathInData, Change]] | None = None) -> Active:
    """Return what is in force at a local time of the policy.

    Who asks for many times hands in the policy's changes (:func:`changes_of`).
    """
    every = changes_of(policy) if changes is None else changes
    active = frozenset(path for path, change in every if applies(change, at, policy.calendar))
    overrides = frozenset(
        index for index, override in enumerate(policy.file.overrides) if override.since <= at < override.until
    )
    return Active(active, overrides)


def changes_of(policy: Policy) -> list[tuple[PathInData, Change]]:
    """Return every scheduled change with its place in the file."""
    found: list[tuple[PathInData, Change]] = []

    def visit(node: Node, path: PathInData) -> None:
        found.extend(((*path, "schedule", index), change) for index, change in enumerate(node.schedule))
        for level in CHILDREN:
            for index, child in enumerate(children_of(node, level)):
                visit(child, (*path, CHILDREN[level], index))

    for level in CHILDREN:
        for index, node in enumerate(children_of(policy.file, level)):
            visit(node, (CHILDREN[level], index))
    return found


def outline(policy: Policy, registry: Registry, active: Active, capacity_bps: int) -> Rule:
    """Return the link's rule with all below it; a template is there once for each whom it stands for.

    Parameters
    ----------
    active:
        From :func:`active_at`.
    capacity_bps:
        Of the link or group in the direction.
    """
    root = Rule("link", "", None, ceiling_bps=capacity_bps)
    _Outline(policy, registry, active).below(policy.file, (), 0, root, [])
    rest = Rule(REST, REST, ("rest",) if policy.file.rest != Terms() else None)
    _apply(rest, merged(policy.file.rest), root)
    root.children.append(rest)
    return root


def unmatched_overrides(policy: Policy, registry: Registry) -> list[int]:
    """Return the numbers of the overrides that mean no node."""
    every = frozenset(range(len(policy.file.overrides)))
    if not every:
        return []
    walk = _Outline(policy, registry, Active(frozenset(), every))
    walk.below(policy.file, (), 0, Rule("link", "", None), [])
    return sorted(every - walk.matched)


class _Outline:
    def __init__(self, policy: Policy, registry: Registry, active: Active) -> None:
        self.policy = policy
        self.registry = registry
        self.active = active
        self.matched: set[int] = set()

    def below(
        self, node: Node | PolicyFile, path: PathInData, depth: int, parent: Rule, names: list[tuple[Level, str]]
    ) -> None:
        """Add the rules of the nodes that are written below one."""
        if depth == len(self.policy.file.tree):
            return
        level = self.policy.file.tree[depth]
        written = children_of(node, level)
        named = {getattr(child, level) for child in written}
        for index, child in enumerate(written):
            place = (*path, CHILDREN[level], index)
            own: str | None = getattr(child, level)
            members = [own] if own is not None else self.members(level, child.template or "", named)
            for name in members:
                parent.children.append(self.rule(child, place, depth, parent, [*names, (level, name)]))

    def members(self, level: Level, template: str, named: set[str]) -> list[str]:
        """Return whom a template stands for: all of its class in the registry that are not named beside it."""
        everyone = {"department": self.registry.department, "application": self.registry.application}.get(level, {})
        return [name for name in everyone if name not in named and class_of(level, name, self.registry) == template]

    def rule(self, node: Node, path: PathInData, depth: int, parent: Rule, names: list[tuple[Level, str]]) -> Rule:
        file, active = self.policy.file, self.active
        changes = [change for i, change in enumerate(node.schedule) if (*path, "schedule", i) in active.changes]
        meant = [i for i, one in enumerate(file.overrides) if i in active.overrides and _is_for(one, names)]
        self.matched.update(meant)
        template = file.templates.get(node.template) if node.template is not None else None
        rule = Rule(*names[-1], path)
        _apply(rule, merged(template, node, *changes, *(file.overrides[i] for i in meant)), parent)
        self.below(node, path, depth + 1, rule, names)
        return rule


def _is_for(override: Override, named: list[tuple[Level, str]]) -> bool:
    """Tell whether an override means the node with these names: its own and all that the override gives."""
    given = {level: getattr(override, level) for level in CHILDREN if getattr(override, level) is not None}
    names = dict(named)
    return named[-1][0] in given and all(names.get(level) == name for level, name in given.items())


def _apply(rule: Rule, terms: dict[str, Any], parent: Rule) -> None:
    """Set a rule's rates from terms; parts are of what the parent may have at most."""

    def rate(name: str, otherwise: int) -> int:
        amount: Amount | None = terms.get(name)
        return otherwise if amount is None else amount.of(parent.ceiling_bps)

    rule.importance = terms.get("importance", parent.importance)
    rule.weight = terms.get("weight", 1.0)
    rule.ceiling_bps = min(rate("ceiling", parent.ceiling_bps), parent.ceiling_bps)
    rule.guarantee_bps = rate("guarantee", 0)
    rule.floor_bps = rate("floor", 0)
    rule.no_lend = terms.get("no_lend", False)
    rule.hard = terms.get("hard", False)
    rule.function = terms.get("function")
    rule.burst_octets = terms.get("burst")
    rule.dscp = terms.get("dscp")
    if terms.get("borrow") is False:
        rule.ceiling_bps = min(rule.ceiling_bps, rule.guarantee_bps)


def class_of(level: str, name: str, registry: Registry) -> str:
    """Return which template a department or application of the registry belongs to; "" for none."""
    if level == "department" and name in registry.department:
        return str(registry.department[name].department_class)
    if level == "application" and name in registry.application:
        return str(registry.application[name].importance)
    return ""


def protected_names(registry: Registry) -> frozenset[str]:
    """Return the applications that are served before everything: the registry's protected classes, and the built-in."""
    return frozenset(one.name for one in registry.protected_classes) | frozenset(BUILT_IN)
