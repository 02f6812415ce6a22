"""Make or reprint a month's report: the one place that decides between frozen, fresh and preliminary."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Final

from telemetryd.config.explain import suggest
from telemetryd.errors import InputError, StoreError
from telemetryd.registry.models import Registry
from telemetryd.store.embedded import Store
from telemetryd.store.report import record as records
from telemetryd.store.report.build import build, is_over
from telemetryd.store.report.look import count
from telemetryd.store.report.messages import Language, Words
from telemetryd.store.report.month import Month
from telemetryd.store.report.usage import Json
from telemetryd.store.when import parse_zone

_OF_ALL: Final = ("total", "exit", "link_groups", "links")
"""What a department's own report leaves out."""

FORMATS: Final = ("html", "xlsx", "csv", "pdf", "json")


@dataclass(frozen=True, slots=True)
class Made:
    """A record, and what people should know about it.

    Attributes
    ----------
    record:
        All of the month.
    is_new:
        It was made now; otherwise it was frozen earlier.
    remarks:
        For people who print it.
    """

    record: Json
    is_new: bool
    remarks: tuple[str, ...]


def make(
    store: Store,
    month_name: str,
    now_ns: int,
    registry: Callable[[], Registry],
    zone: tzinfo | None,
    *,
    refresh: bool = False,
) -> Made:
    """Return the frozen record of a month; make it, and freeze it once the month is over.

    Parameters
    ----------
    registry:
        Loads the registry, when one is needed: a frozen record has its own names.
    zone:
        Time zone of the month; None takes the city's.
    refresh:
        Make a new revision of a month that is frozen already.

    Raises
    ------
    InputError, StoreError, ProblemsError
        If there is nothing to report, the record is damaged, or it cannot be frozen.
    """
    frozen = None if refresh else records.load(store.path, month_name)
    if frozen is not None:
        if zone is not None and str(zone) != frozen["time_zone"]:
            raise InputError(
                f"the record of {month_name} is frozen in the time zone {frozen['time_zone']}, not {zone}: "
                "leave --tz out, or make a new revision by --refresh"
            )
        return Made(frozen, False, _late(store, frozen))
    known = registry()
    month = Month.parse(month_name, zone or parse_zone(known.city.time_zone))
    record = build(store, known, month, now_ns, lambda other: _recall(store, other))
    if not is_over(month, now_ns):
        remark = f"{month.name} is not over: this report is preliminary and nothing is frozen"
        return Made(record, True, (remark,))
    record = records.freeze(store.path, record)
    path = records.path_of(store.path, month.name, record["revision"])
    return Made(record, True, (f"frozen as {path}",))


def _recall(store: Store, month: Month) -> Json | None:
    """Return the frozen record of another month; one of another time zone is of other days."""
    record = records.load(store.path, month.name)
    return record if record is not None and record["time_zone"] == str(month.zone) else None


def _late(store: Store, record: Json) -> tuple[str, ...]:
    """Say if the store holds something else of a frozen month now."""
    month = Month.parse(record["month"], parse_zone(record["time_zone"]))
    try:
        held = count(store, month)
    except StoreError:
        # What is frozen can be printed without the store, as it was meant to.
        return ()
    if held is None or held == record["samples"]:
        return ()
    return (
        f"the frozen record of {month.name} no longer matches the store: it counts {record['samples']:,} samples, "
        f"the store holds {held:,} now; --refresh makes revision {record['revision'] + 1}",
    )


def render(record: Json, form: str, language: Language, department: str | None = None) -> bytes:
    """Render a record: the same record gives the same octets.

    Parameters
    ----------
    form:
        One of :data:`FORMATS`.
    department:
        Only this one; None = all of it.

    Raises
    ------
    InputError
        If the record has no such department, or the libraries of the format are not installed.
    """
    words = Words(language)
    part = record if department is None else select(record, department)
    if form == "json":
        document = records.wrapped(record) | {"record": part}
        return (json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()
    if form == "csv":
        from telemetryd.store.report import table

        return table.render(part, words)
    from telemetryd.store.report.pages import lay_out

    document_ = lay_out(record, words, department)
    try:
        if form == "html":
            from telemetryd.store.report import html

            return html.render(document_)
        if form == "xlsx":
            from telemetryd.store.report import xlsx

            return xlsx.render(document_)
        from telemetryd.store.report import pdf

        return pdf.render(document_)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--format {form} needs {error.name}: install telemetryd[reports] (pip install 'telemetryd[reports]')"
        ) from error


def select(record: Json, department: str) -> Json:
    """Return the part of a record that is of one department, and what holds for all.

    Raises
    ------
    InputError
        If the record has no such department.
    """
    names = [entry["name"] for entry in record["departments"]]
    if department not in names:
        remedy = suggest(department, names, f"use one of {', '.join(names[:20])}")
        raise InputError(f'no department "{department}" in {record["month"]} - {remedy}')
    part = {key: value for key, value in record.items() if key not in _OF_ALL}
    return part | {"departments": [entry for entry in record["departments"] if entry["name"] == department]}


def file_name(record: Json, form: str, language: Language, department: str | None) -> str:
    """Return the name of a report's file in a directory."""
    whom = "all" if department is None else department
    return f"{record['month']}-r{record['revision']}-{whom}.{language}.{form}"


def directory_of(out: Path) -> bool:
    """Tell whether ``--out`` means a directory: it is one, or is written as one."""
    return out.is_dir() or (not out.exists() and not out.suffix)
