"""Demand as a component: windows in, and once a period what is demanded of every link that a policy rules.

    windows (receive) --> usage of each class --> estimate --> damping --> DemandTable --> control loop, status, metrics
                                ^                                              +--> windows of 10 s and more --> store
    shares in force, drops of queues, members that are down: from whoever reads and writes the devices

Windows come from the engine's thread; the work is done in a thread of the loop, once a period is complete. A period is
complete with its last window, or where none comes any more, some time after its end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.counter_rollup import SPANS_NS, CounterRollUp
from telemetryd.allocate.demand import DemandSettings as EstimateSettings
from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.stability import StabilitySettings
from telemetryd.assure.guarantees import Node
from telemetryd.assure.link_demand import LinkDemand, LinkFollower, Shares
from telemetryd.component import Component, wait
from telemetryd.config.settings_demand import DemandSettings
from telemetryd.counter_windows import DEMAND_LAYOUT, CounterWindow, DemandWindow
from telemetryd.errors import StoreError
from telemetryd.observe.health import Health, degraded
from telemetryd.observe.log import Log
from telemetryd.policy.loaded import Policies
from telemetryd.registry.models import Registry
from telemetryd.schema import DEMAND_COLUMNS, UsageWindow
from telemetryd.store.counted import stored_parts, stored_until

SECOND_NS: Final = 1_000_000_000
#: So long after its end a period is over though its last window did not come: windows are closed two seconds late.
LATE_NS: Final = 5 * SECOND_NS
#: A device that was heard before is silent after so long.
SILENT_NS: Final = 30 * SECOND_NS
#: Windows that wait at most; beyond it the oldest are lost, counted.
WAITING: Final = 300
TURN_S: Final = 1.0
#: Links that health names; the others are counted.
NAMED: Final = 5
#: Lengths of the windows that are stored, ns.
LEVELS: Final = (10 * SECOND_NS, *SPANS_NS)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class DemandTable:
    """What is demanded of all links, as of one period.

    Attributes
    ----------
    number:
        Of the table, from 1 on; 0 before the first period.
    start_ns, end_ns:
        The period.
    links:
        Of every link and direction that had traffic; those that are stale have an earlier estimate, and say why.
    """

    number: int = 0
    start_ns: int = 0
    end_ns: int = 0
    links: tuple[LinkDemand, ...] = ()

    def of(self, link: str, direction: str) -> LinkDemand | None:
        """Return the demand of one link; None where it never had any."""
        return next((one for one in self.links if (one.link, one.direction) == (link, direction)), None)

    def demands(self, *, is_damped: bool = True) -> list[Demand]:
        """Return all demands as :func:`telemetryd.allocate.place.place` and plans take them."""
        return [demand for one in self.links for demand in one.demands(is_damped=is_damped)]

    def stale(self) -> dict[tuple[str, str], str]:
        """Return (link, direction) -> why its demand is not that of this period."""
        return {(one.link, one.direction): one.stale for one in self.links if one.stale}


@dataclass(frozen=True, slots=True)
class DemandCounters:
    """What was done since the start.

    Attributes
    ----------
    periods, stale_periods:
        Periods that ended; links and directions whose estimate stayed as it was, over all periods.
    late_windows, lost_windows:
        Windows that came for a period that was over, and those that came faster than they were taken in.
    work_ns:
        Time spent.
    table:
        The latest table.
    """

    periods: int = 0
    stale_periods: int = 0
    late_windows: int = 0
    lost_windows: int = 0
    work_ns: int = 0
    table: DemandTable = field(default_factory=DemandTable)


class Demanding(Component):
    """Estimate demand.

    Who applies allocations reads :meth:`latest`, or is called at each period (:meth:`on_table`), and tells what it did
    by :meth:`set_shares`, :meth:`add_drops` and :meth:`set_down`: without them every class on a full link is taken for
    throttled.

    Parameters
    ----------
    policies:
        Whose links; None does nothing.
    registry:
        Capacities, places, names.
    settings:
        How.
    received:
        Agent address -> datagrams that came since the start; tells silent devices from idle links.
    put:
        Takes windows of estimates, in the order of their end; never waits.
    store:
        Directory of the embedded store, which has the windows of earlier runs; None: there are none.
    clock:
        Wall clock in ns.
    """

    name: ClassVar[str] = "demand"

    def __init__(
        self,
        policies: Policies | None,
        registry: Registry,
        settings: DemandSettings,
        received: Callable[[], Mapping[str, int]] = dict,
        put: Callable[[CounterWindow], None] = lambda window: None,
        *,
        store: Path | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__()
        self._received, self._put, self._store, self._clock = received, put, store, clock
        self._log = Log(self.name)
        self._lock = threading.Lock()  # windows come from a thread
        self._waiting: deque[UsageWindow] = deque()
        self._told: deque[tuple[str, str, Callable[[LinkFollower], None]]] = deque()
        self._next: tuple[Policies | None, Registry, DemandSettings] | None = None
        self._lost = self._late = self._periods = self._stale_periods = self._work_ns = 0
        self._table = DemandTable()
        self._callbacks: list[Callable[[DemandTable], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._followers: dict[tuple[str, str], LinkFollower] = {}
        self._devices: dict[str, tuple[str, ...]] = {}
        self._heard: dict[str, tuple[int, int]] = {}  # device -> (datagrams, when that grew last)
        self._registry, self._period_ns = registry, settings.period
        self._roll_up = CounterRollUp(spans_of(settings.period))
        self._end_ns = 0  # of the period that is open, 0 before the first window
        self._configure(policies, registry, settings)

    # --- who uses it -----------------------------------------------------------------------------------------------

    def latest(self) -> DemandTable:
        """Return the table of the last period; from any thread."""
        return self._table

    def on_table(self, callback: Callable[[DemandTable], None]) -> None:
        """Have each new table handed over, on the event loop; the callback does not wait."""
        self._callbacks.append(callback)

    def set_shares(self, link: str, direction: str, shares: Shares, since_ns: int) -> None:
        """Say what devices have in force for the classes of a link from a time on; from any thread.

        A class is a node of the policy's tree with all below it that is in no deeper class of the mapping.
        """
        self._told.append((link, direction, lambda follower: follower.set_shares(shares, since_ns)))

    def add_drops(self, link: str, direction: str, drops: Mapping[Node, int]) -> None:
        """Say what classes of a link dropped since the last call, in packets; from any thread.

        Classes are those of :meth:`set_shares`; a queue that several classes share is said for each of them.
        """
        self._told.append((link, direction, lambda follower: follower.add_drops(drops)))

    def set_down(self, link: str, direction: str, members: Iterable[str]) -> None:
        """Say which members of a link group are down; from any thread."""
        self._told.append((link, direction, lambda follower: follower.set_down(members)))

    # --- the daemon ------------------------------------------------------------------------------------------------

    def put_window(self, window: UsageWindow) -> None:
        """Take a closed window of 1 s; from any thread, never waits."""
        if not self._followers:
            return
        with self._lock:
            self._waiting.append(window)
            while len(self._waiting) > WAITING:
                self._waiting.popleft()
                self._lost += 1
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    def replace(self, policies: Policies | None, registry: Registry, settings: DemandSettings) -> None:
        """Go by other policies, another registry, other settings from the next turn on; from the event loop.

        Links whose policy is the same, in the same registry, keep what is known of them.
        """
        self._next = policies, registry, settings

    async def run(self) -> None:
        """Estimate until stopped."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._catch_up)
        self.started.set()
        while not self.stopping.is_set():
            self._wake.clear()
            if self._next is not None:
                (policies, registry, settings), self._next = self._next, None
                await asyncio.to_thread(self._configure, policies, registry, settings)
            for table in await asyncio.to_thread(self.work):
                self._table = table
                for window in self._windows(table):
                    self._put(window)
                for callback in self._callbacks:
                    callback(table)
            await wait(self._wake, TURN_S)

    def stop(self) -> None:
        """Ask :meth:`run` to return."""
        super().stop()
        self._wake.set()

    def health(self) -> Health:
        """Degraded while the demand of a link cannot be told, or windows came too fast."""
        stale = self._table.stale()
        reasons = [f"{link} {direction}: {why}; its demand stays" for (link, direction), why in sorted(stale.items())]
        if len(reasons) > NAMED:
            reasons[NAMED:] = [f"and {len(reasons) - NAMED:,} more links"]
        if self._lost:
            reasons.append(f"{self._lost:,} windows were not taken in since the start: estimates take too long")
        return degraded(*reasons)

    def counters(self) -> DemandCounters:
        """Return what was done so far."""
        return DemandCounters(self._periods, self._stale_periods, self._late, self._lost, self._work_ns, self._table)

    # --- the work --------------------------------------------------------------------------------------------------

    def _configure(self, policies: Policies | None, registry: Registry, settings: DemandSettings) -> None:
        before = self._followers if registry == self._registry else {}
        self._registry = registry
        self._estimate, self._damping = estimate_settings(settings), stability_settings(settings)
        if settings.period != self._period_ns:
            self._period_ns, self._end_ns = settings.period, 0
            self._roll_up = CounterRollUp(spans_of(settings.period))
            before = {}  # steps of another length
        followers = {}
        for policy, link, direction in policies.ruled() if policies is not None else ():
            old = before.get((link, direction))
            if old is None or (old.policy.file, old.policy.calendar) != (policy.file, policy.calendar):
                old = LinkFollower(policy, link, direction, registry)
            followers[link, direction] = old
        self._followers = followers
        self._devices = {one.name: tuple(map(str, one.agents)) for one in registry.devices if one.agents}

    def work(self) -> list[DemandTable]:
        """Take in the windows that wait, in a thread; return the tables of the periods that they end."""
        begun = time.monotonic_ns()
        tables: list[DemandTable] = []
        while self._told:
            link, direction, tell = self._told.popleft()
            if (follower := self._followers.get((link, direction))) is not None:
                tell(follower)
        with self._lock:
            windows = list(self._waiting)
            self._waiting.clear()
        for window in windows:
            tables += self._add(window)
        if self._end_ns and self._clock() - LATE_NS >= self._end_ns:
            tables += self._close(self._clock() - LATE_NS)
        self._work_ns += time.monotonic_ns() - begun
        return tables

    def _add(self, window: UsageWindow) -> list[DemandTable]:
        """Take in a window; a period is over with its last one."""
        tables: list[DemandTable] = []
        end_ns = window.start_ns + window.span_ns
        if not self._end_ns:
            self._end_ns = window.start_ns // self._period_ns * self._period_ns + self._period_ns
        if window.start_ns < self._end_ns - self._period_ns:
            self._late += 1
            return []
        if window.start_ns >= self._end_ns:
            tables += self._close(window.start_ns)
        for follower in self._followers.values():
            follower.add(window)
        if end_ns >= self._end_ns:
            tables += self._close(end_ns)
        return tables

    def _close(self, until_ns: int) -> list[DemandTable]:
        """End the periods that are over by a time; of several, those in between had no window at all."""
        last_ns = until_ns // self._period_ns * self._period_ns
        if last_ns < self._end_ns:
            return []
        tables = [self._end(self._end_ns - self._period_ns, self._end_ns)]
        if last_ns > self._end_ns:
            tables.append(self._end(self._end_ns, last_ns))
        self._end_ns = last_ns + self._period_ns
        return tables

    def _end(self, start_ns: int, end_ns: int) -> DemandTable:
        silent = self._silent()
        at = _EPOCH + timedelta(microseconds=end_ns // 1000)
        links = [
            one.close(start_ns, end_ns, at, self._estimate, self._damping, silent) for one in self._followers.values()
        ]
        self._periods += 1
        table = DemandTable(self._periods, start_ns, end_ns, tuple(link for link in links if link is not None))
        self._stale_periods += len(table.stale())
        return table

    def _windows(self, table: DemandTable) -> list[CounterWindow]:
        """Return the windows to be stored that a table completes."""
        window = demand_window(table)
        longer = self._roll_up.add(window) if window.names else []
        longer += self._roll_up.until(table.end_ns)
        return [*([window] if window.span_ns in LEVELS and window.names else []), *longer]

    def _catch_up(self) -> None:
        """Go on with the roll-ups that an earlier run left open, from the shorter windows that it stored."""
        if self._store is None:
            return
        try:
            until = stored_until(self._store, (DEMAND_LAYOUT.kind,))
            parts = stored_parts(self._store, (DEMAND_LAYOUT.kind,), until)
        except StoreError as error:
            self._log.warning("cannot read demands of earlier runs: roll-ups that are open are partial", reason=error)
            return
        self._roll_up.resume(parts)

    def _silent(self) -> Collection[str]:
        """Return the devices of which no datagram comes any more; those that were never heard are not among them."""
        now_ns, received = self._clock(), self._received()
        silent = []
        for device, agents in self._devices.items():
            count = sum(received.get(agent, 0) for agent in agents)
            before, since_ns = self._heard.get(device, (0, now_ns))
            if count > before:
                self._heard[device] = count, now_ns
            elif before and now_ns - since_ns >= SILENT_NS:
                silent.append(device)
        return silent


def spans_of(period_ns: int) -> tuple[int, ...]:
    """Return the lengths of the windows that estimates of such periods are rolled up to."""
    return tuple(span_ns for span_ns in LEVELS if span_ns > period_ns and span_ns % period_ns == 0)


def demand_window(table: DemandTable) -> DemandWindow:
    """Make the window of a period: the classes that sent or demand anything, of links that are not stale."""
    names: list[tuple[str, ...]] = []
    columns: dict[str, list[NDArray[Any]]] = {column.name: [] for column in DEMAND_COLUMNS}
    span_ns = table.end_ns - table.start_ns
    for link in table.links:
        if link.stale:
            continue
        chosen = np.flatnonzero((link.usage_bps > 0) | (link.demand_bps > 0) | (link.damped_bps > 0))
        names += [(link.link, link.direction, *link.keys[number]) for number in chosen.tolist()]
        seconds = span_ns / SECOND_NS
        values = {
            "samples": link.samples,
            **{f"{name}_bits": getattr(link, f"{name}_bps") * seconds for name in ("usage", "demand", "damped")},
            "demand_largest": link.demand_bps,
            "covered_ns": np.full(len(link.keys), span_ns),
            "censored_ns": np.where(link.censored, span_ns, 0),
            "flags": link.causes,
        }
        for name, column in values.items():
            columns[name].append(column[chosen])
    joined = {
        column.name: np.concatenate(columns[column.name]).astype(column.dtype)
        if columns[column.name]
        else np.zeros(0, column.dtype)
        for column in DEMAND_COLUMNS
    }
    joined[DEMAND_LAYOUT.kind] = np.arange(len(names), dtype=np.uint32)
    return DemandWindow(table.start_ns, span_ns, joined, tuple(names))


def estimate_settings(settings: DemandSettings) -> EstimateSettings:
    """Return the estimator's settings of the section `demand`."""
    return EstimateSettings(
        window=settings.window,
        headroom=settings.headroom,
        near=settings.near,
        growth=settings.growth,
        least_bps=settings.least,
        few_samples=settings.few_samples,
    )


def stability_settings(settings: DemandSettings) -> StabilitySettings:
    """Return the damping's settings of the section `demand`."""
    return StabilitySettings(
        dead_band=settings.dead_band,
        release=settings.release,
        hold_s=settings.hold / SECOND_NS,
        cool_down_s=settings.cool_down / SECOND_NS,
        most_rise=settings.most_rise,
        most_fall=settings.most_fall,
    )
