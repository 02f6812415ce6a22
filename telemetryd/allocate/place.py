"""From a policy at a moment and demands to a tree with names: which node a demand belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.bandwidth import BandwidthFunction
from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.divide import Allocation, allocate
from telemetryd.allocate.invariants import check
from telemetryd.allocate.tree import MAX_BPS, MAX_SUM_BPS, Tree, build
from telemetryd.errors import InputError, TelemetrydError
from telemetryd.policy.admission import capacity_bps
from telemetryd.policy.loaded import Policies, Policy
from telemetryd.policy.models import Level
from telemetryd.policy.outline import PROTECTED, REST, Rule, active_at, outline, protected_names
from telemetryd.registry.models import Registry

#: Service class of an application that has none.
UNCLASSIFIED: Final = "unclassified"
#: What a plain node of weight 1 takes at the fair share 1 of bandwidth functions.
SHARE_BPS: Final = 1_000_000
#: Levels that every leaf has, whatever the policy's tree is.
_LEAF_LEVELS: Final[tuple[Level, ...]] = ("department", "application")


@dataclass(slots=True)
class Placed:
    """A link and direction with its tree and its demands; nodes are numbered as they came, the link is 0.

    Attributes
    ----------
    policy, link, direction, capacity_bps:
        Which.
    names:
        Names from the link down to each node; () for the link.
    rules, parents:
        Terms of each node, and the node above it, -1 for the link.
    demands:
        Leaf -> the first demand that came for it.
    bps:
        Leaf -> bit/s demanded.
    leaves:
        Leaf of each demand of this link, in the order in which they came.
    """

    policy: Policy
    link: str
    direction: str
    capacity_bps: int
    names: list[tuple[str, ...]] = field(default_factory=lambda: [()])
    rules: list[Rule] = field(default_factory=list)
    parents: list[int] = field(default_factory=lambda: [-1])
    demands: dict[int, Demand] = field(default_factory=dict)
    bps: dict[int, int] = field(default_factory=dict)
    leaves: list[int] = field(default_factory=list)

    def tree(self) -> Tree:
        """Lay out the tree."""
        return build(
            self.parents,
            weight=[rule.weight for rule in self.rules],
            guarantee=[rule.guarantee_bps for rule in self.rules],
            # The link's capacity is what is divided, and no ceiling of it.
            ceiling=[MAX_BPS, *(min(rule.ceiling_bps, MAX_BPS) for rule in self.rules[1:])],
            floor=[rule.floor_bps for rule in self.rules],
            importance=[rule.importance for rule in self.rules],
            no_lend=[rule.no_lend for rule in self.rules],
            functions={
                number: BandwidthFunction(tuple(share * SHARE_BPS for share in knots.shares), knots.bps)
                for number, rule in enumerate(self.rules)
                if (knots := rule.function) is not None
            },
        )

    def allocate(self, laid_out: Tree | None = None) -> Allocation:
        """Divide the capacity, and hold the result to what always holds.

        Parameters
        ----------
        laid_out:
            What :meth:`tree` gave, where nodes and terms are the same still.

        Raises
        ------
        InputError
            If the demands are too large together to be added up.
        TelemetrydError
            If an invariant is broken: a mistake of this program, and nothing to apply.
        """
        tree = self.tree() if laid_out is None else laid_out
        demand: NDArray[np.int64] = np.zeros(len(tree), np.int64)
        for node, bps in self.bps.items():
            demand[tree.place[node]] = min(bps, MAX_BPS)  # rows of one leaf may add up to more than a rate can be
        if sum(self.bps.values()) > MAX_SUM_BPS:
            raise InputError(f"the demands on {self.link} {self.direction} are too large together")
        allocation = allocate(tree, demand, self.capacity_bps)
        if broken := check(allocation):
            raise TelemetrydError(f"the allocation of {self.link} {self.direction} is not sound: {broken[0]}")
        return allocation


def place(
    policies: Policies, registry: Registry, demands: Iterable[Demand], at: datetime
) -> tuple[list[Placed], list[Demand]]:
    """Put demands into the trees of the policies at a moment.

    Parameters
    ----------
    at:
        With a time zone.

    Returns
    -------
    placed, unmanaged:
        One tree for each link and direction that a policy rules, and the demands on other links.
    """
    placers = Placers(policies, registry, at)
    unmanaged = []
    for demand in demands:
        crossed = placers.crossed(demand)
        for placer in crossed:
            placer.add(demand)
        if not crossed:
            unmanaged.append(demand)
    for placer in placers:
        placer.add_reserved(placer.root, 0)
    return [placer.placed for placer in placers], unmanaged


class Placers:
    """The trees of all links and directions that policies rule at a moment, and whose traffic crosses which.

    Parameters
    ----------
    policies, registry, at:
        As for :func:`place`.
    """

    def __init__(self, policies: Policies, registry: Registry, at: datetime) -> None:
        self._trees: dict[tuple[str, str], Placer] = {}
        self._groups: dict[str, str] = {}
        for policy in policies.policies:
            active = active_at(policy, at.astimezone(policy.zone).replace(tzinfo=None))
            for link, direction in policy.places:
                capacity = capacity_bps(link, direction, registry)
                placed = Placed(policy, link, direction, capacity)
                self._trees[link, direction] = Placer(placed, outline(policy, registry, active, capacity), registry)
            for group in registry.link_groups:
                if group.name in policy.file.links:
                    self._groups |= dict.fromkeys(group.members, group.name)

    def __iter__(self) -> Iterator[Placer]:
        return iter(self._trees.values())

    def crossed(self, demand: Demand) -> list[Placer]:
        """Return the trees that a demand counts in, each once; a member of a group counts on its group."""
        found: dict[int, Placer] = {}
        for link, direction in demand.crosses:
            placer = self._trees.get((link, direction)) or self._trees.get((self._groups.get(link, ""), direction))
            if placer is not None:
                found[id(placer)] = placer
        return list(found.values())


class Placer:
    """Grows the tree of one link.

    Parameters
    ----------
    placed:
        What is grown.
    root:
        Terms of the policy, from :func:`telemetryd.policy.outline.outline`.
    """

    def __init__(self, placed: Placed, root: Rule, registry: Registry) -> None:
        self.placed = placed
        self.root = root
        self.registry = registry
        placed.rules.append(root)
        self.nodes: dict[tuple[str, ...], int] = {(): 0}
        self.children: dict[int, dict[str, Rule]] = {}
        self.mentions: dict[int, dict[tuple[str, str], str]] = {}
        tree = placed.policy.file.tree
        self.levels: tuple[Level, ...] = (*tree, *(level for level in _LEAF_LEVELS if level not in tree))
        self.protected = protected_names(registry)
        self.regions = regions_of(registry)

    def add(self, demand: Demand) -> int:
        """Add a demand at its leaf, and return that; demands of the same leaf add up.

        Where the policy charges the peer, the demand is the peer department's, if it names one.
        """
        if self.placed.policy.file.charge == "peer_department" and demand.peer_department:
            demand = replace(demand, department=demand.peer_department, peer_department=demand.department)
        rule, node = self.root, 0
        levels = self.levels
        if demand.application in self.protected:
            rule, node, levels = *self.step(rule, node, PROTECTED, self.protected_rule(rule)), _LEAF_LEVELS
        for level in levels:
            name = self.name_of(level, rule, demand)
            known = self.children_of(rule).get(name)
            if known is None and node == 0:
                rule, node = self.step(rule, node, REST, self.children_of(rule)[REST])
                if level in ("service_class", "region"):
                    continue
                known = None
            if known is None:
                known = self.derived(rule, level, name)
            rule, node = self.step(rule, node, name, known)
        self.placed.demands.setdefault(node, demand)
        self.placed.bps[node] = self.placed.bps.get(node, 0) + demand.bps
        self.placed.leaves.append(node)
        return node

    def add_reserved(self, rule: Rule, node: int) -> None:
        """Add the nodes that keep their guarantee idle, though nobody demands anything of them."""
        for child in rule.children:
            if any(below.no_lend and below.guarantee_bps for below in child.walk()):
                self.add_reserved(*self.step(rule, node, child.name, child))

    def step(self, rule: Rule, node: int, name: str, child: Rule) -> tuple[Rule, int]:
        """Go down to a child, which is made where it is not there yet."""
        names = (*self.placed.names[node], name)
        number = self.nodes.get(names)
        if number is None:
            number = self.nodes[names] = len(self.placed.names)
            self.placed.names.append(names)
            self.placed.rules.append(child)
            self.placed.parents.append(node)
        return self.placed.rules[number], number

    def children_of(self, rule: Rule) -> dict[str, Rule]:
        """Return a rule's children by name."""
        if id(rule) not in self.children:
            self.children[id(rule)] = {child.name: child for child in rule.children}
        return self.children[id(rule)]

    def name_of(self, level: Level, rule: Rule, demand: Demand) -> str:
        """Return the name of a demand on a level."""
        if level == "department":
            return demand.department
        if level == "application":
            return demand.application
        if level == "region":
            return demand.region or self.regions.get(demand.department, "")
        mentioned = self.mentions.get(id(rule))
        if mentioned is None:
            mentioned = self.mentions[id(rule)] = {}
            for child in rule.children:
                for department, application in _mentioned(child, ""):
                    mentioned.setdefault((department, application), child.name)
        for key in ((demand.department, demand.application), ("", demand.application)):
            if key in mentioned:
                return mentioned[key]
        if demand.service_class:
            return demand.service_class
        known = self.registry.application.get(demand.application)
        return (known.service_class if known is not None else None) or UNCLASSIFIED

    def derived(self, parent: Rule, level: Level, name: str) -> Rule:
        """Make the rule of a node that the policy does not write: plain terms, protected below what is protected."""
        return Rule(
            level,
            name,
            None,
            importance=parent.importance,
            ceiling_bps=parent.ceiling_bps,
            floor_bps=MAX_BPS if parent.floor_bps == MAX_BPS else 0,
        )

    def protected_rule(self, root: Rule) -> Rule:
        """Make the rule of the protected classes: a floor without limit."""
        return Rule(PROTECTED, PROTECTED, None, importance=1, floor_bps=MAX_BPS, ceiling_bps=root.ceiling_bps)


def regions_of(registry: Registry) -> dict[str, str]:
    """Return department -> the one region that all of its networks with a region are in; others are left out."""
    found: dict[str, set[str]] = {}
    for network in registry.networks:
        if network.department is not None and network.region is not None:
            found.setdefault(network.department, set()).add(network.region)
    return {department: next(iter(regions)) for department, regions in found.items() if len(regions) == 1}


def _mentioned(rule: Rule, department: str) -> Iterable[tuple[str, str]]:
    """Yield (department, application) of every application that is named below a rule; "" for any department."""
    if rule.level == "department":
        department = rule.name
    if rule.level == "application":
        yield department, rule.name
    for child in rule.children:
        yield from _mentioned(child, department)
