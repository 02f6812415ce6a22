"""The live engine as a component: its sockets, its threads, and how well it keeps up."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from telemetryd.aggregate.sampled_counters import Rows
from telemetryd.classify.tables import Tables
from telemetryd.component import Component, wait
from telemetryd.config.settings import Listen
from telemetryd.live import LiveCounters, LiveEngine, LiveSettings, adopt_sockets, open_sockets
from telemetryd.observe.health import OK, Health, degraded, failed
from telemetryd.observe.log import Log
from telemetryd.schema import UsageWindow

WATCH_S: Final = 0.25
SAMPLE_S: Final = 1.0
RECENT_SAMPLES: Final = 60
STALLED_NS: Final = 5_000_000_000
#: Part of the daemon's time to drain that the sockets and their windows may take; the store has the rest.
DRAIN_SHARE: Final = 0.5

#: What is lost on the way from the sender to the decoder, as SocketCounters names it -> what is said of it.
_LOSSES: Final[Mapping[str, str]] = {
    "kernel_drops": "datagrams dropped by the kernel (raise listen.receive_buffer or listen.sockets)",
    "shed": "datagrams shed under overload: intervals are wider (raise listen.sockets)",
    "capped": "datagrams of agents above limits.agent_datagrams_per_s",
}


class LiveReceiver(Component):
    """Receive sFlow and hand out windows.

    Parameters
    ----------
    listen:
        Where, and whose datagrams.
    agent_datagrams_per_s:
        What one agent may send.
    tables:
        What the registry was compiled to.
    on_window:
        Takes each window of 1 s, in the order of time, in the engine's thread.
    drain_s:
        Time that the daemon has for its end.
    fds:
        Sockets handed over by the service manager; without any, the address and port are bound.
    on_counters:
        Takes the counters samples of each second, in the engine's thread.
    """

    name: ClassVar[str] = "receive"

    def __init__(
        self,
        listen: Listen,
        agent_datagrams_per_s: int,
        tables: Tables,
        on_window: Callable[[UsageWindow], None],
        drain_s: float,
        fds: Mapping[int, str],
        on_counters: Callable[[list[Rows]], None] | None = None,
    ) -> None:
        super().__init__()
        self._listen = listen
        self._settings = LiveSettings(
            registered_only=listen.sources == "registered",
            also_from=listen.also_from,
            agent_datagrams_per_s=agent_datagrams_per_s,
        )
        self._tables = tables
        self._on_window, self._on_counters = on_window, on_counters
        self._drain_s = drain_s * DRAIN_SHARE
        self._fds = fds
        self._log = Log(self.name)
        self._engine: LiveEngine | None = None
        self._is_running = False
        self._losses: deque[dict[str, int]] = deque(maxlen=RECENT_SAMPLES)
        self._senders: deque[tuple[int, int]] = deque(maxlen=RECENT_SAMPLES)  # refused, processed
        self._keep_share = 1.0
        self._refused = 0
        self._clock_steps = 0
        self.endpoints: list[str] = []

    async def run(self) -> None:
        """Receive until stopped, then receive what waits and hand out the open windows.

        Raises
        ------
        InputError
            If the sockets cannot be opened.
        TelemetrydError
            If the engine cannot be drained in time.
        """
        if self._fds:
            sockets = adopt_sockets(list(self._fds), self._listen.receive_buffer)
        else:
            sockets = await asyncio.to_thread(
                open_sockets,
                self._listen.address,
                self._listen.port,
                self._listen.sockets,
                self._listen.receive_buffer,
            )
        try:
            engine = await asyncio.to_thread(
                LiveEngine, sockets, self._tables, self._settings, self._on_window, on_counters=self._on_counters
            )
            self.endpoints = [_endpoint(one.getsockname()) for one in sockets]
            engine.start()
            self._engine, self._is_running = engine, True
            self._log.info("receiving", at=self.endpoints[0], sockets=len(sockets), handed_over=bool(self._fds))
            self.started.set()
            try:
                await self._watch(engine)
            finally:
                await asyncio.to_thread(engine.drain, self._drain_s)
                self._is_running = False
                self._log.info("drained", **_sums(engine.counters()))
            if engine.failure is not None:
                raise engine.failure
        finally:
            for one in sockets:
                one.close()

    def swap(self, tables: Tables) -> None:
        """Use other tables from the next second on."""
        self._tables = tables
        if self._engine is not None:
            self._engine.swap(tables)

    def counters(self) -> LiveCounters | None:
        """Return the engine's counts, None before it runs; from any thread."""
        return None if self._engine is None else self._engine.counters()

    def is_alive(self) -> bool:
        """Whether every thread of the engine makes progress; true before it runs and after it was drained, too."""
        if self._engine is None or not self._is_running:
            return True
        return time.monotonic_ns() - self._engine.heartbeat_ns < STALLED_NS

    def health(self) -> Health:
        """Failed without progress; degraded while datagrams are lost, for a minute after the last."""
        if self._engine is None:
            return OK
        if self._engine.failure is not None:
            return failed(f"{type(self._engine.failure).__name__}: {self._engine.failure}")
        if not self.is_alive():
            stalled_s = (time.monotonic_ns() - self._engine.heartbeat_ns) / 1e9
            return failed(f"a receiving thread has made no progress for {stalled_s:.0f} s")
        reasons = []
        for cause, words in _LOSSES.items():
            if self._losses and (lost := self._losses[-1][cause] - self._losses[0][cause]):
                reasons.append(f"{lost:,} {words} in the last {len(self._losses) * SAMPLE_S:.0f} s")
        refused, processed = (self._senders[-1][i] - self._senders[0][i] if self._senders else 0 for i in (0, 1))
        if refused > processed:
            # A stray sender is no fault of ours; a collector that turns most of its traffic away is misconfigured.
            reasons.append(
                f"{refused:,} datagrams of unknown senders refused, {processed:,} accepted "
                "(add their addresses to a device's `agents`, or to listen.also_from)"
            )
        if self._keep_share < 1:
            reasons.append(f"overload: {self._keep_share:.0%} of the datagrams are processed now")
        return degraded(*reasons)

    async def _watch(self, engine: LiveEngine) -> None:
        """Look after the engine until stopped, or until one of its threads has failed."""
        sampled = 0.0
        while not self.stopping.is_set() and engine.failure is None:
            if time.monotonic() - sampled >= SAMPLE_S:
                sampled = time.monotonic()
                self._note(await asyncio.to_thread(engine.counters))
            await wait(self.stopping, WATCH_S)

    def _note(self, counters: LiveCounters) -> None:
        """Keep what health needs of the counts, and log what is new and wrong."""
        losses = {cause: sum(getattr(one, cause) for one in counters.sockets) for cause in _LOSSES}
        before = self._losses[-1] if self._losses else dict.fromkeys(_LOSSES, 0)
        self._losses.append(losses)
        self._senders.append(
            (sum(one.refused for one in counters.sockets), sum(one.processed for one in counters.sockets))
        )
        self._keep_share = min(one.keep_share for one in counters.sockets)
        new = {cause: losses[cause] - before[cause] for cause in _LOSSES if losses[cause] > before[cause]}
        if new:
            self._log.warning("datagrams were lost", **new, processed_share=round(self._keep_share, 3))
        refused = sum(one.refused for one in counters.sockets)
        if refused > self._refused:
            sources = ",".join(list(counters.refused_sources)[:5])
            remedy = "add them to a device's agents, or to listen.also_from"
            self._log.warning(
                "datagrams of unknown senders refused", refused=refused - self._refused, senders=sources, remedy=remedy
            )
            self._refused = refused
        if counters.clock.steps > self._clock_steps:
            self._clock_steps = counters.clock.steps
            self._log.warning("the system's clock was stepped", step_s=counters.clock.last_step_ns / 1e9)


def _sums(counters: LiveCounters) -> dict[str, int]:
    """Return what became of all that was sent to the sockets."""
    names = ("received", "processed", "shed", "capped", "refused", "short", "kernel_drops")
    sums = {name: sum(getattr(one, name) for one in counters.sockets) for name in names}
    return sums | {"flow_samples": counters.flow_samples, "windows": counters.windows}


def _endpoint(name: tuple[str | int, ...]) -> str:
    """Write a socket's name as host:port, an IPv6 address in brackets."""
    host, port = str(name[0]), name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
