"""One socket's thread: receive, decode, track, classify, accumulate, and hand on each closed second."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from telemetryd._ext import load
from telemetryd.aggregate.sampled_counters import Rows
from telemetryd.aggregate.windows import WINDOW_NS
from telemetryd.classify.tables import Tables
from telemetryd.live.counters import Snapshot
from telemetryd.live.settings import LiveSettings, allowed_sources
from telemetryd.live.shedding import Shedding
from telemetryd.observe.clock import Clock
from telemetryd.pipeline import Pipeline
from telemetryd.schema import UsageWindow

#: A silent socket's thread looks at the clock this often; longer than datagrams may accumulate.
WAIT_NS: Final = 200_000_000
#: A batch is received so long before the end of a second: what comes later counts in the next one.
GUARD_NS: Final = 300_000
#: The second that a thread has passed when it has ended.
FOREVER: Final = 1 << 62
#: How much an agent may send at once, as seconds of its rate.
BURST_SECONDS: Final = 1.0

#: Counters samples of a socket in a second; of more, the rest is lost and counted.
COUNTER_ROWS: Final = 16_384

#: (number of the socket, the second that its thread has passed all before of, windows that it closed, its counters).
Passed = tuple[int, int, list[UsageWindow], list[Rows]]


def show_name() -> None:
    """Give the calling thread its name in the kernel too, so that `top -H` and `perf` show it."""
    thread = threading.current_thread()
    with contextlib.suppress(OSError):  # without /proc it goes without
        Path(f"/proc/self/task/{thread.native_id}/comm").write_text(thread.name)


class Worker(threading.Thread):
    """The thread of one socket.

    Event time is the time of reception and never goes back within a thread, so no row can be late.

    Parameters
    ----------
    index:
        Number of the socket.
    fd:
        Its descriptor.
    tables, settings, clock:
        As the engine has them.
    output:
        Where the closed windows go: one item a second, and one with FOREVER at the end.

    Attributes
    ----------
    failure:
        What ended the thread before it was told to; its open window is lost then.
    progress_ns:
        Monotonic time at which the thread was last alive.
    snapshot:
        The latest counts.
    swaps:
        Tables that took the place of others.
    """

    def __init__(
        self, index: int, fd: int, tables: Tables, settings: LiveSettings, clock: Clock, output: SimpleQueue[Passed]
    ) -> None:
        super().__init__(name=f"live-{index}", daemon=True)
        self._index, self._settings, self._clock, self._output = index, settings, clock, output
        self._receiver = load("receive", "telemetryd.ingest.sflow.receive").Receiver(
            fd, settings.batch_datagrams, settings.max_octets, linger_ns=settings.linger_ns, seed=index
        )
        self._receiver.allow(*allowed_sources(settings, tables))
        rate = settings.agent_datagrams_per_s
        self._receiver.cap(rate, rate * BURST_SECONDS)
        self._pipeline = Pipeline(
            tables, decapsulate=settings.decapsulate, tolerance_ns=None, counter_rows=COUNTER_ROWS
        )
        self._shedding = Shedding()
        self._next_tables: tuple[Tables, int] | None = None
        self._stop_at_ns: int | None = None
        self._now_ns = 0
        self._second = 0
        self.failure: BaseException | None = None
        self.progress_ns = time.monotonic_ns()
        self.swaps = 0
        self.snapshot = self._take_snapshot()

    def swap(self, tables: Tables, second: int) -> None:
        """Use other tables from the beginning of a second on, or of the next one where that has begun."""
        self._next_tables = (tables, second)

    def stop(self, deadline_ns: int) -> None:
        """End when the socket is empty, or at a monotonic time; close the open window."""
        self._stop_at_ns = deadline_ns

    def run(self) -> None:
        """Run until :meth:`stop` or a failure."""
        windows: list[UsageWindow] = []
        show_name()
        try:
            self._run()
            windows = self._pipeline.windows.flush()
            self.snapshot = self._take_snapshot()
        except BaseException as failure:  # noqa: BLE001 - whatever it is, the engine's owner is told
            self.failure = failure
        self._output.put((self._index, FOREVER, windows, self._pipeline.take_counters()))

    def _run(self) -> None:
        receiver, pipeline = self._receiver, self._pipeline
        self._pass(self._clock.now_ns())
        while True:
            stop_at_ns = self._stop_at_ns
            n = receiver.receive(self._wait_ns() if stop_at_ns is None else 0)
            self._pass(self._clock.now_ns())
            if n:
                receiver.ts_ns[:n] = self._now_ns
                offsets, lengths, ts_ns = receiver.offsets[:n], receiver.lengths[:n], receiver.ts_ns[:n]
                if forced := pipeline.add(receiver.buffer, offsets, lengths, ts_ns):
                    raise AssertionError(f"{len(forced)} windows were closed out of turn")
            self.progress_ns = time.monotonic_ns()
            receiver.keep(self._shedding.update(receiver.fill, self.progress_ns))
            if stop_at_ns is not None and (not receiver.is_behind or self.progress_ns >= stop_at_ns):
                return

    def _wait_ns(self) -> int:
        """Return how long to wait for datagrams.

        Not beyond the end of the second, since its window is due; and just before it what has accumulated is
        received, so that it is in the window in which it came.
        """
        left_ns = (self._second + 1) * WINDOW_NS - self._clock.now_ns()
        return max(1, min(WAIT_NS, left_ns - GUARD_NS if left_ns > GUARD_NS else left_ns))

    def _pass(self, now_ns: int) -> None:
        """Let time go on; at a new second, close the windows before it and take what was swapped in."""
        self._now_ns = max(self._now_ns, now_ns)
        second = self._now_ns // WINDOW_NS
        if second == self._second:
            return
        self._second = second
        closed = self._pipeline.windows.advance(second * WINDOW_NS)
        self.snapshot = self._take_snapshot()  # first: who gets the windows finds the counts of their time
        self._output.put((self._index, second, closed, self._pipeline.take_counters()))
        if self._next_tables is not None and second >= self._next_tables[1]:
            tables, self._next_tables = self._next_tables[0], None
            self._pipeline.swap(tables)
            self._receiver.allow(*allowed_sources(self._settings, tables))
            self.swaps += 1

    def _take_snapshot(self) -> Snapshot:
        pipeline, receiver = self._pipeline, self._receiver
        return Snapshot(
            receiver=receiver.stats(),
            received_agents=receiver.agents(),
            refused=receiver.refused(),
            decoder=pipeline.decoder.stats(),
            tracked_agents=pipeline.tracker.agents(),
            sources=pipeline.tracker.sources(),
            windows=pipeline.windows.counts(),
            keep_share=self._shedding.share,
            lost_counter_rows=pipeline.lost_counter_rows,
        )
