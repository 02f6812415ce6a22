"""Lay out a record as a report in one language: summary, departments, links, data quality, signatures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from telemetryd.store.report import text
from telemetryd.store.report.messages import Words
from telemetryd.store.report.page import (
    CHANGE,
    NUMBER,
    OCTETS,
    RATE,
    SHARE,
    Block,
    Cell,
    Chart,
    Column,
    Document,
    Section,
    Table,
)
from telemetryd.store.report.pages_links import links_section
from telemetryd.store.report.pages_quality import quality_section, statements_section
from telemetryd.store.report.record import digest
from telemetryd.store.report.usage import TOP_APPLICATIONS
from telemetryd.store.scan import UNCLASSIFIED, UNKNOWN_DEPARTMENT

Json = dict[str, Any]


def lay_out(record: Json, words: Words, department: str | None = None) -> Document:
    """Lay out a record.

    Parameters
    ----------
    department:
        Name of the one department that the report is about, which the record has; None = all, with a summary
        and the links.
    """
    entries = [entry for entry in record["departments"] if department in (None, entry["name"])]
    whom = words.title(record["city"]["name"], record["city"]["title"])
    if department is not None:
        whom = department_title(words, entries[0])
    parts = [department_section(record, entry, words) for entry in entries]
    if department is None:
        parts = [summary_section(record, words), *parts, links_section(record, words)]
    year, month = record["month"].split("-")
    return Document(
        title=words("title"),
        subtitle=f"{whom} · {words('month', year=year, month=month)}",
        words=words,
        facts=_facts(record, words),
        warning=words("revision_preliminary") if record["preliminary"] else "",
        sections=[*parts, quality_section(record, words), statements_section(record, words)],
        signatures=[(words(who), words("date"), words("stamp")) for who in ("prepared", "reviewed", "approved")],
        made_at=record["made_at"],
        digest=digest(record),
        month=record["month"],
        revision=record["revision"],
    )


def _facts(record: Json, words: Words) -> list[tuple[str, str]]:
    begin, end = text.moment(record["from"]), text.moment(record["to"])
    revision = words("revision_preliminary")
    if not record["preliminary"]:
        revision = words("revision_frozen", revision=record["revision"])
    coverage = record["quality"]["coverage"]
    return [
        (words("period"), words("period_text", begin=begin, end=end, zone=record["time_zone"])),
        (words("made_at"), f"{text.moment(record['made_at'])} · {record['made_by']}"),
        (words("revision"), revision),
        (words("coverage"), text.percent(coverage)),
        (words("record_sha256"), digest(record)),
    ]


def department_title(words: Words, entry: Json) -> str:
    """Return a department's name for people, with its own name where that says more."""
    if entry["name"] == UNKNOWN_DEPARTMENT:
        return words("unknown_department")
    if not entry["registered"]:
        return f"{entry['name']} ({words('not_registered')})"
    return words.title(entry["name"], entry["title"])


def summary_section(record: Json, words: Words) -> Section:
    """Return the first page: the exit, the city, every department in a row."""
    exit_ = record["exit"]
    blocks: list[Block] = [
        usage_table(words, words("exit"), exit_["directions"], exit_["capacity_bps"], "capacity"),
        *chart(words, exit_["directions"], exit_["capacity_bps"], "chart_capacity", len_days(record)),
        usage_table(words, words("city"), record["total"]["directions"], None, ""),
        comparison_table(words, record["total"]),
        departments_table(words, record),
        applications_table(words, record["total"]),
    ]
    billed = exit_["p95_billed"]
    facts = [] if billed is None else [(words("p95_billed"), _billed(words, billed))]
    return Section("summary", words("summary"), blocks, facts)


