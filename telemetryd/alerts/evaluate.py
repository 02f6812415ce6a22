"""Rules on windows: who measures what, and when a span is over. One owner at a time, no I/O."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from telemetryd.assure.alert_measures import Measure, Telemetry
from telemetryd.assure.alert_plan import AlertPlan, unit_of
from telemetryd.assure.alerts import Alert, Hold, RuleState
from telemetryd.config.settings_alerts import AlertRule
from telemetryd.schema import UsageWindow

_SEVERITIES: Final = ("critical", "warning", "info")


@dataclass(slots=True)
class _Watch:
    """A rule at work: its measure, its state, and the end of the span that it is in."""

    rule: AlertRule
    measure: Measure
    state: RuleState
    end_ns: int = 0


class Evaluator:
    """Evaluate the rules of a plan on windows and the time.

    Spans lie on multiples of their length since the epoch. One is over when a window behind its end comes, or when
    :meth:`tick` says that it is so late that no window of it comes any more.

    Parameters
    ----------
    plan:
        What is watched.

    Attributes
    ----------
    spans:
        Spans that were evaluated, over all rules.
    late:
        Windows that came for a span that was over, by rule: they count nowhere.
    told:
        (rule, state) -> alerts that began or ended.
    """

    def __init__(self, plan: AlertPlan) -> None:
        self.spans = 0
        self.late: Counter[str] = Counter()
        self.told: Counter[tuple[str, str]] = Counter()
        self._watches: list[_Watch] = []
        self.replace(plan, 0)

    def replace(self, plan: AlertPlan, at_ns: int) -> list[Alert]:
        """Watch by another plan from now on; return the alerts that end since their rule is gone, or is another.

        A rule that is the same, but for who is told, keeps what it knows.
        """
        before = {watch.rule.name: watch for watch in self._watches}
        self._watches = []
        ended: list[Alert] = []
        for rule in plan.settings.rules:
            old = before.pop(rule.name, None)
            hold = Hold(rule.hold, rule.recover_hold)
            state = RuleState(rule.name, rule.kind, rule.severity, unit_of(rule), hold)
            if old is not None and _meaning(old.rule) == _meaning(rule):
                state = old.state
            elif old is not None:
                ended += old.state.end(at_ns)
            self._watches.append(_Watch(rule, plan.measure(rule), state, old.end_ns if old is not None else 0))
        for watch in before.values():
            ended += watch.state.end(at_ns)
        self._count(ended)
        return ended

    def add(self, window: UsageWindow, telemetry: Telemetry) -> list[Alert]:
        """Take in a window of 1 s; return what began or ended by it."""
        told: list[Alert] = []
        for watch in self._watches:
            if window.start_ns < watch.end_ns - watch.rule.over:
                self.late[watch.rule.name] += 1
                continue
            if window.start_ns >= watch.end_ns:
                told += self._close(watch, window.start_ns, telemetry)
            watch.measure.add(window)
        return told

    def tick(self, until_ns: int, telemetry: Telemetry) -> list[Alert]:
        """End the spans that lie before a time; return what began or ended by it."""
        return [alert for watch in self._watches for alert in self._close(watch, until_ns, telemetry)]

    def dump(self) -> dict[str, Any]:
        """Return what fires, by rule, as plain data."""
        return {
            watch.rule.name: {"meaning": digest(watch.rule), "firing": firing}
            for watch in self._watches
            if (firing := watch.state.dump())
        }

    def restore(self, dumped: Mapping[str, Any], at_ns: int) -> list[Alert]:
        """Take back what :meth:`dump` gave before a restart, of the rules that are the same; return what fires.

        May raise KeyError, TypeError or ValueError where that is something else.
        """
        return [
            alert
            for watch in self._watches
            if (own := dumped.get(watch.rule.name)) is not None and own["meaning"] == digest(watch.rule)
            for alert in watch.state.restore(own["firing"], at_ns)
        ]

    def active(self) -> list[Alert]:
        """Return what fires or is about to, the most severe first."""
        alerts = [alert for watch in self._watches for alert in watch.state.active()]
        return sorted(alerts, key=lambda one: (one.state != "firing", _SEVERITIES.index(one.severity), one.since_ns))

    def receivers(self) -> dict[str, tuple[str, ...]]:
        """Return rule -> names of who is told; none for everybody."""
        return {watch.rule.name: watch.rule.receivers for watch in self._watches}

    def _close(self, watch: _Watch, until_ns: int, telemetry: Telemetry) -> list[Alert]:
        """End the span that a rule is in if it lies before a time, and begin that which the time is in."""
        over = watch.rule.over
        begin = until_ns // over * over
        if begin < watch.end_ns:
            return []
        told: list[Alert] = []
        if watch.end_ns:
            readings = watch.measure.close(watch.end_ns - over, watch.end_ns, telemetry)
            told = watch.state.step(readings, watch.end_ns - over, watch.end_ns)
            self.spans += 1
            # Spans without a sign of life in between break every hold: what is not known lasts through nothing.
            if begin > watch.end_ns:
                readings = watch.measure.close(watch.end_ns, begin, telemetry)
                told += watch.state.step(readings, watch.end_ns, begin)
                self.spans += 1
        watch.end_ns = begin + over
        self._count(told)
        return told

    def _count(self, alerts: Iterable[Alert]) -> None:
        self.told.update((alert.rule, alert.state) for alert in alerts)


def digest(rule: AlertRule) -> str:
    """Return 16 hexadecimal digits of what a rule means: all but who is told."""
    return hashlib.sha256(repr(_meaning(rule)).encode()).hexdigest()[:16]


def _meaning(rule: AlertRule) -> object:
    """Return what makes a rule's state worth keeping: all but who is told."""
    return rule.model_copy(update={"receivers": ()})
