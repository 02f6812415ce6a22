"""The daemon: builds its components in order, and answers for all of them.

gnmi (targets) --updates--> counters --windows of interfaces--> store, outputs
                               +--growth--> coverage (samples against counters) --> store
receive (threads) --windows--> store (one append a second)
                    |
                    +--------> outputs (spool, one sender each)
                    +--------> alerts (rules once a second, one task a receiver)
                    +--------> demand (once a period: what every ruled link is asked for)
                    |            +--> enforce (divide, plan, rates to gateways by gNMI; drops and shares back)
                    +--------> updates (once a second) --> control service
http, control, watchdog: ask everybody, hold up nobody
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd import __version__
from telemetryd.aggregate.feeds import Feeds
from telemetryd.alerts import Alerts
from telemetryd.assure.alert_measures import Telemetry
from telemetryd.component import Component
from telemetryd.config.settings import changes
from telemetryd.configuration import Configuration, load_elsewhere
from telemetryd.counter_windows import CounterWindow
from telemetryd.counting import Counting
from telemetryd.demanding import Demanding
from telemetryd.enforce.records import Records
from telemetryd.enforced import Enforced
from telemetryd.enforcing import Enforcing, Setup
from telemetryd.errors import ProblemsError, TelemetrydError
from telemetryd.gateways import loop_setup
from telemetryd.observe import log
from telemetryd.observe.health import Health, State, combine
from telemetryd.observe.metrics import SpecCollector, exposition
from telemetryd.observe.systemd import Notifier
from telemetryd.outputs import Figures, Outputs
from telemetryd.quality import WindowQuality
from telemetryd.reaching import Reaching
from telemetryd.receiver import LiveReceiver
from telemetryd.reconciling import Reconciling
from telemetryd.schema import UsageWindow
from telemetryd.serve.alert_rows import alert_rows
from telemetryd.serve.components import ControlService, Updates, Watchdog
from telemetryd.serve.control import ControlServer
from telemetryd.serve.coverage_rows import coverage_rows
from telemetryd.serve.demand_rows import demand_rows
from telemetryd.serve.gate import Peer
from telemetryd.serve.http import HttpServer
from telemetryd.serve.loss import LossCounts
from telemetryd.serve.messages import Counts, ReloadResult, Status, Update
from telemetryd.serve.messages import State as StateName
from telemetryd.serve.metrics import METRICS, Observed, own_figures
from telemetryd.serve.output_counts import output_counts, spool_counts
from telemetryd.serve.target_rows import STATES, target_rows
from telemetryd.settling import Settling
from telemetryd.subscriber import Subscriber
from telemetryd.supervisor import Supervisor
from telemetryd.writer import StoreWriter

SECOND_NS: Final = 1_000_000_000

#: Lines of one kind that the audit lets pass in a minute: more than can be asked for.
AUDIT_BURST: Final = 10_000

#: Settings that a reload brings into effect; the others need a restart.
RELOADABLE: Final = frozenset({"registry", "log.level", "outputs", "policies"})
RELOADABLE_SECTIONS: Final = ("gnmi.", "alerts.", "demand.", "enforce.")
#: Settings of these sections that need one all the same.
NOT_RELOADABLE: Final = frozenset({"alerts.state"})


class Daemon:
    """All components, and what is asked of them together; the control service's backend.

    Parameters
    ----------
    file:
        The configuration, read again at a reload.
    configuration:
        What it held at the start.
    notifier:
        The service manager.
    listen_fds:
        Sockets that it handed over, for sFlow.
    """

    def __init__(
        self,
        file: Path,
        configuration: Configuration,
        *,
        notifier: Notifier,
        listen_fds: Mapping[int, str],
    ) -> None:
        settings = configuration.settings
        self._file = file
        self._configuration = configuration
        self._settings = settings  # those that the components were made with
        self._notifier = notifier
        self._log = log.Log("daemon")
        self._audit = log.Log("audit", log.RateLimit(burst=AUDIT_BURST))
        self._started_ns = self._loaded_ns = time.time_ns()
        self._reloads = {"done": 0, "refused": 0}
        self._reload_failure: str | None = None
        self._one_reload = asyncio.Lock()
        drain_s = settings.limits.drain / SECOND_NS

        self._quality = WindowQuality()
        self._writer = StoreWriter(
            settings.store.path, settings.store.retention.by_span(), settings.limits.backlog, self._started_ns
        )
        self._outputs = Outputs(
            settings.outputs,
            settings.spool,
            settings.limits.backlog,
            store=settings.store.path,
            origin=self._writer.origin,
            figures=self._figures,
            series_limit=settings.limits.series,
        )
        self._reconciling = Reconciling(configuration.registry, self._writer.put_figures)
        self._counting = Counting(
            configuration.registry,
            self._take_counters,
            store=settings.store.path,
            on_growth=self._take_growth,
        )
        self._counting.wait_for(configuration.targets)
        self._subscriber = Subscriber(configuration.targets, settings.gnmi.connecting, self._counting.take_updates)
        self._receiver = LiveReceiver(
            settings.listen,
            settings.limits.agent_datagrams_per_s,
            configuration.tables,
            self._take,
            drain_s,
            listen_fds,
            self._counting.take_samples,
        )
        self._alerts = Alerts(configuration.alerts, self._telemetry, state=settings.alerts.state)
        self._demanding = Demanding(
            configuration.policies,
            configuration.registry,
            settings.demand,
            lambda: self._telemetry().received,
            self._take_counters,
            store=settings.store.path,
        )
        self._records = Records(settings.enforce.path)
        self._enforcing = Enforcing(loop_setup(configuration, self._records), self._records, self._demanding)
        self._enforced = Enforced(
            lambda: self._configuration.settings.demand.period, self._take_counters, store=settings.store.path
        )
        self._enforcing.delivered.on_rows(self._enforced.add)
        self._settling = Settling(self._reaching(configuration))
        self._updates = Updates(configuration.registry, self._receiver.counters, self._overall)
        watchdog = Watchdog(notifier, self._receiver.is_alive, self._status_line)
        # They stop in the reverse order: who is asked about the others goes last.
        self._components: list[Component] = [watchdog]
        if settings.http.enabled:
            metrics = exposition([SpecCollector(METRICS, self._observe)])
            self._components.append(
                HttpServer(
                    settings.http.address,
                    settings.http.port,
                    health=self._health,
                    is_ready=lambda: self._supervisor.is_serving,
                    metrics=metrics,
                )
            )
        if settings.control.enabled:
            self._components.append(ControlService(ControlServer(settings.control.socket, self)))
        self._components += [
            self._updates,
            self._alerts,
            self._settling,
            self._enforcing,
            self._demanding,
            self._outputs,
            self._writer,
            self._reconciling,
            self._counting,
            self._subscriber,
            self._receiver,
        ]
        self._supervisor = Supervisor(
            self._components, drain_s=drain_s, notifier=notifier, reload=self.reload, status=self._status_line
        )

    async def run(self) -> int:
        """Run until a signal or a failure; return the exit code."""
        self._log.info(
            "starting", version=__version__, config=self._file, loop=type(asyncio.get_running_loop()).__module__
        )
        return await self._supervisor.run()

    @property
    def has_left_threads(self) -> bool:
        """Whether a component did not stop in time, so that its thread may never end."""
        return bool(self._supervisor.late)

    # --- the backend of the control service ---------------------------------------------------------------

    def status(self) -> Status:
        """Say how the daemon is."""
        live = self._receiver.counters()
        written, outputs = self._writer.counters(), self._outputs.counters()
        store = {
            "windows": written.windows,
            "rows": written.rows,
            "appends": written.appends,
            "failures": written.failures,
            "lost_windows": written.lost,
            "backlog_windows": written.backlog_windows,
        }
        sockets: list[Counts] = []
        agents: list[Counts] = []
        if live is not None:
            for name, one in zip(self._receiver.endpoints, live.sockets, strict=True):
                sockets.append({"name": name, "counts": _whole(one)})
            agents = [{"name": name, "counts": _whole(one)} for name, one in sorted(live.agents.items())]
        health = self._health()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_ns": self._started_ns,
            "now_ns": time.time_ns(),
            "state": STATES[combine(health).state],
            "components": [
                {"name": name, "state": STATES[one.state], "reasons": list(one.reasons)} for name, one in health.items()
            ],
            "config": str(self._file),
            "registry": str(self._configuration.settings.registry),
            "loaded_ns": self._loaded_ns,
            "reloads": self._reloads["done"],
            "sockets": sockets,
            "agents": agents,
            "loss": (LossCounts.of(live) if live is not None else LossCounts()).message(),
            "store": {"name": str(self._configuration.settings.store.path), "counts": store},
            "spool": spool_counts(self._settings.spool.path, outputs),
            "outputs": output_counts(outputs),
            "alerts": alert_rows(self._alerts.active()),
            "targets": target_rows(self._subscriber.counters()),
            "coverage": coverage_rows(
                self._reconciling.coverages(),
                self._reconciling.places,
                self._subscriber.counters(),
                live.agents if live is not None else {},
                self._configuration.registry,
            ),
            "demand": demand_rows(self._demanding.latest()),
            "gateways": [
                {"name": name, "phase": str(phase), "reason": reason}
                for name, (phase, reason) in sorted(self._enforcing.counters().gateways.items())
            ],
        }

    async def reload(self, peer: Peer | None = None) -> ReloadResult:
        """Load everything again and swap it in whole, or keep everything as it is and say why.

        Parameters
        ----------
        peer:
            Who asked, None for a signal.
        """
        async with self._one_reload:
            if peer is None:
                self._audit.info("reload asked for", by="SIGHUP")
            else:
                user = await asyncio.to_thread(peer.user)
                self._audit.info("reload asked for", by=user, uid=peer.uid, pid=peer.pid)
            self._notifier.reloading()
            try:
                new = await load_elsewhere(self._file)
                # Tables of deviations are files: read before anything is changed, and not on the loop.
                loop, reaching = await asyncio.to_thread(lambda: (loop_setup(new, self._records), self._reaching(new)))
                result = self._swap(new, loop, reaching)
            except TelemetrydError as error:
                problems = tuple(map(str, error.problems)) if isinstance(error, ProblemsError) else (str(error),)
                self._reloads["refused"] += 1
                self._reload_failure = f"the last reload was refused, the old configuration goes on: {problems[0]}"
                self._log.error("reload refused", problems=len(problems), first=problems[0])
                for problem in problems:
                    self._log.warning("mistake", problem=problem)
                result = ReloadResult(False, problems=problems)
            self._notifier.ready(self._status_line())
            return result

    def subscribe(self) -> AsyncGenerator[Update, None]:
        """Yield an update a second."""
        return self._updates.broadcast.subscribe()

    def _swap(self, new: Configuration, loop: Setup, reaching: Reaching) -> ReloadResult:
        old, before = self._configuration, self._configuration.settings
        # The engine may refuse the tables; then nothing has been changed yet.
        self._receiver.swap(new.tables)
        self._updates.replace(new.registry)
        self._outputs.replace(new.settings.outputs)
        self._alerts.replace(new.alerts)
        self._demanding.replace(new.policies, new.registry, new.settings.demand)
        self._enforcing.replace(loop)
        self._settling.replace(reaching)
        self._subscriber.replace(new.targets, new.settings.gnmi.connecting)
        self._counting.replace(new.registry, new.targets)
        self._reconciling.replace(new.registry)
        log.set_level(new.settings.log.level)
        changed = changes(before, new.settings)
        needs_restart = [path for path in changes(self._settings, new.settings) if not is_reloadable(path)]
        differences = [path for path in changed if is_reloadable(path)]
        for name, entries in new.registry:
            count, was = len(entries), len(old.registry.section(name))
            if entries != old.registry.section(name):
                differences.append(f"registry: {name}" + (f" {was} -> {count}" if was != count else ""))
        self._configuration = new
        self._loaded_ns = time.time_ns()
        self._reloads["done"] += 1
        self._reload_failure = None
        self._log.info("reloaded", changes=",".join(differences), needs_restart=",".join(needs_restart))
        return ReloadResult(True, tuple(differences), tuple(needs_restart))

    def _reaching(self, configuration: Configuration) -> Reaching:
        where = configuration.loaded.document.where
        return Reaching(configuration.settings, configuration.registry, where, self._records)

    # --- what the components ask ---------------------------------------------------------------------------

    def _take(self, window: UsageWindow) -> None:
        """Pass a closed window on; called in the engine's thread."""
        self._writer.put(window, self._quality.of_window(self._receiver.counters()))
        self._outputs.put(window)
        self._alerts.put(window)
        self._demanding.put_window(window)
        self._updates.put(window)
        self._reconciling.put_window(window)

    def _take_growth(self, growth: Mapping[str, NDArray[Any]], offset_ns: NDArray[np.int64], feeds: Feeds) -> None:
        """Pass on what counters grew by."""
        self._reconciling.take_growth(growth, offset_ns, feeds)
        self._enforcing.take_growth(growth, offset_ns, feeds)

    def _take_counters(self, window: CounterWindow) -> None:
        """Pass a window of counters on."""
        self._writer.put_counters(window)
        self._outputs.put_counters(window)

    def _health(self) -> dict[str, Health]:
        parts = {component.name: component.health() for component in self._components}
        if self._reload_failure is not None:
            parts["reload"] = Health(State.DEGRADED, (self._reload_failure,))
        return parts

    def _overall(self) -> tuple[StateName, list[str]]:
        whole = combine(self._health())
        return STATES[whole.state], list(whole.reasons)

    def _observe(self) -> Observed:
        return Observed(
            live=self._receiver.counters(),
            store=self._writer.counters(),
            outputs=self._outputs.counters(),
            output_states=self._outputs.states(),
            alerts=self._alerts.counters(),
            targets=self._subscriber.counters(),
            counting=self._counting.counters(),
            coverages=self._reconciling.coverages(),
            reconciled=self._reconciling.counts(),
            demand=self._demanding.counters(),
            enforcing=self._enforcing.counters(),
            health=self._health(),
            reloads=dict(self._reloads),
            started_ns=self._started_ns,
            loaded_ns=self._loaded_ns,
        )

    def _telemetry(self) -> Telemetry:
        """Say how telemetry arrives, for the alerts."""
        live = self._receiver.counters()
        if live is None:
            return Telemetry()
        lost = LossCounts.of(live)
        outside = lost.kernel_drops + lost.network
        received = {name: agent.received for name, agent in live.agents.items()}
        coverages = {
            (one.link, one.direction.name.lower()): (one.ratio, one.low, one.high)
            for one in self._reconciling.coverages()
        }
        return Telemetry(lost.received + outside, outside + lost.shed + lost.capped, received, coverages)

    def _figures(self) -> Figures:
        live = self._receiver.counters()
        devices = {str(a): device.name for device in self._configuration.registry.devices for a in device.agents}
        agents = [(devices.get(name, name), one) for name, one in (live.agents if live else {}).items()]
        return Figures(agents, own_figures(self._observe()))

    def _status_line(self) -> str:
        """Return the line that `systemctl status` shows."""
        state, reasons = self._overall()
        live = self._receiver.counters()
        received = sum(one.received for one in live.sockets) if live is not None else 0
        agents = len(live.agents) if live is not None else 0
        line = f"{state}: {received:,} datagrams of {agents:,} exporters, {self._writer.counters().rows:,} rows stored"
        return f"{line}; {reasons[0]}" if reasons else line


def is_reloadable(path: str) -> bool:
    """Tell whether a reload brings a setting into effect."""
    return path in RELOADABLE or (path.startswith(RELOADABLE_SECTIONS) and path not in NOT_RELOADABLE)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _whole(counters: object) -> dict[str, int]:
    """Return the whole numbers among the fields of a dataclass of counts."""
    names: tuple[str, ...] = getattr(counters, "__slots__", ())
    return {name: value for name in names if isinstance(value := getattr(counters, name), int)}
