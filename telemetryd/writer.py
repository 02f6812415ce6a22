"""The store's writer: closed windows in, roll-ups made, one append a second, in a thread of its own.

What comes while the store cannot take it (a full disk, a slow one) waits in a backlog of bounded memory;
when that is full, the oldest windows are lost, and counted. A failure of the store is a state with back-off.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

from telemetryd.aggregate.rollup import RollUp
from telemetryd.backlog import CounterBacklog
from telemetryd.component import Component, wait
from telemetryd.counter_windows import CounterWindow
from telemetryd.errors import StoreError
from telemetryd.observe.health import Health, degraded
from telemetryd.observe.log import Log
from telemetryd.schema import UsageWindow
from telemetryd.store.columns import QualityRow
from telemetryd.store.embedded import Store
from telemetryd.store.finish import finish_roll_ups
from telemetryd.store.growth import outlook
from telemetryd.store.levels import Level, with_retention
from telemetryd.store.quality import COVERAGE, NO_SOURCE, Figures, QualityRollUp, add_figures, quality_rows
from telemetryd.store.reconciled import counters_origin

ORIGIN_PREFIX: Final = "live:"
APPEND_EVERY_S: Final = 1.0
APPEND_WINDOWS: Final = 60
#: What is being appended is a quarter of the backlog's memory at most (and the roll-ups of it).
TAKE_SHARE: Final = 4
FIRST_RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 30.0
BEHIND_NS: Final = 5_000_000_000
#: How often the room on the disk is looked at, and retention and compaction are seen to while nothing comes.
TEND_EVERY_NS: Final = 600_000_000_000
COVERED: Final = (COVERAGE, NO_SOURCE)
LOST_WINDOWS: Final = ("loss.windows", NO_SOURCE)
#: Part of the memory for windows that windows of counters may take, and how many an append stores.
COUNTER_SHARE: Final = 4
COUNTER_WINDOWS_AT_ONCE: Final = 600
#: Spans of counters' figures that wait at most: an hour and more.
FIGURE_SPANS: Final = 600
#: What a figure about a window's quality takes in memory, octets, counted generously.
FIGURE_OCTETS: Final = 200


class Backlog:
    """Closed windows that wait for the store; any thread may put. Full, it loses the oldest and counts them.

    Parameters
    ----------
    limit_octets:
        Memory of the windows' columns that may be held; one window is always held.
    clock:
        Monotonic time in ns.

    Attributes
    ----------
    lost:
        Windows lost so far.
    """

    def __init__(self, limit_octets: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._limit = limit_octets
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: deque[tuple[int, int, UsageWindow, Figures]] = deque()  # (put at, octets, ...)
        self._octets = 0
        self.lost = 0

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def octets(self) -> int:
        """Memory held, in octets."""
        return self._octets

    def put(self, window: UsageWindow, figures: Figures) -> int:
        """Add a window and what is known of its quality; return how many older windows were lost for it.

        The figures of a lost window count in the one after it, beside the loss itself.
        """
        octets = sum(column.nbytes for column in window.columns.values()) + len(figures) * FIGURE_OCTETS
        with self._lock:
            lost: list[Figures] = []
            while self._windows and self._octets + octets > self._limit:
                _, freed, _, lost_figures = self._windows.popleft()
                self._octets -= freed
                lost.append(lost_figures)
            self._windows.append((self._clock(), octets, window, figures))
            self._octets += octets
            if lost:
                put_ns, octets, oldest, kept = self._windows[0]
                self._windows[0] = (put_ns, octets, oldest, _with_lost(kept, lost))
                self.lost += len(lost)
            return len(lost)

    def take(self, limit: int) -> list[tuple[UsageWindow, Figures]]:
        """Remove and return the oldest windows: one at least, ``limit`` or a share of the memory at most."""
        with self._lock:
            taken: list[tuple[UsageWindow, Figures]] = []
            room = self._limit // TAKE_SHARE
            while self._windows and len(taken) < limit and (not taken or self._windows[0][1] <= room):
                _, octets, window, figures = self._windows.popleft()
                self._octets -= octets
                room -= octets
                taken.append((window, figures))
            return taken

    def age_ns(self) -> int:
        """Return how long the oldest window has waited, 0 if there is none."""
        with self._lock:
            return self._clock() - self._windows[0][0] if self._windows else 0


@dataclass(frozen=True, slots=True)
class WriterCounters:
    """What the writer has done.

    Attributes
    ----------
    windows, rows, appends, failures:
        Windows of all spans and rows stored, appends that succeeded and that failed.
    lost:
        Windows of 1 s that were never stored.
    append_ns:
        Time spent in appends.
    backlog_windows, backlog_octets:
        What waits now.
    stored_until_ns:
        End of the last window of 1 s that is stored, 0 before the first.
    """

    windows: int = 0
    rows: int = 0
    appends: int = 0
    failures: int = 0
    lost: int = 0
    append_ns: int = 0
    backlog_windows: int = 0
    backlog_octets: int = 0
    stored_until_ns: int = 0


class StoreWriter(Component):
    """Append windows to the store.

    Parameters
    ----------
    path:
        Directory of the store.
    retention:
        Length of windows in ns -> how long they are kept in ns; other lengths as the store has it.
    backlog_octets:
        Memory for windows that wait.
    started_ns:
        Start of this run, ns since the epoch: it makes the origin of its windows.
    open_store:
        Opens the store, for tests.
    """

    name: ClassVar[str] = "store"

    def __init__(
        self,
        path: Path,
        retention: Mapping[int, int],
        backlog_octets: int,
        started_ns: int,
        open_store: Callable[[Path, Mapping[int, Level]], Store] = lambda path, levels: Store.open(path, levels=levels),
    ) -> None:
        super().__init__()
        self._path = path
        self._levels = with_retention(retention)
        self._retention = retention
        self._open_store = open_store
        self._log = Log(self.name)
        self._backlog = Backlog(backlog_octets)
        self._roll_up = RollUp()
        self._quality_roll_up = QualityRollUp()
        self._pending: list[UsageWindow] = []  # rolled up, and not stored yet
        self._pending_quality: list[QualityRow] = []
        self._pending_counters: list[CounterWindow] = []
        self._counter_windows = CounterBacklog(backlog_octets // COUNTER_SHARE)
        self._figures: deque[tuple[list[UsageWindow], list[QualityRow]]] = deque(maxlen=FIGURE_SPANS)
        self._pending_figures: list[tuple[list[UsageWindow], list[QualityRow]]] = []
        self._lost_figures = 0
        self._pending_since_ns = 0
        self._earlier: list[str] = []  # origins of earlier runs, to be finished
        self._flushed = False
        self._counters = WriterCounters()
        self._failure: str | None = None
        self._maintenance_failure: str | None = None
        self._finish_failure: str | None = None
        self._no_room: str | None = None
        self._tend_at_ns = 0
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.origin = origin_of(started_ns)

    def put(self, window: UsageWindow, figures: Figures) -> None:
        """Take a closed window of 1 s and what is known of its quality; from any thread, never waits."""
        if lost := self._backlog.put(window, figures):
            self._log.error("windows are lost: the backlog is full", lost=lost, lost_in_all=self._backlog.lost)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    def put_counters(self, window: CounterWindow) -> None:
        """Take a closed window of counters; from any thread, never waits."""
        if lost := self._counter_windows.put(window):
            self._log.error("windows of counters are lost: the backlog is full", lost=lost)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    def put_figures(self, windows: list[UsageWindow], rows: list[QualityRow]) -> None:
        """Take what counters say of links (telemetryd.store.reconciled), in order; from the loop, never waits."""
        self._lost_figures += len(self._figures) == FIGURE_SPANS
        self._figures.append((windows, rows))
        self._wake.set()

    async def run(self) -> None:
        """Open the store, append until stopped, then append what is left."""
        self._loop = asyncio.get_running_loop()
        store = await asyncio.to_thread(self._open_store, self._path, self._levels)
        try:
            snapshot = await asyncio.to_thread(store.snapshot)
            self._earlier = [
                origin
                for origin in snapshot.manifest.extents
                if origin.startswith(ORIGIN_PREFIX) and origin != self.origin
            ]
            self._log.info("store opened", path=self._path, origin=self.origin)
            self.started.set()
            await self._append_until_stopped(store)
        except asyncio.CancelledError:
            # An append may be under way in its thread: the lock stays until the process ends.
            self._log.error("stopped before everything was stored", windows_lost=self._waiting)
            raise
        except BaseException:
            store.close()
            raise
        store.close()

    def health(self) -> Health:
        """Degraded while the store refuses, lags behind by seconds, cannot compact, or will outgrow its disk."""
        reasons = []
        if self._failure is not None:
            reasons.append(f"{self._failure}; {self._waiting:,} windows wait")
        elif (behind_ns := self._behind_ns()) > BEHIND_NS:
            reasons.append(f"the store is {behind_ns / 1e9:.0f} s behind: it is too slow")
        if self._maintenance_failure is not None:
            reasons.append(f"compaction: {self._maintenance_failure}")
        if self._no_room is not None:
            reasons.append(f"retention: {self._no_room}")
        if self._finish_failure is not None:
            reasons.append(f"roll-ups of an earlier run: {self._finish_failure}")
        if self._backlog.lost:
            reasons.append(f"{self._backlog.lost:,} windows were lost since the start: the backlog was full")
        if self._lost_figures:
            reasons.append(
                f"{self._lost_figures:,} spans of counters' figures were lost since the start: too many waited"
            )
        if self._counter_windows.lost:
            reasons.append(f"{self._counter_windows.lost:,} windows of counters were lost since the start: it was full")
        return degraded(*reasons)

    def counters(self) -> WriterCounters:
        """Return what was done so far."""
        return replace(
            self._counters,
            lost=self._backlog.lost,
            backlog_windows=self._waiting,
            backlog_octets=self._backlog.octets,
        )

    @property
    def _shortest_ns(self) -> int:
        return min(self._levels)

    @property
    def _waiting(self) -> int:
        """Windows of 1 s that are not stored yet: those of the backlog, and those that an append was tried with."""
        return len(self._backlog) + sum(window.span_ns == self._shortest_ns for window in self._pending)

    @property
    def _has_pending(self) -> bool:
        return bool(self._pending or self._pending_counters or self._pending_figures)

    @property
    def _has_work(self) -> bool:
        return self._has_pending or bool(len(self._backlog) or len(self._counter_windows) or self._figures)

    def _behind_ns(self) -> int:
        since = self._pending_since_ns
        return max(self._backlog.age_ns(), time.monotonic_ns() - since if since else 0)

    async def _append_until_stopped(self, store: Store) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            if not self._has_work and not self._earlier and not self.stopping.is_set():
                await wait(self._wake, TEND_EVERY_NS / 1e9)
            self._wake.clear()
            is_last = self.stopping.is_set()
            begun = time.monotonic()
            try:
                await asyncio.to_thread(self._turn, store, is_last)
            except StoreError as error:
                self._note_failure(str(error), retry_s)
                await self._pause(FIRST_RETRY_S if is_last else retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
                continue
            if self._failure is not None:
                self._log.info("the store takes windows again", backlog_windows=self._waiting)
            self._failure, retry_s = None, FIRST_RETRY_S
            if self._maintenance_failure != store.maintenance_failure:
                self._maintenance_failure = store.maintenance_failure
                if self._maintenance_failure is not None:
                    self._log.warning("cannot compact the store", reason=self._maintenance_failure)
            if self._flushed and not self._has_pending and not len(self._counter_windows) and not self._figures:
                return
            if not len(self._backlog) and not self.stopping.is_set():
                await self._pause(APPEND_EVERY_S - (time.monotonic() - begun))

    def stop(self) -> None:
        """Ask for the last append: what waits, and the roll-ups that are open."""
        super().stop()
        self._wake.set()

    async def _pause(self, seconds: float) -> None:
        """Wait for a time, less if asked to stop."""
        if seconds <= 0:
            return
        if self.stopping.is_set():
            await asyncio.sleep(seconds)
        else:
            await wait(self.stopping, seconds)

    def _note_failure(self, reason: str, retry_s: float) -> None:
        self._counters = replace(self._counters, failures=self._counters.failures + 1)
        self._failure = reason
        self._log.error("cannot store windows", reason=reason, retry_s=retry_s, backlog_windows=self._waiting)

    def _turn(self, store: Store, is_last: bool) -> None:
        """Append what waits, in the worker thread; finish an earlier run where nothing waits.

        Raises
        ------
        StoreError
            If the store refuses; the windows stay in ``_pending``.
        """
        if not self._pending:
            for window, figures in self._backlog.take(APPEND_WINDOWS):
                self._pending.append(window)
                self._pending_quality += quality_rows(window, figures)
                self._roll_in(self._roll_up.add(window))
                self._quality_roll_up.add(window.start_ns, figures)
            if is_last and not len(self._backlog) and not self._flushed:
                self._roll_in(self._roll_up.flush())
                self._flushed = True
        self._pending_counters += self._counter_windows.take(COUNTER_WINDOWS_AT_ONCE - len(self._pending_counters))
        while self._figures:
            self._pending_figures.append(self._figures.popleft())
        if self._has_pending:
            self._pending_since_ns = self._pending_since_ns or time.monotonic_ns()
            self._append(store)
            self._pending_since_ns = 0
        elif self._earlier and not is_last:
            self._finish(store, self._earlier.pop(0))
        if time.monotonic_ns() >= self._tend_at_ns:
            self._tend(store)

    def _tend(self, store: Store) -> None:
        """See to what no append sees to: retired files while nothing comes, and the room for the retention."""
        self._tend_at_ns = time.monotonic_ns() + TEND_EVERY_NS
        store.tend()
        try:
            found = outlook(store.snapshot().manifest, self._path, self._retention)
        except OSError as error:
            self._log.warning("cannot look at the room on the disk", reason=error)
            return
        self._no_room = None if found is None or found.days_left is None else str(found)
        if self._no_room is not None:
            self._log.warning("the disk is too small for the retention", outlook=self._no_room)

    def _roll_in(self, complete: list[UsageWindow]) -> None:
        for window in complete:
            self._pending.append(window)
            self._pending_quality += self._quality_roll_up.close(window)

    def _finish(self, store: Store, origin: str) -> None:
        try:
            finished = finish_roll_ups(store, origin)
        except StoreError as error:
            # Its seconds stay stored, and the next start tries again: the windows of now are not held up.
            self._finish_failure = str(error)
            self._log.warning("cannot finish the roll-ups of an earlier run", origin=origin, reason=error)
            return
        if finished:
            self._log.info("finished the roll-ups of an earlier run", origin=origin, windows=finished)

    def _append(self, store: Store) -> None:
        begun = time.monotonic_ns()
        appended = store.append(self._pending, self.origin, self._pending_quality, self._pending_counters)
        counters = self._counters
        seconds = [window for window in self._pending if window.span_ns == self._shortest_ns]
        self._counters = replace(
            counters,
            windows=counters.windows + len(self._pending) - appended.skipped,
            rows=counters.rows + appended.rows,
            appends=counters.appends + 1,
            append_ns=counters.append_ns + time.monotonic_ns() - begun,
            stored_until_ns=seconds[-1].start_ns + seconds[-1].span_ns if seconds else counters.stored_until_ns,
        )
        self._pending, self._pending_quality, self._pending_counters = [], [], []
        if self._pending_figures:
            windows = [window for part, _ in self._pending_figures for window in part]
            rows = [row for _, part in self._pending_figures for row in part]
            store.append(windows, counters_origin(self.origin), rows)
            self._pending_figures = []


def _with_lost(figures: Figures, lost: list[Figures]) -> Figures:
    """Add to a window's figures those of the windows before it that were lost, and their number."""
    sums = dict(figures)
    for one in lost:
        add_figures(sums, {key: value for key, value in one.items() if key != COVERED})
    add_figures(sums, {LOST_WINDOWS: float(len(lost))})
    return sums


def origin_of(started_ns: int) -> str:
    """Name the windows of one run of the daemon: ``live:`` and the time of its start."""
    started = datetime.fromtimestamp(started_ns // 1_000_000 / 1000, UTC)
    return ORIGIN_PREFIX + started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
