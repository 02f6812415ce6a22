"""Times and durations as people write them."""

from datetime import UTC

import pytest

from telemetryd.errors import InputError
from telemetryd.store.when import format_time, parse_duration, parse_time, parse_zone

S = 1_000_000_000
NEWEST = 1_790_000_000 * S


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("5min", 300), ("5m", 300), ("1h", 3600), ("2 d", 172_800), (" 1w ", 604_800)],
)
def test_durations(text: str, seconds: int) -> None:
    """A duration is a whole number and a unit."""
    assert parse_duration(text) == seconds * S


@pytest.mark.parametrize("text", ["", "5", "s", "0s", "-5s", "1.5h", "5 minutes", "１０s"])
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused with the way to write one."""
    with pytest.raises(InputError, match="5min"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1h", NEWEST - 3600 * S),
        ("1970-01-02", 86_400 * S),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T08:00:00+08:00", 0),
        ("1969-12-31T23:59:59Z", -S),
        ("2026-11-21T08:00:00.123456", 1_795_248_000_123_456_000),
    ],
)
def test_times(text: str, expected: int) -> None:
    """ISO 8601 with or without an offset, exact to the microsecond, or back from the newest data."""
    assert parse_time(text, NEWEST, UTC) == expected


def test_a_time_without_offset_is_local() -> None:
    """Without an offset the zone of --tz counts, its summer time included; with one the offset."""
    shanghai = parse_zone("Asia/Shanghai")
    assert parse_time("1970-01-01T08:00", NEWEST, shanghai) == 0
    assert parse_time("1970-01-01T08:00Z", NEWEST, shanghai) == 8 * 3600 * S
    assert parse_time("2026-07-01T02:00", NEWEST, parse_zone("Europe/Berlin")) == parse_time(
        "2026-07-01T00:00Z", NEWEST, UTC
    )


def test_times_are_written_as_they_are_read() -> None:
    """A time comes back from its text, in UTC with Z and elsewhere with its offset."""
    assert format_time(0) == "1970-01-01T00:00:00Z"
    assert format_time(1_500_000_000) == "1970-01-01T00:00:01.500000Z"
    zone = parse_zone("Asia/Shanghai")
    assert format_time(0, zone) == "1970-01-01T08:00:00+08:00"
    for moment in (0, NEWEST, NEWEST + 123_456_000):
        assert parse_time(format_time(moment, zone), 0, UTC) == moment


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd"])
def test_unknown_zones(name: str) -> None:
    """A zone this machine doesn't know is refused."""
    with pytest.raises(InputError, match="time zone"):
        parse_zone(name)
