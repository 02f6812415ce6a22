"""Read a CSV of registry entries: plain data, and the position of every cell."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

from telemetryd.config.explain import suggest
from telemetryd.config.positions import PathInData
from telemetryd.errors import Problem


class Kind(Enum):
    """How the text of a cell becomes data."""

    TEXT = "text"
    NUMBER = "whole number"
    FLAG = "true or false"
    LIST = "list: items between spaces or semicolons"
    PORTS = 'list of numbers or "low-high", between spaces or semicolons'


class Column(NamedTuple):
    """A column: where its value goes in the entry, and how it is read."""

    path: tuple[str, ...]
    kind: Kind = Kind.TEXT
    is_serve: bool = False  # belongs to an entry of `serves`: one a row


_TITLE: Final = {"title.en": Column(("title", "en")), "title.zh": Column(("title", "zh"))}


def _plain(*names: str) -> dict[str, Column]:
    return {name: Column((name,)) for name in names}


COLUMNS: Final[Mapping[str, Mapping[str, Column]]] = {
    "departments": {
        **_plain("name"),
        **_TITLE,
        **_plain("class", "contact"),
        "contract.in": Column(("contract", "in")),
        "contract.out": Column(("contract", "out")),
    },
    "networks": _plain("prefix", "instance", "department", "zone", "region"),
    "servers": {
        **_plain("name"),
        **_TITLE,
        "addresses": Column(("addresses",), Kind.LIST),
        **_plain("instance", "department", "zone", "site"),
    },
    "applications": {
        **_plain("name"),
        **_TITLE,
        **_plain("owner", "importance"),
        "mlps": Column(("mlps",), Kind.NUMBER),
        **_plain("service_class", "contact"),
        "servers": Column(("servers",), Kind.LIST, is_serve=True),
        "prefixes": Column(("prefixes",), Kind.LIST, is_serve=True),
        "instance": Column(("instance",), is_serve=True),
        "protocol": Column(("protocol",), is_serve=True),
        "ports": Column(("ports",), Kind.PORTS, is_serve=True),
    },
    "interfaces": {
        **_plain("device", "name"),
        "index": Column(("index",), Kind.NUMBER),
        **_plain("speed", "alias", "bundle"),
        "labelled": Column(("labelled",), Kind.FLAG),
    },
}
"""What can be imported: section -> column of the CSV -> where it goes. The order is that of the entry."""


class Cell(NamedTuple):
    """A cell and the position of its text."""

    text: str
    line: int
    column: int


class CsvDocument:
    """A CSV as a document of a registry: ``data`` holds its entries, ``locate`` finds their cells."""

    def __init__(self, file: str, section: str) -> None:
        self.file = file
        self.data: dict[str, Any] = {"version": 1, section: []}
        self.positions: dict[PathInData, tuple[int, int]] = {}

    def where(self, path: PathInData, *, key: bool = False) -> tuple[str, int, int]:
        """Return (file, line, column) of the cell that a value comes from, or of its row."""
        del key  # the key of a value is its column's; the cell says more
        for length in range(len(path), 0, -1):
            position = self.positions.get(path[:length])
            if position is not None:
                return self.file, *position
        return self.file, 1, 1


def read_csv(path: Path, section: str, problems: list[Problem]) -> CsvDocument:
    """Read a CSV (RFC 4180, UTF-8, with a header) as entries of `section`.

    Every mistake of its form is appended to `problems`. An empty cell is a field left out. Rows of
    applications with the same name are one application, with one entry of ``serves`` a row.
    """
    document = CsvDocument(str(path), section)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        problems.append(Problem(str(path), 0, 0, f"cannot be read: {error.strerror}", "check name and permissions"))
        return document
    except UnicodeDecodeError:
        problems.append(Problem(str(path), 0, 0, "is not UTF-8 text", "export the table as CSV UTF-8"))
        return document
    rows = read_cells(text, document.file, problems)
    if not rows:
        columns = ",".join(COLUMNS[section])
        problems.append(Problem(str(path), 1, 1, "the file is empty", f"start with a header: {columns}"))
        return document
    header = _read_header(rows[0], section, document.file, problems)
    if problems:
        return document
    reader = _RowReader(document, section, header, problems)
    for row in rows[1:]:
        reader.read(row)
    return document


def read_cells(text: str, file: str, problems: list[Problem]) -> list[list[Cell]]:
    """Split CSV text into rows of cells with their positions; blank lines are skipped."""
    rows: list[list[Cell]] = []
    row: list[Cell] = []
    line, line_start, at = 1, 0, 0
    while at < len(text):
        start = Cell("", line, at - line_start + 1)
        if text[at] == '"':
            value, at, line, line_start = _quoted(text, at, line, line_start)
            cell = Cell(value, start.line, start.column + 1)
            if text[at - 1 : at] != '"' or (at < len(text) and text[at] not in ",\r\n"):
                problems.append(
                    Problem(file, start.line, start.column, "a quote is not closed", 'write " inside a cell as ""')
                )
                return rows
        else:
            end = at
            while end < len(text) and text[end] not in ",\r\n":
                end += 1
            cell, at = Cell(text[at:end], start.line, start.column), end
        row.append(_trimmed(cell, file, problems))
        if text[at : at + 1] == ",":
            at += 1
            if at < len(text) and text[at] not in "\r\n":
                continue
            row.append(Cell("", line, at - line_start + 1))  # an empty last cell
        if any(c.text for c in row):
            rows.append(row)
        row = []
        at += 2 if text[at : at + 2] == "\r\n" else 1
        line, line_start = line + 1, at
    return rows


def _quoted(text: str, at: int, line: int, line_start: int) -> tuple[str, int, int, int]:
    """Read a quoted cell from its opening quote; return its value and where reading goes on."""
    parts: list[str] = []
    at += 1
    while True:
        end = text.find('"', at)
        part = text[at:] if end < 0 else text[at:end]
        if "\n" in part:
            line += part.count("\n")
            line_start = at + part.rfind("\n") + 1
        parts.append(part)
        if end < 0:
            return "".join(parts), len(text) + 1, line, line_start
        if text[end + 1 : end + 2] != '"':
            return "".join(parts), end + 1, line, line_start
        parts.append('"')
        at = end + 2


def _trimmed(cell: Cell, file: str, problems: list[Problem]) -> Cell:
    text = cell.text.strip(" \t")
    column = cell.column + len(cell.text) - len(cell.text.lstrip(" \t"))
    odd = next((character for character in text if not character.isprintable()), None)
    if odd is not None:
        message = f"a cell holds the character U+{ord(odd):04X}"
        problems.append(Problem(file, cell.line, column, message, "remove it (a line break or an odd space)"))
    return Cell(text, cell.line, column)


def _read_header(row: list[Cell], section: str, file: str, problems: list[Problem]) -> list[str]:
    known = COLUMNS[section]
    seen: set[str] = set()
    for cell in row:
        if cell.text not in known:
            remedy = suggest(cell.text, known, f"use columns of {', '.join(known)}")
            problems.append(Problem(file, cell.line, cell.column, f'unknown column "{cell.text}"', remedy))
        elif cell.text in seen:
            message = f'column "{cell.text}" is there twice'
            problems.append(Problem(file, cell.line, cell.column, message, "remove one of them"))
        seen.add(cell.text)
    needed = ("device", "name") if section == "interfaces" else ("prefix",) if section == "networks" else ("name",)
    for name in needed:
        if name not in seen:
            problems.append(Problem(file, row[0].line, 1, f'column "{name}" is missing', "add it to the header"))
    return [cell.text for cell in row]


class _RowReader:
    """Turns rows into entries of the document."""

    def __init__(self, document: CsvDocument, section: str, header: list[str], problems: list[Problem]) -> None:
        self.document = document
        self.section = section
        self.header = header
        self.columns = COLUMNS[section]
        self.problems = problems
        self.numbers: dict[str, int] = {}  # application -> its entry

    def read(self, row: list[Cell]) -> None:
        entries: list[dict[str, Any]] = self.document.data[self.section]
        if len(row) > len(self.header):
            extra = row[len(self.header)]
            self.problems.append(
                Problem(
                    self.document.file,
                    extra.line,
                    extra.column,
                    f"the row has {len(row)} cells, the header {len(self.header)}",
                    "quote a cell that holds a comma",
                )
            )
            return
        cells = dict(zip(self.header, row, strict=False))
        name = cells["name"].text if "name" in cells else ""
        number = self.numbers.get(name) if self.section == "applications" and name else None
        if number is None:
            number = len(entries)
            entries.append({})
            self.numbers[name] = number
            self.document.positions[self.section, number] = (row[0].line, 1)
            self._fill(entries[number], (self.section, number), cells, is_serve=False)
        else:
            self._compare(entries[number], cells)
        if self.section == "applications":
            self._add_serve(entries[number], number, cells, row)

    def _fill(self, entry: dict[str, Any], at: PathInData, cells: dict[str, Cell], *, is_serve: bool) -> None:
        for name, column in self.columns.items():
            cell = cells.get(name)
            if cell is None or column.is_serve != is_serve:
                continue
            self.document.positions[(*at, *column.path)] = (cell.line, cell.column)
            if not cell.text:
                continue
            inner = entry
            for step in column.path[:-1]:
                inner = inner.setdefault(step, {})
            inner[column.path[-1]] = self._value(cell, column.kind, (*at, *column.path))

    def _add_serve(self, entry: dict[str, Any], number: int, cells: dict[str, Cell], row: list[Cell]) -> None:
        serves: list[dict[str, Any]] = entry.get("serves", [])
        serve: dict[str, Any] = {}
        at = (self.section, number, "serves", len(serves))
        self.document.positions[at] = (row[0].line, 1)
        self._fill(serve, at, cells, is_serve=True)
        if serve:
            entry["serves"] = [*serves, serve]

    def _compare(self, entry: dict[str, Any], cells: dict[str, Cell]) -> None:
        """A further row of an application repeats its fields or leaves them empty."""
        for name, column in self.columns.items():
            cell = cells.get(name)
            if cell is None or not cell.text or column.is_serve:
                continue
            value: Any = entry
            for step in column.path:
                value = value.get(step) if isinstance(value, dict) else None
            if value != self._value(cell, column.kind, ()):
                message = f'"{name}" of application "{entry["name"]}" is different in an earlier row'
                self.problems.append(
                    Problem(self.document.file, cell.line, cell.column, message, "repeat it, or leave it empty")
                )

    def _value(self, cell: Cell, kind: Kind, at: PathInData) -> Any:
        if kind is Kind.NUMBER:
            return _number(cell.text)
        if kind is Kind.FLAG:
            return {"true": True, "false": False}.get(cell.text.lower(), cell.text)
        if kind is Kind.TEXT:
            return _number(cell.text) if at[-1:] == ("protocol",) else cell.text
        items: list[int | str] = []
        offset = 0
        for item in cell.text.replace(";", " ").split():
            offset = cell.text.index(item, offset)
            self.document.positions[(*at, len(items))] = (cell.line, cell.column + offset)
            items.append(_number(item) if kind is Kind.PORTS else item)
            offset += len(item)
        return items


def _number(text: str) -> int | str:
    """Return a whole number, or the text for the models to complain about."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text
