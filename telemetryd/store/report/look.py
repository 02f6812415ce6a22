"""Read a month from the store."""

from __future__ import annotations

from collections.abc import Callable

from telemetryd.errors import InputError
from telemetryd.store import cover
from telemetryd.store.columns import TABLE_NAMES
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.report.month import Month
from telemetryd.store.report.usage import Found, Json
from telemetryd.store.scan import count_samples, scan

Recall = Callable[[Month], Json | None]
"""The frozen record of a month, where there is one."""


def plan_of(snapshot: Snapshot, month: Month) -> cover.Plan:
    """Choose the windows to read of a month.

    Raises
    ------
    InputError
        If part of it is kept only as windows that are wider than its bins.
    """
    return cover.plan(snapshot.manifest, month.from_ns, month.to_ns, lambda span_ns: month.bin_ns % span_ns == 0)


def look(
    snapshot: Snapshot, month: Month, tables: tuple[str, ...] = TABLE_NAMES, *, by_application: bool = True
) -> Found:
    """Scan a month; only what is needed of ``tables``, with or without the applications."""
    plan = plan_of(snapshot, month)
    first, count = int(month.starts[0]), len(month.starts)
    found = scan(snapshot, plan, first, count, month.bin_ns, tables=tables, by_application=by_application)
    return Found(month, found)


def has_data(snapshot: Snapshot, month: Month) -> bool:
    """Tell whether the store may hold something of a month."""
    held = cover.data_range(snapshot.manifest)
    return held is not None and held[0] < month.to_ns and month.from_ns < held[1]


def count(store: Store, month: Month) -> int | None:
    """Count the samples that the store holds of a month now; None where it no longer holds all of it."""

    def read(snapshot: Snapshot) -> int | None:
        if not has_data(snapshot, month) or snapshot.manifest.floors.get(month.bin_ns, 0) > month.from_ns:
            return None
        try:
            return count_samples(snapshot, plan_of(snapshot, month))
        except InputError:
            # Retention has left only wider windows.
            return None

    return store.read(read)
