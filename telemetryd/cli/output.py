"""How every command shows rows: a table for people, JSON or CSV for programs, from the same dicts."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Row = Mapping[str, Any]

_PREFIXES: Final = ("", "k", "M", "G", "T", "P")
_WIDE: Final = 32_767


class Format(StrEnum):
    """What a command prints."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"

    @classmethod
    def of(cls, json_wanted: bool, csv_wanted: bool) -> Format:
        """Return the format of the two flags ``--json`` and ``--csv``; JSON if both are given."""
        return cls.JSON if json_wanted else cls.CSV if csv_wanted else cls.TABLE


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a table for people.

    Attributes
    ----------
    title:
        The heading.
    show:
        Makes the cell out of a row.
    right:
        Align right, as numbers are.
    """

    title: str
    show: Callable[[Row], str]
    right: bool = False


def text(name: str, title: str | None = None) -> Field:
    """Make a column of text; an absent value shows as nothing."""
    return Field(name.replace("_", " ") if title is None else title, lambda row: _blank(row.get(name)))


def count(name: str, title: str | None = None) -> Field:
    """Make a column of whole numbers, with thousands separated by a comma."""
    return Field(name.replace("_", " ") if title is None else title, lambda row: f"{row[name]:,}", right=True)


def rate(title: str = "rate", name: str = "rate_bps") -> Field:
    """Make a column of rates."""
    return Field(title, lambda row: rate_text(row[name]), right=True)


def interval(title: str = "95 %") -> Field:
    """Make a column of intervals from ``rate_bps``, ``low_bps`` and ``high_bps``."""
    return Field(title, lambda row: interval_text(row["rate_bps"], row["low_bps"], row["high_bps"]), right=True)


def octets(name: str = "octets", title: str = "volume") -> Field:
    """Make a column of volumes."""
    return Field(title, lambda row: f"{scaled(row[name])}B", right=True)


def share(name: str = "share", title: str = "share") -> Field:
    """Make a column of shares of one, in percent."""
    return Field(title, lambda row: percent_text(row[name]), right=True)


def percent_text(share: float, digits: int = 1) -> str:
    """Write a share of one in percent, such as ``4.2 %``."""
    return f"{share * 100:.{digits}f} %"


def scaled(value: float) -> str:
    """Write a number with three significant digits and an SI prefix, such as ``1.23 G`` or ``45.0 ``.

    Append the unit to it.
    """
    magnitude = abs(value)
    place = 0
    # 999.5 would be rounded to 1000, which is one of the next prefix.
    while magnitude >= 999.5 and place < len(_PREFIXES) - 1:
        magnitude /= 1000
        place += 1
    digits = 0 if magnitude >= 99.95 or value == 0 else 1 if magnitude >= 9.995 else 2
    return f"{math.copysign(magnitude, value):.{digits}f} {_PREFIXES[place]}"


def rate_text(bps: float) -> str:
    """Write a rate, such as ``1.23 Gbit/s``."""
    return f"{scaled(bps)}bit/s"


def interval_text(value: float, low: float, high: float) -> str:
    """Write an interval around a rate in bit/s: ``± 4.1 %`` while it is narrow, else from and to.

    An interval of no width, where every packet was seen, is ``exact``. The wider side counts.
    """
    if low == high == value:
        return "exact"
    half = max(value - low, high - value)
    if value <= 0 or half > value / 2:
        return f"{rate_text(low)} to {rate_text(high)}"
    percent = 100 * half / value
    return f"± {percent:.1f} %" if percent < 9.95 else f"± {percent:.0f} %"


def estimate_text(row: Row) -> str:
    """Write a row's rate with its interval in one cell, such as ``1.23 Gbit/s ± 4.1 %``."""
    limits = interval_text(row["rate_bps"], row["low_bps"], row["high_bps"])
    if limits.startswith("±"):
        return f"{rate_text(row['rate_bps'])} {limits}"
    return rate_text(row["rate_bps"]) if limits == "exact" else f"{rate_text(row['rate_bps'])} ({limits})"


def show_table(fields: Sequence[Field], rows: Iterable[Row], title: str = "", footer: Row | None = None) -> None:
    """Print a table on stdout; off a terminal it is as wide as it needs to be, without colours.

    ``footer`` is a last row below a line, such as a total.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in fields:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(column.show(row) for column in fields))
    if footer is not None:
        table.add_section()
        table.add_row(*(column.show(footer) for column in fields), style="bold")
    # Names are the operator's: nothing in them is markup.
    width = None if sys.stdout.isatty() else _WIDE
    Console(markup=False, emoji=False, highlight=False, width=width).print(table)


def write_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout, indented."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def write_csv(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print rows as CSV (RFC 4180) on stdout, with a header; a list becomes words between spaces."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_cell(row.get(column)) for column in columns])


def note(message: str) -> None:
    """Print a remark for people on stderr, where it does not disturb what a program reads."""
    sys.stderr.write(f"{message}\n")


def _blank(value: object) -> str:
    return "" if value is None else str(value)


def _csv_cell(value: object) -> object:
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return value


def show_pivot(rows: Sequence[Mapping[str, Any]], down: tuple[str, ...], across: tuple[str, ...], title: str) -> None:
    """Print rows as a grid, one key down and one across, with rate and interval in the cells."""
    grid: dict[tuple[str, ...], dict[str, Any]] = {}
    heads: dict[str, None] = {}
    for row in rows:
        head = " > ".join(row[key] for key in across)
        heads.setdefault(head)
        line = grid.setdefault(tuple(row[key] for key in down), {key: row[key] for key in down})
        line["cell " + head] = estimate_text(row)

    def cell(head: str) -> Field:
        return Field(head, lambda line: line.get("cell " + head, ""), right=True)

    show_table([*(text(key) for key in down), *(cell(head) for head in heads)], list(grid.values()), title)
