"""Calendar months of a time zone: bounds, bins, clock hours; leap years and changes of the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from telemetryd.errors import InputError
from telemetryd.store.levels import HOUR_NS
from telemetryd.store.report.month import BIN_NS, Month

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def test_a_month_begins_and_ends_at_local_midnight() -> None:
    """October in Shanghai begins at 16:00 UTC of the day before."""
    month = Month.parse("2026-10", SHANGHAI)
    assert (month.from_ns, month.to_ns) == (utc("2026-09-30T16:00"), utc("2026-10-31T16:00"))
    assert len(month.starts) == 31 * 288
    assert (month.previous.name, month.following.name, month.year_before.name) == ("2026-09", "2026-11", "2025-10")


@pytest.mark.parametrize(("text", "days"), [("2024-02", 29), ("2026-02", 28), ("2026-12", 31), ("2000-02", 29)])
def test_lengths_of_months(text: str, days: int) -> None:
    """Leap years have a 29th of February, and December ends with the year."""
    month = Month.parse(text, SHANGHAI)
    assert len(month.days) == days
    assert len(month.starts) == days * 288
    assert month.days[0] == date.fromisoformat(f"{text}-01")
    assert month.hour_of_day[:12].tolist() == [0] * 12


@pytest.mark.parametrize(("text", "hours"), [("2026-03", 31 * 24 - 1), ("2026-10", 31 * 24 + 1), ("2026-04", 30 * 24)])
def test_a_change_of_the_clock_adds_or_takes_an_hour(text: str, hours: int) -> None:
    """March has an hour less and October one more; the hour that the clock shows twice is two hours."""
    month = Month.parse(text, BERLIN)
    places, starts = month.hours
    assert len(month.starts) == hours * 12
    assert len(starts) == hours
    assert np.bincount(places).tolist() == [12] * hours
    assert np.bincount(month.day_of_hour).sum() == hours
    twice = np.bincount(month.hour_of_day, minlength=24) // 12
    assert twice[2] == len(month.days) + (hours - len(month.days) * 24)
    assert np.diff(starts).min() == np.diff(starts).max() == HOUR_NS


def test_hours_of_a_zone_with_half_an_hour() -> None:
    """Where local hours begin at half past of UTC, clock hours still have twelve bins."""
    month = Month.parse("2026-10", ZoneInfo("Asia/Kolkata"))
    places, starts = month.hours
    assert np.bincount(places).tolist() == [12] * 744
    assert starts[0] == month.from_ns
    assert month.from_ns % BIN_NS == 0


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026", "26-10", "2026-1", "october", "٢٠٢٦-10", ""])
def test_what_is_not_a_month_is_refused(text: str) -> None:
    """A month is written as year and month; the message shows how."""
    with pytest.raises(InputError, match="such as 2026-10"):
        Month.parse(text, SHANGHAI)
