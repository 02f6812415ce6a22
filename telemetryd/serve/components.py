"""The small components around the service manager and the control service."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

from telemetryd.component import Component, wait
from telemetryd.live import LiveCounters
from telemetryd.observe.systemd import Notifier
from telemetryd.registry.models import Registry
from telemetryd.schema import UsageWindow
from telemetryd.serve.control import ControlServer
from telemetryd.serve.loss import LossCounts
from telemetryd.serve.messages import State, Update
from telemetryd.serve.updates import Broadcast, UsageUpdates

UPDATE_S: Final = 1.0
STATUS_S: Final = 5.0
#: Signs of life in the time after which the manager takes the daemon for dead.
SIGNS: Final = 3
WAITING_WINDOWS: Final = 60
SECOND_NS: Final = 1_000_000_000


class Watchdog(Component):
    """Tell the service manager how it goes, and that it goes on - only while every thread makes progress.

    Parameters
    ----------
    notifier:
        The service manager.
    is_alive:
        Whether the receiving threads make progress; that the event loop does, this component shows by itself.
    status:
        Gives the line to show.
    """

    name: ClassVar[str] = "watchdog"

    def __init__(self, notifier: Notifier, is_alive: Callable[[], bool], status: Callable[[], str]) -> None:
        super().__init__()
        self._notifier = notifier
        self._is_alive = is_alive
        self._status = status

    async def run(self) -> None:
        """Give signs of life until stopped."""
        self.started.set()
        every_s = min(STATUS_S, (self._notifier.watchdog_s or STATUS_S) / SIGNS)
        while not self.stopping.is_set():
            if self._is_alive():
                self._notifier.alive(self._status())
            else:
                self._notifier.status(self._status())
            await wait(self.stopping, every_s)


class Updates(Component):
    """Make an update a second for who watches; windows that nobody fetched in a minute are left out.

    Parameters
    ----------
    registry:
        Titles and capacities.
    counters:
        Gives the live engine's counts.
    health:
        Gives the state of the daemon, and the reasons.
    """

    name: ClassVar[str] = "updates"

    def __init__(
        self,
        registry: Registry,
        counters: Callable[[], LiveCounters | None],
        health: Callable[[], tuple[State, list[str]]],
    ) -> None:
        super().__init__()
        self.broadcast: Broadcast[Update] = Broadcast()
        self._usage = UsageUpdates(registry)
        self._registry: Registry | None = None
        self._counters = counters
        self._health = health
        self._windows: deque[UsageWindow] = deque(maxlen=WAITING_WINDOWS)
        self._before: deque[LossCounts] = deque(maxlen=10)

    def put(self, window: UsageWindow) -> None:
        """Take a closed window; from any thread."""
        self._windows.append(window)

    def replace(self, registry: Registry) -> None:
        """Use the titles and capacities of a new registry from the next update on."""
        self._registry = registry

    async def run(self) -> None:
        """Publish until stopped."""
        self.started.set()
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.stopping.is_set():
            self.broadcast.publish(await asyncio.to_thread(self._make))
            due = max(due + UPDATE_S, loop.time())
            await wait(self.stopping, due - loop.time())
        self.broadcast.close()

    def _make(self) -> Update:
        if self._registry is not None:
            self._usage.replace(self._registry)
            self._registry = None
        while self._windows:
            self._usage.add(self._windows.popleft())
        counters = self._counters()
        now = LossCounts.of(counters) if counters is not None else LossCounts()
        lost = now.since(self._before[0]) if self._before else now
        self._before.append(now)
        # A silent second has no window: time goes on without one, a second late, so that none is missed.
        end_ns = (time.time_ns() // SECOND_NS - 1) * SECOND_NS
        return self._usage.update(*self._health(), lost.message(), end_ns)


class ControlService(Component):
    """The control server as a component: it serves until cancelled."""

    name: ClassVar[str] = "control"

    def __init__(self, server: ControlServer) -> None:
        super().__init__()
        self._server = server
        self.started = server.started

    async def run(self) -> None:
        """Serve until stopped; raises what the server raises."""
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(self._server.run(), name=self.name)
                await self.stopping.wait()
                await self.started.wait()  # gRPC cannot be cancelled half started
                serving.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
