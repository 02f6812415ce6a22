"""`telemetryd enforce verdicts` and `proof`: what the loop would have done, and what it delivered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from telemetryd.cli.output import Row

Records = Annotated[
    Path,
    typer.Option(
        "--path",
        envvar="TELEMETRYD_ENFORCE",
        help="Directory of enforcement: `enforce.path` of the daemon's settings.",
    ),
]
DEFAULT = Path("/var/lib/telemetryd/enforce")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/enforcement.md).")]


def verdicts(
    path: Records = DEFAULT,
    device: Annotated[str | None, typer.Option("--device", help="Only this one.", show_default=False)] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Note that they were seen: they are not shown again.")] = False,
    who: Annotated[
        str | None,
        typer.Option("--who", help="Who has seen them. Default: the user of this process.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what would have been written to devices in shadow, and what would have followed, until it was seen.

    Example: telemetryd enforce verdicts --device YH-DCA-GW01 --seen
    """
    from telemetryd.cli.output import note, write_json
    from telemetryd.enforce.records import user
    from telemetryd.enforce.shadow import Shadow

    shadow = Shadow(path)
    found = shadow.unseen(device)
    if as_json:
        devices = [
            {"device": one.device, "verdicts": list(one.verdicts), "lost": one.lost, "seen": one.seen} for one in found
        ]
        write_json({"devices": devices})
    else:
        for one in found:
            _show_verdicts(one.device, one.verdicts, one.lost)
        if not any(one.verdicts or one.lost for one in found):
            note("nothing that nobody has seen")
    if seen:
        note(f"{shadow.see(who or user(), device)} verdicts are seen")


def _show_verdicts(device: str, verdicts: Any, lost: int) -> None:
    from telemetryd.cli.output import Field, count, note, show_table, text

    if lost:
        note(f"{device}: {lost:,} older verdicts were too many to keep")
    if not verdicts:
        return
    fields = [
        text("at"),
        text("kind"),
        count("count", "leaves"),
        Field("would have written", lambda row: _first_write(row)),
        Field("would have followed", lambda row: _followed(row)),
        text("why"),
    ]
    show_table(fields, verdicts, title=device)


def _first_write(row: Row) -> str:
    writes = row["writes"]
    if not writes:
        return ""
    path, old, new = writes[0]
    short = path.rpartition("/schedulers/")[2] or path
    shown = f"{short}: {'nothing' if old is None else old} -> {'nothing' if new is None else new}"
    return shown + (f" and {row['count'] - 1:,} more" if row["count"] > 1 else "")


def _followed(row: Row) -> str:
    from telemetryd.cli.output import rate_text

    shown = [
        f"{'/'.join(one['node']) or 'rest'}: {rate_text(one['used_bps'])} -> {rate_text(one['would_have_bps'])}"
        for one in row["followed"][:3]
    ]
    more = len(row["followed"]) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def proof(
    path: Records = DEFAULT,
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="Begin, such as -1h.")] = "-1h",
    to: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="End. Default: now.", show_default=False)
    ] = None,
    zone: Annotated[
        str | None, typer.Option("--zone", help="Time zone of the times. Default: this host's.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold what gateways delivered against the guarantees: by the counters of their queues, and by samples beside it.

    Example: telemetryd enforce proof --from -10min
    """
    import time
    from dataclasses import asdict
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from telemetryd.cli.output import note, write_json
    from telemetryd.enforce.delivered import Delivered, prove
    from telemetryd.errors import EXIT_FAILED, InputError
    from telemetryd.store.when import parse_time

    try:
        chosen = ZoneInfo(zone) if zone is not None else datetime.now(UTC).astimezone().tzinfo
    except (ZoneInfoNotFoundError, ValueError):
        raise InputError(f'--zone "{zone}" is no time zone - name one of the IANA database') from None
    assert chosen is not None, "a local time has a zone"
    now_ns = time.time_ns()
    since_ns = parse_time(from_, now_ns, chosen)
    until_ns = parse_time(to, now_ns, chosen) if to is not None else now_ns
    proofs = prove(Delivered(path).rows(since_ns, until_ns))
    if as_json:
        write_json({"from_ns": since_ns, "to_ns": until_ns, "guarantees": [asdict(one) for one in proofs]})
    else:
        _show_proofs([asdict(one) for one in proofs])
        if not proofs:
            note(f"no queue of a gateway was counted in that time (below {path})")
    if any(one.verdict == "broken" for one in proofs):
        raise typer.Exit(EXIT_FAILED)


def _show_proofs(rows: list[dict[str, Any]]) -> None:
    from telemetryd.cli.output import Field, count, rate, show_table, text

    def shortest(row: Row) -> str:
        seconds = row["shortest_period_s"]
        return "" if seconds is None else f"{seconds:,.3g} s"

    fields = [
        Field("link", lambda row: f"{row['link']} {row['direction']}"),
        Field("whose", lambda row: "/".join(row["node"]) or "(rest)"),
        rate("guarantee", "guarantee_bps"),
        text("verdict"),
        rate("delivered", "delivered_bps"),
        Field("met", lambda row: f"{row['met']} of {row['met'] + row['missed']}", right=True),
        rate("ceiling", "ceiling_bps"),
        count("above_ceiling", "above it"),
        count("dropped", "dropped"),
        text("sampled", "by samples"),
        rate("sampled", "sampled_bps"),
        Field("shortest period", shortest, right=True),
    ]
    if rows:
        show_table(fields, rows)
