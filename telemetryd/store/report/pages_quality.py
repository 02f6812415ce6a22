"""The last pages: how good the data is, how the figures are made, what the law asks, who signs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from telemetryd.store.report import text
from telemetryd.store.report.messages import MESSAGES, Words
from telemetryd.store.report.page import NUMBER, SHARE, Block, Cell, Column, Paragraph, Section, Table

Json = dict[str, Any]

_UNDECODABLE: Final = "loss.undecodable."


def quality_section(record: Json, words: Words) -> Section:
    """Return the page of the data quality."""
    quality = record["quality"]
    due, seen = quality["bins_due"], quality["bins_seen"]
    facts = [
        (words("coverage"), words("coverage_text", share=text.percent(quality["coverage"]), seen=seen, due=due)),
        (words("samples"), f"{record['samples']:,}"),
    ]
    if quality["stated_rate_share"] is not None:
        facts.append((words("stated_rate"), text.percent(quality["stated_rate_share"])))
    if quality["loss_share"] is not None:
        facts.append((words("loss_share"), text.percent(quality["loss_share"])))
    facts.append((words("registry_sha256"), record["registry_sha256"]))
    return Section(
        "quality", words("quality"), [_gaps(quality, words), _loss(quality, words), _points(quality, words)], facts
    )


def _gaps(quality: Json, words: Words) -> Table:
    gaps = quality["gaps"]
    if not gaps["count"]:
        return Table(words("gaps"), [], [], words("gaps_none"))
    rows: list[list[Cell]] = [[text.moment(gap["at"]), text.duration(words, gap["seconds"])] for gap in gaps["longest"]]
    columns = [Column(words("begin")), Column(words("duration"))]
    return Table(words("gaps"), columns, rows, words("gaps_note", count=gaps["count"]))


def _loss(quality: Json, words: Words) -> Table:
    if not quality["is_loss_recorded"]:
        return Table(words("loss"), [], [], words("loss_unrecorded"))
    rows: list[list[Cell]] = [[_cause(words, row["metric"]), row["value"]] for row in quality["loss"]]
    columns = [Column(words("cause")), Column(words("count"), NUMBER)]
    return Table(words("loss"), columns if rows else [], rows, words("loss_note"))


def _cause(words: Words, metric: str) -> str:
    if metric.startswith(_UNDECODABLE):
        return words("loss.undecodable", reason=metric.removeprefix(_UNDECODABLE))
    return words(metric) if metric in MESSAGES else metric


def _points(quality: Json, words: Words) -> Table:
    due = quality["bins_due"]
    rows: list[list[Cell]] = [
        [
            words.title(point["name"], point["title"]),
            min(point["bins_with_traffic"] / due, 1.0) if point["bins_with_traffic"] else words("state_unseen"),
        ]
        for point in quality["metering_points"]
    ]
    columns = [Column(words("point")), Column(words("bins_with_traffic"), SHARE)]
    return Table(words("points"), columns if rows else [], rows)


def statements_section(record: Json, words: Words) -> Section:
    """Return the last page: how figures are made, the retention of logs; the renderer adds the signatures."""
    lines = [words(f"how_{what}") for what in ("estimate", "direction", "p95", "gap", "forecast")]
    blocks: list[Block] = [Table(words("how"), [], []), *(Paragraph(line) for line in lines)]
    blocks.append(Table(words("retention"), [], [], retention(record, words)))
    return Section("statements", words("statements"), blocks)


def retention(record: Json, words: Words) -> str:
    """Return what is held of the past, against what the law requires."""
    held = record["retention"]
    required = held["required_days"]
    begin = text.moment(held["held_from"])
    parts = [words("retention_text", begin=begin, days=held["held_days"], required=required)]
    if held["removed_before"] is None:
        parts.append(words("retention_young"))
    else:
        made, removed = (datetime.fromisoformat(held_at) for held_at in (record["made_at"], held["removed_before"]))
        is_short = made - removed < timedelta(days=required)
        parts.append(words("retention_short", required=required) if is_short else words("retention_removed"))
    return " ".join(parts)
