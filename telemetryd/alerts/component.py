"""The alerts as a component of the daemon: windows in, rules evaluated once a second in a thread, receivers told."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

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
from telemetryd.store.files import Files, NewFile
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
    state:
        File that keeps what fires over a restart; None keeps nothing.
    """

    name: ClassVar[str] = "alerts"

    def __init__(
        self,
        plan: AlertPlan,
        telemetry: Callable[[], Telemetry],
        *,
        pace: Pace | None = None,
        clock: Callable[[], int] = time.time_ns,
        state: Path | None = None,
    ) -> None:
        super().__init__()
        self._state = state
        self._saved: set[tuple[Any, ...]] = set()
        self._unsaved: str | None = None
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
            restored = await asyncio.to_thread(self._load)
            chosen = self._evaluator.receivers()
            for name, one in self._running.items():
                one.receiver.restore([alert for alert in restored if name in (chosen.get(alert.rule) or self._running)])
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
        if self._unsaved is not None:
            reasons.append(self._unsaved)
            worst = max(worst, State.DEGRADED)
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

    def _load(self) -> list[Alert]:
        """Take back what fired when an earlier run ended, in a thread; a file that cannot be read is named."""
        path = self._state
        try:
            document = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else None
            if document is None:
                return []
            self._saved = _identities(document["rules"])
            restored = self._evaluator.restore(document["rules"], int(document["at_ns"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.warning("cannot read what fired before: rules begin anew", file=path, reason=error)
            return []
        self._active = self._evaluator.active()
        if restored:
            self._log.info("alerts of an earlier run go on", alerts=len(restored))
        return restored

    def _save(self) -> None:
        """Keep what fires, where that changed, in a thread; a disk that refuses is a state."""
        if self._state is None:
            return
        rules = self._evaluator.dump()
        if (identities := _identities(rules)) == self._saved:
            return
        files = Files()
        try:
            self._state.parent.mkdir(parents=True, exist_ok=True)
            with NewFile(files, self._state) as file:
                file.write(json.dumps({"version": 1, "at_ns": self._clock(), "rules": rules}).encode())
                file.publish()
            files.sync_directory(self._state.parent)
        except OSError as error:
            self._unsaved = f"what fires is not kept over a restart: {self._state}: {error.strerror or error}"
            return
        self._saved, self._unsaved = identities, None

    def _evaluate(self) -> list[Alert]:
        """Evaluate the windows that wait, in a thread."""
        telemetry = self._telemetry()
        told: list[Alert] = []
        while self._windows:
            told += self._evaluator.add(self._windows.popleft(), telemetry)
        told += self._evaluator.tick(self._clock() - LATE_NS, telemetry)
        self._active = self._evaluator.active()
        self._save()
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


def _identities(rules: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    """Return what is worth a new file: which alerts fire, since when; their figures change all the time."""
    return {
        (name, own["meaning"], one["since_ns"], tuple(map(tuple, one["subject"])))
        for name, own in rules.items()
        for one in own["firing"]
    }
