"""One supervisor: it starts the components in order, and stops them in the reverse order, whatever happens.

Every task of the daemon is in its one TaskGroup. A component that raises does not take the others with it:
the supervisor notes the reason, drains, and ends with an exit code that is not 0.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from telemetryd.component import Component
from telemetryd.errors import EXIT_FAILED, EXIT_OK, TelemetrydError
from telemetryd.observe.log import Log
from telemetryd.observe.systemd import Notifier

CANCEL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the daemon ends: the component, what it raised (None: it just ended)."""

    component: str
    error: BaseException | None

    def __str__(self) -> str:
        if self.error is None:
            return f"{self.component} ended by itself"
        if isinstance(self.error, TelemetrydError):
            return str(self.error)
        return f"{self.component}: {type(self.error).__name__}: {self.error}"


class Supervisor:
    """Run components until a signal, a failure, or :meth:`stop`.

    Parameters
    ----------
    components:
        In the order of their start; each is started when the one before serves. They stop in the reverse
        order, each with its work finished before the next is asked.
    drain_s:
        Time for all of them to stop; who takes longer is cancelled, and the exit code is not 0.
    notifier:
        The service manager.
    reload:
        Called for SIGHUP, one at a time; several signals during a reload are one.
    status:
        Gives the line that the service manager shows.

    Attributes
    ----------
    failure:
        Why the daemon ends, None for a signal.
    late:
        Components that had to be cancelled; their threads may still be at work.
    """

    def __init__(
        self,
        components: Sequence[Component],
        *,
        drain_s: float,
        notifier: Notifier,
        reload: Callable[[], Awaitable[object]],
        status: Callable[[], str],
    ) -> None:
        self._components = components
        self._drain_s = drain_s
        self._notifier = notifier
        self._reload = reload
        self._status = status
        self._log = Log("daemon")
        self._stopping = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._tasks: dict[Component, asyncio.Task[None]] = {}
        self.is_serving = False
        self.failure: Failure | None = None
        self.late: list[str] = []

    async def run(self) -> int:
        """Run until there is a reason to end; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number.name)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        try:
            async with asyncio.TaskGroup() as group:
                if await self._start(group):
                    reloads = group.create_task(self._guard(None, self._reload_when_asked()), name="reload")
                    await self._stopping.wait()
                    self.is_serving = False
                    reloads.cancel()
                await self._drain()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
        return self._exit_code()

    def stop(self, reason: str) -> None:
        """Ask everything to drain and end; a second call changes nothing."""
        if self._stopping.is_set():
            return
        self._log.info("stopping", reason=reason)
        self._notifier.stopping(f"Draining: {reason}")
        self._stopping.set()

    async def _start(self, group: asyncio.TaskGroup) -> bool:
        """Start one component after the other; return whether all serve, False if asked to stop meanwhile."""
        stopping = group.create_task(self._stopping.wait())
        for component in self._components:
            self._tasks[component] = group.create_task(self._guard(component, component.run()), name=component.name)
            started = group.create_task(component.started.wait())
            await asyncio.wait((started, stopping), return_when=asyncio.FIRST_COMPLETED)
            started.cancel()
            if self._stopping.is_set():
                return False
        stopping.cancel()
        self.is_serving = True
        self._notifier.ready(self._status())
        self._log.info("ready", components=",".join(component.name for component in self._components))
        return True

    async def _guard(self, component: Component | None, work: Awaitable[None]) -> None:
        """Await the work of a task; a failure becomes the reason to end."""
        name = component.name if component is not None else "reload"
        try:
            await work
            if component is None or component.stopping.is_set():
                return
            failure = Failure(name, None)
        except TelemetrydError as error:
            failure = Failure(name, error)
            self._log.error("failed", failed=name, reason=error)
        except Exception as error:  # noqa: BLE001 - the one place that any failure of a component ends in
            failure = Failure(name, error)
            self._log.error("failed", failed=name, reason=repr(error), error=error)
        self.failure = self.failure or failure
        self.stop(str(failure))

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            await self._reload()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_s
        for component, task in reversed(self._tasks.items()):
            component.stop()
            # Even after the deadline each has a moment: what only has to close should not be cut off.
            await asyncio.wait([task], timeout=max(CANCEL_S, deadline - loop.time()))
            if not task.done():
                self.late.append(component.name)
                self._log.error("did not stop in time", late=component.name, drain_s=self._drain_s)
                task.cancel()
                await asyncio.wait([task], timeout=CANCEL_S)

    def _exit_code(self) -> int:
        if self.failure is not None:
            code = self.failure.error.exit_code if isinstance(self.failure.error, TelemetrydError) else EXIT_FAILED
            self._log.error("ended", reason=self.failure, exit_code=code)
            return code
        if self.late:
            self._log.error("ended before the work was finished", late=",".join(self.late), exit_code=EXIT_FAILED)
            return EXIT_FAILED
        self._log.info("ended", exit_code=EXIT_OK)
        return EXIT_OK
