"""The outputs as a component of the daemon: windows in, entries into the spool, a sender for each server.

Windows come from the engine's thread and wait in bounded memory until the spool has them; the spool is fed by one
thread, once a second. A disk that refuses, or a server, is a state with back-off: the embedded store goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from telemetryd.backlog import CounterBacklog
from telemetryd.component import Component, wait
from telemetryd.config.settings import OutputSettings, SpoolSettings
from telemetryd.counter_windows import CounterWindow
from telemetryd.errors import StoreError
from telemetryd.observe.health import Health, State
from telemetryd.observe.log import Log
from telemetryd.outputs.earlier import last_windows
from telemetryd.outputs.feed import Feed
from telemetryd.outputs.figures import MINUTE_NS, Figures
from telemetryd.schema import UsageWindow
from telemetryd.store.influx.credentials import TokenSource
from telemetryd.store.influx.dead_letter import DeadLetters
from telemetryd.store.influx.respond import Pace
from telemetryd.store.influx.sender import Sender, SenderCounters
from telemetryd.store.influx.transport import Target, Transport
from telemetryd.store.series_guard import DEFAULT_LIMIT, SeriesCounts
from telemetryd.store.spool import Entry, Spool
from telemetryd.writer import APPEND_EVERY_S, APPEND_WINDOWS, COUNTER_SHARE, COUNTER_WINDOWS_AT_ONCE, Backlog

SECOND_NS: Final = 1_000_000_000
FIRST_RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 30.0
#: Time that senders have at the end for what waits; what they do not finish stays in the spool.
FINISH_S: Final = 2.0
#: So often the windows of earlier runs are looked for, once a minute: their roll-ups may have to be finished first.
LOOKS: Final = 5
_WHY: Final = {
    "size": "the spool was full (raise spool.size)",
    "disk": "the disk was full",
    "age": "they waited longer than spool.age",
    "damage": "their files were damaged",
}


@dataclass(frozen=True, slots=True)
class OutputsCounters:
    """What was done since the start.

    Attributes
    ----------
    windows:
        Windows of 1 s whose points are in the spool.
    points, batches, octets:
        Appended to the spool; octets are compressed.
    append_ns:
        Time spent in rendering and appending.
    failures:
        Appends that the disk refused; they are tried again.
    lost_windows:
        Windows of 1 s that never came to the spool, the backlog being full.
    spool_octets:
        Octets of the spool's files.
    lost_points:
        (output, span in ns, why) -> points that were given up.
    torn_octets, damaged_octets:
        What the spool could not read when it was opened.
    series:
        Series by measurement, and what was folded.
    senders:
        By the names of the outputs.
    """

    windows: int = 0
    points: int = 0
    batches: int = 0
    octets: int = 0
    append_ns: int = 0
    failures: int = 0
    lost_windows: int = 0
    spool_octets: int = 0
    lost_points: Mapping[tuple[str, int, str], int] = field(default_factory=dict)
    torn_octets: int = 0
    damaged_octets: int = 0
    series: Mapping[str, SeriesCounts] = field(default_factory=dict)
    senders: Mapping[str, SenderCounters] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Running:
    """An output at work."""

    settings: OutputSettings
    sender: Sender
    task: asyncio.Task[None]


class Outputs(Component):
    """Send the series to every output.

    Parameters
    ----------
    outputs:
        The servers; without any, nothing is done and no spool is made.
    spool:
        Where points wait.
    backlog_octets:
        Memory for windows that wait for the spool.
    store:
        Directory of the embedded store: it has the parts of earlier runs.
    origin:
        That of this run in it.
    figures:
        Looks at the daemon, once a minute; called in a thread.
    series_limit:
        Series of a measurement at most.
    pace:
        How patient the senders are.
    clock:
        Wall clock in ns.
    """

    name: ClassVar[str] = "outputs"

    def __init__(
        self,
        outputs: Sequence[OutputSettings],
        spool: SpoolSettings,
        backlog_octets: int,
        *,
        store: Path,
        origin: str,
        figures: Callable[[], Figures],
        series_limit: int = DEFAULT_LIMIT,
        pace: Pace | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__()
        self._wanted = {output.name: output for output in outputs}
        self._settings = spool
        self._store = store
        self._origin = origin
        self._figures = figures
        self._pace = pace or Pace()
        self._clock = clock
        self._log = Log(self.name)
        self._backlog = Backlog(backlog_octets)
        self._counter_windows = CounterBacklog(backlog_octets // COUNTER_SHARE)
        self._feed = Feed(series_limit)
        self._spool: Spool | None = None
        self._running: dict[str, _Running] = {}
        self._entries: list[Entry] = []  # made, and not in the spool yet
        self._minute = clock() // MINUTE_NS
        self._looks = 0
        self._flushed = False
        self._failure: str | None = None
        self._series: Mapping[str, SeriesCounts] = {}
        self._taken = self._windows = self._points = self._batches = self._octets = self._append_ns = self._failures = 0
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, window: UsageWindow) -> None:
        """Take a closed window of 1 s; from any thread, never waits."""
        if not self._wanted:
            return
        if lost := self._backlog.put(window, {}):
            self._log.error("windows are lost: the backlog is full", lost=lost, lost_in_all=self._backlog.lost)
        self._rouse()

    def put_counters(self, window: CounterWindow) -> None:
        """Take a closed window of counters; from any thread, never waits."""
        if not self._wanted:
            return
        if lost := self._counter_windows.put(window):
            self._log.error("windows of counters are lost: the backlog is full", lost=lost)
        self._rouse()

    def replace(self, outputs: Sequence[OutputSettings]) -> None:
        """Send to other outputs from now on; those that did not change go on. From the event loop."""
        self._wanted = {output.name: output for output in outputs}
        self._wake.set()

    def stop(self) -> None:
        """Ask for the last append; senders have a moment for what is new."""
        super().stop()
        self._wake.set()

    async def run(self) -> None:
        """Feed the spool and run the senders until stopped."""
        self._loop = asyncio.get_running_loop()
        self.started.set()
        async with asyncio.TaskGroup() as group:
            await self._feed_until_stopped(group)
            await self._end([*self._running])
        # After a cancellation an append may be under way in its thread: then the lock stays until the process ends.
        if self._spool is not None:
            await asyncio.to_thread(self._spool.close)

    def health(self) -> Health:
        """Return the worst state of spool and outputs, with every reason."""
        reasons = []
        if self._failure is not None:
            reasons.append(f"{self._failure}; {len(self._backlog):,} windows wait")
        if self._counter_windows.lost:
            reasons.append(f"{self._counter_windows.lost:,} windows of counters were lost since the start")
        if self._backlog.lost:
            reasons.append(f"{self._backlog.lost:,} windows were lost since the start: the spool did not take them")
        for (name, span_ns, why), points in sorted(self._lost().items()):
            span = f"{span_ns / SECOND_NS:g} s"
            reasons.append(f"{name}: {points:,} points of {span} were lost since the start: {_WHY[why]}")
        for name, counts in self._series.items():
            if counts.is_full:
                reasons.append(
                    f"{name}: {counts.folded_rows:,} rows went into `other`: more than {counts.limit:,} keys "
                    "(raise limits.series)"
                )
        parts = {name: one.sender.health() for name, one in sorted(self._running.items())}
        worst = max([State.DEGRADED if reasons else State.OK, *(part.state for part in parts.values())])
        reasons += [f"{name}: {reason}" for name, part in parts.items() for reason in part.reasons]
        return Health(worst, tuple(reasons))

    def states(self) -> Mapping[str, State]:
        """Return the state of each output."""
        return {name: one.sender.health().state for name, one in self._running.items()}

    def counters(self) -> OutputsCounters:
        """Return what was done so far."""
        spool = self._spool
        return OutputsCounters(
            windows=self._windows,
            points=self._points,
            batches=self._batches,
            octets=self._octets,
            append_ns=self._append_ns,
            failures=self._failures,
            lost_windows=self._backlog.lost,
            spool_octets=spool.octets if spool else 0,
            lost_points=self._lost(),
            torn_octets=spool.torn_octets if spool else 0,
            damaged_octets=spool.damaged_octets if spool else 0,
            series=self._series,
            senders={name: one.sender.counters() for name, one in sorted(self._running.items())},
        )

    def _lost(self) -> Mapping[tuple[str, int, str], int]:
        return self._spool.lost if self._spool is not None else {}

    def _rouse(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    # --- the spool ---------------------------------------------------------------------------------------------

    async def _feed_until_stopped(self, group: asyncio.TaskGroup) -> None:
        retry_s = FIRST_RETRY_S
        while not self._flushed:
            begun = time.monotonic()
            self._wake.clear()
            try:
                await self._configure(group)
                await asyncio.to_thread(self._turn, self.stopping.is_set())
            except StoreError as error:
                self._failures += 1
                self._failure = str(error)
                self._log.error(
                    "cannot spool points", reason=error, retry_s=retry_s, backlog_windows=len(self._backlog)
                )
                await self._pause(FIRST_RETRY_S if self.stopping.is_set() else retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
                continue
            if self._failure is not None:
                self._log.info("the spool takes points again")
            self._failure, retry_s = None, FIRST_RETRY_S
            for one in self._running.values():
                one.sender.notify()
            if not len(self._backlog) and not self.stopping.is_set():
                await self._pause(APPEND_EVERY_S - (time.monotonic() - begun))
                await wait(self._wake, ((self._minute + 1) * MINUTE_NS - self._clock()) / SECOND_NS)

    async def _pause(self, seconds: float) -> None:
        """Wait for a time, less if asked to stop."""
        if self.stopping.is_set():
            await asyncio.sleep(max(seconds, 0))
        else:
            await wait(self.stopping, seconds)

    def _turn(self, is_last: bool) -> None:
        """Append what waits, in a thread.

        Raises
        ------
        StoreError
            If the disk refuses; what was made of the windows stays.
        """
        if self._spool is None:
            self._flushed = is_last
            return
        begun = time.monotonic_ns()
        if not self._entries:
            for window, _ in self._backlog.take(APPEND_WINDOWS):
                self._entries += self._feed.add(window)
                self._taken += 1
            for one in self._counter_windows.take(COUNTER_WINDOWS_AT_ONCE):
                self._entries += self._feed.counters(one)
            self._take_minute()
        if self._entries:
            self._spool.append(self._entries)
            self._points += sum(entry.points for entry in self._entries)
            self._batches += len(self._entries)
            self._octets += sum(len(entry.payload) for entry in self._entries)
            self._append_ns += time.monotonic_ns() - begun
            self._entries = []
        self._windows = self._taken
        self._series = self._feed.series()
        self._flushed = is_last and not len(self._backlog) and not len(self._counter_windows)

    def _take_minute(self) -> None:
        """At the end of a minute: the rows that no window holds, and what earlier runs left."""
        minute = self._clock() // MINUTE_NS
        if minute == self._minute or self._spool is None:
            return
        self._minute = minute
        self._entries += self._feed.minute((minute - 1) * MINUTE_NS, self._figures())
        self._catch_up()
        self._spool.maintain()

    def _catch_up(self) -> None:
        if self._feed.is_caught_up:
            return
        self._looks += 1
        try:
            earlier = last_windows(self._store, self._origin, self._feed.spans_ns)
        except StoreError as error:
            earlier = None
            self._log.warning("cannot read the windows of earlier runs", reason=error)
        if earlier is None and self._looks >= LOOKS:
            self._log.error("gave up on the windows of earlier runs: those that a restart fell into are partial")
            earlier = {}
        if earlier is not None:
            self._entries += self._feed.catch_up(earlier, self._clock())

    # --- the outputs -------------------------------------------------------------------------------------------

    async def _configure(self, group: asyncio.TaskGroup) -> None:
        """Bring spool and senders in line with what is wanted; StoreError if the spool refuses."""
        wanted = self._wanted
        if wanted == {name: one.settings for name, one in self._running.items()}:
            return
        await self._end([name for name, one in self._running.items() if wanted.get(name) != one.settings])
        spans: dict[str, Collection[int]] = {name: output.spans for name, output in wanted.items()}
        if self._spool is None:
            settings = self._settings
            self._spool = await asyncio.to_thread(
                lambda: Spool.open(settings.path, spans, size=settings.size, age_ns=settings.age, clock=self._clock)
            )
            self._log.info("spool opened", path=settings.path, octets=self._spool.octets)
        else:
            await asyncio.to_thread(self._spool.set_outputs, spans)
        self._feed.spans_ns = frozenset(span_ns for output in wanted.values() for span_ns in output.spans)
        for name, output in wanted.items():
            if name not in self._running:
                self._running[name] = self._start(group, self._spool, output)

    def _start(self, group: asyncio.TaskGroup, spool: Spool, output: OutputSettings) -> _Running:
        transport = Transport(
            Target(
                output.url,
                output.org,
                output.bucket,
                TokenSource(output.token_file, output.credential),
                output.ca_file,
                output.timeout / SECOND_NS,
                output.connections,
            )
        )
        rejected = self._settings.path / f"rejected-{output.name}.jsonl"
        sender = Sender(
            transport,
            spool.reader(output.name),
            DeadLetters(rejected, output.name, self._settings.rejected, self._clock),
            connections=output.connections,
            backlog_points_per_s=output.backlog_points_per_s,
            pace=self._pace,
            clock=self._clock,
        )

        async def send() -> None:
            async with transport:
                await sender.run()

        self._log.info("output", output=output.name, url=output.url, bucket=output.bucket)
        return _Running(output, sender, group.create_task(send(), name=f"output-{output.name}"))

    async def _end(self, names: Sequence[str]) -> None:
        """End senders: what they do not finish in a moment is sent by the next one."""
        ending = [self._running.pop(name) for name in names]
        for one in ending:
            one.sender.stop()
        if ending:
            await asyncio.wait([one.task for one in ending], timeout=FINISH_S)
            for one in ending:
                one.task.cancel()
            await asyncio.wait([one.task for one in ending])
