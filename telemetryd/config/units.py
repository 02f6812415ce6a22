"""Rates, sizes and durations as people write them: ``10 Gbit/s``, ``64 MiB``, ``184 d``.

Parsing is exact: the number is taken as a fraction, never as a float. A number without its unit is
a mistake, since nobody can know what was meant.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from telemetryd.errors import InputError

# SI prefixes for rates; both kinds for sizes (ISO/IEC 80000-13: MB = 10^6, MiB = 2^20 octets).
_RATES: Final = {
    "bit/s": 1, "kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9, "Tbit/s": 10**12,
}  # fmt: skip
_SIZES: Final = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_DURATIONS: Final = {
    "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9,
}  # fmt: skip

RATE_PATTERN: Final = r"^[0-9]+(\.[0-9]+)? ?(bit|kbit|Mbit|Gbit|Tbit)/s$"
SIZE_PATTERN: Final = r"^[0-9]+(\.[0-9]+)? ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$"
DURATION_PATTERN: Final = r"^[0-9]+(\.[0-9]+)? ?(ns|us|ms|s|min|h|d)$"

_QUANTITY = re.compile(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-zµ/]*)\s*\Z")
_LARGEST: Final = 2**63 - 1


class UnitError(InputError, ValueError):
    """A quantity that cannot be understood. ``remedy`` says how to write it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message} - {remedy}")
        self.message = message
        self.remedy = remedy


def _parse(value: object, units: dict[str, int], kind: str, example: str) -> int:
    if not isinstance(value, str):
        raise UnitError(f"{value!r} is no {kind}", f'write number and unit, such as "{example}"')
    match = _QUANTITY.match(value)
    if match is None:
        raise UnitError(f'"{value}" is no {kind}', f'write number and unit, such as "{example}"')
    number, unit = match.groups()
    scale = units.get(unit)
    if scale is None:
        what = f'unknown unit "{unit}"' if unit else "the unit is missing"
        raise UnitError(f'"{value}": {what}', f'use one of {", ".join(units)}, such as "{example}"')
    exact = Fraction(number) * scale
    if exact.denominator != 1 or exact > _LARGEST:
        smallest = next(iter(units))
        raise UnitError(f'"{value}" is no whole number of {smallest}, or above 2^63', f'write it as "{example}"')
    return exact.numerator


def parse_rate(value: object) -> int:
    """Return a rate in bit/s: ``"10 Gbit/s"`` -> 10_000_000_000. SI prefixes.

    Raises
    ------
    UnitError
        If `value` is not a text of a number and a unit of a rate.
    """
    return _parse(value, _RATES, "rate", "600 Mbit/s")


def parse_size(value: object) -> int:
    """Return a size in octets: ``"64 MiB"`` -> 67_108_864; UnitError if it is none."""
    return _parse(value, _SIZES, "size", "64 MiB")


def parse_duration(value: object) -> int:
    """Return a duration in ns: ``"10 s"`` -> 10_000_000_000; UnitError if it is none."""
    return _parse(value, _DURATIONS, "duration", "10 s")


def _spell(value: int, units: dict[str, int]) -> str:
    """Write `value` exactly, with the largest unit that leaves a whole number."""
    unit = max((unit for unit in units if value % units[unit] == 0), key=units.__getitem__)
    if value == 0:
        unit = next(iter(units))
    return f"{value // units[unit]} {unit}"


def spell_rate(rate_bps: int) -> str:
    """Write a rate exactly, so that :func:`parse_rate` gives it back: ``2500000`` -> ``"2500 kbit/s"``."""
    return _spell(rate_bps, _RATES)


def spell_size(octets: int) -> str:
    """Write a size exactly, so that :func:`parse_size` gives it back."""
    return _spell(octets, _SIZES)


def spell_duration(duration_ns: int) -> str:
    """Write a duration exactly, so that :func:`parse_duration` gives it back."""
    return _spell(duration_ns, _DURATIONS)


def _humanise(value: float, units: dict[str, int], digits: int) -> str:
    """Write `value` with about `digits` significant digits."""
    names = list(units)
    chosen = names[0]
    for name in names[1:]:
        # Compare what will be printed: 999.96 Mbit/s is 1 Gbit/s at three digits.
        if float(f"{abs(value) / units[name]:.{digits}g}") >= 1:
            chosen = name
    rounded = float(f"{value / units[chosen]:.{digits}g}")
    text = f"{rounded:.{digits}g}"
    return f"{rounded:.0f} {chosen}" if "e" in text else f"{text} {chosen}"


def format_rate(rate_bps: float, digits: int = 3) -> str:
    """Write a rate for people: ``1234567890`` -> ``"1.23 Gbit/s"``."""
    return _humanise(rate_bps, _RATES, digits)


def format_size(octets: float, digits: int = 3) -> str:
    """Write a volume for people, in SI units: ``1234567`` -> ``"1.23 MB"``."""
    return _humanise(octets, {unit: scale for unit, scale in _SIZES.items() if "i" not in unit}, digits)


def format_duration(duration_ns: float, digits: int = 3) -> str:
    """Write a duration for people: ``90_000_000_000`` -> ``"1.5 min"``."""
    return _humanise(duration_ns, _DURATIONS, digits)
