"""Windows of usage made of plain rows, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, Direction, LinkDirection, Names, Table, UsageWindow

SECOND_NS = 1_000_000_000
START_NS = 1_790_000_000 * SECOND_NS

NAMES = Names(
    links=("-", "core-1 eth1/1", "core-2 eth1/1"),
    metering_points=("-", "exit", "province"),
    departments=("unknown", "tax", "exam office", "social, insurance", "市政府"),
    applications=("unclassified", "tax-filing", "a=b", "网上报税"),
    zones=("-", "dmz", "office"),
    service_classes=("-", "video"),
)


def window(
    rows: Sequence[Mapping[str, Any]], *, names: Names = NAMES, start_ns: int = START_NS, span_ns: int = SECOND_NS
) -> UsageWindow:
    """Return a window; what a row leaves out is 0, and its table ``totals``."""
    plain = {"table": Table.TOTALS}
    columns = {
        column.name: np.array([(plain | dict(row)).get(column.name, 0) for row in rows], column.dtype)
        for column in KEY_COLUMNS + SUM_COLUMNS
    }
    return UsageWindow(start_ns, span_ns, columns, names)


def random_window(
    seed: int, rows: int, names: Names = NAMES, *, start_ns: int = START_NS, span_ns: int = SECOND_NS
) -> UsageWindow:
    """Return a window of up to ``rows`` distinct keys with the sums that samples at about 1:1000 leave."""
    random = np.random.default_rng(seed)
    table = random.integers(0, 2, rows)
    is_total = table == Table.TOTALS
    keys = {
        "table": table,
        "link": np.where(
            is_total, random.integers(0, len(names.metering_points), rows), random.integers(0, len(names.links), rows)
        ),
        "direction": np.where(
            is_total, random.integers(0, len(Direction), rows), random.integers(1, 1 + len(LinkDirection), rows)
        ),
        "department": random.integers(0, len(names.departments), rows),
        "peer_department": random.integers(0, len(names.departments), rows),
        "application": random.integers(0, len(names.applications), rows),
        "source_zone": random.integers(0, len(names.zones), rows),
        "destination_zone": random.integers(0, len(names.zones), rows),
        "service_class": random.integers(0, len(names.service_classes), rows),
    }
    _, first = np.unique(np.stack([keys[column.name] for column in KEY_COLUMNS]), axis=1, return_index=True)
    count = len(first)
    samples = random.zipf(1.8, count).clip(1, 100_000)
    rate = random.uniform(900, 1100, count)
    size = random.choice([64.0, 576.0, 1518.0], count)
    columns = {name: codes[first] for name, codes in keys.items()} | {
        "samples": samples,
        "octets": rate * samples * size,
        "packets": rate * samples,
        "octets_variance": rate * (rate - 1) * samples * size * size,
        "packets_variance": rate * (rate - 1) * samples,
        "octets_largest": np.sqrt(rate * (rate - 1)) * size,
        "packets_largest": np.sqrt(rate * (rate - 1)),
        "stated_rate_samples": np.minimum(samples, random.integers(0, 3, count)),
    }
    typed = {column.name: columns[column.name].astype(column.dtype) for column in KEY_COLUMNS + SUM_COLUMNS}
    return UsageWindow(start_ns, span_ns, typed, names)
