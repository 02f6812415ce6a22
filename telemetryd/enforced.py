"""What was delivered as a series: windows of kind ``enforcement`` of the rows that the control loop keeps.

A row is of a period that ends when the loop looked; its window is the control period that the middle of the row lies
in. Like estimates of demand they are rolled up, stored, and sent to outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from telemetryd.aggregate.counter_rollup import CounterRollUp, merge_counters
from telemetryd.counter_windows import ENFORCEMENT_LAYOUT, CounterWindow, EnforcementWindow
from telemetryd.demanding import LEVELS, spans_of
from telemetryd.enforce.delivered import Outcome, Row, outcome
from telemetryd.errors import StoreError
from telemetryd.observe.log import Log
from telemetryd.schema import ENFORCED_RATES, ENFORCEMENT_COLUMNS
from telemetryd.store.counted import stored_parts, stored_until

SECOND_NS: Final = 1_000_000_000
#: What belongs to no node below the link.
REST: Final = "(rest)"


class Enforced:
    """Make windows of rows, in the order of their time; called by one thread at a time.

    Parameters
    ----------
    period_ns:
        Says the length of the control period, which a reload may change.
    put:
        Takes windows, in the order of their end; never waits.
    store:
        Directory of the embedded store, which has the windows of earlier runs; None: there are none.
    """

    def __init__(
        self, period_ns: Callable[[], int], put: Callable[[CounterWindow], None], *, store: Path | None = None
    ) -> None:
        self._ask_period_ns, self._put, self._store = period_ns, put, store
        self._log = Log("enforce")
        self._period_ns = 0
        self._next_ns = 0  # begin of the first period that is not over
        self._open: list[EnforcementWindow] = []  # parts of one period
        self._roll_up = CounterRollUp(())

    def add(self, rows: Sequence[Row]) -> None:
        """Take the rows of a look; a period is over once rows end after it."""
        if not rows:
            return
        period_ns = self._ask_period_ns()
        if period_ns != self._period_ns:
            self._begin(period_ns)
        end_ns = max(row.end_ns for row in rows)
        middle_ns = end_ns - round(max(row.span_s for row in rows) * SECOND_NS) // 2
        # Of two looks in one period the second belongs to the next: the first one's window is gone.
        start_ns = max(middle_ns // period_ns * period_ns, self._next_ns)
        if self._open and self._open[0].start_ns < start_ns:
            self._close()
        self._open.append(enforcement_window(rows, start_ns, period_ns))
        if end_ns >= start_ns + period_ns:
            self._close()

    def _begin(self, period_ns: int) -> None:
        """Go by a period; what is open is closed, and roll-ups go on from what is stored."""
        if self._open:
            self._close()
        is_first, self._period_ns = not self._period_ns, period_ns
        self._next_ns = -(-self._next_ns // period_ns) * period_ns
        self._roll_up = CounterRollUp(spans_of(period_ns))
        if self._store is None or not is_first:
            return
        kinds = (ENFORCEMENT_LAYOUT.kind,)
        try:
            until = stored_until(self._store, kinds)
            parts = stored_parts(self._store, kinds, until)
        except StoreError as error:
            self._log.warning("cannot read what was delivered in earlier runs: open roll-ups are partial", reason=error)
            return
        self._next_ns = -(-max(until.values(), default=0) // period_ns) * period_ns
        self._roll_up.resume(parts)

    def _close(self) -> None:
        start_ns, span_ns = self._open[0].start_ns, self._period_ns
        window = merge_counters(self._open, start_ns, span_ns)
        self._open, self._next_ns = [], start_ns + span_ns
        longer = [*self._roll_up.add(window), *self._roll_up.until(self._next_ns)]
        for one in [*([window] if span_ns in LEVELS else []), *longer]:
            self._put(one)


def enforcement_window(rows: Sequence[Row], start_ns: int, span_ns: int) -> EnforcementWindow:
    """Make the window of the rows of one look, which has a class once."""
    spans_ns = [round(row.span_s * SECOND_NS) for row in rows]
    values = {
        "samples": [row.samples for row in rows],
        **{f"{name}_bits": [getattr(row, f"{name}_bps") * row.span_s for row in rows] for name in ENFORCED_RATES},
        "dropped_packets": [row.dropped for row in rows],
        "covered_ns": spans_ns,
        "missed_ns": [span if outcome(row) is Outcome.MISSED else 0 for row, span in zip(rows, spans_ns, strict=True)],
        ENFORCEMENT_LAYOUT.kind: range(len(rows)),
    }
    columns = {column.name: np.array(values[column.name], column.dtype) for column in ENFORCEMENT_COLUMNS}
    names = tuple((row.link, row.direction, "/".join(row.node) or REST) for row in rows)
    return EnforcementWindow(start_ns, span_ns, columns, names)
