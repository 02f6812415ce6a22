"""How rows are shown: numbers, intervals, CSV."""

import json
from typing import Any

import pytest

from telemetryd.cli import output


@pytest.mark.parametrize(
    ("bps", "text"),
    [
        (0, "0 bit/s"),
        (0.5, "0.50 bit/s"),
        (999, "999 bit/s"),
        (999.6, "1.00 kbit/s"),
        (1234, "1.23 kbit/s"),
        (12_345, "12.3 kbit/s"),
        (9.996e6, "10.0 Mbit/s"),
        (123_456_789, "123 Mbit/s"),
        (1.23e9, "1.23 Gbit/s"),
        (4.2e19, "42000 Pbit/s"),
    ],
)
def test_rates(bps: float, text: str) -> None:
    """Rates have three significant digits and the SI prefix that keeps them below 1000."""
    assert output.rate_text(bps) == text


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (100.0, 100.0, 100.0, "exact"),
        (0.0, 0.0, 0.0, "exact"),
        (1000.0, 990.0, 1041.0, "± 4.1 %"),
        (1000.0, 700.0, 1100.0, "± 30 %"),
        (1000.0, 400.0, 1200.0, "400 bit/s to 1.20 kbit/s"),
        (0.0, 0.0, 5000.0, "0 bit/s to 5.00 kbit/s"),
    ],
)
def test_intervals(value: float, low: float, high: float, text: str) -> None:
    """A narrow interval shows its wider side in percent, a wide one both ends, one without width is exact."""
    assert output.interval_text(value, low, high) == text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ((1.23e9, 1.2e9, 1.28e9), "1.23 Gbit/s ± 4.1 %"),
        ((8.0, 8.0, 8.0), "8.00 bit/s"),
        ((1000.0, 100.0, 9000.0), "1.00 kbit/s (100 bit/s to 9.00 kbit/s)"),
    ],
)
def test_estimates(row: tuple[float, float, float], text: str) -> None:
    """One cell holds rate and interval."""
    assert output.estimate_text(dict(zip(("rate_bps", "low_bps", "high_bps"), row, strict=True))) == text


def test_a_table_off_a_terminal_is_whole_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe nothing is cut, folded, coloured or taken for markup; numbers stand right-aligned."""
    rows: list[dict[str, Any]] = [
        {"name": "[red]x" * 60, "count": 7, "share": 0.25},
        {"name": None, "count": 1_234_567, "share": 1.0},
    ]
    output.show_table(
        [output.text("name"), output.count("count"), output.share()], rows, "[b]title", {**rows[1], "name": "total"}
    )
    printed = capsys.readouterr().out
    lines = [line.rstrip() for line in printed.splitlines()]
    assert "\x1b" not in printed
    assert lines[0] == "[b]title"
    assert any("[red]x" * 60 in line and line.endswith("7    25.0 %") for line in lines)
    assert sum(line.endswith("1,234,567   100.0 %") for line in lines) == 2


def test_csv_quotes_and_joins(capsys: pytest.CaptureFixture[str]) -> None:
    """Cells with separators are quoted, lists become words, booleans are those of JSON, absent is empty."""
    output.write_csv([{"a": 'x,"y"', "b": ["p", "q"], "c": True, "d": None}], ["a", "b", "c", "d", "e"])
    assert capsys.readouterr().out == 'a,b,c,d,e\n"x,""y""",p q,true,,\n'


def test_json_keeps_names_readable(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is written as UTF-8 text, and what JSON cannot say is refused."""
    output.write_json({"department": "税务局"})
    printed = capsys.readouterr().out
    assert "税务局" in printed
    assert json.loads(printed) == {"department": "税务局"}
    with pytest.raises(ValueError, match="Out of range"):
        output.write_json({"rate": float("nan")})


def test_format_of_flags() -> None:
    """The flags choose the format, JSON before CSV."""
    assert output.Format.of(False, False) is output.Format.TABLE
    assert output.Format.of(False, True) is output.Format.CSV
    assert output.Format.of(True, True) is output.Format.JSON
