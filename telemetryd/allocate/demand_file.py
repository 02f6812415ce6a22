"""Demands as a CSV file: who would send how much over which link, with units."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetryd.config.explain import show, suggest
from telemetryd.config.units import UnitError, parse_rate
from telemetryd.errors import Problem, ProblemsError
from telemetryd.policy.fields import MAX_BPS
from telemetryd.policy.outline import protected_names
from telemetryd.registry.models import Registry

COLUMNS: Final = ("link", "direction", "department", "application", "demand")
OPTIONAL: Final = ("service_class", "region", "peer_department")


@dataclass(frozen=True, slots=True)
class Demand:
    """One row: what somebody would send over a link.

    Attributes
    ----------
    link, direction:
        Link or link group, and "in" or "out".
    department, application:
        Whose traffic; names that the registry does not know belong to what nothing names.
    bps:
        bit/s.
    service_class, region:
        Given, or "": then the class is the application's, and the region that of the department's networks.
    peer_department:
        The other end, for policies that charge it.
    also:
        Further (link, direction) that the same traffic crosses.
    """

    link: str
    direction: str
    department: str
    application: str
    bps: int
    service_class: str = ""
    region: str = ""
    peer_department: str = ""
    also: tuple[tuple[str, str], ...] = ()

    @property
    def crosses(self) -> tuple[tuple[str, str], ...]:
        """Every (link, direction) that it crosses."""
        return (self.link, self.direction), *self.also


def read_demand(path: Path, registry: Registry) -> tuple[list[Demand], list[Problem]]:
    """Read a demand file: link, direction, department, application, demand; also those of :data:`OPTIONAL`.

    Returns
    -------
    demands, warnings:
        Rows in their order, and one warning for each name that the registry does not know.

    Raises
    ------
    ProblemsError
        With every mistake, at its line and column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problem = Problem(str(path), 0, 0, f"cannot be read: {error.strerror}", "check name and permissions")
        raise ProblemsError([problem]) from None
    except UnicodeDecodeError:
        raise ProblemsError([Problem(str(path), 0, 0, "is not UTF-8 text", "save the file as UTF-8")]) from None
    return parse_demand(text, str(path), registry)


def parse_demand(text: str, file: str, registry: Registry) -> tuple[list[Demand], list[Problem]]:
    """Parse the text of a demand file; see :func:`read_demand`."""
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        remedy = "check quotes, and remove characters that are no text"
        raise ProblemsError([Problem(file, reader.line_num, 1, f"is no CSV: {error}", remedy)]) from None
    header = [name.strip() for name in rows[0][1]] if rows else []
    problems = _check_header(header, file)
    if problems:
        raise ProblemsError(problems)
    links = (*registry.link, *registry.by_name("link_groups"))
    protected = protected_names(registry)
    demands: list[Demand] = []
    warnings: dict[tuple[str, str], Problem] = {}
    for line, row in rows[1:]:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            message = f"the row has {len(row)} cells, the header {len(header)}"
            problems.append(Problem(file, line, 1, message, "quote cells that hold a comma"))
            continue
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}

        def at(name: str, line: int = line, row: Sequence[str] = row) -> tuple[str, int, int]:
            before = row[: header.index(name)]
            return file, line, 1 + sum(len(cell) + 1 for cell in before)

        path = _path(cells["link"], cells["direction"])
        for link, way in path:
            if link not in links:
                remedy = suggest(link, links, "name a link or link group of the registry")
                problems.append(Problem(*at("link"), f"unknown link {show(link)}", remedy))
            if way not in ("in", "out") and way != cells["direction"]:
                problems.append(
                    Problem(*at("link"), f"{show(way)} is no direction", 'write such as "exit:in + dc:out"')
                )
        if len({link for link, _ in path}) < len(path):
            problems.append(Problem(*at("link"), "a link is crossed twice", "name each link once"))
        cells["link"], cells["direction"] = path[0]
        if cells["direction"] not in ("in", "out"):
            problems.append(
                Problem(*at("direction"), f"{show(cells['direction'])} is no direction", 'write "in" or "out"')
            )
        try:
            bps = parse_rate(cells["demand"])
        except UnitError as error:
            problems.append(Problem(*at("demand"), error.message, error.remedy))
            bps = 0
        if bps > MAX_BPS:
            message = f"{show(cells['demand'])} is more than any link has"
            problems.append(Problem(*at("demand"), message, "write at most 1000 Tbit/s"))
        for name, known in (("department", registry.department), ("application", registry.application)):
            if cells[name] and cells[name] not in known and cells[name] not in protected:
                message = f"{name} {show(cells[name])} is not in the registry"
                remedy = suggest(cells[name], known, "it belongs to what nothing names")
                warnings.setdefault((name, cells[name]), Problem(*at(name), message, remedy))
        given = {name: cells.get(name, "") for name in (*COLUMNS[:4], *OPTIONAL)}
        demands.append(Demand(bps=bps, also=path[1:], **given))
    if problems:
        raise ProblemsError(problems)
    return demands, list(warnings.values())


def _path(cell: str, direction: str) -> tuple[tuple[str, str], ...]:
    """Return the (link, direction) of a cell such as ``exit + dc:out``; who names no direction has the row's."""
    parts = (part.strip().partition(":") for part in cell.split("+"))
    return tuple((name.strip(), way.strip() or direction) for name, _, way in parts)


def _check_header(header: list[str], file: str) -> list[Problem]:
    problems = [
        Problem(file, 1, 1, f'column "{name}" is missing', f"start with a header: {','.join(COLUMNS)}")
        for name in COLUMNS
        if name not in header
    ]
    for index, name in enumerate(header):
        column = 1 + sum(len(before) + 1 for before in header[:index])
        if name not in COLUMNS and name not in OPTIONAL:
            remedy = suggest(name, (*COLUMNS, *OPTIONAL), f"use {', '.join((*COLUMNS, *OPTIONAL))}")
            problems.append(Problem(file, 1, column, f'unknown column "{name}"', remedy))
        elif name in header[:index]:
            problems.append(Problem(file, 1, column, f'column "{name}" is there twice', "keep one"))
    return problems
