"""Render a record as one flat table: a row for each figure, for programs and for pivot tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, Final

from telemetryd.store.report.messages import Words
from telemetryd.store.report.pages import department_title
from telemetryd.store.report.pages_links import exhaustion

Json = dict[str, Any]

COLUMNS: Final = (
    *("month", "revision", "scope", "name", "title", "direction"),
    *("figure", "unit", "value", "low", "high", "at", "remark"),
)

_UNITS: Final = (("octets", "octets"), ("mean_bps", "bit/s"), ("p95_bps", "bit/s"), ("peak_bps", "bit/s"))
_SHARES: Final = ("over_80_percent", "over_contract")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Row = tuple[str, str, str, str, str, str, Any, str, str]
"""scope, name, title, direction, figure, unit, value or estimate, at, remark."""


def render(record: Json, words: Words) -> bytes:
    """Return the table as CSV (RFC 4180) in UTF-8, with a header.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    written = io.StringIO(newline="")
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    head = record["month"], record["revision"]
    for scope, name, title, way, figure, unit, value, at, remark in _rows(record, words):
        limits = (value["value"], value["low"], value["high"]) if isinstance(value, dict) else (value, "", "")
        texts = [_safe(text) for text in (scope, name, title, way, figure, unit)]
        writer.writerow([*head, *texts, *("" if limit is None else limit for limit in limits), at, _safe(remark)])
    return written.getvalue().encode()


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _rows(record: Json, words: Words) -> Iterator[Row]:
    quality = record["quality"]
    state = words("revision_preliminary") if record["preliminary"] else ""
    yield "report", "", "", "", "coverage", "share", quality["coverage"], "", state
    yield "report", "", "", "", "samples", "samples", record["samples"], "", ""
    for loss in quality["loss"]:
        yield "report", "", "", "", loss["metric"], "count", loss["value"], "", ""
    if "exit" in record:
        yield from _directions(record["exit"], ("exit", "", words("exit")), "capacity_bps")
        yield from _scope(record["total"], ("city", "", words("city")), words)
    for entry in record["departments"]:
        where = "department", entry["name"], department_title(words, entry)
        yield from _scope(entry, where, words)
        yield *where, "", "share_of_exit", "share", entry["share_of_exit"], "", ""
    for group in record.get("link_groups", ()):
        where = "link_group", group["name"], words.title(group["name"], group["title"])
        for way, figures in group["directions"].items():
            yield *where, way, "capacity_bps", "bit/s", group["capacity_bps"][way], "", ""
            yield *where, way, "p95_bps", "bit/s", figures["p95_bps"], "", ""
            yield *where, way, "utilisation", "share", figures["utilisation"], "", ""
    for link in record.get("links", ()):
        yield from _link(link, words)


def _scope(entry: Json, where: tuple[str, str, str], words: Words) -> Iterator[Row]:
    if entry["all_applications"] is None:
        yield *where, "", "octets", "octets", None, "", words("none_seen")
        return
    yield from _directions(entry, where, "contract_bps")
    yield *where, "", "internal_octets", "octets", entry["internal_octets"], "", ""
    used = entry["all_applications"]
    yield *where, "", "unclassified_share", "share", used["unclassified_share"], "", ""
    for number, row in enumerate(entry["applications"], 1):
        title = words.title(row["name"], row["title"])
        yield *where, "", f"application_{number}", "octets", row["octets"], "", f"{row['name']} {title}"
    for key, compared in entry["comparison"].items():
        reason = compared["cannot_tell"]
        if reason is not None:
            yield *where, "", key, "share", None, "", f"{words('cannot_tell')}: {reason['reason']} {compared['month']}"
            continue
        for way, figures in compared["directions"].items():
            for figure, change in figures.items():
                name = f"{key}_{figure.removesuffix('_bps')}"
                yield *where, way, name, "share", change, "", f"{compared['month']} {compared['source']}"
    for way, shortfall in entry["shortfalls"].items():
        yield *where, way, "at_contract", "s", shortfall["seconds"], "", ""


def _directions(entry: Json, where: tuple[str, str, str], limit_name: str) -> Iterator[Row]:
    billed = entry["p95_billed"]
    for way, figures in entry["directions"].items():
        yield *where, way, limit_name, "bit/s", entry[limit_name][way], "", ""
        for figure, unit in _UNITS:
            at = figures["peak_at"] or "" if figure == "peak_bps" else ""
            is_billed = figure == "p95_bps" and billed is not None and billed["direction"] == way
            yield *where, way, figure, unit, figures[figure], at, "billed" if is_billed else ""
        busy = figures["busy_hour"]
        yield *where, way, "busy_hour_bps", "bit/s", busy and busy["mean_bps"], busy["at"] if busy else "", ""
        for figure in _SHARES:
            yield *where, way, figure, "share", figures[figure], "", ""


def _link(link: Json, words: Words) -> Iterator[Row]:
    where = "link", link["name"], words.title(link["name"], link["title"])
    if link["state"] != "observed":
        remark = f"{words('state_' + link['state'])} {link['reason'] or ''}".strip()
        yield *where, "", "p95_bps", "bit/s", None, "", remark
        return
    for way, figures in link["directions"].items():
        yield *where, way, "capacity_bps", "bit/s", link["capacity_bps"][way], "", ""
        for figure, unit in _UNITS:
            yield *where, way, figure, unit, figures[figure], "", ""
        yield *where, way, "utilisation", "share", figures["utilisation"], "", ""
        prediction = figures["forecast"]
        growth, date = prediction.get("growth_a_year"), prediction.get("exhaustion") or ""
        yield *where, way, "growth_a_year", "share", growth, date, exhaustion(words, prediction)
