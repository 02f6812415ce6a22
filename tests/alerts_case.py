"""Rules, plans and windows for the tests of alerts, over the small city of the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from telemetryd.assure.alert_measures import Telemetry
from telemetryd.assure.alert_plan import AlertPlan, plan_alerts
from telemetryd.config.settings import parse_settings
from telemetryd.registry.models import Registry
from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, Direction, LinkDirection, Table, UsageWindow
from tests.month_case import small_registry
from tests.proof_case import NAMES

S = 1_000_000_000
START = 1_790_000_040 * S  # the begin of a minute
RATE = 500.0
SIZE = 1000.0

#: (table, link or metering point, direction, department, application) -> Mbit/s.
Rates = Mapping[tuple[str, str, str, str, str], float]


@lru_cache
def registry() -> Registry:
    """Return the registry of the small city."""
    with TemporaryDirectory() as directory:
        return small_registry(Path(directory))


def plan(alerts: str) -> AlertPlan:
    """Plan what a section `alerts` says, indented by two spaces."""
    loaded = parse_settings(f"version: 1\nregistry: r\nalerts:\n{alerts}", "t.yaml", {})
    return plan_alerts(loaded.settings.alerts, registry(), loaded.document.where)


def window(number: int, rates: Rates, random: np.random.Generator | None = None) -> UsageWindow:
    """Return window ``number`` of 1 s; sampled 1 in :data:`RATE`, exact where there is no generator."""
    rows = []
    for (table, link, direction, department, application), mbps in rates.items():
        is_link = table == "link_usage"
        mean = mbps * 1e6 / 8 / SIZE / RATE
        samples = mean if random is None else int(random.poisson(mean))
        if not samples:
            continue
        n = 1.0 if random is None else RATE
        rows.append(
            {
                "table": Table[table.upper()],
                "link": (NAMES.links if is_link else NAMES.metering_points).index(link),
                "direction": (LinkDirection if is_link else Direction)[direction.upper()],
                "department": NAMES.departments.index(department),
                "application": NAMES.applications.index(application),
                "samples": max(round(samples), 1),
                "octets": RATE * SIZE * samples,
                "octets_variance": n * (n - 1) * SIZE * SIZE * samples,
                "octets_largest": np.sqrt(n * (n - 1)) * SIZE,
            }
        )
    columns = {
        column.name: np.array([row.get(column.name, 0) for row in rows], column.dtype)
        for column in KEY_COLUMNS + SUM_COLUMNS
    }
    return UsageWindow(START + number * S, S, columns, NAMES)


def link(name: str, department: str, application: str, mbps: float) -> dict[tuple[str, str, str, str, str], float]:
    """Return inbound usage of a link."""
    return {("link_usage", name, "in", department, application): mbps}


def total(department: str, application: str, mbps: float) -> dict[tuple[str, str, str, str, str], float]:
    """Return inbound usage at the metering point of the first provider."""
    return {("totals", "mp1", "inbound", department, application): mbps}


def telemetry(sent: int = 0, lost: int = 0, heard: Sequence[str] = ()) -> Telemetry:
    """Return counts since the start."""
    return Telemetry(sent, lost, dict.fromkeys(heard, sent))
