"""A subscriber of many gNMI targets on one loop: the package's targets, and checks of every value that comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from telemetryd.agent.simulated import count
from telemetryd.ingest.gnmi.gnmi_wire_reference import BINS, BINS_AN_INTERVAL
from telemetryd.ingest.gnmi.path import parse
from telemetryd.ingest.gnmi.paths import PathTable
from telemetryd.ingest.gnmi.subscription import Mode, Subscription, Wanted
from telemetryd.ingest.gnmi.target import Phase, Target
from telemetryd.ingest.gnmi.transport import Endpoint
from telemetryd.schema import UpdateBatch
from tests.gnmi_fleet import Fleet

SECOND_NS: Final = 1_000_000_000
COUNTERS: Final = "/interfaces/interface/state/counters"
#: In the order of the simulated interfaces' counters.
EXACT: Final = "in-octets"
AT_ONCE: Final = 32
TICK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """What came since the last look.

    Attributes
    ----------
    intervals:
        Numbers of pairs of values that were so far apart, by the target's times; shape (BINS,), a bin is an eighth of
        what was asked for.
    most_s:
        The longest interval.
    delays_s:
        For each target the longest time from its reading to our reception.
    """

    updates: int
    intervals: NDArray[np.int64]
    most_s: float
    delays_s: list[float]

    def late(self) -> float:
        """Return the share of intervals that were longer than two that were asked for."""
        return float(self.intervals[2 * BINS_AN_INTERVAL :].sum() / max(1, self.intervals.sum()))

    def quantile(self, share: float) -> float:
        """Return an interval that this share does not exceed, in intervals that were asked for: a bin's upper end."""
        reached = np.searchsorted(np.cumsum(self.intervals), share * self.intervals.sum())
        return float(min(reached, BINS - 1) + 1) / BINS_AN_INTERVAL


class Collector:
    """Subscribes to simulated targets, and holds the first counter of each interface to what it has to be.

    Parameters
    ----------
    fleet:
        The targets.

    Attributes
    ----------
    checked, wrong:
        How many values were held to that, and those that were not it.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        interval_s: float = 1.0,
        transport: Literal["fast", "grpc"] = "fast",
    ) -> None:
        self.interval_s = interval_s
        self.updates = 0
        self.checked = 0
        self.wrong: list[tuple[int, int, int, int]] = []  # target, interface, ts_ns, value
        self._fleet = fleet
        self._paths = PathTable()
        self._exact: dict[int, int | None] = {}  # path -> number of the interface
        self._batch = UpdateBatch(1 << 16, 1 << 20)
        connecting = asyncio.Semaphore(AT_ONCE)
        asked = (Subscription(parse(COUNTERS), Mode.SAMPLE, round(interval_s * SECOND_NS)),)
        self.targets = [
            Target(
                Wanted(f"sim{number}", Endpoint("127.0.0.1", port, transport=transport), asked),
                number,
                self._paths,
                self._batch,
                self.empty,
                connecting,
            )
            for number, port in enumerate(fleet.ports)
        ]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Subscribe for a while."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(target.run()) for target in self.targets]
            tasks.append(group.create_task(self._tick()))
            yield
            for task in tasks:
                task.cancel()

    def is_streaming(self, number: int) -> bool:
        """Tell whether a target streams."""
        return self.targets[number].state.phase is Phase.STREAMING

    def streaming(self) -> int:
        """Return how many targets stream."""
        return sum(self.is_streaming(number) for number in range(len(self.targets)))

    async def until_streaming(self, number: int, deadline_s: float) -> None:
        """Wait until so many targets stream."""
        async with asyncio.timeout(deadline_s):
            while self.streaming() != number:
                await asyncio.sleep(0.02)

    def look(self) -> Seen:
        """Return what came since the last look."""
        self.empty()
        updates, self.updates = self.updates, 0
        intervals, most_ns, delays = np.zeros(BINS, np.int64), 0, []
        for target in self.targets:
            decoder = target._decoder
            if decoder is None:
                continue
            found = decoder.take_intervals()
            intervals += found["histogram"][0]
            most_ns = max(most_ns, int(found["most_ns"][0]))
            n, _, longest_ns = decoder.take_delay()
            if n:
                delays.append(longest_ns / 1e9)
        return Seen(updates, intervals, most_ns / 1e9, delays)

    def empty(self) -> None:
        """Count what the batch holds, check the counters of which the value is known, and empty it."""
        batch = self._batch
        self.updates += batch.n
        paths = batch["path"][: batch.n]
        for path in np.unique(paths).tolist():
            if path not in self._exact:
                place = self._paths.place(path).path
                is_exact = len(place.elems) == 5 and place.elems[-1].name == EXACT
                self._exact[path] = int(dict(place.elems[1].keys)["name"][8:]) - 1 if is_exact else None
            interface = self._exact[path]
            if interface is None:
                continue
            self._check(np.flatnonzero(paths == path), interface)
        batch.clear()

    def _check(self, rows: NDArray[np.intp], interface: int) -> None:
        """Hold values of an interface to what they have to be at their times."""
        target, ts_ns, value = (self._batch[name][rows].astype(np.int64) for name in ("target", "ts_ns", "value"))
        expected = [count(target, interface, 0, ts_ns - up_ns) for up_ns in self._fleet.up_ns]
        right = np.any([value == one for one in expected], axis=0) & (self._batch["flags"][rows] == 0)
        self.checked += len(rows)
        self.wrong += [(int(target[i]), interface, int(ts_ns[i]), int(value[i])) for i in np.flatnonzero(~right)]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.empty()
