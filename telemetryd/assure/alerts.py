"""Alerts: thresholds that respect the interval of a figure, with hold and recovery. Pure; time comes from the spans.

A figure with the interval [low, high] is evidence that it is above a limit if low is, evidence that it is back below
the recovery limit if high is, and else no evidence of anything. An alert begins after evidence through ``hold``
without a break, and ends after evidence of recovery through ``recover_hold`` without a break. What is no evidence
breaks both, and changes nothing else.

The lower limit of a 95 % interval lies above the truth in 2.5 % of the spans. Spans do not overlap, so a figure that
is exactly at its limit raises a false alert with a probability of 0.025^n in n spans in a row: with five spans of a
minute, once in 200 years.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

Labels = Mapping[str, str]


class Evidence(Enum):
    """What one span says."""

    BAD = "bad"
    GOOD = "good"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a figure is bad, and where it is good again.

    Attributes
    ----------
    value:
        The limit.
    recover:
        Limit for the end of an alert; not beyond ``value``.
    is_above:
        Whether above is bad, or below.
    """

    value: float
    recover: float
    is_above: bool

    def evidence(self, low: float, high: float) -> Evidence:
        """Tell what a figure between ``low`` and ``high`` is evidence of."""
        if self.is_above:
            return Evidence.BAD if low > self.value else Evidence.GOOD if high <= self.recover else Evidence.NONE
        return Evidence.BAD if high < self.value else Evidence.GOOD if low >= self.recover else Evidence.NONE


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured of one subject of a rule in one span.

    Attributes
    ----------
    subject:
        Labels that tell it from the rule's others, such as its link.
    value, low, high:
        The figure and its interval; equal where it is exact.
    evidence:
        What it says.
    limit:
        The limit that it was held against.
    note:
        More, for people.
    """

    subject: tuple[tuple[str, str], ...]
    value: float
    low: float
    high: float
    evidence: Evidence
    limit: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """How long evidence must last, in ns."""

    hold_ns: int
    recover_ns: int


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as it is told.

    Attributes
    ----------
    rule, kind, severity:
        Of the rule.
    subject:
        As in :class:`Reading`.
    unit:
        Of the figures: ``bit/s`` or ``ratio``.
    state:
        ``pending`` (not told yet), ``firing``, ``resolved``.
    since_ns:
        Begin of the first span with evidence.
    until_ns:
        End of the span that ended it, 0 before.
    updated_ns:
        End of the last span that was looked at.
    reading:
        The last figure that was evidence, or any later one.
    """

    rule: str
    kind: str
    severity: str
    subject: tuple[tuple[str, str], ...]
    unit: str
    state: Literal["pending", "firing", "resolved"]
    since_ns: int
    until_ns: int
    updated_ns: int
    reading: Reading

    @property
    def labels(self) -> dict[str, str]:
        """What identifies it."""
        return {"alertname": self.rule, "kind": self.kind, "severity": self.severity, **dict(self.subject)}

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of its labels: the same for the same rule and subject, at all times."""
        text = "\0".join(f"{name}={value}" for name, value in sorted(self.labels.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(slots=True)
class _Watched:
    """How far one subject is: when evidence began, and whether it fires."""

    reading: Reading
    bad_ns: int | None = None  # begin of the evidence that lasts until now
    good_ns: int | None = None
    fires: bool = False
    since_ns: int = 0


@dataclass(slots=True)
class RuleState:
    """The subjects of one rule, from span to span.

    Attributes
    ----------
    rule, kind, severity, unit, hold:
        Of the rule.
    """

    rule: str
    kind: str
    severity: str
    unit: str
    hold: Hold
    _subjects: dict[tuple[tuple[str, str], ...], _Watched] = field(default_factory=dict)
    _updated_ns: int = 0

    def step(self, readings: Iterable[Reading], start_ns: int, end_ns: int) -> list[Alert]:
        """Take in the readings of a span; return the alerts that began or ended.

        A subject that fires and is not among the readings has ended: it is no subject any more.
        """
        told: list[Alert] = []
        before, self._subjects = self._subjects, {}
        self._updated_ns = end_ns
        for reading in readings:
            watched = before.pop(reading.subject, None) or _Watched(reading)
            if (alert := self._look(watched, reading, start_ns, end_ns)) is not None:
                told.append(alert)
            if watched.fires or watched.bad_ns is not None:
                self._subjects[reading.subject] = watched
        told += [self._alert(watched, "resolved", end_ns) for watched in before.values() if watched.fires]
        return told

    def active(self) -> list[Alert]:
        """Return what fires, and what is about to."""
        return [
            self._alert(watched, "firing" if watched.fires else "pending", 0) for watched in self._subjects.values()
        ]

    def dump(self) -> list[dict[str, Any]]:
        """Return what fires, as plain data; what is about to begins anew after a restart."""
        return [
            {
                **{name: getattr(one.reading, name) for name in ("value", "low", "high", "limit", "note")},
                "subject": [list(label) for label in one.reading.subject],
                "evidence": one.reading.evidence.value,
                "since_ns": one.since_ns,
            }
            for one in self._subjects.values()
            if one.fires
        ]

    def restore(self, dumped: Iterable[Mapping[str, Any]], updated_ns: int) -> list[Alert]:
        """Take back what :meth:`dump` gave, and return it as alerts; it fires until evidence of recovery.

        May raise KeyError, TypeError or ValueError where that is something else.
        """
        self._updated_ns = updated_ns
        for one in dumped:
            subject = tuple((str(name), str(value)) for name, value in one["subject"])
            value, low, high, limit = (float(one[name]) for name in ("value", "low", "high", "limit"))
            reading = Reading(subject, value, low, high, Evidence(one["evidence"]), limit, str(one["note"]))
            self._subjects[subject] = _Watched(reading, fires=True, since_ns=int(one["since_ns"]))
        return self.active()

    def end(self, at_ns: int) -> list[Alert]:
        """End everything, since the rule is gone; return the alerts that this ends."""
        watched, self._subjects = self._subjects, {}
        return [self._alert(one, "resolved", at_ns) for one in watched.values() if one.fires]

    def _look(self, watched: _Watched, reading: Reading, start_ns: int, end_ns: int) -> Alert | None:
        if reading.evidence is not Evidence.NONE or watched.fires:
            watched.reading = reading
        bad, good = reading.evidence is Evidence.BAD, reading.evidence is Evidence.GOOD
        watched.bad_ns = (start_ns if watched.bad_ns is None else watched.bad_ns) if bad else None
        watched.good_ns = (start_ns if watched.good_ns is None else watched.good_ns) if good else None
        if not watched.fires and watched.bad_ns is not None and end_ns - watched.bad_ns >= self.hold.hold_ns:
            watched.fires, watched.since_ns = True, watched.bad_ns
            return self._alert(watched, "firing", 0)
        if watched.fires and watched.good_ns is not None and end_ns - watched.good_ns >= self.hold.recover_ns:
            watched.fires = False
            return self._alert(watched, "resolved", end_ns)
        return None

    def _alert(self, watched: _Watched, state: Literal["pending", "firing", "resolved"], until_ns: int) -> Alert:
        since_ns = watched.since_ns if state != "pending" else watched.bad_ns or self._updated_ns
        return Alert(
            self.rule,
            self.kind,
            self.severity,
            watched.reading.subject,
            self.unit,
            state,
            since_ns,
            until_ns,
            self._updated_ns,
            watched.reading,
        )
