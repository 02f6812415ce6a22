"""What is planned by where no demand is known: everybody wants all, or everybody is there and wants its guarantee."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.place import Placed
from telemetryd.allocate.tree import MAX_BPS
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
    return list(_demands(policies, registry, at, None, is_full=True))


def standing_demands(policies: Policies, registry: Registry, at: datetime, links: Collection[str]) -> list[Demand]:
    """Return a demand of nothing for every leaf that a policy writes on some links or groups, so that it has its class.

    With it a gateway's tree follows from the policy alone, and not from who happens to send. Protected classes ask for
    1 % of the link together.
    """
    return list(_demands(policies, registry, at, links, is_full=False))


def stand(placed: Placed) -> None:
    """Let every leaf demand its guarantee, and its floor, at least: on a gateway they are there before they are used.

    Until then the device lends them. What the policy's rest is promised is demanded by whoever nobody names.
    """
    for node in placed.demands:
        placed.bps[node] = max(placed.bps.get(node, 0), _standing_bps(placed.rules[node]))
    of_rest = [node for node in placed.demands if placed.names[node][0] == REST]
    if of_rest:
        above = placed.names.index((REST,))
        missing = _standing_bps(placed.rules[above]) - sum(placed.bps[node] for node in of_rest)
        placed.bps[of_rest[0]] += max(0, missing)


def _standing_bps(rule: Rule) -> int:
    floor_bps = rule.floor_bps if rule.floor_bps < MAX_BPS else 0  # protected classes have one without limit
    return min(max(rule.guarantee_bps, floor_bps), rule.ceiling_bps)


def _demands(
    policies: Policies, registry: Registry, at: datetime, links: Collection[str] | None, *, is_full: bool
) -> Iterator[Demand]:
    protected = sorted(protected_names(registry) & {one.name for one in registry.protected_classes})
    for policy in policies.policies:
        active = active_at(policy, at.astimezone(policy.zone).replace(tzinfo=None))
        for link, direction in policy.places:
            if links is not None and link not in links:
                continue
            capacity = capacity_bps(link, direction, registry)
            root = outline(policy, registry, active, capacity)
            for name in protected:
                bps = capacity * PROTECTED_PER_MILLE // 1000 // len(protected)
                yield Demand(link, direction, "", name, bps)
            for names, rule in _leaves(root, {}):
                given = {} if rule.level == REST else names
                yield Demand(
                    link,
                    direction,
                    given.get("department", ""),
                    given.get("application", ""),
                    min(rule.ceiling_bps, capacity) if is_full else 0,
                    given.get("service_class", ""),
                    given.get("region", ""),
                )


def _leaves(rule: Rule, names: dict[str, str]) -> Iterator[tuple[dict[str, str], Rule]]:
    if not rule.children:
        yield names, rule
    for child in rule.children:
        yield from _leaves(child, {**names, str(child.level): child.name})
