"""What a link's policy gives everybody when everybody wants all: the demands to plan by where none are known."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from telemetryd.allocate.demand_file import Demand
from telemetryd.policy.admission import capacity_bps
from telemetryd.policy.loaded import Policies
from telemetryd.policy.outline import REST, Rule, active_at, outline, protected_names
from telemetryd.registry.models import Registry

#: Part of a link, in thousandths, that all protected classes together are taken to ask for.
PROTECTED_PER_MILLE = 10


def full_demands(policies: Policies, registry: Registry, at: datetime) -> list[Demand]:
    """Return a demand for every leaf that a policy writes, as large as its ceiling, and one for all the rest.

    Protected classes come before everything, so that theirs must be small: together 1 % of the link.
    """
    found: list[Demand] = []
    protected = sorted(protected_names(registry) & {one.name for one in registry.protected_classes})
    for policy in policies.policies:
        active = active_at(policy, at.astimezone(policy.zone).replace(tzinfo=None))
        for link, direction in policy.places:
            capacity = capacity_bps(link, direction, registry)
            root = outline(policy, registry, active, capacity)
            for name in protected:
                bps = capacity * PROTECTED_PER_MILLE // 1000 // len(protected)
                found.append(Demand(link, direction, "", name, bps))
            for names, rule in _leaves(root, {}):
                given = {} if rule.level == REST else names
                found.append(
                    Demand(
                        link,
                        direction,
                        given.get("department", ""),
                        given.get("application", ""),
                        min(rule.ceiling_bps, capacity),
                        given.get("service_class", ""),
                        given.get("region", ""),
                    )
                )
    return found


def _leaves(rule: Rule, names: dict[str, str]) -> Iterator[tuple[dict[str, str], Rule]]:
    if not rule.children:
        yield names, rule
    for child in rule.children:
        yield from _leaves(child, {**names, str(child.level): child.name})
