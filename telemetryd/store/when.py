"""Times and durations as people write them in a query, and as they are printed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from telemetryd.errors import InputError
from telemetryd.store.levels import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

_UNITS: Final = {
    "s": SECOND_NS,
    "m": MINUTE_NS,
    "min": MINUTE_NS,
    "h": HOUR_NS,
    "d": DAY_NS,
    "w": 7 * DAY_NS,
}
_DURATION: Final = re.compile(r"(\d+)\s*(s|min|m|h|d|w)", re.ASCII)


def parse_duration(text: str) -> int:
    """Return the ns of a duration such as ``10s``, ``5min``, ``1h``, ``7d`` or ``2w``.

    Raises
    ------
    InputError
        If it isn't one, or is zero.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise InputError(f"{text!r} is not a duration: write a number and s, min, h, d or w, such as 5min")
    return int(found[1]) * _UNITS[found[2]]


def parse_time(text: str, newest_ns: int, zone: tzinfo) -> int:
    """Return the ns since the epoch of a time in ISO 8601, or of one before the newest data (``-1h``).

    A time without an offset is meant in ``zone``.

    Raises
    ------
    InputError
        If it is neither.
    """
    stripped = text.strip()
    if stripped.startswith("-"):
        return newest_ns - parse_duration(stripped[1:])
    try:
        moment = datetime.fromisoformat(stripped)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{text!r} is not a time: write ISO 8601 such as 2026-11-21T08:00 or 2026-11-21T08:00:00+08:00, "
            "or a time before the newest data such as -1h"
        ) from error
    return (since.days * 86_400 + since.seconds) * SECOND_NS + since.microseconds * 1_000


def parse_zone(name: str) -> tzinfo:
    """Return the time zone of a name such as ``UTC`` or ``Asia/Shanghai``.

    Raises
    ------
    InputError
        If this machine doesn't know it.
    """
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"the time zone {name!r} is not known: write one such as Asia/Shanghai") from error


def format_time(time_ns: int, zone: tzinfo = UTC) -> str:
    """Write a time in ISO 8601 with its offset, ``Z`` for UTC, without the fraction when it is zero."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    moment = datetime.fromtimestamp(seconds, zone).replace(microsecond=rest // 1_000)
    text = moment.isoformat()
    return text.removesuffix("+00:00") + "Z" if zone is UTC else text
