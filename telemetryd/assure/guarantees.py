"""Who is promised what, when: the guarantees of a policy on one link and direction, and whose traffic counts there.

The tree of a policy is the same at all times, but for its terms: schedules, events and overrides change rates, not who
belongs where. So a key of usage, (department, application), has its chain of nodes once, and each node its rates by
moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.place import Placed, Placer
from telemetryd.assure.sources import counted
from telemetryd.policy.admission import capacity_bps
from telemetryd.policy.loaded import Policies, Policy
from telemetryd.policy.outline import Active, Rule, active_at, outline
from telemetryd.registry.models import Registry

SECOND_NS: Final = 1_000_000_000

#: Names from the link down; () for the link itself.
Node = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The rates of nodes in t windows, in bit/s.

    Attributes
    ----------
    guarantee, ceiling:
        Node -> its rate in each window, shape (t,); where the rate changes inside a window, the lower one counts.
    """

    guarantee: dict[Node, NDArray[np.float64]]
    ceiling: dict[Node, NDArray[np.float64]]


class Promises:
    """The promises of a policy on one link and direction.

    Parameters
    ----------
    policy, registry, link, direction:
        Which.

    Attributes
    ----------
    capacity_bps, members:
        Of the link or group.
    counted:
        Which rows tell whose its traffic is.
    is_ahead:
        Whether some of its traffic is counted before it queues for the link: where it comes in, or further inside.
    """

    def __init__(self, policy: Policy, registry: Registry, link: str, direction: str) -> None:
        self.policy = policy
        self.link = link
        self.direction = direction
        self.capacity_bps = capacity_bps(link, direction, registry)
        groups = registry.by_name("link_groups")
        self.members: tuple[str, ...] = groups[link].members if link in groups else (link,)
        self.counted = counted(registry, link, direction)
        self.is_ahead = direction == "out" and (
            self.counted.table == "totals" or any(_samples_at_ingress(member, registry) for member in self.members)
        )
        self._registry = registry
        self._outlines: dict[Active, dict[Node, Rule]] = {}
        self._chains: dict[tuple[str, str], tuple[Node, ...]] = {}
        root = outline(policy, registry, Active(frozenset(), frozenset()), self.capacity_bps)
        self._placer = Placer(Placed(policy, link, direction, self.capacity_bps), root, registry)

    def chain(self, department: str, application: str) -> tuple[Node, ...]:
        """Return the nodes that traffic counts in, from below the link down to its own."""
        chain = self._chains.get((department, application))
        if chain is None:
            leaf = self._placer.add(Demand(self.link, self.direction, department, application, 0))
            names = self._placer.placed.names[leaf]
            chain = tuple(names[:depth] for depth in range(1, len(names) + 1))
            self._chains[department, application] = chain
        return chain

    def rules_at(self, at: datetime) -> dict[Node, Rule]:
        """Return the rules in force at a local time of the policy, by node; the link's own is at ()."""
        active = active_at(self.policy, at)
        if active not in self._outlines:
            root = outline(self.policy, self._registry, active, self.capacity_bps)
            self._outlines[active] = _flat(root)
        return self._outlines[active]

    def terms(self, starts_ns: NDArray[np.int64], span_ns: int) -> Terms:
        """Return the rates of every node that is promised anything in the windows, and of the nodes above those.

        Parameters
        ----------
        starts_ns:
            Starts of the windows in ns, sorted, shape (t,).
        span_ns:
            Their length.
        """
        firsts = [self.rules_at(_local(ns, self.policy.zone)) for ns in starts_ns.tolist()]
        # Terms change between windows mostly: only where they differ from one to the next is the end looked at too.
        lasts = list(firsts)
        for place, ns in enumerate(starts_ns.tolist()):
            if place + 1 == len(firsts) or firsts[place + 1] is not firsts[place]:
                lasts[place] = self.rules_at(_local(ns + span_ns - SECOND_NS, self.policy.zone))
        known = list({id(rules): rules for rules in (*firsts, *lasts)}.values())
        number = {id(rules): index for index, rules in enumerate(known)}
        begins, ends = (np.array([number[id(rules)] for rules in some], np.intp) for some in (firsts, lasts))
        promised = {node for rules in known for node, rule in rules.items() if node and rule.guarantee_bps > 0}
        above = {node[:depth] for node in promised for depth in range(1, len(node) + 1)}

        def rates(node: Node, name: str) -> NDArray[np.float64]:
            values = np.array([float(getattr(rules[node], name)) if node in rules else 0.0 for rules in known])
            lower: NDArray[np.float64] = np.minimum(values[begins], values[ends])
            return lower

        return Terms(
            {node: rates(node, "guarantee_bps") for node in sorted(promised)},
            {node: rates(node, "ceiling_bps") for node in sorted(above)},
        )

    def nodes(self) -> list[Node]:
        """Return all nodes that the policy names, and the link's own, ()."""
        return list(self.rules_at(_local(0, self.policy.zone)))

    def levels(self, node: Node) -> dict[str, str]:
        """Return level of the tree -> name, of a node and those above it."""
        rules = self.rules_at(_local(0, self.policy.zone))
        return {str(rules[node[:depth]].level): node[depth - 1] for depth in range(1, len(node) + 1)}


def promises(policies: Policies, registry: Registry, links: Sequence[str] = ()) -> list[Promises]:
    """Return the promises of every link and direction that a policy rules.

    Parameters
    ----------
    links:
        Only these links and groups; none takes all.
    """
    return [
        Promises(policy, registry, link, direction)
        for policy, link, direction in policies.ruled()
        if not links or link in links
    ]


def _samples_at_ingress(link: str, registry: Registry) -> bool:
    device = registry.device[registry.link[link].device]
    return device.profile is None or registry.by_name("profiles")[device.profile].sampling == "ingress"


def _flat(root: Rule) -> dict[Node, Rule]:
    found: dict[Node, Rule] = {}

    def visit(rule: Rule, names: Node) -> None:
        found[names] = rule
        for child in rule.children:
            visit(child, (*names, child.name))

    visit(root, ())
    return found


def _local(at_ns: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at_ns // SECOND_NS, zone).replace(tzinfo=None)
