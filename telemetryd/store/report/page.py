"""What a report consists of, whatever it is rendered as: sections of facts, tables and charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from telemetryd.store.report import text
from telemetryd.store.report.messages import Words

Json = dict[str, Any]

TEXT: Final = "text"
NUMBER: Final = "number"
RATE: Final = "rate"
OCTETS: Final = "octets"
SHARE: Final = "share"
CHANGE: Final = "change"

_WRITE: Final[dict[str, Callable[[float], str]]] = {
    RATE: text.rate,
    OCTETS: text.octets,
    SHARE: text.percent,
    CHANGE: lambda value: text.percent(value, sign=True),
    NUMBER: lambda value: f"{value:,.0f}",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading and what its cells hold."""

    title: str
    kind: str = TEXT


Cell = str | float | Json | None
"""Text, a number of the column's kind, an estimate (``value``, ``low``, ``high``), or nothing."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes
    ----------
    title, columns, rows:
        What it shows; a row may hold text in any column, where there is no figure.
    note:
        A remark above it.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Rates over the month.

    Attributes
    ----------
    series:
        (name, values in bit/s or None where nothing is known).
    levels:
        (name, bit/s) of horizontal lines.
    days:
        Days of the month.
    """

    title: str
    series: Sequence[tuple[str, Sequence[int | None]]]
    levels: Sequence[tuple[str, float]]
    days: int


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str


Block = Table | Chart | Paragraph


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report that begins on its own page.

    Attributes
    ----------
    key:
        Short ASCII name, unique in the report.
    """

    key: str
    title: str
    blocks: Sequence[Block]
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report.

    Attributes
    ----------
    title, subtitle:
        What it is, and of whom and when.
    language:
        Of its words.
    facts:
        What the head tells.
    warning:
        What must be seen first: that the report is preliminary. Empty if there is nothing.
    sections:
        Its parts.
    signatures:
        Labels of the lines to sign on.
    made_at:
        When the record was made, ISO 8601: the only time in a rendered file.
    digest:
        SHA-256 of the record.
    """

    title: str
    subtitle: str
    words: Words
    facts: Sequence[tuple[str, str]]
    warning: str
    sections: Sequence[Section]
    signatures: Sequence[tuple[str, ...]]
    made_at: str
    digest: str
    month: str
    revision: int
    extra: dict[str, str] = field(default_factory=dict)


def write(words: Words, kind: str, cell: Cell) -> tuple[str, str]:
    """Return a cell as text, and its interval as a second, smaller one."""
    if cell is None:
        return "", ""
    if isinstance(cell, str):
        return cell, ""
    to_text = _WRITE[kind]
    if isinstance(cell, dict):
        is_share = kind in (SHARE, CHANGE)
        return to_text(cell["value"]), text.limits(words, cell, to_text, is_share=is_share)
    return to_text(cell), ""
