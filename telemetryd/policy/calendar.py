"""When something applies: events, holidays, days, hours and recurrences, in a policy's local time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from dateutil.rrule import rrule, rruleset, rrulestr

from telemetryd.policy.models import CalendarFile, Change

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Calendar files joined.

    Attributes
    ----------
    events:
        Event -> (from, to) of each time it is, in order.
    holidays, workdays:
        Days off, and worked days of weekends.
    """

    events: dict[str, tuple[tuple[datetime, datetime], ...]] = field(default_factory=dict)
    holidays: frozenset[date] = frozenset()
    workdays: frozenset[date] = frozenset()

    def is_workday(self, day: date) -> bool:
        """Tell whether a day is worked: a day of the week that is no holiday, or a make-up day."""
        return day in self.workdays or (day.weekday() < 5 and day not in self.holidays)


def join(files: Iterable[CalendarFile]) -> Calendar:
    """Return the calendar of several files; an event may be in more than one."""
    events: dict[str, list[tuple[datetime, datetime]]] = {}
    holidays: set[date] = set()
    workdays: set[date] = set()
    for file in files:
        for name, occurrences in file.events.items():
            events.setdefault(name, []).extend((one.since, one.until) for one in occurrences)
        holidays |= set(file.holidays)
        workdays |= set(file.workdays)
    return Calendar(
        {name: tuple(sorted(spans)) for name, spans in events.items()}, frozenset(holidays), frozenset(workdays)
    )


def applies(change: Change, at: datetime, calendar: Calendar) -> bool:
    """Tell whether all conditions of a change hold at a local time."""
    if change.event is not None:
        spans = calendar.events.get(change.event, ())
        if not any(since <= at < until for since, until in spans):
            return False
    day = at.date()
    if change.hours is not None:
        begin, end = change.hours
        now = at.time()
        if begin < end:
            if not begin <= now < end:
                return False
        elif now < end:
            day -= _DAY  # hours past midnight belong to the day on which they began
        elif now < begin:
            return False
    if change.days is not None and day.weekday() not in change.days:
        return False
    if change.on is not None and calendar.is_workday(day) != (change.on == "workdays"):
        return False
    return change.recurrence is None or _recurs(change.recurrence, day)


def _recurs(rule: str, day: date) -> bool:
    # The rule counts from the first of a year, so that "every second week" is the same for every reader of a year.
    midnight = datetime.combine(day, time())
    return bool(_rule(rule, day.year).between(midnight, midnight, inc=True))


@lru_cache(maxsize=256)
def _rule(rule: str, year: int) -> rruleset | rrule:
    return rrulestr(rule, dtstart=datetime(year - 1, 1, 1), cache=True)


def instants(changes: Iterable[Change], calendar: Calendar, since: datetime, days: int = 366) -> list[datetime]:
    """Return local times among which every combination of changes that occurs in the next days is seen.

    What applies changes at midnight, where hours begin or end, and where events do.
    """
    changes = tuple(changes)
    marks = {time(), *(mark for change in changes if change.hours for mark in change.hours)}
    first = since.date()
    found = (
        {datetime.combine(first + number * _DAY, mark) for number in range(days) for mark in marks}
        if changes
        else set()
    )
    for change in changes:
        for span in calendar.events.get(change.event or "", ()):
            found |= set(span)
    return sorted({since} | {at for at in found if at >= since})
