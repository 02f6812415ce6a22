"""Small traffic over the small registry's exit, for tests of simulations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from telemetryd.allocate.demand_file import Demand
from telemetryd.assure.offered import Offered

ZONE = ZoneInfo("Asia/Shanghai")
G = 10**9


def at_ns(text: str) -> int:
    """Return the time of the small city."""
    return round(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()) * 10**9


def offered(
    rates: Mapping[str, list[float]], begin: str = "2026-11-20 09:00", step_s: float = 60, inelastic: str = ""
) -> Offered:
    """Return traffic on ``exit out``: DEPARTMENT/APPLICATION -> Gbit/s by step."""
    keys = tuple(Demand("exit", "out", *name.split("/"), 0) for name in rates)  # type: ignore[arg-type]
    bps = np.array(list(rates.values())).T * G
    return Offered(
        keys, at_ns(begin), step_s, bps, np.array([name != inelastic for name in rates]), np.ones(len(bps), np.bool_)
    )
