"""Spool and outputs as the control service says them."""

from __future__ import annotations

from pathlib import Path

from telemetryd.outputs import OutputsCounters
from telemetryd.serve.messages import Counts


def spool_counts(path: Path, outputs: OutputsCounters) -> Counts | None:
    """Return what the spool did and holds, None without outputs."""
    if not outputs.senders:
        return None
    counts = {
        "points": outputs.points,
        "octets": outputs.spool_octets,
        "failures": outputs.failures,
        "lost_windows": outputs.lost_windows,
        "lost_points": sum(outputs.lost_points.values()),
    }
    return {"name": str(path), "counts": counts}


def output_counts(outputs: OutputsCounters) -> list[Counts]:
    """Return what each output did, and what waits for it."""
    return [
        {
            "name": name,
            "counts": {
                "points": one.points,
                "waiting_points": one.pending.points,
                "waiting_octets": one.pending.octets,
                "lost_points": sum(n for (output, _, _), n in outputs.lost_points.items() if output == name),
                "rejected_lines": one.rejected,
                "expired_points": one.expired,
                "failures": sum(one.failures.values()),
            },
        }
        for name, one in outputs.senders.items()
    ]
