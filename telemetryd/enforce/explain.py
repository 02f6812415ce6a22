"""Plans as rows, for tables and JSON: what each queue holds and gets, what sharing costs, what would be written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from telemetryd.enforce.capability import Capability
from telemetryd.enforce.diff import Difference
from telemetryd.enforce.gateway import GatewayPlan, HtbClass, Operation
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


def class_rows(device: str, plan: GatewayPlan) -> list[dict[str, Any]]:
    """Return a row for each HTB class of a gateway's port, the port first."""
    rows = [
        {
            "device": device,
            "interface": plan.interface,
            "direction": plan.direction,
            "class": f"1:{key.name}",
            "node": list(plan.names[int(key.name, 16)]),
            "rate_bps": one.rate_bps,
            "ceiling_bps": one.ceil_bps,
            "priority": one.priority,
            "is_default": int(key.name, 16) == plan.default,
        }
        for key, one in plan.objects.items()
        if isinstance(one, HtbClass)
    ]
    return sorted(rows, key=lambda row: row["node"])


def operation_rows(operations: Iterable[Operation]) -> list[dict[str, Any]]:
    """Return changes of a gateway's objects, in order."""
    return [
        {
            "kind": one.key.kind,
            "name": one.key.name,
            "old": asdict(one.old) if one.old is not None else None,
            "new": asdict(one.new) if one.new is not None else None,
        }
        for one in operations
    ]
