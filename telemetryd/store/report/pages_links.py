"""The page of the links: the busy ones with their forecast, exits and uplinks, and what is blind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from telemetryd.store.report.messages import Words
from telemetryd.store.report.page import CHANGE, RATE, SHARE, Block, Cell, Column, Paragraph, Section, Table

Json = dict[str, Any]

BUSY: Final = 0.7
_Row = tuple[Json, str, Json]  # link, direction, figures


def links_section(record: Json, words: Words) -> Section:
    """Return the page of the links."""
    links = record["links"]
    rows: list[_Row] = [(link, way, figures) for link in links for way, figures in link["directions"].items()]
    busy = sorted((row for row in rows if _utilisation(row) > BUSY), key=lambda row: -_utilisation(row))
    borders = [row for row in rows if row[0]["kind"] in ("exit", "uplink")]
    states = [link["state"] for link in links]
    counts = {state: states.count(state) for state in ("observed", "unseen", "blind")}
    counts["blind"] += len(_other_blind_ports(record))
    blocks: list[Block] = [Paragraph(words("links_count", **counts))]
    blocks.append(_table(words, words("links_busy"), busy, "" if busy else words("links_busy_none")))
    if borders:
        blocks.append(_table(words, words("links_exits"), borders))
    if record["link_groups"]:
        blocks.append(_groups(record, words))
    blocks.append(_blind(record, words))
    blocks += _unseen(record, words)
    return Section("links", words("links"), blocks)


def _utilisation(row: _Row) -> float:
    utilisation = row[2]["utilisation"]
    return utilisation["value"] if utilisation else 0.0


def _table(words: Words, title: str, rows: Iterable[_Row], note: str = "") -> Table:
    columns = [
        Column(words("link")),
        Column(words("kind")),
        Column(words("direction")),
        Column(words("capacity"), RATE),
        Column(words("p95"), RATE),
        Column(words("utilisation"), SHARE),
        Column(words("growth"), CHANGE),
        Column(words("exhaustion")),
    ]
    cells: list[list[Cell]] = []
    for link, way, figures in rows:
        prediction = figures["forecast"]
        cells.append(
            [
                words.title(link["name"], link["title"]),
                words(f"kind_{link['kind']}"),
                words(way),
                link["capacity_bps"][way] or words("not_known"),
                figures["p95_bps"],
                figures["utilisation"],
                prediction.get("growth_a_year"),
                exhaustion(words, prediction),
            ]
        )
    return Table(title, columns if cells else [], cells, note)


def exhaustion(words: Words, prediction: Json) -> str:
    """Write the date on which a link is full with its interval, or why it cannot be told."""
    if prediction["cannot_tell"] == "capacity":
        return words("forecast_capacity")
    if prediction["cannot_tell"] is not None:
        return words("forecast_history", days=prediction["days"], needed=prediction["needed"])
    if prediction["earliest"] is None:
        return words("exhaustion_later")
    low, high = prediction["earliest"], prediction["latest"] or words("exhaustion_open")
    best = prediction["exhaustion"] or words("exhaustion_later")
    return f"{best} ({words('exhaustion_interval', low=low, high=high)})"


def _groups(record: Json, words: Words) -> Table:
    columns = [
        Column(words("group")),
        Column(words("members")),
        Column(words("direction")),
        Column(words("capacity"), RATE),
        Column(words("p95"), RATE),
        Column(words("utilisation"), SHARE),
    ]
    rows: list[list[Cell]] = []
    for group in record["link_groups"]:
        title = words.title(group["name"], group["title"])
        members = ", ".join(group["members"])
        if group["unseen"]:
            rows.append([title, members, "", "", words("group_unseen", links=", ".join(group["unseen"])), ""])
        for way, figures in group["directions"].items():
            capacity = group["capacity_bps"][way] or words("not_known")
            rows.append([title, members, words(way), capacity, figures["p95_bps"], figures["utilisation"]])
    return Table(words("groups"), columns, rows, words("groups_note"))


def _other_blind_ports(record: Json) -> list[Json]:
    """Return the blind ports that no link names."""
    ports = {link["port"] for link in record["links"]}
    return [port for port in record["quality"]["blind_ports"] if port["port"] not in ports]


def _blind(record: Json, words: Words) -> Table:
    columns = [
        Column(words("link")),
        Column(words("kind")),
        Column(words("port")),
        Column(words("state")),
        Column(words("reason")),
    ]
    rows: list[list[Cell]] = [
        [
            words.title(link["name"], link["title"]),
            words(f"kind_{link['kind']}"),
            link["port"],
            words(f"state_{link['state']}"),
            link["reason"] or "",
        ]
        for link in record["links"]
        if link["state"] == "blind"
    ]
    rows += [["", "", port["port"], words("state_blind"), port["reason"] or ""] for port in _other_blind_ports(record)]
    return Table(words("links_blind"), columns if rows else [], rows, words("links_blind_note"))


def _unseen(record: Json, words: Words) -> list[Block]:
    """Return the links of which no sample came, as running text: they may be hundreds."""
    kinds: dict[str, list[str]] = {}
    for link in record["links"]:
        if link["state"] == "unseen":
            kinds.setdefault(link["kind"], []).append(words.title(link["name"], link["title"]))
    if not kinds:
        return []
    lines = [
        words("links_unseen_kind", kind=words(f"kind_{kind}"), count=len(names), names=", ".join(names))
        for kind, names in kinds.items()
    ]
    return [Table(words("links_unseen"), [], [], words("links_unseen_note")), *(Paragraph(line) for line in lines)]
