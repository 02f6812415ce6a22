"""Finish what a killed process left open: roll-ups of seconds that are stored, but not rolled up yet.

A process that is killed has stored its windows of 1 s, while the longer spans they lie in were still in its
memory. The seconds are kept for days only, so whoever opens the store for writing next makes those
spans out of them.
"""

from __future__ import annotations

from telemetryd.aggregate.rollup import SPANS_NS, RollUp
from telemetryd.schema import UsageWindow
from telemetryd.store.columns import QualityRow
from telemetryd.store.embedded import Store
from telemetryd.store.levels import SECOND_NS
from telemetryd.store.quality import QualityRollUp, stored_figures


def finish_roll_ups(store: Store, origin: str) -> int:
    """Roll up the stored seconds of one origin whose longer spans are missing; return their number.

    Call it for an origin that nobody will append to any more, such as an earlier run of a collector.
    A second call finds nothing to do.

    Raises
    ------
    StoreError
        If the store cannot be read or written.
    """
    until_ns = store.stored_until(origin, SECOND_NS)
    behind = [span_ns for span_ns in SPANS_NS if store.stored_until(origin, span_ns) < until_ns]
    if not behind:
        return 0
    # A span that is complete ends on its own boundary, so every missing one begins at or after the
    # end of the longest that is stored.
    from_ns = min(store.stored_until(origin, span_ns) for span_ns in behind)
    roll_up = RollUp()
    spans: list[UsageWindow] = []
    for window in store.windows(origin, SECOND_NS, from_ns):
        spans += roll_up.add(window)
    spans += roll_up.flush()
    quality = QualityRollUp()
    for start_ns, figures in stored_figures(store, origin, SECOND_NS, from_ns, until_ns).items():
        quality.add(start_ns, figures)
    rows: list[QualityRow] = []
    for span in spans:
        rows += quality.close(span)
    return len(spans) - store.append(spans, origin, rows).skipped
