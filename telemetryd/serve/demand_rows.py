"""Demand as the control service shows it: a row a link and direction, with the sums of its classes."""

from __future__ import annotations

from telemetryd.demanding import DemandTable
from telemetryd.serve.messages import LinkDemand


def demand_rows(table: DemandTable) -> list[LinkDemand]:
    """Return a row for each link and direction that a policy rules and that had traffic."""
    return [
        {
            "policy": one.policy,
            "link": one.link,
            "direction": one.direction,
            "start_ns": one.start_ns,
            "end_ns": one.end_ns,
            "capacity_bps": float(one.capacity_bps),
            "usage_bps": float(one.usage_bps.sum()),
            "demand_bps": float(one.demand_bps.sum()),
            "damped_bps": float(one.damped_bps.sum()),
            "classes": len(one.keys),
            "censored": int(one.censored.sum()),
            "full": one.is_full,
            "stale": one.stale,
        }
        for one in table.links
    ]
