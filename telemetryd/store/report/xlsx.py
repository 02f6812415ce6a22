"""Render a report as a workbook: numbers as numbers, an interval in two columns of its own.

The same record gives the same octets: times in the file are that of the record, and the archive is
written again with fixed ones.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from openpyxl import Workbook
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from telemetryd.store.report.page import (
    CHANGE,
    NUMBER,
    OCTETS,
    RATE,
    SHARE,
    Cell,
    Column,
    Document,
    Paragraph,
    Section,
    Table,
)

#: kind -> (unit in the heading, what a number is divided by, number format).
_KINDS: Final[dict[str, tuple[str, float, str]]] = {
    RATE: ("Mbit/s", 1e6, "#,##0.00"),
    OCTETS: ("GB", 1e9, "#,##0.000"),
    SHARE: ("", 1.0, "0.00%"),
    CHANGE: ("", 1.0, "+0.0%;-0.0%;0.0%"),
    NUMBER: ("", 1.0, "#,##0"),
}
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_SHEET_NAME: Final = re.compile(r"[\\/*?:\[\]]")
_HEAD: Final = PatternFill("solid", fgColor="1F4E79")
_PALE: Final = PatternFill("solid", fgColor="E8EEF4")
_LINE: Final = Border(bottom=Side(style="thin", color="DFE4E8"))
_WIDEST: Final = 46


def render(document: Document) -> bytes:
    """Return the workbook."""
    book = Workbook()
    del book[book.sheetnames[0]]
    names: set[str] = set()
    for number, section in enumerate(document.sections):
        sheet = book.create_sheet(_sheet_name(section.title, names))
        _fill(sheet, document, section, is_first=number == 0)
    made = datetime.fromisoformat(document.made_at).astimezone(UTC).replace(tzinfo=None)
    properties = book.properties
    properties.creator = properties.lastModifiedBy = "telemetryd"
    properties.title = _clean(f"{document.title} {document.subtitle}")
    properties.created = properties.modified = made
    written = io.BytesIO()
    book.save(written)
    # Saving stamps the present into the properties and into the archive.
    stamp = made.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return _fixed(written.getvalue(), stamp)


def _fixed(archive: bytes, stamp: bytes) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, content)
            target.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content, zipfile.ZIP_DEFLATED)
    return result.getvalue()


def _sheet_name(title: str, names: set[str]) -> str:
    """Make a name that a workbook takes, unique whatever its case."""
    base = _SHEET_NAME.sub(" ", _clean(title)).strip("' ")[:31] or "-"
    name, number = base, 2
    while name.casefold() in names:
        ending = f" {number}"
        name = base[: 31 - len(ending)] + ending
        number += 1
    names.add(name.casefold())
    return name


def _fill(sheet: Worksheet, document: Document, section: Section, *, is_first: bool) -> None:
    row = 1
    _put(sheet, row, 1, f"{document.title} · {document.subtitle}", Font(bold=True, size=14, color="1F4E79"))
    row += 1
    _put(sheet, row, 1, section.title, Font(bold=True, size=12))
    row += 1
    if document.warning:
        _put(sheet, row, 1, document.warning, Font(bold=True, color="B3261E"))
        row += 1
    for label, value in [*(document.facts if is_first else []), *section.facts]:
        _put(sheet, row, 1, label, Font(color="5F6B76"))
        _put(sheet, row, 2, value)
        row += 1
    for block in section.blocks:
        if isinstance(block, Paragraph):
            _put(sheet, row + 1, 1, block.text)
            row += 1
        elif isinstance(block, Table):
            row = _table(sheet, row + 2, block, document)
    if section.key == "statements":
        for line in document.signatures:
            row += 3
            for place, label in enumerate(line):
                _put(sheet, row, 1 + place, f"{label}: ")
    _widths(sheet)


def _table(sheet: Worksheet, row: int, table: Table, document: Document) -> int:
    """Write a table from a row on; return its last row."""
    _put(sheet, row, 1, table.title, Font(bold=True, color="1F4E79"))
    if table.note:
        row += 1
        _put(sheet, row, 1, table.note, Font(italic=True, color="5F6B76"))
    if not table.rows:
        return row
    row += 1
    has_interval = [any(isinstance(cells[k], dict) for cells in table.rows) for k in range(len(table.columns))]
    place = 1
    for column, wide in zip(table.columns, has_interval, strict=True):
        for title in _headings(column, wide, document):
            cell = _put(sheet, row, place, title, Font(bold=True, color="FFFFFF"))
            cell.fill = _HEAD
            cell.alignment = Alignment(wrap_text=True, vertical="center")
            place += 1
    for number, cells in enumerate(table.rows):
        row += 1
        place = 1
        for column, wide, cell in zip(table.columns, has_interval, cells, strict=True):
            for value in _values(cell, wide):
                _value(sheet, row, place, column, value, is_even=number % 2 == 1)
                place += 1
    return row


def _headings(column: Column, wide: bool, document: Document) -> list[str]:
    unit = _KINDS[column.kind][0] if column.kind in _KINDS else ""
    title = f"{column.title} ({unit})" if unit else column.title
    if not wide:
        return [title]
    return [title, document.words("low", column=column.title), document.words("high", column=column.title)]


def _values(cell: Cell, wide: bool) -> Sequence[str | float | None]:
    if isinstance(cell, dict):
        return cell["value"], cell["low"], cell["high"]
    return (cell, None, None) if wide else (cell,)


def _value(sheet: Worksheet, row: int, place: int, column: Column, value: str | float | None, *, is_even: bool) -> None:
    if value is None or isinstance(value, str):
        cell = _put(sheet, row, place, value or "")
    else:
        _, divisor, number_format = _KINDS[column.kind]
        cell = sheet.cell(row, place, value / divisor)
        cell.number_format = number_format
    cell.border = _LINE
    if is_even:
        cell.fill = _PALE


def _put(sheet: Worksheet, row: int, place: int, value: str, font: Font | None = None) -> Any:
    """Write text that stays text, whatever it begins with."""
    cell = sheet.cell(row, place)
    cell.value = _clean(value) or None
    if cell.value is not None:
        # openpyxl takes a leading "=" for a formula, and an error's name for an error.
        cell.data_type = "s"
        if value[0] in "=+-@\t\r":
            cell.quotePrefix = True
    if font is not None:
        cell.font = font
    return cell


def _clean(value: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", value)


def _widths(sheet: Worksheet) -> None:
    for place, column in enumerate(sheet.iter_cols(min_row=4), 1):
        longest = max((_width(cell.value) for cell in column), default=0.0)
        sheet.column_dimensions[get_column_letter(place)].width = round(min(max(longest + 2, 10), _WIDEST), 1)


def _width(value: object) -> float:
    if not isinstance(value, str):
        return 10.0
    return min(sum(2.0 if ord(character) > 0x2E7F else 1.0 for character in value), _WIDEST)