def len_days(record: Json) -> int:
    """Return the number of days of a record's month."""
    return -(-len(record["total"]["directions"]["in"]["chart_bps"]) // 12)


def _billed(words: Words, billed: Json) -> str:
    limits = text.limits(words, billed, text.rate)
    return f"{text.rate(billed['value'])} ({limits}) · {words(billed['direction'])}"


def usage_table(words: Words, title: str, directions: Json, limits: Json | None, limit_name: str) -> Table:
    """Return the figures of both directions, a row each; ``limits`` are contracts or capacities."""
    columns = [Column(words("direction"))]
    if limits is not None:
        columns.append(Column(words(limit_name), RATE))
    columns += [
        Column(words("volume"), OCTETS),
        Column(words("mean"), RATE),
        Column(words("p95"), RATE),
        Column(words("peak"), RATE),
        Column(words("peak_at")),
        Column(words("busy_hour"), RATE),
        Column(words("busy_hour_at")),
        Column(words("hour_of_day")),
    ]
    if limits is not None:
        columns += [Column(words("over_80"), SHARE), Column(words("over_100"), SHARE)]
    rows: list[list[Cell]] = []
    for way, figures in directions.items():
        row: list[Cell] = [words(f"{way}bound")]
        none = words("none_seen") if figures["octets"]["value"] == 0 else None
        limit = limits[way] if limits is not None else None
        if limits is not None:
            row.append(limit if limit else words("no_contract" if limit_name == "contract" else "not_known"))
        busy, of_day = figures["busy_hour"], figures["busy_hour_of_day"]
        hour = of_day["hour"] if of_day else 0
        row += [
            none or figures["octets"],
            none or figures["mean_bps"],
            none or figures["p95_bps"],
            none or figures["peak_bps"],
            "" if none else text.moment(figures["peak_at"]),
            none or (busy and busy["mean_bps"]),
            "" if none or not busy else text.moment(busy["at"]),
            "" if none or not of_day else words("hour_of_day_text", hour=hour, next=hour + 1),
        ]
        if limits is not None:
            row += [figures["over_80_percent"], figures["over_contract"]] if limit else ["", ""]
        rows.append(row)
    return Table(title, columns, rows)


def chart(words: Words, directions: Json, limits: Json | None, limit_name: str, days: int) -> Iterable[Chart]:
    """Return the chart of both directions, with the higher percentile and the limit where it can be seen.

    Where there was no traffic there is nothing to draw.
    """
    highest = max(
        (value for figures in directions.values() for value in figures["chart_bps"] if value is not None), default=0
    )
    if not highest:
        return
    p95 = [figures["p95_bps"]["value"] for figures in directions.values() if figures["p95_bps"]]
    levels = [(words("chart_p95"), max(p95))] if p95 and max(p95) > 0 else []
    bounds = sorted({bps for bps in (limits or {}).values() if bps})
    # A limit far above the curve would press it flat.
    levels += [(words(limit_name), float(bps)) for bps in bounds if bps <= 4 * highest]
    series = [(words(f"chart_{way}"), figures["chart_bps"]) for way, figures in directions.items()]
    yield Chart(words("chart"), series, levels, days)


def departments_table(words: Words, record: Json) -> Table:
    """Return one row for each department."""
    columns = [
        Column(words("department")),
        Column(words("contract"), RATE),
        Column(words("p95_in"), RATE),
        Column(words("p95_out"), RATE),
        Column(words("volume_in"), OCTETS),
        Column(words("volume_out"), OCTETS),
        Column(words("share_of_exit"), SHARE),
        Column(words("over_80"), SHARE),
        Column(words("p95_change"), CHANGE),
        Column(words("unclassified"), SHARE),
    ]
    rows: list[list[Cell]] = []
    for entry in record["departments"]:
        ways = entry["directions"]
        limits = [bps for bps in entry["contract_bps"].values() if bps]
        used = entry["all_applications"]
        name = department_title(words, entry)
        if used is None:
            rows.append([name, min(limits) if limits else "", words("none_seen"), *[""] * 7])
            continue
        billed = entry["p95_billed"]["direction"]
        compared = entry["comparison"]["previous_month"]
        change = compared["directions"] and compared["directions"][billed]["p95_bps"]
        over = [way["over_80_percent"] for way in ways.values() if way["over_80_percent"]]
        rows.append(
            [
                name,
                min(limits) if limits else words("no_contract"),
                ways["in"]["p95_bps"],
                ways["out"]["p95_bps"],
                ways["in"]["octets"],
                ways["out"]["octets"],
                entry["share_of_exit"],
                max(over, key=lambda share: share["value"]) if over else "",
                change or words("cannot_tell"),
                used["unclassified_share"],
            ]
        )
    return Table(words("departments"), columns, rows)


def department_section(record: Json, entry: Json, words: Words) -> Section:
    """Return the page of one department."""
    facts = []
    if entry["class"]:
        facts.append((words("class"), words(entry["class"])))
    if entry["all_applications"] is None:
        facts.append((words("usage"), words("none_seen")))
        return Section(_key(record, entry), department_title(words, entry), [], facts)
    used = entry["all_applications"]
    if entry["p95_billed"] is not None:
        facts.append((words("p95_billed"), _billed(words, entry["p95_billed"])))
    for label, share in (("share_of_exit", entry["share_of_exit"]), ("unclassified", used["unclassified_share"])):
        if share is not None:
            interval = text.limits(words, share, text.percent, is_share=True)
            facts.append((words(label), f"{text.percent(share['value'])} ({interval})"))
    inside = entry["internal_octets"]
    facts.append((words("internal"), f"{text.octets(inside['value'])} ({text.limits(words, inside, text.octets)})"))
    errors = [way["relative_error"] for way in entry["directions"].values() if way["relative_error"] is not None]
    if errors:
        facts.append((words("error"), f"± {text.percent(max(errors))} · {words('samples')} {entry['samples']:,}"))
    blocks: list[Block] = [
        usage_table(words, words("usage"), entry["directions"], entry["contract_bps"], "contract"),
        *chart(words, entry["directions"], entry["contract_bps"], "chart_contract", len_days(record)),
        applications_table(words, entry),
        comparison_table(words, entry),
        *shortfall_blocks(words, entry),
    ]
    return Section(_key(record, entry), department_title(words, entry), blocks, facts)


def _key(record: Json, entry: Json) -> str:
    names = [other["name"] for other in record["departments"]]
    return f"department-{names.index(entry['name']) + 1}"


def applications_table(words: Words, entry: Json) -> Table:
    """Return the first applications by volume, and the others in one row."""
    columns = [
        Column(words("rank"), NUMBER),
        Column(words("application")),
        Column(words("volume"), OCTETS),
        Column(words("volume_in"), OCTETS),
        Column(words("volume_out"), OCTETS),
        Column(words("share"), SHARE),
    ]
    rows: list[list[Cell]] = [
        [
            number,
            words("unclassified") if row["name"] == UNCLASSIFIED else words.title(row["name"], row["title"]),
            row["octets"],
            row["in_octets"],
            row["out_octets"],
            row["share"],
        ]
        for number, row in enumerate(entry["applications"], 1)
    ]
    used = entry["all_applications"]
    others = used["applications"] - len(rows)
    if others > 0:
        share = used["other_octets"] / used["octets"]["value"]
        rows.append(["", words("other_applications", count=others), used["other_octets"], "", "", share])
    return Table(words("applications", count=TOP_APPLICATIONS), columns, rows)


def comparison_table(words: Words, entry: Json) -> Table:
    """Return month on month and year on year, or why nothing can be said."""
    columns = [
        Column(words("compared")),
        *(Column(words(name), CHANGE) for name in ("mean_in", "mean_out", "p95_in", "p95_out")),
        Column(words("why")),
    ]
    rows: list[list[Cell]] = []
    for key, compared in entry["comparison"].items():
        row: list[Cell] = [words("against", month=compared["month"], kind=words(key))]
        reason = compared["cannot_tell"]
        if reason is not None:
            coverage = text.percent(reason.get("coverage", 0.0))
            why = words(f"reason_{reason['reason']}", month=compared["month"], coverage=coverage)
            rows.append([*row, "", "", "", "", why])
            continue
        for figure in ("mean_bps", "p95_bps"):
            row += [compared["directions"][way][figure] or words("cannot_tell") for way in ("in", "out")]
        source = compared["source"]
        row.append(words("source_store") if source == "store" else words("source_record", revision=source))
        rows.append(row)
    return Table(words("comparison"), columns, rows)


def shortfall_blocks(words: Words, entry: Json) -> Iterable[Block]:
    """Return when usage stood at the contract, and what that does not say."""
    found = {way: shortfall for way, shortfall in entry["shortfalls"].items() if shortfall["count"]}
    if not entry["shortfalls"]:
        return
    if not found:
        yield Table(words("shortfalls"), [], [], words("shortfalls_none"))
        return
    columns = [
        Column(words("direction")),
        Column(words("begin")),
        Column(words("duration")),
        Column(words("peak"), RATE),
    ]
    rows: list[list[Cell]] = []
    notes = [words("shortfalls_note")]
    for way, shortfall in found.items():
        duration = text.duration(words, shortfall["seconds"])
        notes.append(
            words("shortfalls_total", direction=words(f"{way}bound"), count=shortfall["count"], duration=duration)
        )
        rows += [
            [
                words(f"{way}bound"),
                text.moment(stretch["at"]),
                text.duration(words, stretch["seconds"]),
                stretch["peak_bps"],
            ]
            for stretch in shortfall["longest"]
        ]
    yield Table(words("shortfalls"), columns, rows, " ".join(notes))
