"""The gNMI targets as the control service shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from telemetryd.observe.health import State
from telemetryd.serve.messages import GnmiTarget
from telemetryd.serve.messages import State as StateName
from telemetryd.subscriber import TargetCounters

STATES: Final[Mapping[State, StateName]] = {State.OK: "ok", State.DEGRADED: "degraded", State.FAILED: "failed"}


def target_rows(targets: Iterable[TargetCounters]) -> list[GnmiTarget]:
    """Return a row for each target; counts that are 0 are left out."""
    return [
        {
            "name": one.name,
            "address": one.address,
            "state": STATES[one.health],
            "phase": one.state.phase.value,
            "reasons": list(one.troubles),
            "encoding": one.state.encoding,
            "transport": one.transport,
            "secure": one.is_secure,
            "skew_ns": one.state.delay_ns,
            "asked_ns": one.asked_ns,
            "achieved_ns": one.achieved_ns,
            "counts": {name: count for name, count in one.counts.items() if count},
        }
        for one in targets
    ]
