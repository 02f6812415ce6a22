"""`telemetryd query interfaces`: what the counters of interfaces say."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import typer

from telemetryd.cli.query_options import AsCsv, AsJson, From, StorePath, To, Zone


def interfaces(
    store: StorePath = None,
    device: Annotated[list[str] | None, typer.Option("--device", help="Only this one (repeatable).")] = None,
    interface: Annotated[list[str] | None, typer.Option("--interface", help="Only this one (repeatable).")] = None,
    bucket: Annotated[str | None, typer.Option("--bucket", help="Width such as 10s, 5min; none: the whole.")] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Interfaces to show, the busiest.")] = 20,
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show what the counters of interfaces say, by gNMI or sFlow: rates, drops, errors, and how much is known.

    Example: telemetryd query interfaces --device CR01 --from -1h --bucket 5min
    """
    from telemetryd.cli import output
    from telemetryd.errors import InputError
    from telemetryd.store.embedded import Store
    from telemetryd.store.interfaces import interfaces as ask
    from telemetryd.store.interfaces import newest_ns
    from telemetryd.store.when import format_time, parse_duration, parse_time, parse_zone

    if store is None:
        raise InputError("say which store: --store PATH, or set TELEMETRYD_STORE")
    zone, opened = parse_zone(tz), Store.open(store, "read")
    newest = newest_ns(opened)
    begin_ns, end_ns = (None if time is None else parse_time(time, newest, zone) for time in (from_time, to_time))
    width = None if bucket is None else parse_duration(bucket)
    answer = ask(opened, begin_ns, end_ns, devices=device or (), names=interface or (), bucket_ns=width, n=n)
    rows = [
        ({"time": format_time(row["time_ns"], zone)} if width else {})
        | {name: value for name, value in row.items() if name != "time_ns"}
        for row in answer.rows
    ]
    begin, end = format_time(answer.from_ns, zone), format_time(answer.to_ns, zone)
    match output.Format.of(as_json, as_csv):
        case output.Format.JSON:
            head = {
                "query": "interfaces",
                "from": begin,
                "to": end,
                "seconds": (answer.to_ns - answer.from_ns) / 1e9,
                "bucket_s": None if width is None else width / 1e9,
                "window_s": [span_ns / 1e9 for span_ns in answer.spans_ns],
            }
            output.write_json({**head, "rows": rows})
        case output.Format.CSV:
            output.write_csv(rows, list(rows[0]) if rows else ["device", "interface"])
        case _:
            times = ["time"] if width else []
            fields = [
                *map(output.text, (*times, "device", "interface")),
                *(output.Field(way, partial(_rate_and_share, way), right=True) for way in ("in", "out")),
                *(output.count(f"{way}_{what}") for what in ("discards", "errors") for way in ("in", "out")),
                output.Field("up", lambda row: {True: "yes", False: "no", None: "-"}[row["up"]]),
                output.Field("known s", lambda row: f"{row['covered_s']:,.0f}", right=True),
            ]
            output.show_table(fields, rows, f"interfaces: {begin} to {end}")


def _rate_and_share(way: str, row: Mapping[str, Any]) -> str:
    from telemetryd.config.units import format_rate

    rate, share = row[f"{way}_bps"], row[f"{way}_share"]
    return (
        "-"
        if rate is None
        else format_rate(rate) + ("" if share is None else f" ({f'{share:.2%}'.replace('%', ' %')})")
    )
