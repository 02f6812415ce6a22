"""Plans as rows, for tables and JSON: what each queue holds and gets, what sharing costs, what would be written."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from telemetryd.enforce.capability import Capability
from telemetryd.enforce.diff import Difference
from telemetryd.enforce.gateway import GatewayPlan
from telemetryd.enforce.plan import DevicePlan


def capability_row(capability: Capability) -> dict[str, Any]:
    """Return what a device can do, and where each fact is from."""
    row = asdict(capability)
    for name in ("schedulers", "conditions"):
        row[name] = sorted(row[name])
    return row


def queue_rows(plan: DevicePlan) -> list[dict[str, Any]]:
    """Return a row for each queue of each port."""
    return [
        {
            "device": plan.device,
            "interface": interface,
            "direction": direction,
            "queue": group.queue,
            "rate_bps": rate,
            "ceiling_bps": ceiling,
            "classes": list(group.classes),
            "has_rest": group.is_rest,
        }
        for interface, direction in plan.capacities
        for group in plan.groups
        for rate, ceiling in (group.rates[interface, direction],)
    ]


def cost_rows(plan: DevicePlan) -> list[dict[str, Any]]:
    """Return what each class that shares a queue loses by it, the worst first."""
    rows = [
        {
            "device": plan.device,
            "class": cost.name,
            "queue": cost.queue,
            "shares_with": list(cost.shares_with),
            "interface": cost.interface,
            "direction": cost.direction,
            "promise_bps": cost.promise_bps,
            "sure_bps": cost.sure_bps,
            "missing": round(cost.missing, 6),
            "ceiling_bps": cost.ceiling_bps,
            "may_reach_bps": cost.may_reach_bps,
        }
        for cost in plan.costs
    ]
    return sorted(rows, key=lambda row: (-row["missing"], row["class"]))


def write_rows(change: Difference) -> list[dict[str, Any]]:
    """Return what would be written, in order."""
    return [
        {"step": step, "path": one.path, "old": one.old, "new": one.value}
        for step, writes in change.steps
        for one in writes
    ]


def class_rows(plan: GatewayPlan) -> list[dict[str, Any]]:
    """Return a row for each node of each port of a gateway, the port first, what is below a node behind it."""
    return [
        {
            "device": plan.device,
            "interface": port.interface,
            "direction": port.direction,
            "number": f"{node.number:x}",
            "node": list(node.names),
            "rate_bps": node.rate_bps,
            "ceiling_bps": node.ceiling_bps,
            "promise_bps": node.promise_bps,
            "priority": node.priority,
            "queue": node.queue or None,
            "is_rest": node.queue == plan.rest,
        }
        for port in plan.ports
        for node in port.nodes
    ]
