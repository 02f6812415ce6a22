"""Lay a registry's entities out as rows: for tables, CSV and JSON."""

from __future__ import annotations

from typing import Any, Final

from telemetryd.config.explain import suggest
from telemetryd.errors import InputError
from telemetryd.registry.append import write_flow
from telemetryd.registry.csv_file import COLUMNS, Column
from telemetryd.registry.models import SECTIONS, Device, Entity, Registry

INTERFACES: Final = "interfaces"
VIEWS: Final = (*SECTIONS, INTERFACES)
"""What can be shown: every section, and the interfaces of all devices."""

_KEYS: Final = {"networks": "prefix", "public_addresses": "address", "blind_ports": "device", INTERFACES: "device"}


def plain(entity: Entity) -> dict[str, Any]:
    """Return an entity as it could stand in a file: without fields left at their default."""
    data: dict[str, Any] = entity.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return data


def entries(registry: Registry, view: str, name: str | None = None) -> list[dict[str, Any]]:
    """Return the entries of a section as plain data, or those of one name.

    Networks are named by their prefix, public addresses by address, blind ports and interfaces by device.

    Raises
    ------
    InputError
        If there is no such section, or no such name in it.
    """
    if view not in VIEWS:
        remedy = suggest(view, VIEWS, f"use one of {', '.join(VIEWS)}")
        raise InputError(f'section "{view}" is unknown - {remedy}')
    if view == INTERFACES:
        found = [row for device in registry.devices for row in _interfaces(device)]
    else:
        found = [plain(entity) for entity in registry.section(view)]
    if name is None:
        return found
    key = _KEYS.get(view, "name")
    chosen = [entry for entry in found if entry[key] == name]
    if not chosen:
        known = dict.fromkeys(entry[key] for entry in found)
        raise InputError(f'"{name}" is not in {view} - {suggest(name, known, f"see telemetryd registry show {view}")}')
    return chosen


def _interfaces(device: Device) -> list[dict[str, Any]]:
    return [{"device": device.name, **plain(port)} for port in device.interfaces]


def table_rows(found: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, str]]]:
    """Return (columns in use, rows of texts) for a table; nested values are in YAML's flow style."""
    columns = list(dict.fromkeys(key for entry in found for key in entry))
    return columns, [{key: cell(value) for key, value in entry.items()} for entry in found]


def cell(value: Any) -> str:
    """Write one value on one line."""
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return " ".join(str(item) for item in value)
    if isinstance(value, dict) and set(value) <= {"en", "zh"}:
        return " / ".join(value.values())
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else write_flow(value)


def csv_rows(view: str, found: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, str]]]:
    """Return (columns, rows) for CSV; where the section can be imported, in the form that import reads."""
    layout = COLUMNS.get(view)
    if layout is None:
        return table_rows(found)
    rows = []
    for entry in found:
        for number, serve in enumerate(entry.get("serves", ()) or [{}]):
            row = {}
            for name, column in layout.items():
                is_repeated = number > 0 and not column.is_serve and name != "name"
                row[name] = "" if is_repeated else _value(serve if column.is_serve else entry, column)
            rows.append(row)
    return list(layout), rows


def _value(entry: dict[str, Any], column: Column) -> str:
    value: Any = entry
    for step in column.path:
        value = value.get(step) if isinstance(value, dict) else None
    return "" if value is None else cell(value)
