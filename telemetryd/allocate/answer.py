"""Allocations with names, as rows for tables and JSON."""

from __future__ import annotations

import math
from typing import Any

from telemetryd.allocate.divide import Allocation, Phase
from telemetryd.allocate.explain import bounds_of, explain
from telemetryd.allocate.place import Placed


def leaf_rows(placed: Placed, allocation: Allocation) -> list[dict[str, Any]]:
    """Return one row a leaf: who demands what, what it is promised, and what it gets."""
    reasons = bounds_of(allocation)
    rows = []
    for number in range(len(placed.names)):
        position = int(allocation.tree.place[number])
        if number not in placed.demands and (number == 0 or len(allocation.tree.children(position))):
            continue
        named = placed.demands.get(number)
        rows.append(
            {
                "link": placed.link,
                "direction": placed.direction,
                "department": named.department if named is not None else _name_on(placed, number, "department"),
                "application": named.application if named is not None else _name_on(placed, number, "application"),
                "node": list(placed.names[number]),
                "importance": placed.rules[number].importance,
                "weight": placed.rules[number].weight,
                "demand_bps": placed.bps.get(number, 0),
                "floor_bps": min(placed.rules[number].floor_bps, placed.capacity_bps),
                "guarantee_bps": placed.rules[number].guarantee_bps,
                "ceiling_bps": placed.rules[number].ceiling_bps,
                "allocation_bps": int(allocation.bps[position]),
                "level_bps": _level(allocation, position),
                "bound": str(reasons[position]),
                "hard": placed.rules[number].hard,
                "burst_octets": placed.rules[number].burst_octets,
                "dscp": placed.rules[number].dscp,
            }
        )
    return rows


def node_rows(placed: Placed, allocation: Allocation) -> list[dict[str, Any]]:
    """Return one row an inner node, the link first: its level among its siblings, what bound it, how it was divided."""
    tree = allocation.tree
    reasons = bounds_of(allocation)
    rows = []
    for position in sorted({0, *tree.inner.tolist()}):
        number = int(tree.order[position])
        rule = placed.rules[number]
        children = tree.children(position)
        levels = {int(tree.importance[child]): _level(allocation, child) for child in children}
        rows.append(
            {
                "link": placed.link,
                "direction": placed.direction,
                "node": list(placed.names[number]),
                "kind": str(rule.level),
                "importance": rule.importance,
                "weight": rule.weight,
                "demand_bps": int(allocation.bounds.wanted[position]),
                "floor_bps": min(rule.floor_bps, placed.capacity_bps),
                "guarantee_bps": rule.guarantee_bps,
                "ceiling_bps": rule.ceiling_bps,
                "allocation_bps": int(allocation.bps[position]),
                "level_bps": _level(allocation, position),
                "bound": str(reasons[position]),
                "phase": Phase(int(allocation.phase[position])).name.lower(),
                "hard": rule.hard,
                "burst_octets": rule.burst_octets,
                "dscp": rule.dscp,
                "levels": [{"importance": key, "level_bps": levels[key]} for key in sorted(levels)],
            }
        )
    return rows


def explain_rows(placed: Placed, allocation: Allocation, number: int) -> list[dict[str, Any]]:
    """Return the chain from a node to the link, the node first; see :func:`telemetryd.allocate.explain.explain`."""
    tree = allocation.tree
    rows = []
    for step in explain(allocation, int(tree.place[number])):
        own = int(tree.order[step.node])
        rule = placed.rules[own]
        where = placed.policy.document.where(rule.path) if rule.path is not None else None
        rows.append(
            {
                "node": list(placed.names[own]),
                "kind": str(rule.level),
                "written_at": f"{where[0]}:{where[1]}:{where[2]}" if where is not None else None,
                "importance": rule.importance,
                "weight": rule.weight,
                "demand_bps": step.wanted_bps,
                "guarantee_bps": rule.guarantee_bps,
                "ceiling_bps": rule.ceiling_bps,
                "allocation_bps": step.bps,
                "level_bps": step.level,
                "phase": step.phase.name.lower(),
                "bound": str(step.bound),
                "binds": step.binds,
                "holders": [
                    {
                        "node": list(placed.names[int(tree.order[holder.node])]),
                        "allocation_bps": holder.bps,
                        "bound": str(holder.bound),
                    }
                    for holder in step.holders
                ],
            }
        )
    return rows


def _level(allocation: Allocation, position: int) -> float | None:
    """Return a node's water level; None where all of its group have their high bound or their low one."""
    level = float(allocation.level[position])
    return level if 0.0 < level < math.inf else None


def _name_on(placed: Placed, number: int, level: str) -> str:
    while number > 0:
        if placed.rules[number].level == level:
            return placed.rules[number].name
        number = placed.parents[number]
    return ""
