"""Counters as a component: what gNMI and sFlow tell of devices becomes windows of 10 s and their roll-ups.

    updates (gnmi) -+--> readings --+--> growth --> windows of 10 s -+-> 1 min, 5 min, 1 h --> store, outputs
    counters samples --> readings --+      |                         |
    (receive)       |                      +--> whoever holds        |
                    |                           samples against them |
                    +--> gauges of components --> windows of 10 s ---+

It runs on the loop; only what earlier runs stored is read in a thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.component_windows import NOBODY, ComponentWindows
from telemetryd.aggregate.counter_rollup import CounterRollUp
from telemetryd.aggregate.counters import CounterTracker
from telemetryd.aggregate.feeds import NO_FEED, Feed, Feeds, ports_of
from telemetryd.aggregate.interface_windows import SPAN_NS, InterfaceWindows
from telemetryd.aggregate.sampled_counters import Rows, SampledCounters
from telemetryd.aggregate.skew import Skew
from telemetryd.component import Component, wait
from telemetryd.counter_windows import CounterWindow
from telemetryd.errors import StoreError
from telemetryd.ingest.gnmi.counters import BUNDLE, EVERYTHING, IFINDEX, OPER_STATUS, CounterPaths, is_up, speed_of
from telemetryd.ingest.gnmi.paths import PathTable
from telemetryd.observe.health import Health, degraded
from telemetryd.observe.log import Log
from telemetryd.pipeline import words_text
from telemetryd.registry.models import Registry
from telemetryd.schema import CounterSource, UpdateBatch
from telemetryd.store.counted import stored_parts, stored_until
from telemetryd.targets import TargetPlan

TURN_S: Final = 1.0
#: A span waits so long for an interface that is late, and for longer where some are sampled more rarely.
HOLD_NS: Final = 90_000_000_000
HOLD_INTERVALS: Final = 2.5
LONGEST_HOLD_NS: Final = 1_800_000_000_000
#: Entities of targets, as multiples of the feeds, among which those of targets that have left are looked for.
MOST_STALE: Final = 4
#: Members of bundles that health names; the others are counted.
NAMED: Final = 4
#: Batches of counters samples that wait for a turn; beyond it the oldest are lost, counted.
WAITING: Final = 256

#: The kinds of windows that are made here.
KINDS: Final = ("interface", "queue", "component")
#: Takes growth (:data:`telemetryd.schema.GROWTH_COLUMNS`), our clock less the device's by feed, and the feeds.
OnGrowth = Callable[[Mapping[str, NDArray[Any]], NDArray[np.int64], Feeds], None]


@dataclass(frozen=True, slots=True)
class CountingCounters:
    """What was done since the start.

    Attributes
    ----------
    feeds, interfaces:
        Interfaces and queues that are told of, by each source, and interfaces by name.
    components:
        Components that are told of.
    readings:
        What became of readings (:data:`telemetryd.aggregate.counters.OUTCOMES`).
    unusable:
        Updates of counters whose value is no count, and of gauges whose value is no number.
    late_samples, lost_samples:
        Counters samples of sFlow that came twice or late, and that found no room.
    late_rows:
        Growth that came, wholly or in part, for spans that were closed.
    refused_feeds:
        Readings of more interfaces, queues and components than there may be.
    windows:
        Windows handed on, roll-ups included.
    """

    feeds: int = 0
    interfaces: int = 0
    components: int = 0
    readings: Mapping[str, int] = field(default_factory=dict)
    unusable: int = 0
    late_samples: int = 0
    lost_samples: int = 0
    late_rows: int = 0
    refused_feeds: int = 0
    windows: int = 0


class Counting(Component):
    """Make windows of counters.

    Parameters
    ----------
    registry:
        Names devices and interfaces.
    put:
        Takes each window, in the order of its span's end; never waits.
    store:
        Directory of the embedded store, which has the windows of earlier runs.
    on_growth:
        Takes all growth as it comes.
    clock:
        Wall clock in ns.
    """

    name: ClassVar[str] = "counters"

    def __init__(
        self,
        registry: Registry,
        put: Callable[[CounterWindow], None],
        *,
        store: Path,
        on_growth: OnGrowth | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__()
        self._put, self._store, self._on_growth, self._clock = put, store, on_growth, clock
        self._log = Log(self.name)
        self._ports = ports_of(registry)
        self._feeds = Feeds(self._ports)
        self._tracker = CounterTracker()
        self._windows = InterfaceWindows(self._feeds, HOLD_NS, begin_ns=clock())
        self._components = ComponentWindows(begin_ns=clock())
        self._by_component: dict[tuple[int, int], int] = {}
        self._roll_up = CounterRollUp()
        self._stored_until: Mapping[tuple[str, int], int] = {}
        self._samples = SampledCounters(self._feeds, self._device_of)
        self._waiting: list[Rows] = []
        self._lock = threading.Lock()
        self._lost_samples = 0
        self._paths: CounterPaths | None = None
        self._skew = Skew()
        self._by_entity: dict[tuple[int, int], int] = {}
        self._with_speed = 0
        self._unusable = self._handed = 0
        self._targets: set[str] = set()

    def take_samples(self, rows: list[Rows]) -> None:
        """Take counters samples; from any thread, never waits."""
        with self._lock:
            self._waiting += rows
            excess = len(self._waiting) - WAITING
            if excess > 0:
                self._lost_samples += sum(len(one["ts_ns"]) for one in self._waiting[:excess])
                del self._waiting[:excess]

    def take_updates(self, batch: UpdateBatch, paths: PathTable, plans: Mapping[int, TargetPlan]) -> None:
        """Take updates of gNMI targets, on the event loop."""
        if self._paths is None:
            self._paths = CounterPaths(paths)
        told = self._paths.read(batch)
        self._unusable += told.unusable
        for target, entity, leaf, value in told.states:
            self._say(plans, target, entity, leaf, value)
        self._read(told.before, plans)
        for target, scope in told.deleted:
            self._forget(plans, target, scope)
        self._read(told.after, plans)
        if told.gauges:
            self._take_gauges(told.gauges, plans)

    def replace(self, registry: Registry, plans: list[TargetPlan]) -> None:
        """Go by another registry; spans wait as long as the targets' intervals ask for."""
        self._ports = ports_of(registry)
        self._feeds.replace(self._ports)
        self._with_speed = 0
        self.wait_for(plans)
        left = self._targets - {plan.name for plan in plans}
        for device in left:
            self._windows.leave(self._feeds.of_device(CounterSource.GNMI, device))
        self._targets = {plan.name for plan in plans}

    def wait_for(self, plans: list[TargetPlan]) -> None:
        """Let spans wait long enough for the targets that are sampled most rarely."""
        self._targets |= {plan.name for plan in plans}
        longest = max((plan.sample_ns for plan in plans), default=0)
        self._windows.hold_ns = min(max(HOLD_NS, int(HOLD_INTERVALS * longest)), LONGEST_HOLD_NS)

    async def run(self) -> None:
        """Close windows until stopped, then all that are open; the roll-ups are finished by the next run."""
        await asyncio.to_thread(self._catch_up)
        self.started.set()
        while not self.stopping.is_set():
            self._turn()
            await wait(self.stopping, TURN_S)
        self._turn(is_last=True)

    def counters(self) -> CountingCounters:
        """Return what was done so far."""
        return CountingCounters(
            feeds=len(self._feeds),
            interfaces=len(self._feeds.interfaces()[1]),
            components=len(self._components),
            readings=dict(self._tracker.counts),
            unusable=self._unusable,
            late_samples=self._samples.late,
            lost_samples=self._lost_samples,
            late_rows=self._windows.late,
            refused_feeds=self._feeds.refused + self._components.refused,
            windows=self._handed,
        )

    def health(self) -> Health:
        """Degraded where bundles differ from the registry, or there is too much of something, or samples were lost."""
        reasons = []
        if refused := self._feeds.refused + self._components.refused:
            reasons.append(
                f"{refused:,} readings of more interfaces, queues and components than a device, or all, may have"
            )
        strays = self._feeds.strays()
        reasons += strays[:NAMED]
        if len(strays) > NAMED:
            reasons.append(f"{len(strays) - NAMED} more members of bundles differ from the registry")
        if self._lost_samples:
            reasons.append(f"{self._lost_samples:,} counters samples were lost since the start: the loop was busy")
        return degraded(*reasons)

    # --- what comes ----------------------------------------------------------------------------------------------

    def _device_of(self, version: int, hi: int, lo: int) -> str:
        address = words_text(version, hi, lo) if version else "other agents"
        return self._ports.agents.get(address, address)

    def _feed(self, plans: Mapping[int, TargetPlan], target: int, entity: int) -> int:
        """Return the feed of a target's interface or queue; NO_FEED of a target that has left."""
        number = self._by_entity.get((target, entity))
        if number is None:
            if target not in plans or self._paths is None:
                return NO_FEED
            if len(self._by_entity) > MOST_STALE * (len(self._feeds) + 1):  # mostly of targets that have left
                self._by_entity = {key: one for key, one in self._by_entity.items() if key[0] in plans}
            found = self._paths.entities[entity]
            port = found.if_index or found.interface
            feed = Feed(CounterSource.GNMI, plans[target].name, port, found.queue, found.direction)
            number = self._feeds.number(feed)
            if number != NO_FEED:
                self._by_entity[target, entity] = number
        return number

    def _say(self, plans: Mapping[int, TargetPlan], target: int, entity: int, leaf: int, value: Any) -> None:
        feed = self._feed(plans, target, entity)
        if feed == NO_FEED:
            return
        if leaf == OPER_STATUS:
            self._feeds.say_state(feed, is_up(value))
        elif leaf == IFINDEX:
            if isinstance(value, int) and not isinstance(value, bool):
                self._feeds.say_index(self._feeds[feed].device, str(self._feeds[feed].port), value)
        elif leaf == BUNDLE:
            self._feeds.say_bundle(feed, value if isinstance(value, str) else "")
        else:
            self._feeds.say_speed(feed, speed_of(value))
            self._with_speed = 0

    def _forget(self, plans: Mapping[int, TargetPlan], target: int, scope: int) -> None:
        if target not in plans:
            return
        if scope == EVERYTHING:
            self._tracker.forget(self._feeds.of_device(CounterSource.GNMI, plans[target].name))
        elif (feed := self._by_entity.get((target, scope))) is not None:
            self._tracker.forget(np.array([feed], np.int64))

    def _read(self, rows: Mapping[str, NDArray[Any]], plans: Mapping[int, TargetPlan]) -> None:
        """Take readings of gNMI targets."""
        if not len(rows["target"]):
            return
        keys, places = np.unique(rows["target"].astype(np.int64) << 32 | rows["entity"], return_inverse=True)
        pairs = [(key >> 32, key & 0xFFFFFFFF) for key in keys.tolist()]
        feed = np.array([self._feed(plans, *pair) for pair in pairs], np.int64)[places]
        known = [plans.get(target) for target, _ in pairs]
        is_received = np.array([plan is not None and plan.is_received_time for plan in known])[places]
        bits = np.array([plan.counter_bits if plan is not None else 64 for plan in known], np.uint8)[places]
        ts_ns = np.where(is_received, rows["received_ns"], rows["ts_ns"])
        kept = feed != NO_FEED
        offset_ns = self._skew.offsets(rows["target"], ts_ns, rows["received_ns"])
        by_feed = np.zeros(len(self._feeds), np.int64)
        by_feed[feed[kept]] = offset_ns[kept]
        readings = {
            "feed": feed[kept].astype(np.uint32),
            "counter": rows["counter"][kept],
            "ts_ns": ts_ns[kept],
            "received_ns": rows["received_ns"][kept],
            "value": rows["value"][kept],
            "bits": bits[kept],
        }
        self._grow(readings, by_feed)

    def _take_gauges(self, rows: Mapping[str, NDArray[Any]], plans: Mapping[int, TargetPlan]) -> None:
        if not len(rows["target"]):
            return
        keys, places = np.unique(rows["target"].astype(np.int64) << 32 | rows["entity"], return_inverse=True)
        number = np.array([self._component(plans, key >> 32, key & 0xFFFFFFFF) for key in keys.tolist()], np.int64)
        is_ours = np.array([key >> 32 in plans for key in keys.tolist()])[places]
        columns = (number[places], rows["gauge"], rows["value"], rows["received_ns"])
        self._components.add(*(column[is_ours] for column in columns))

    def _component(self, plans: Mapping[int, TargetPlan], target: int, entity: int) -> int:
        """Return the number of a target's component; NOBODY of a target that has left, and where there are too many."""
        number = self._by_component.get((target, entity))
        if number is None:
            if target not in plans or self._paths is None:
                return NOBODY
            if len(self._by_component) > MOST_STALE * (len(self._components) + 1):
                self._by_component = {key: one for key, one in self._by_component.items() if key[0] in plans}
            number = self._components.number(plans[target].name, self._paths.entities[entity].component)
            if number != NOBODY:
                self._by_component[target, entity] = number
        return number

    def _grow(self, readings: Mapping[str, NDArray[Any]], offset_by_feed: NDArray[np.int64]) -> None:
        if len(self._feeds) != self._with_speed:
            self._with_speed = len(self._feeds)
            self._tracker.set_speeds(np.arange(self._with_speed), self._feeds.speeds_bps())
        growth = self._tracker.add(readings)
        if len(growth["feed"]):
            offset_ns = offset_by_feed[growth["feed"]]
            self._windows.add(growth, offset_ns, self._clock())
            if self._on_growth is not None:
                self._on_growth(growth, offset_by_feed, self._feeds)

    # --- what goes -----------------------------------------------------------------------------------------------

    def _turn(self, *, is_last: bool = False) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for rows in waiting:
            readings = self._samples.read(rows)
            self._grow(readings, np.zeros(len(self._feeds), np.int64))
        closed = self._windows.close(self._clock(), is_last=is_last)
        # Gauges are by the time at which they came: nothing of a span that is over is under way.
        until_ns = self._clock() + SPAN_NS if is_last else self._windows.closed_until_ns
        closed += self._components.close(until_ns)
        for window in sorted(closed, key=lambda window: window.start_ns):
            self._hand_on([*self._roll_up.add(window), window])
        self._hand_on(self._roll_up.until(self._windows.closed_until_ns))

    def _hand_on(self, windows: list[CounterWindow]) -> None:
        for window in windows:
            level = window.layout.kind, window.span_ns
            if window.start_ns + window.span_ns > self._stored_until.get(level, 0):
                self._put(window)
                self._handed += 1

    def _catch_up(self) -> None:
        """Go on with the roll-ups that an earlier run left open, from the shorter windows that it stored."""
        try:
            self._stored_until = stored_until(self._store, KINDS)
            parts = stored_parts(self._store, KINDS, self._stored_until)
        except StoreError as error:
            self._log.warning(
                "cannot read the counters of earlier runs: roll-ups that are open are partial", reason=error
            )
            return
        self._roll_up.resume(parts)
        # This run's shortest ones begin where the earlier ones' end.
        self._stored_until = {level: ns for level, ns in self._stored_until.items() if level[1] != SPAN_NS}
