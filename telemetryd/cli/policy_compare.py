"""`telemetryd policy diff` and `calendar`: what two policies promise differently, and what applies when."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetryd.cli.policy_options import AsJson, At, Directory, Files, StateDirectory, load, moment, note_warnings
from telemetryd.cli.policy_options import registry as load_registry

if TYPE_CHECKING:
    from telemetryd.policy.compare import Comparison, Value
    from telemetryd.policy.conditions import Span

Days = Annotated[int, typer.Option("--days", min=1, max=1100, help="Days from that time on.")]


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Policy file or directory, or @N of the history.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Policy file or directory, or @N of the history.")],
    registry: Directory = None,
    at: At = None,
    days: Days = 366,
    state: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Print what NEW promises differently from OLD: by link, class, department and application, and when.

    Every combination of events, schedules and overrides of the next year is compared. `@3` stands for version 3 of
    `telemetryd policy history`.

    Example: telemetryd policy diff @3 policies/examples/exit
    """
    from dataclasses import asdict
    from zoneinfo import ZoneInfo

    from telemetryd.cli.output import Field, note, show_table, text, write_json
    from telemetryd.cli.policy_history import version_or_path
    from telemetryd.policy.compare import compare

    known = load_registry(registry)
    with version_or_path(old, state) as before, version_or_path(new, state) as after:
        sides = [load([path], known) for path in (before, after)]
    since = moment(at, ZoneInfo(known.city.time_zone))
    found = compare(sides[0], sides[1], known, since, days)
    if as_json:
        document: dict[str, Any] = asdict(found)
        for row in (*document["differences"], *document["promises"]):
            row["first_at"] = row["first_at"].isoformat(timespec="minutes")
        write_json({"old": str(old), "new": str(new), "since": since.isoformat(timespec="seconds"), **document})
        return
    note_warnings(sides[1].warnings)
    for line in _links(found):
        note(line)
    if not found.differences and not found.added and not found.removed:
        note("no difference: the same is promised at every time")
        return
    rows = [asdict(one) for one in found.differences]
    columns = [
        text("link"),
        text("direction"),
        Field("node", lambda row: "/".join(row["node"]) or "(link)"),
        Field("what", lambda row: str(row["field"]).removesuffix("_bps").replace("_", " ")),
        Field("old", lambda row: _value(row["field"], row["old"]), right=True),
        Field("new", lambda row: _value(row["field"], row["new"]), right=True),
        Field("", lambda row: "" if row["kind"] == "changed" else row["kind"]),
        text("when"),
        Field("first", lambda row: f"{row['first_at']:%Y-%m-%d %H:%M}"),
    ]
    if rows:
        show_table(columns, rows)


def calendar(
    policies: Files,
    registry: Directory = None,
    at: At = None,
    days: Days = 14,
    as_json: AsJson = False,
) -> None:
    """Print which events, schedules, overrides and days off apply in the next days, and what they change.

    Example: telemetryd policy calendar policies/examples/exit --at 2026-11-16 --days 14
    """
    from zoneinfo import ZoneInfo

    from telemetryd.cli.output import Field, note, show_table, text, write_json
    from telemetryd.policy.conditions import spans

    known = load_registry(registry)
    loaded = load(policies, known)
    when = moment(at, ZoneInfo(known.city.time_zone))
    found = [
        span
        for policy in loaded.policies
        for span in spans(policy, when.astimezone(policy.zone).replace(tzinfo=None), days)
    ]
    if as_json:
        write_json({"from": when.isoformat(timespec="seconds"), "days": days, "spans": [_span(span) for span in found]})
        return
    note_warnings(loaded.warnings)
    if not found:
        note(f"nothing but the plain terms applies in the {days} days from {when:%Y-%m-%d %H:%M}")
        return
    columns = [
        text("policy"),
        Field("from", lambda row: f"{row['span'].since:%a %Y-%m-%d %H:%M}"),
        Field("until", lambda row: f"{row['span'].until:%a %Y-%m-%d %H:%M}{' ...' if row['span'].is_cut else ''}"),
        Field("times", lambda row: str(row["times"]) if row["times"] > 1 else "", right=True),
        text("kind"),
        text("name"),
        Field("node", lambda row: "/".join(row["span"].node)),
        Field("then", lambda row: ", ".join(f"{name} {value}" for name, value in row["span"].terms)),
    ]
    show_table(columns, _folded(found))


def _folded(found: Iterable[Span]) -> list[dict[str, Any]]:
    """Return a row for the first of what comes again in the same way, with how often it comes."""
    rows: dict[object, dict[str, Any]] = {}
    for span in found:
        key = (span.policy, span.kind, span.name, span.node, span.terms)
        if key in rows and span.kind == "schedule":
            rows[key]["times"] += 1
        else:
            row = {"policy": span.policy, "kind": span.kind, "name": span.name, "span": span, "times": 1}
            rows[key if span.kind == "schedule" else (key, span.since)] = row
    return list(rows.values())


def _span(span: Span) -> dict[str, Any]:
    return {
        "policy": span.policy,
        "from": span.since.isoformat(timespec="minutes"),
        "until": span.until.isoformat(timespec="minutes"),
        "continues": span.is_cut,
        "kind": span.kind,
        "name": span.name,
        "node": list(span.node),
        "terms": dict(span.terms),
    }


def _links(found: Comparison) -> Iterable[str]:
    """Say in words what links are there on one side only, and what is guaranteed in total."""
    from telemetryd.config.units import format_rate

    for what, places in (("only in NEW", found.added), ("only in OLD", found.removed)):
        for link, direction in places:
            yield f"{link} {direction}: {what}"
    for one in found.promises:
        if one.old_bps is not None and one.new_bps is not None and one.old_bps != one.new_bps:
            yield (
                f"{one.link} {one.direction}: guaranteed in total {format_rate(one.old_bps)} -> "
                f"{format_rate(one.new_bps)} of {format_rate(one.capacity_bps)} ({one.when})"
            )


def _value(field: str, value: Value) -> str:
    from telemetryd.config.units import spell_rate

    if field.endswith("_bps"):
        return spell_rate(int(value or 0)) if value else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}"
