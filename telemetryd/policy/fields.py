"""The field types of policies: amounts, weights, moments, days and hours, as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from fractions import Fraction
from typing import Annotated, Final

from dateutil.rrule import rrulestr
from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from telemetryd.config.explain import show
from telemetryd.config.units import RATE_PATTERN, UnitError, parse_rate, spell_rate
from telemetryd.registry.fields import mistake

#: The largest rate that is divided, 1.1 Pbit/s: exact in a float64.
MAX_BPS: Final = 2**50
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%\Z")
_HOURS = re.compile(r"([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])\Z")
_MOMENT = "2026-11-28 08:00"


@dataclass(frozen=True, slots=True)
class Amount:
    """A rate in bit/s, or a part of what the parent may have at most.

    Attributes
    ----------
    value:
        bit/s, or the part of one.
    is_relative:
        Whether it is a part.
    """

    value: Fraction
    is_relative: bool

    def of(self, whole_bps: int) -> int:
        """Return the bit/s of it, rounded down, given what the parent may have at most."""
        return int(self.value * whole_bps) if self.is_relative else int(self.value)

    def __str__(self) -> str:
        return f"{float(self.value * 100):g}%" if self.is_relative else spell_rate(int(self.value))


def _parse_amount(value: object) -> Amount:
    if isinstance(value, str) and (match := _PERCENT.match(value.strip())):
        part = Fraction(match[1]) / 100
        if part > 1:
            mistake(f"{show(value)} is more than the whole", "write at most 100%")
        return Amount(part, True)
    try:
        rate_bps = parse_rate(value)
    except UnitError as error:
        mistake(error.message, f'{error.remedy}, or a part of the parent\'s, such as "60%"')
    if rate_bps > MAX_BPS:
        mistake(f"{show(value)} is more than any link has", "write at most 1000 Tbit/s")
    return Amount(Fraction(rate_bps), False)


AmountField = Annotated[
    Amount,
    PlainValidator(_parse_amount),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [{"pattern": RATE_PATTERN}, {"pattern": r"^[0-9]{1,3}(\.[0-9]+)? ?%$"}],
            "examples": ["500 Mbit/s", "60%"],
        }
    ),
]
"""A rate such as ``500 Mbit/s``, or a part such as ``60%``."""


def _parse_weight(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= 1_000_000:
        mistake(f"{show(value)} is no weight", "write a number between 0.001 and 1000000")
    return float(value)


Weight = Annotated[
    float, PlainValidator(_parse_weight), WithJsonSchema({"type": "number", "minimum": 0.001, "maximum": 1_000_000})
]
Importance = Annotated[int, Field(strict=True, ge=1, le=9)]


@dataclass(frozen=True, slots=True)
class Knots:
    """A bandwidth function as it is written.

    Attributes
    ----------
    shares:
        Fair shares of the knots; a plain node of weight 1 takes 1 Mbit/s at the share 1.
    bps:
        bit/s at each.
    """

    shares: tuple[float, ...]
    bps: tuple[int, ...]

    def as_written(self) -> list[list[float | str]]:
        """Return the knots as a file has them."""
        return [[share, spell_rate(bps)] for share, bps in zip(self.shares, self.bps, strict=True)]


def _parse_function(value: object) -> Knots:
    remedy = "write knots of fair share and rate, such as [[2, 0 Mbit/s], [2.5, 10 Mbit/s], [3.5, 15 Mbit/s]]"
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 100:
        mistake(f"{show(value)} is no bandwidth function", remedy)
    shares, rates = [0.0], [0]
    for knot in value:
        if not isinstance(knot, list | tuple) or len(knot) != 2:
            mistake(f"{show(knot)} is no knot", remedy)
        share, rate = knot
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1e6:
            mistake(f"{show(share)} is no fair share", "write a number between 0 and 1000000")
        try:
            bps = parse_rate(rate)
        except UnitError as error:
            mistake(error.message, error.remedy)
        if share == 0 and bps == 0 and len(shares) == 1:
            continue  # the first knot may be written, and is there anyway
        if share <= shares[-1]:
            mistake(f"the fair share {share:g} comes after {shares[-1]:g}", "let shares increase from knot to knot")
        if bps < rates[-1] or bps > MAX_BPS:
            mistake(f"the rate {show(rate)} is less than the one before, or no link has it", "let rates never decrease")
        shares.append(float(share))
        rates.append(bps)
    if len(shares) < 2:
        mistake("the function has no knot beyond the first", remedy)
    return Knots(tuple(shares), tuple(rates))


Function = Annotated[
    Knots,
    PlainValidator(_parse_function),
    PlainSerializer(Knots.as_written, return_type=list[list[float | str]]),
    WithJsonSchema(
        {
            "type": "array",
            "items": {
                "type": "array",
                "prefixItems": [{"type": "number"}, {"type": "string", "pattern": RATE_PATTERN}],
            },
            "examples": [[[2, "0 Mbit/s"], [2.5, "10 Mbit/s"]]],
        }
    ),
]
"""Knots of (fair share, rate), from (0, 0) on."""


def _parse_overbooked(value: object) -> float:
    match = _PERCENT.match(value.strip()) if isinstance(value, str) else None
    if match is None or not 100 < float(match[1]) <= 400:
        mistake(f"{show(value)} is no overbooking", 'write more than 100%, at most 400%, such as "120%"')
    return float(match[1]) / 100


Overbooked = Annotated[
    float,
    PlainValidator(_parse_overbooked),
    PlainSerializer(lambda part: f"{100 * part:g}%", return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{3}(\.[0-9]+)? ?%$", "examples": ["120%"]}),
]


def _parse_moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        mistake(f"{show(value)} is no time", f'write date and time, such as "{_MOMENT}"')
    if moment.tzinfo is not None:
        mistake(f"{show(value)} carries a time zone", f'write local time, such as "{_MOMENT}": time_zone says whose')
    return moment


Moment = Annotated[
    datetime, PlainValidator(_parse_moment), WithJsonSchema({"type": "string", "examples": [_MOMENT, "2026-11-28"]})
]
"""A local date and time; a date alone is its midnight."""


def _parse_day(value: object) -> date:
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        mistake(f"{show(value)} is no date", 'write year-month-day, such as "2026-10-01"')


Day = Annotated[date, PlainValidator(_parse_day), WithJsonSchema({"type": "string", "format": "date"})]


def _parse_days(value: object) -> frozenset[int]:
    found: set[int] = set()
    for part in value.split(",") if isinstance(value, str) else [""]:
        first, hyphen, last = (name.strip().lower() for name in part.partition("-"))
        if first not in DAYS or (hyphen and last not in DAYS):
            mistake(f"{show(value)} are no days", 'write such as "mon-fri" or "sat, sun"')
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)


Days = Annotated[
    frozenset[int],
    PlainValidator(_parse_days),
    PlainSerializer(lambda days: ", ".join(DAYS[day] for day in sorted(days)), return_type=str),
    WithJsonSchema({"type": "string", "examples": ["mon-fri", "sat, sun"]}),
]
"""Days of the week, 0 = Monday."""


def _parse_hours(value: object) -> tuple[time, time]:
    match = _HOURS.match(value) if isinstance(value, str) else None
    numbers = [int(group) for group in match.groups()] if match else [99] * 4
    if numbers[0] > 23 or numbers[2] > 24 or (numbers[2] == 24 and numbers[3]):
        mistake(f"{show(value)} are no hours", 'write such as "08:00-18:00"; 24:00 ends the day')
    begin, end = time(numbers[0], numbers[1]), time(numbers[2] % 24, numbers[3])
    if begin == end:
        mistake(f"{show(value)} lasts no time", "leave the hours out for the whole day")
    return begin, end


Hours = Annotated[
    tuple[time, time],
    PlainValidator(_parse_hours),
    PlainSerializer(lambda span: f"{span[0]:%H:%M}-{span[1]:%H:%M}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$"}),
]
"""From and to within a day; where to is not later than from, it is of the next day."""


def _parse_recurrence(value: object) -> str:
    if not isinstance(value, str):
        mistake(f"{show(value)} is no recurrence", 'write an RFC 5545 rule, such as "FREQ=MONTHLY;BYMONTHDAY=15"')
    try:
        rrulestr(value.removeprefix("RRULE:"), dtstart=datetime(2000, 1, 1))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        mistake(
            f"{show(value)} is no recurrence: {error}",
            'write an RFC 5545 rule, such as "FREQ=MONTHLY;BYMONTHDAY=15"',
        )
    if "FREQ=" not in value or "HOURLY" in value or "MINUTELY" in value or "SECONDLY" in value:
        mistake(f"{show(value)} does not tell days", "use FREQ=DAILY, WEEKLY, MONTHLY or YEARLY, and hours beside it")
    return value.removeprefix("RRULE:")


Recurrence = Annotated[
    str,
    PlainValidator(_parse_recurrence),
    WithJsonSchema({"type": "string", "examples": ["FREQ=MONTHLY;BYMONTHDAY=15"]}),
]
"""The days of an RFC 5545 recurrence rule."""
