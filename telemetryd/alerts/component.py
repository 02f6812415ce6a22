"""The alerts as a component of the daemon: windows in, rules evaluated once a second in a thread, receivers told."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from telemetryd.alerts.evaluate import Evaluator
from telemetryd.alerts.receiver import Receiver, ReceiverCounters
from telemetryd.alerts.syslog import Syslog, SyslogTarget
from telemetryd.alerts.web import Alertmanager, Endpoint, Webhook
from telemetryd.assure.alert_measures import Telemetry
from telemetryd.assure.alert_plan import AlertPlan
from telemetryd.assure.alerts import Alert
from telemetryd.component import Component, wait
from telemetryd.config.settings_alerts import AlertReceiver
from telemetryd.observe.health import Health, State
from telemetryd.observe.log import Log
from telemetryd.schema import UsageWindow
from telemetryd.store.influx.credentials import TokenSource
from telemetryd.store.influx.respond import Pace

SECOND_NS: Final = 1_000_000_000
EVERY_S: Final = 1.0
#: Windows that wait for the next evaluation at most.
WAITING: Final = 300
#: A span is over so long after its end though no later window came: windows are closed two seconds late.
LATE_NS: Final = 10 * SECOND_NS
#: Time that receivers have at the end for what waits.
FINISH_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class AlertCounters:
    """What was done since the start.

    Attributes
    ----------
    spans:
        Spans evaluated, over all rules.
    windows_lost:
        Windows that came faster than they were evaluated.
    told:
        (rule, ``firing`` or ``resolved``) -> alerts.
    active:
        (rule, ``firing`` or ``pending``) -> alerts now.
    receivers:
        By name.
    """

    spans: int = 0
    windows_lost: int = 0
    told: Mapping[tuple[str, str], int] = field(default_factory=dict)
    active: Mapping[tuple[str, str], int] = field(default_factory=dict)
    receivers: Mapping[str, ReceiverCounters] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Running:
    """A receiver at work."""

    settings: AlertReceiver
    receiver: Receiver
    task: asyncio.Task[None]


class Alerts(Component):
    """Watch windows by rules, and tell receivers.

    Parameters
    ----------
    plan:
        Rules and receivers; without rules nothing is done.
    telemetry:
        How telemetry arrives; called in a thread.
    pace:
        How patient the receivers are.
    clock:
        Wall clock in ns.
    """

    name: ClassVar[str] = "alerts"

    def __init__(
        self,
        plan: AlertPlan,
        telemetry: Callable[[], Telemetry],
        *,
        pace: Pace | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__()
        self._plan = plan
        self._next: AlertPlan | None = None
        self._telemetry = telemetry
        self._pace = pace
        self._clock = clock
        self._log = Log(self.name)
        self._evaluator = Evaluator(plan)
        self._windows: deque[UsageWindow] = deque()
        self._windows_lost = 0
        self._active: list[Alert] = []
        self._running: dict[str, _Running] = {}
        self._ending: list[_Running] = []  # those that a reload took away
        self._sender = socket.gethostname()

    def put(self, window: UsageWindow) -> None:
        """Take a closed window of 1 s; from any thread, never waits."""
        if not self._plan.settings.rules:
            return
        if len(self._windows) >= WAITING:
            self._windows.popleft()
            self._windows_lost += 1
        self._windows.append(window)

    def replace(self, plan: AlertPlan) -> None:
        """Watch by another plan from the next evaluation on; from the event loop."""
        self._next = plan

    async def run(self) -> None:
        """Evaluate and tell until stopped."""
        self.started.set()
        async with asyncio.TaskGroup() as group:
            self._configure(group)
            while not self.stopping.is_set():
                begun = time.monotonic()
                if self._next is not None:
                    plan, self._next = self._next, None
                    self._plan = plan
                    self._tell(await asyncio.to_thread(self._evaluator.replace, plan, self._clock()))
                    self._configure(group)
                if self._plan.settings.rules:
                    self._tell(await asyncio.to_thread(self._evaluate))
                await wait(self.stopping, EVERY_S - (time.monotonic() - begun))
            await self._end()

    def active(self) -> list[Alert]:
        """Return what fires, and what is about to."""
        return self._active

    def health(self) -> Health:
        """Return the worst state of the receivers, with every reason."""
        parts = {name: one.receiver.health() for name, one in sorted(self._running.items())}
        reasons = [f"{name}: {reason}" for name, part in parts.items() for reason in part.reasons]
        worst = max((part.state for part in parts.values()), default=State.OK)
        if self._windows_lost:
            reasons.append(f"{self._windows_lost:,} windows were not evaluated since the start: rules take too long")
            worst = max(worst, State.DEGRADED)
        return Health(worst, tuple(reasons))

    def counters(self) -> AlertCounters:
        """Return what was done so far."""
        active: dict[tuple[str, str], int] = {
            (rule.name, state): 0 for rule in self._plan.settings.rules for state in ("firing", "pending")
        }
        for alert in self._active:
            key = alert.rule, alert.state
            active[key] = active.get(key, 0) + 1
        return AlertCounters(
            spans=self._evaluator.spans,
            windows_lost=self._windows_lost,
            told=dict(self._evaluator.told),
            active=active,
            receivers={name: one.receiver.counters for name, one in sorted(self._running.items())},
        )

    def _evaluate(self) -> list[Alert]:
        """Evaluate the windows that wait, in a thread."""
        telemetry = self._telemetry()
        told: list[Alert] = []
        while self._windows:
            told += self._evaluator.add(self._windows.popleft(), telemetry)
        told += self._evaluator.tick(self._clock() - LATE_NS, telemetry)
        self._active = self._evaluator.active()
        return told

    def _tell(self, alerts: Sequence[Alert]) -> None:
        chosen = self._evaluator.receivers()
        for alert in alerts:
            event = "alert" if alert.state == "firing" else "alert ended"
            subject = ",".join(f"{name}={value}" for name, value in alert.subject)
            self._log.warning(event, rule=alert.rule, severity=alert.severity, of=subject or "-")
            for name, one in self._running.items():
                if name in (chosen.get(alert.rule) or self._running):
                    one.receiver.put([alert])

    # --- receivers ---------------------------------------------------------------------------------------------

    def _configure(self, group: asyncio.TaskGroup) -> None:
        """Bring the receivers in line with the plan; those that did not change go on."""
        wanted = {receiver.name: receiver for receiver in self._plan.settings.receivers}
        self._ending = [one for one in self._ending if not one.task.done()]
        for name in [name for name, one in self._running.items() if wanted.get(name) != one.settings]:
            self._ending.append(self._running.pop(name))
            self._ending[-1].receiver.stop()
        for name, settings in wanted.items():
            if name not in self._running:
                receiver = self._receiver(settings)
                task = group.create_task(receiver.run(), name=f"alerts-{name}")
                self._running[name] = _Running(settings, receiver, task)

    def _receiver(self, settings: AlertReceiver) -> Receiver:
        timeout_s = settings.timeout / SECOND_NS
        if settings.kind == "syslog":
            target = SyslogTarget(
                settings.protocol,
                settings.host or "",
                settings.port or 0,
                settings.path,
                settings.ca_file,
                settings.facility,
                settings.enterprise,
                timeout_s,
            )
            return Syslog(
                settings.name, target, sender=self._sender, queue=settings.queue, pace=self._pace, clock=self._clock
            )
        url = settings.url or ""
        token = TokenSource(settings.token_file, settings.credential)
        if settings.kind == "webhook":
            endpoint = Endpoint(url, token, settings.ca_file, timeout_s)
            return Webhook(
                settings.name, endpoint, sender=self._sender, queue=settings.queue, pace=self._pace, clock=self._clock
            )
        return Alertmanager(
            settings.name,
            Endpoint(f"{url}/api/v2/alerts", token, settings.ca_file, timeout_s),
            sender=self._sender,
            queue=settings.queue,
            resend_ns=settings.resend,
            pace=self._pace,
            clock=self._clock,
        )

    async def _end(self) -> None:
        """End all receivers: they have a moment for what waits."""
        ending = [*self._ending, *self._running.values()]
        self._running.clear()
        for one in ending:
            one.receiver.stop()
        if ending:
            await asyncio.wait([one.task for one in ending], timeout=FINISH_S)
            for one in ending:
                one.task.cancel()
            await asyncio.wait([one.task for one in ending])
