"""What applies when, in words and in spans: events, schedules, overrides, days off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from telemetryd.config.positions import PathInData
from telemetryd.policy.calendar import applies, instants
from telemetryd.policy.fields import DAYS
from telemetryd.policy.loaded import Policy
from telemetryd.policy.models import CHILDREN, Change, Node, Override, PolicyFile, Terms
from telemetryd.policy.outline import Active, changes_of


@dataclass(frozen=True, slots=True)
class Span:
    """A time at which something applies.

    Attributes
    ----------
    policy:
        Name of the policy.
    since, until:
        Local times of the policy, within the range that was asked for.
    is_cut:
        Whether it goes on behind the range.
    kind:
        ``event``, ``schedule``, ``override`` or ``holiday``.
    name:
        The event, or the condition or override in words.
    node:
        Names from the link down; empty for events and holidays.
    terms:
        What is different then, as written.
    """

    policy: str
    since: datetime
    until: datetime
    is_cut: bool
    kind: str
    name: str
    node: tuple[str, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()


def spell_change(change: Change) -> str:
    """Write when a change applies: ``event exam-enrolment``, ``mon-fri 22:00-06:00``."""
    words = []
    if change.event is not None:
        words.append(f"event {change.event}")
    if change.recurrence is not None:
        words.append(change.recurrence)
    if change.on is not None:
        words.append(change.on)
    if change.days is not None:
        words.append(_days(change.days))
    if change.hours is not None:
        words.append(f"{change.hours[0]:%H:%M}-{change.hours[1]:%H:%M}")
    return " ".join(words)


def spell_override(override: Override) -> str:
    """Write which override it is: whose node, by whom and until when."""
    node = "/".join(str(getattr(override, level)) for level in CHILDREN if getattr(override, level) is not None)
    return f"override of {node} by {override.owner} until {override.until:%Y-%m-%d %H:%M}"


def conditions(policy: Policy, active: Active) -> frozenset[str]:
    """Return the conditions that hold, in words."""
    changes = {spell_change(change) for path, change in changes_of(policy) if path in active.changes}
    return frozenset(changes | {spell_override(policy.file.overrides[number]) for number in active.overrides})


def terms_of(terms: Terms) -> tuple[tuple[str, str], ...]:
    """Return what is said, as written: (field, value)."""
    shown: dict[str, Any] = terms.model_dump(include=set(Terms.model_fields), exclude_none=True)
    return tuple((name, str(value)) for name, value in shown.items())


def node_names(file: PolicyFile, path: PathInData) -> tuple[str, ...]:
    """Return the names of the nodes on the way to something that is written in a policy."""
    names: list[str] = []
    here: Any = file
    for step in path:
        here = here[step] if isinstance(step, int) else getattr(here, str(step))
        if isinstance(here, Node):
            own = next((getattr(here, level) for level in CHILDREN if getattr(here, level) is not None), None)
            names.append(own if own is not None else f"template {here.template}")
    return tuple(names)


def spans(policy: Policy, since: datetime, days: int) -> list[Span]:
    """Return what applies in the days from a local time on, in order of time.

    Events and days off of the calendar are there whether anything in the policy refers to them or not.
    """
    until = since + timedelta(days=days)
    found = [*_events(policy, since, until), *_holidays(policy, since, until)]
    for override in policy.file.overrides:
        if override.since < until and since < override.until:
            node = tuple(str(getattr(override, level)) for level in CHILDREN if getattr(override, level) is not None)
            name = f"{override.owner}: {override.reason}"
            found.append(
                _cut(policy, override.since, override.until, (since, until), "override", name, node, terms_of(override))
            )
    changes = changes_of(policy)
    times = [at for at in instants([change for _, change in changes], policy.calendar, since, days + 1) if at <= until]
    edges = sorted({since, until, *times})
    for path, change in changes:
        node = node_names(policy.file, path)
        for begin, end in _stretches(policy, change, edges):
            found.append(
                Span(
                    policy.name,
                    begin,
                    end,
                    end == until and applies(change, until, policy.calendar),
                    "schedule",
                    spell_change(change),
                    node,
                    terms_of(change),
                )
            )
    return sorted(found, key=lambda span: (span.since, span.until, span.kind, span.node))


def _stretches(policy: Policy, change: Change, edges: list[datetime]) -> Iterator[tuple[datetime, datetime]]:
    begin: datetime | None = None
    for edge in edges[:-1]:
        holds = applies(change, edge, policy.calendar)
        if holds and begin is None:
            begin = edge
        elif not holds and begin is not None:
            yield begin, edge
            begin = None
    if begin is not None:
        yield begin, edges[-1]


def _events(policy: Policy, since: datetime, until: datetime) -> Iterator[Span]:
    for name, occurrences in policy.calendar.events.items():
        for begin, end in occurrences:
            if begin < until and since < end:
                yield _cut(policy, begin, end, (since, until), "event", name, (), ())


def _holidays(policy: Policy, since: datetime, until: datetime) -> Iterator[Span]:
    for days, name in ((policy.calendar.holidays, "day off"), (policy.calendar.workdays, "worked day")):
        for day in sorted(days):
            begin = datetime.combine(day, time())
            if begin < until and since < begin + timedelta(days=1):
                yield _cut(policy, begin, begin + timedelta(days=1), (since, until), "holiday", name, (), ())


def _cut(
    policy: Policy,
    begin: datetime,
    end: datetime,
    limits: tuple[datetime, datetime],
    kind: str,
    name: str,
    node: tuple[str, ...],
    terms: tuple[tuple[str, str], ...],
) -> Span:
    since, until = max(begin, limits[0]), min(end, limits[1])
    return Span(policy.name, since, until, end > limits[1], kind, name, node, terms)


def _days(days: frozenset[int]) -> str:
    """Write days of the week as runs: ``mon-fri``, ``sat,sun``."""
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs)
