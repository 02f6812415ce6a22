"""Samples against counters as a component: coverage of every link, its alarms, and the figures that calibrate usage.

    windows (receive) --+
                        +--> every second: compare --> figures of 10 s and more --> store
    growth (counters) --+                    |
                                             +--> coverage: health, status, metrics
It runs on the loop. Windows come from the engine's thread and wait for a turn.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.counters import by_direction
from telemetryd.aggregate.coverage import Verdict
from telemetryd.aggregate.feeds import Feeds
from telemetryd.aggregate.link_growth import Links, Place, link_growths
from telemetryd.aggregate.reconcile import Coverage, Growth, Reconciler
from telemetryd.component import Component, wait
from telemetryd.observe.health import Health, degraded
from telemetryd.observe.log import Log
from telemetryd.registry.models import Registry
from telemetryd.schema import UsageWindow
from telemetryd.store.columns import QualityRow
from telemetryd.store.reconciled import FigureWindows

TURN_S: Final = 1.0
#: Without traffic there are no windows: then time passes by the clock, so far behind it.
BEHIND_NS: Final = 10_000_000_000
#: Windows that wait for a turn; beyond it the oldest are lost, counted.
WAITING: Final = 60
#: Alarms that health names; the others are counted.
NAMED: Final = 5

#: What an alarm says, in words.
WORDS: Final[Mapping[Verdict, str]] = {
    Verdict.BELOW: "samples are lost, or fewer are taken than the stated rate says, or packets pass unsampled",
    Verdict.ABOVE: "more samples are taken than the stated rate says, or the counter misses packets",
}

#: Takes windows without usage and their quality rows.
PutFigures = Callable[[list[UsageWindow], list[QualityRow]], None]


class Reconciling(Component):
    """Hold samples against counters.

    Parameters
    ----------
    registry:
        Names links and metering points.
    put:
        Takes the figures, in the order of time; never waits.
    clock:
        Wall clock in ns.
    """

    name: ClassVar[str] = "coverage"

    def __init__(self, registry: Registry, put: PutFigures, *, clock: Callable[[], int] = time.time_ns) -> None:
        super().__init__()
        self._put, self._clock = put, clock
        self._log = Log(self.name)
        self._links = Links.of(registry)
        self._reconciler = Reconciler(self._links.points)
        self._figures = FigureWindows()
        self._waiting: deque[UsageWindow] = deque()
        self._lock = threading.Lock()
        self._lost = 0
        self._until_ns = 0
        self._has_counters = False
        self._coverages: list[Coverage] = []
        self.places: dict[str, Place] = {}  # link -> (device, interface)

    def put_window(self, window: UsageWindow) -> None:
        """Take a closed window of 1 s; from any thread, never waits."""
        with self._lock:
            self._waiting.append(window)
            while len(self._waiting) > WAITING:
                self._waiting.popleft()
                self._lost += 1

    def take_growth(self, growth: Mapping[str, NDArray[Any]], offset_ns: NDArray[np.int64], feeds: Feeds) -> None:
        """Take what counters grew by, on the event loop (:data:`telemetryd.counting.OnGrowth`)."""
        grown = by_direction(growth, offset_ns)
        numbers = grown["feed"]
        places = [feeds.interface(feeds[number]) for number in numbers.tolist()]
        self.places |= {self._links.name(place): place for place in places}
        corrections, ranks = feeds.corrections()[numbers], feeds.sources()[numbers]
        self.add_growths(link_growths(grown, places, corrections, ranks, self._links))

    def add_growths(self, growths: list[Growth]) -> None:
        """Take what counters of links grew by, on the event loop."""
        if growths and not self._has_counters:
            # Windows that closed before were not looked at.
            self._has_counters = True
            self._reconciler.begin(self._clock())
        self._reconciler.add_growths(growths)

    def replace(self, registry: Registry) -> None:
        """Go by another registry."""
        self._links = Links.of(registry)
        self._reconciler.set_points(self._links.points)

    async def run(self) -> None:
        """Compare every second until stopped; then hand on all figures."""
        self.started.set()
        while not self.stopping.is_set():
            self._turn()
            await wait(self.stopping, TURN_S)
        self._turn(is_last=True)

    def coverages(self) -> list[Coverage]:
        """Return the coverage of every link that has counters, as of the last turn; from any thread."""
        return self._coverages

    def counts(self) -> dict[str, int]:
        """Return what became of the counters' growth (:class:`Reconciler`), and ``lost_windows``."""
        return self._reconciler.counts | {"lost_windows": self._lost}

    def health(self) -> Health:
        """Degraded while a coverage alarm fires."""
        alarms = [one for one in self._coverages if one.verdict != Verdict.OK]
        reasons = [alarm_text(one) for one in alarms[:NAMED]]
        if len(alarms) > NAMED:
            reasons.append(f"and {len(alarms) - NAMED:,} more coverage alarms (telemetryd coverage)")
        return degraded(*reasons)

    def _turn(self, *, is_last: bool = False) -> None:
        with self._lock:
            windows = list(self._waiting)
            self._waiting.clear()
        # Without counters there is nothing to compare, and no reason to look at every row of usage.
        for window in windows if self._has_counters else ():
            self._reconciler.add_window(window)
            self._until_ns = max(self._until_ns, window.start_ns + window.span_ns)
        self._until_ns = max(self._until_ns, self._clock() - BEHIND_NS)
        used = self._reconciler.counts["used"]
        self._figures.add(self._reconciler.advance(self._until_ns))
        if is_last:
            self._figures.add(self._reconciler.flush())
            self._figures.flush()
        if self._reconciler.counts["used"] != used:
            before = {(one.link, one.direction): one.verdict for one in self._coverages}
            self._coverages = self._reconciler.coverages()
            for one in self._coverages:
                if one.verdict != before.get((one.link, one.direction), Verdict.OK):
                    self._note(one)
        complete, rows = self._figures.take()
        if complete:
            self._put(complete, rows)

    def _note(self, one: Coverage) -> None:
        where = {"link": one.link, "direction": one.direction.name.lower(), "coverage": round(one.ratio, 4)}
        if one.verdict == Verdict.OK:
            self._log.info("samples and counter agree again", **where)
        else:
            self._log.warning("samples and counter do not agree", **where, means=WORDS[one.verdict])


def alarm_text(one: Coverage) -> str:
    """Write an alarm for people."""
    way = one.direction.name.lower()
    return (
        f"{one.link} {way}: the samples hold {one.ratio:.1%} of the counter".replace("%", " %")
        + f" ({one.low:.1%} to {one.high:.1%})".replace("%", " %")
        + f": {WORDS[one.verdict]}"
    )
