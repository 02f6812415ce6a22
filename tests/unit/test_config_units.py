"""Rates, sizes and durations: exact both ways, and nothing is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.config.units import (
    UnitError,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
    spell_duration,
    spell_rate,
    spell_size,
)
from telemetryd.errors import InputError

LARGEST = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "rate_bps"),
    [
        ("10 Gbit/s", 10_000_000_000),
        ("600 Mbit/s", 600_000_000),
        ("600Mbit/s", 600_000_000),
        ("1.5 kbit/s", 1500),
        ("0.1 Tbit/s", 100_000_000_000),
        ("7 bit/s", 7),
        (" 7  bit/s ", 7),
    ],
)
def test_rates_are_si_and_exact(text: str, rate_bps: int) -> None:
    """A rate is a number and a unit, with SI prefixes."""
    assert parse_rate(text) == rate_bps


@pytest.mark.parametrize(
    "value",
    ["", "10", 10, 1.5, None, True, "10 Gbps", "10 GB/s", "10 gbit/s", "-1 bit/s", "1.5 bit/s", "1e3 bit/s",
     "10 Gbit/s x", "١ bit/s", "99999999999 Tbit/s", "1" * 40 + " bit/s", ["1 bit/s"]],
)  # fmt: skip
def test_what_is_no_rate(value: object) -> None:
    """A missing or unknown unit, a part of a bit and a negative number are refused, with what to do."""
    with pytest.raises(UnitError) as caught:
        parse_rate(value)
    assert isinstance(caught.value, InputError)
    assert caught.value.remedy


def test_sizes_and_durations() -> None:
    """Sizes know both kinds of prefixes; durations are ns."""
    assert parse_size("64 MiB") == 64 << 20
    assert parse_size("64 MB") == 64_000_000
    assert parse_duration("184 d") == 184 * 86_400 * 10**9
    assert parse_duration("0.5 s") == 500_000_000
    with pytest.raises(UnitError, match="use one of B, kB"):
        parse_size("64 mb")
    with pytest.raises(UnitError, match="use one of ns, us"):
        parse_duration("3 months")


@given(st.integers(0, LARGEST))
def test_spelling_round_trips(value: int) -> None:
    """What is spelled parses to the same value, for each kind of quantity."""
    assert parse_rate(spell_rate(value)) == value
    assert parse_size(spell_size(value)) == value
    assert parse_duration(spell_duration(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 bit/s"),
        (999, "999 bit/s"),
        (1000, "1 kbit/s"),
        (1_234_567_890, "1.23 Gbit/s"),
        (999_960_000, "1 Gbit/s"),
        (123_456, "123 kbit/s"),
        (0.25, "0.25 bit/s"),
        (5e16, "50000 Tbit/s"),
        (-2e6, "-2 Mbit/s"),
    ],
)
def test_rates_for_people(value: float, text: str) -> None:
    """Three significant digits and the prefix that fits what is printed."""
    assert format_rate(value) == text


def test_sizes_and_durations_for_people() -> None:
    """Volumes are in SI units, durations in the largest unit that reaches one."""
    assert format_size(1_234_567) == "1.23 MB"
    assert format_duration(90 * 10**9) == "1.5 min"
    assert format_duration(184 * 86_400 * 10**9) == "184 d"
    assert spell_rate(2_500_000) == "2500 kbit/s"
