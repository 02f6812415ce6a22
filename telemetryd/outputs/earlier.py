"""The windows that earlier runs of the daemon ended with, out of the embedded store.

A window that a restart falls into has two parts, and a database keeps what is written last: so the second run
merges the first one's part into its own. And what a run had stored and not handed to the spool, being killed or
the window being open, is handed over by the next one. Writing a window again changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from telemetryd.aggregate.rollup import merge_windows
from telemetryd.schema import UsageWindow
from telemetryd.store.embedded import Store
from telemetryd.store.levels import HOUR_NS, MINUTE_NS, SECOND_NS
from telemetryd.writer import ORIGIN_PREFIX

#: So far before its end a run may have closed windows that the spool does not have yet.
BACK_NS: Final = 2 * MINUTE_NS

Place = tuple[int, int]  # (span, start), ns


def last_windows(path: Path, origin: str, spans_ns: Collection[int]) -> dict[Place, UsageWindow] | None:
    """Return the last windows of each span, merged over the earlier runs that they hold parts of.

    Parameters
    ----------
    path:
        Of the embedded store.
    origin:
        That of this run.

    Returns
    -------
    dict
        None while the roll-ups of an earlier run are not finished yet.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    with Store.open(path, "read") as store:
        runs = [
            (store.stored_until(run, SECOND_NS), run)
            for run in sorted(store.snapshot().manifest.extents)
            if run.startswith(ORIGIN_PREFIX) and run != origin
        ]
        last_ns = max((until_ns for until_ns, _ in runs), default=0) - 1
        parts: dict[Place, list[UsageWindow]] = {}
        for until_ns, run in runs:
            if until_ns <= last_ns // HOUR_NS * HOUR_NS:
                continue
            for span_ns in spans_ns:
                if store.stored_until(run, span_ns) < until_ns:
                    return None
                from_ns = last_ns // span_ns * span_ns - max(span_ns, BACK_NS)
                for window in store.windows(run, span_ns, from_ns):
                    parts.setdefault((span_ns, window.start_ns), []).append(window)
    return {
        (span_ns, start_ns): merge_windows(windows, start_ns, span_ns) for (span_ns, start_ns), windows in parts.items()
    }
