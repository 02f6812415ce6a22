"""How figures are written, in tables for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from telemetryd.store.report.messages import Words

Json = dict[str, Any]

_PREFIXES: Final = ("", "k", "M", "G", "T", "P", "E")
_NARROW: Final = 0.5


def scaled(value: float, unit: str) -> str:
    """Write a value with three digits and a prefix of its unit, such as ``1.23 Gbit/s``."""
    magnitude, place = abs(value), 0
    while magnitude >= 999.5 and place < len(_PREFIXES) - 1:
        magnitude /= 1000
        place += 1
    digits = 0 if magnitude >= 99.95 or not place else 1 if magnitude >= 9.995 else 2
    return f"{math.copysign(magnitude, value) if magnitude else 0.0:.{digits}f} {_PREFIXES[place]}{unit}"


def rate(bps: float) -> str:
    """Write a rate."""
    return scaled(bps, "bit/s")


def octets(value: float) -> str:
    """Write a volume."""
    return scaled(value, "B")


def percent(share: float, sign: bool = False, digits: int | None = None) -> str:
    """Write a share of one in percent; with ``sign`` a plus where it grows."""
    value = 100 * share
    if digits is None:
        digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 0.995 or not value else 2
    return f"{value:+.{digits}f} %" if sign else f"{value:.{digits}f} %"


def limits(words: Words, estimate: Json, write: Callable[[float], str], *, is_share: bool = False) -> str:
    """Write an interval: ``± 4.1 %`` of a narrow one, else from and to; of a share always these."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if low == high == value:
        return words("exact")
    if is_share:
        # As many digits as tell the limits apart.
        texts = [(write(low), write(high)), *((percent(low, False, n), percent(high, False, n)) for n in (2, 3, 4))]
        begin, end = next((pair for pair in texts if pair[0] != pair[1]), texts[-1])
        return words("interval", low=begin, high=end)
    half = max(value - low, high - value)
    if value <= 0 or half > _NARROW * value:
        return words("interval", low=write(low), high=write(high))
    return f"± {percent(half / value)}"


def duration(words: Words, seconds: int) -> str:
    """Write a duration."""
    hours, minutes = divmod(seconds // 60, 60)
    return words("hours", hours=hours, minutes=minutes) if hours else words("minutes", minutes=minutes)


def moment(text: str | None) -> str:
    """Write a time of a record for people: without seconds and offset, which the head tells."""
    return "" if text is None else text[:16].replace("T", " ")
