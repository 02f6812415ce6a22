"""The gNMI targets as a component: each is kept subscribed, all of them on one loop, and none can harm another.

What they send comes into one batch, which is emptied when it is full and several times a second.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from telemetryd.component import Component
from telemetryd.ingest.gnmi.condition import troubles
from telemetryd.ingest.gnmi.paths import PathTable
from telemetryd.ingest.gnmi.target import Phase, Target, TargetState
from telemetryd.observe.health import Health, State, degraded
from telemetryd.observe.log import Log
from telemetryd.schema import UpdateBatch
from telemetryd.targets import TargetPlan

BATCH_ROWS: Final = 65_536
BATCH_TEXT: Final = 4 << 20
FLUSH_S: Final = 0.25
#: How often delays, intervals and counts are looked at, and how many looks make the last minute.
MEASURE_S: Final = 5.0
LOOKS: Final = 12
#: First connections are spread over so long for each target, up to a limit: no herd after a restart.
SPREAD_S: Final = 0.02
LONGEST_SPREAD_S: Final = 10.0
#: What is shown of the targets is so old at most: many ask, and of hundreds of targets it is no little work.
SHOWN_S: Final = 0.5
#: Targets that health names; the others are counted.
NAMED: Final = 8

#: Takes a batch: its rows, what their paths are, and the plans of the targets by their numbers in the rows.
OnUpdates = Callable[[UpdateBatch, PathTable, Mapping[int, TargetPlan]], None]


@dataclass(frozen=True, slots=True)
class TargetCounters:
    """How a target is, for status and metrics.

    Attributes
    ----------
    name, address:
        The device, and what is dialled.
    troubles:
        What is wrong, in words; none where it is well.
    transport:
        `fast` or `grpc`.
    is_secure:
        Whether TLS is used and the certificate verified.
    asked_ns, achieved_ns:
        How often its counters are sampled, and how often they came of late; None where that is not known yet.
    counts:
        What came since it was first connected to, what was left out, `connections` and `slowed`.
    """

    name: str
    address: str
    state: TargetState
    troubles: tuple[str, ...] = ()
    transport: str = "fast"
    is_secure: bool = True
    asked_ns: int = 0
    achieved_ns: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def health(self) -> State:
        """Whether something is wrong, as the metrics show it: failed where nothing comes of it."""
        if self.state.phase is Phase.STREAMING:
            return State.DEGRADED if self.troubles else State.OK
        return State.FAILED if self.troubles else State.DEGRADED


class _Running:
    """A target at work."""

    def __init__(self, number: int, plan: TargetPlan, target: Target, task: asyncio.Task[None]) -> None:
        self.number, self.plan, self.target, self.task = number, plan, target, task
        self._looks: deque[Counter[str]] = deque([Counter()], maxlen=LOOKS + 1)

    def look(self) -> None:
        self.target.measure()
        self._looks.append(self._counts(self.target.state))

    def counters(self) -> TargetCounters:
        state, plan = self.target.state, self.plan
        asked = [one.asked_ns for one in plan.wanted.subscriptions if one.asked_ns]
        recent = self._counts(state)
        recent.subtract(self._looks[0])
        ratio = state.intervals[0] if state.intervals else None
        tls = plan.wanted.endpoint.tls
        return TargetCounters(
            name=plan.name,
            address=plan.wanted.endpoint.address,
            state=state,
            troubles=tuple(troubles(state, recent, min(asked, default=0), time.time_ns())),
            transport=plan.wanted.endpoint.transport,
            is_secure=tls is not None and not tls.skip_verify,
            asked_ns=plan.wanted.subscriptions[0].asked_ns,
            achieved_ns=None if ratio is None else int(ratio * plan.wanted.subscriptions[0].asked_ns),
            counts={**state.counts, "connections": state.connections, "slowed": state.slowed},
        )

    @staticmethod
    def _counts(state: TargetState) -> Counter[str]:
        return Counter({**state.counts, "slowed": state.slowed})


class Subscriber(Component):
    """Keep every target subscribed.

    Parameters
    ----------
    plans:
        The targets.
    connecting:
        How many are connected to at a time.
    on_updates:
        Takes what they send, on the event loop; it copies what it keeps.
    """

    name: ClassVar[str] = "gnmi"

    def __init__(self, plans: Sequence[TargetPlan], connecting: int, on_updates: OnUpdates) -> None:
        super().__init__()
        self._plans = {plan.name: plan for plan in plans}
        self._connecting = connecting
        self._on_updates = on_updates
        self._log = Log(self.name)
        self._paths = PathTable()
        self._batch = UpdateBatch(BATCH_ROWS, BATCH_TEXT)
        self._running: dict[str, _Running] = {}
        self._by_number: dict[int, TargetPlan] = {}
        self._next_number = 0
        self._semaphore: asyncio.Semaphore | None = None
        self._shown: tuple[float, list[TargetCounters]] = (-SHOWN_S, [])  # when, monotonic
        self._wake = asyncio.Event()

    def stop(self) -> None:
        """Ask for the end of all subscriptions."""
        super().stop()
        self._wake.set()

    def replace(self, plans: Sequence[TargetPlan], connecting: int) -> None:
        """Subscribe to other targets from now on; those whose plan did not change keep their stream."""
        self._plans = {plan.name: plan for plan in plans}
        if connecting != self._connecting:
            self._connecting, self._semaphore = connecting, None
        self._wake.set()

    async def run(self) -> None:
        """Run the targets until stopped, then hand on what came."""
        self.started.set()
        looked = time.monotonic()
        async with asyncio.TaskGroup() as group:
            try:
                while not self.stopping.is_set():
                    self._wake.clear()
                    self._configure(group)
                    await self._wait()
                    self._empty()
                    if time.monotonic() - looked >= MEASURE_S:
                        looked = time.monotonic()
                        for one in self._running.values():
                            one.look()
            finally:
                for one in self._running.values():
                    one.task.cancel()
        self._empty()

    def counters(self) -> list[TargetCounters]:
        """Return how every target is, in the order of the plans; as of a moment ago."""
        if time.monotonic() - self._shown[0] >= SHOWN_S:
            found = [self._running[name].counters() for name in self._plans if name in self._running]
            self._shown = time.monotonic(), found
        return self._shown[1]

    def health(self) -> Health:
        """Degraded with the first reason of each target that is not well."""
        ill = [one for one in self.counters() if one.troubles]
        reasons = [f"{one.name}: {one.troubles[0]}" for one in ill[:NAMED]]
        if len(ill) > NAMED:
            reasons.append(f"{len(ill) - NAMED} more targets: telemetryd status names them")
        return degraded(*reasons)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_S if self._running else None):
                await self._wake.wait()
        except TimeoutError:
            return

    def _configure(self, group: asyncio.TaskGroup) -> None:
        """Bring the running targets in line with the plans."""
        wanted = self._plans
        self._empty()
        for name in [name for name, one in self._running.items() if wanted.get(name) != one.plan]:
            left = self._running.pop(name)
            left.task.cancel()
            self._by_number.pop(left.number)  # rows of it that are still to come are of nobody
            self._log.info("target left", target=name)
        new = [plan for name, plan in wanted.items() if name not in self._running]
        spread_s = min(LONGEST_SPREAD_S, SPREAD_S * len(new))
        for plan in new:
            self._start(group, plan, random.uniform(0, spread_s))

    def _start(self, group: asyncio.TaskGroup, plan: TargetPlan, delay_s: float) -> None:
        if self._semaphore is None:
            self._semaphore = asyncio.Semaphore(self._connecting)
        number, self._next_number = self._next_number, self._next_number + 1
        self._by_number[number] = plan
        target = Target(plan.wanted, number, self._paths, self._batch, self._empty, self._semaphore, plan.login.read)
        tls = plan.wanted.endpoint.tls
        if tls is None:
            self._log.warning(
                "target without TLS: what it sends and our login can be read on the way", target=plan.name
            )
        elif tls.skip_verify:
            self._log.warning("target whose certificate is not verified", target=plan.name)
        task = group.create_task(_later(target, delay_s), name=f"{self.name}:{plan.name}")
        self._running[plan.name] = _Running(number, plan, target, task)

    def _empty(self) -> None:
        if self._batch.n:
            self._on_updates(self._batch, self._paths, self._by_number)
            self._batch.clear()


async def _later(target: Target, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    await target.run()
