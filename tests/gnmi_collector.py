"""The daemon's subscriber on a fleet of simulated gNMI targets: every value is checked, and when it came is noted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from telemetryd.agent.simulated import count
from telemetryd.ingest.gnmi.login import Login
from telemetryd.ingest.gnmi.path import parse
from telemetryd.ingest.gnmi.paths import PathTable
from telemetryd.ingest.gnmi.subscription import Mode, Subscription, Wanted
from telemetryd.ingest.gnmi.transport import Endpoint
from telemetryd.schema import UpdateBatch
from telemetryd.subscriber import Subscriber
from telemetryd.targets import COUNTERS_PATH, STATE_PATHS, TargetPlan
from tests.gnmi_fleet import HOST, Fleet

SECOND_NS: Final = 1_000_000_000
#: The counter that is checked: the first one of the simulated interfaces.
CHECKED: Final = "in-octets"
#: Targets that are connected to at a time.
AT_ONCE: Final = 32
LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Seen:
    """What came since the last look.

    Attributes
    ----------
    intervals_s:
        From one value of the checked counter to the next, by the target's times; not over a time that it was away.
    ages_s:
        From a target's reading to the moment that the subscriber hands it on.
    """

    updates: int
    intervals_s: NDArray[np.float64]
    ages_s: NDArray[np.float64]


class Collector:
    """Subscribes to a fleet as the daemon does, to counters by SAMPLE and states by ON_CHANGE.

    Attributes
    ----------
    checked, wrong:
        Values that were held to what they have to be at their times, and those that were not it.
    heard_s:
        When each target was first heard of since :meth:`forget`, on the monotonic clock; infinite for never.
    """

    def __init__(self, fleet: Fleet, *, interval_s: float = 1.0, transport: Literal["fast", "grpc"] = "fast") -> None:
        self.checked = 0
        self.wrong: list[tuple[int, int, int, int]] = []  # target, interface, ts_ns, value
        self._fleet = fleet
        self._interfaces: dict[int, int | None] = {}  # path -> number of the interface, where it is checked
        targets, interfaces = len(fleet.ports), fleet.interfaces
        self.heard_s = np.full(targets, np.inf)
        self._last_ns = np.zeros((targets, interfaces), np.int64)
        self._last_up = np.full((targets, interfaces), -1)
        self._updates, self._intervals_s, self._ages_s = 0, [np.zeros(0)], [np.zeros(0)]
        interval_ns = round(interval_s * SECOND_NS)
        asked = (
            Subscription(parse(COUNTERS_PATH), Mode.SAMPLE, interval_ns),
            *(Subscription(parse(path), Mode.ON_CHANGE, 0) for path in STATE_PATHS),
        )
        plans = [
            TargetPlan(
                Wanted(str(number), Endpoint(HOST, port, transport=transport), asked),
                Login(),
                is_received_time=False,
                counter_bits=64,
                sample_ns=interval_ns,
            )
            for number, port in enumerate(fleet.ports)
        ]
        self.subscriber = Subscriber(plans, AT_ONCE, self._take)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Subscribe for a while."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.subscriber.run())
            try:
                yield
                self.subscriber.stop()
            except BaseException:
                task.cancel()
                raise

    def forget(self) -> None:
        """Forget who was heard of."""
        self.heard_s[:] = np.inf

    async def until_heard(self, targets: Collection[int], deadline_s: float) -> None:
        """Wait until each of the targets was heard of since :meth:`forget`."""
        wanted = np.array(list(targets))
        async with asyncio.timeout(deadline_s):
            while np.isinf(self.heard_s[wanted]).any():
                await asyncio.sleep(LOOK_S)

    def look(self) -> Seen:
        """Return what came since the last look."""
        seen = Seen(self._updates, np.concatenate(self._intervals_s), np.concatenate(self._ages_s))
        self._updates, self._intervals_s, self._ages_s = 0, [np.zeros(0)], [np.zeros(0)]
        return seen

    def _take(self, batch: UpdateBatch, paths: PathTable, plans: Mapping[int, TargetPlan]) -> None:
        self._updates += batch.n
        path, target, ts_ns, value = (batch[name][: batch.n] for name in ("path", "target", "ts_ns", "value"))
        # The subscriber numbers its targets in the order of their plans.
        assert all(plans[number].name == str(number) for number in np.unique(target).tolist())
        for number in np.unique(path).tolist():
            if number not in self._interfaces:
                elems = paths.place(number).path.elems
                is_checked = bool(elems) and elems[-1].name == CHECKED
                self._interfaces[number] = int(dict(elems[1].keys)["name"][8:]) - 1 if is_checked else None
            interface = self._interfaces[number]
            if interface is not None:
                rows = np.flatnonzero(path == number)
                self._check(interface, *(column[rows].astype(np.int64) for column in (target, ts_ns, value)))

    def _check(
        self, interface: int, target: NDArray[np.int64], ts_ns: NDArray[np.int64], value: NDArray[np.int64]
    ) -> None:
        """Take values of an interface, one or more of each target in the order of their times."""
        ups = [value == count(target, interface, 0, ts_ns - up_ns) for up_ns in self._fleet.up_ns]
        self.checked += len(target)
        wrong = np.flatnonzero(~np.any(ups, axis=0))
        self.wrong += [(int(target[i]), interface, int(ts_ns[i]), int(value[i])) for i in wrong]
        self.heard_s[target] = np.minimum(self.heard_s[target], time.monotonic())
        self._ages_s.append((time.time_ns() - ts_ns) / SECOND_NS)
        up = np.argmax(ups, axis=0)
        order = np.argsort(target, kind="stable")
        target, ts_ns, up = target[order], ts_ns[order], up[order]
        first = np.flatnonzero(np.diff(target, prepend=-1))
        before_ns, before_up = np.roll(ts_ns, 1), np.roll(up, 1)
        before_ns[first], before_up[first] = (
            self._last_ns[target[first], interface],
            self._last_up[target[first], interface],
        )
        self._intervals_s.append((ts_ns - before_ns)[up == before_up] / SECOND_NS)
        last = np.append(first[1:], len(target)) - 1
        self._last_ns[target[last], interface], self._last_up[target[last], interface] = ts_ns[last], up[last]
