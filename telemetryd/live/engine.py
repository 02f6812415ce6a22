"""The live engine: a thread a socket, and one that merges their windows in the order of time."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final

from telemetryd.aggregate.rollup import merge_windows
from telemetryd.aggregate.sampled_counters import Rows
from telemetryd.aggregate.windows import WINDOW_NS
from telemetryd.classify.tables import Tables
from telemetryd.errors import TelemetrydError
from telemetryd.live.counters import (
    LiveCounters,
    agent_counters,
    refused_sources,
    socket_counters,
    undecodable,
)
from telemetryd.live.settings import LiveSettings
from telemetryd.live.worker import FOREVER, Passed, Worker, show_name
from telemetryd.observe.clock import Clock, ClockState, DisciplinedClock
from telemetryd.schema import UsageWindow

#: A thread that computes in Python gives up the interpreter after so long when a socket's thread waits for it. A
#: batch takes it five times; with Python's 5 ms, parsing a registry would bring reception down to 20,000 datagrams/s.
SWITCH_INTERVAL_S: Final = 1e-4
#: How often the merging thread shows that it is alive.
_ALIVE_S: Final = 0.25
#: The part of a drain's time that the sockets may take; the rest is for merging and handing out.
_RECEIVE_SHARE: Final = 0.6


class LiveEngine:
    """Turn datagrams into windows, one thread a socket.

    Parameters
    ----------
    sockets:
        Bound UDP sockets, which stay the caller's to close (after :meth:`drain`); see
        :func:`telemetryd.live.open_sockets` and :func:`telemetryd.live.adopt_sockets`.
    tables:
        What the registry was compiled to.
    settings:
        What can be set.
    on_window:
        Called from one thread with every complete window of 1 s, merged over the sockets, in the order of time,
        each second once. A second in which nothing came has no window.
    clock:
        Gives the event time.
    on_counters:
        Called from the same thread with the counters samples of each second
        (:func:`telemetryd.aggregate.sampled_counters.take_rows`).

    Raises
    ------
    InputError
        If a setting makes no sense.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        tables: Tables,
        settings: LiveSettings,
        on_window: Callable[[UsageWindow], None],
        *,
        clock: Clock | None = None,
        on_counters: Callable[[list[Rows]], None] | None = None,
    ) -> None:
        if not sockets:
            raise ValueError("the engine needs a socket")
        self._clock = clock or DisciplinedClock()
        self._on_window = on_window
        self._on_counters = on_counters
        self._passed: SimpleQueue[Passed] = SimpleQueue()
        self._workers = [
            Worker(index, one.fileno(), tables, settings, self._clock, self._passed)
            for index, one in enumerate(sockets)
        ]
        self._merger = threading.Thread(target=self._merge, name="live-merge", daemon=True)
        self._merger_failure: BaseException | None = None
        self._merger_ns = time.monotonic_ns()
        self._clock_state = ClockState()
        self._interval_s: float | None = None
        self._windows = 0
        self._last_delay_ns = self._worst_delay_ns = 0

    def start(self) -> None:
        """Start receiving. Until the drain, threads of this process switch every :data:`SWITCH_INTERVAL_S`."""
        self._interval_s = sys.getswitchinterval()
        sys.setswitchinterval(min(self._interval_s, SWITCH_INTERVAL_S))
        self._merger.start()
        for worker in self._workers:
            worker.start()

    def swap(self, tables: Tables) -> int:
        """Use other tables from the next second on; return where that begins, ns since the epoch.

        All sockets change at the same second, so that a window has one dictionary. Should a thread be late
        for it, its part of that second is merged by name. Returns at once; of several swaps within a second
        the last one counts.

        Raises
        ------
        InputError
            If the senders that may send cannot be told from the settings.
        """
        second = self._clock.now_ns() // WINDOW_NS + 1
        for worker in self._workers:
            worker.swap(tables, second)
        return second * WINDOW_NS

    def drain(self, timeout_s: float) -> None:
        """Receive what waits in the sockets, close the open windows, hand them out, and end the threads.

        Under traffic that does not stop, what comes after a socket was found empty stays in it.

        Raises
        ------
        TelemetrydError
            If that took longer than ``timeout_s``; threads that are stuck die with the process.
        """
        now_ns = time.monotonic_ns()
        deadline_ns = now_ns + int(timeout_s * 1e9)
        threads: list[threading.Thread] = [*self._workers, self._merger]
        for worker in self._workers:
            worker.stop(now_ns + int(timeout_s * 1e9 * _RECEIVE_SHARE))
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))
        stuck = [thread.name for thread in threads if thread.is_alive()]
        if stuck:
            raise TelemetrydError(f"not drained within {timeout_s:g} s: {', '.join(stuck)} did not end")
        if self._interval_s is not None:
            sys.setswitchinterval(self._interval_s)
            self._interval_s = None

    @property
    def failure(self) -> BaseException | None:
        """What ended a thread unexpectedly, None while all is well. The engine is then to be drained."""
        return next((worker.failure for worker in self._workers if worker.failure), self._merger_failure)

    @property
    def heartbeat_ns(self) -> int:
        """Monotonic time since when every thread has made progress."""
        return min(self._merger_ns, *(worker.progress_ns for worker in self._workers))

    def counters(self) -> LiveCounters:
        """Return all counts, as of at most a second ago; may be called from any thread, and does not wait."""
        snapshots = [worker.snapshot for worker in self._workers]
        decoders = [snapshot.decoder for snapshot in snapshots]

        def in_windows(name: str) -> int:
            return sum(snapshot.windows[name] for snapshot in snapshots)

        return LiveCounters(
            sockets=tuple(socket_counters(snapshot) for snapshot in snapshots),
            agents=agent_counters(snapshots),
            refused_sources=refused_sources(snapshots),
            undecodable=undecodable(snapshots),
            unknown_structures=sum(
                sum(stats[kind].values()) for stats in decoders for kind in ("unknown_samples", "unknown_records")
            ),
            flow_samples=sum(stats["flow_samples"] for stats in decoders),
            counters_samples=sum(stats["counters_samples"] for stats in decoders),
            discarded_packets=sum(sum(stats["discarded_packets"].values()) for stats in decoders),
            late_samples=in_windows("late_samples"),
            duplicate_samples=in_windows("duplicate_samples"),
            unplaced_samples=in_windows("unplaced_samples"),
            windows=self._windows,
            last_delay_ns=self._last_delay_ns,
            worst_delay_ns=self._worst_delay_ns,
            swaps=min(worker.swaps for worker in self._workers),
            clock=self._clock_state,
            lost_counters_samples=sum(snapshot.lost_counter_rows for snapshot in snapshots),
        )

    def _merge(self) -> None:
        show_name()
        try:
            self._merge_windows()
        except BaseException as failure:  # noqa: BLE001 - the owner is told by `failure`
            self._merger_failure = failure

    def _merge_windows(self) -> None:
        """Hand out each second when every thread has passed it."""
        passed = [0] * len(self._workers)
        parts: dict[int, list[UsageWindow]] = {}
        while min(passed) < FOREVER:
            self._merger_ns = time.monotonic_ns()
            try:
                index, second, windows, counters = self._passed.get(timeout=_ALIVE_S)
            except Empty:
                continue
            if counters and self._on_counters is not None:
                self._on_counters(counters)
            if second > max(passed):
                self._clock_state = self._clock.discipline()
            passed[index] = second
            for window in windows:
                parts.setdefault(window.start_ns, []).append(window)
            for start_ns in sorted(parts):
                if start_ns + WINDOW_NS > min(passed) * WINDOW_NS:
                    break
                self._hand_out(parts.pop(start_ns))

    def _hand_out(self, parts: list[UsageWindow]) -> None:
        window = parts[0]
        if len(parts) > 1:
            window = merge_windows(parts, window.start_ns, window.span_ns)
        self._on_window(window)
        self._windows += 1
        self._last_delay_ns = self._clock.now_ns() - (window.start_ns + window.span_ns)
        self._worst_delay_ns = max(self._worst_delay_ns, self._last_delay_ns)
