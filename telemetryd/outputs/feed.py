"""From closed windows to the entries of the spool: roll-ups, line protocol, pieces of it. One thread uses it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from telemetryd.aggregate.rollup import RollUp, merge_windows
from telemetryd.counter_windows import CounterWindow
from telemetryd.outputs.earlier import Place
from telemetryd.outputs.figures import MINUTE_NS, Figures, MinuteRows
from telemetryd.schema import UsageWindow
from telemetryd.store.influx.pieces import cut, pack
from telemetryd.store.series_guard import CardinalityGuard, SeriesCounts
from telemetryd.store.series_render import SeriesRenderer
from telemetryd.store.spool import Entry


class Feed:
    """Make entries; windows of 1 s come in the order of their time.

    A window that is open when a run ends is sent by the next run, whole: two versions of one point in the spool could
    reach a server in the wrong order.

    Parameters
    ----------
    series_limit:
        Series of a measurement at most.

    Attributes
    ----------
    spans_ns:
        Lengths of the windows that somebody wants.
    is_caught_up:
        Whether the windows of earlier runs came.
    """

    def __init__(self, series_limit: int) -> None:
        self.spans_ns: Collection[int] = ()
        self.is_caught_up = False
        self._roll_up = RollUp()
        self._guard = CardinalityGuard(series_limit)
        self._renderer = SeriesRenderer(self._guard)
        self._minutes = MinuteRows()
        self._first_ns = 0  # begin of this run's first window
        self._shared: dict[Place, UsageWindow] = {}  # own parts of windows that an earlier run may have begun
        self._begun: dict[Place, UsageWindow] = {}  # parts of earlier runs, of windows that are open now

    def add(self, window: UsageWindow) -> list[Entry]:
        """Take a window of 1 s; return the entries of what it completes."""
        self._first_ns = self._first_ns or window.start_ns
        complete = [window, *self._roll_up.add(window)]
        entries = [entry for one in complete for entry in self._complete(one)]
        # What an earlier run began, and this one has no part of.
        over = [place for place in self._begun if sum(place) <= window.start_ns]
        return entries + [entry for place in over for entry in self._render(self._begun.pop(place))]

    def catch_up(self, earlier: Mapping[Place, UsageWindow], now_ns: int) -> list[Entry]:
        """Take the last windows of earlier runs; return the entries of those that are over."""
        self.is_caught_up = True
        over, self._shared = self._shared, {}
        for place, window in earlier.items():
            if place in over:
                over[place] = _merge(window, over[place])
            elif sum(place) > (self._first_ns or now_ns):
                self._begun[place] = window
            else:
                over[place] = window
        return [entry for window in over.values() for entry in self._render(window)]

    def minute(self, start_ns: int, figures: Figures) -> list[Entry]:
        """Return the entries of the rows that no window holds."""
        if MINUTE_NS not in self.spans_ns:
            return []
        return _pieces(self._minutes.render(self._renderer, start_ns, figures), start_ns, MINUTE_NS)

    def counters(self, window: CounterWindow) -> list[Entry]:
        """Return the entries of a window of counters."""
        if window.span_ns not in self.spans_ns or not window.names:
            return []
        return _pieces(self._renderer.counters(window), window.start_ns, window.span_ns)

    def series(self) -> Mapping[str, SeriesCounts]:
        """Return how many series there are, by measurement, and what was folded."""
        return self._guard.counts()

    def _complete(self, window: UsageWindow) -> list[Entry]:
        """Return the entries of a window that is over, unless an earlier run may have begun it."""
        place = window.span_ns, window.start_ns
        if begun := self._begun.pop(place, None):
            window = _merge(begun, window)
        elif window.start_ns < self._first_ns and not self.is_caught_up:
            self._shared[place] = window
            return []
        return self._render(window)

    def _render(self, window: UsageWindow) -> list[Entry]:
        if window.span_ns not in self.spans_ns:
            return []
        return _pieces(self._renderer.usage(window), window.start_ns, window.span_ns)


def _merge(earlier: UsageWindow, own: UsageWindow) -> UsageWindow:
    return merge_windows([earlier, own], own.start_ns, own.span_ns)


def _pieces(text: bytes, start_ns: int, span_ns: int) -> list[Entry]:
    return [Entry(pack(lines), points, span_ns, start_ns + span_ns) for points, lines in cut(text)]
