"""`telemetryd coverage`: do the samples of every link agree with its interface's counter?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from telemetryd.cli.control import DEFAULT_SOCKET, SocketPath, talk
from telemetryd.errors import EXIT_FAILED

if TYPE_CHECKING:
    from telemetryd.serve.messages import Coverage

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

NOT_KNOWN: Final = "-"


@app.command()
def coverage(
    path: SocketPath = DEFAULT_SOCKET,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Ask a store instead of the running daemon.", show_default=False),
    ] = None,
    from_time: Annotated[
        str | None, typer.Option("--from", help="With --store: ISO 8601, or back from the newest data. Default: all.")
    ] = None,
    to_time: Annotated[str | None, typer.Option("--to", help="As --from. Default: the newest data.")] = None,
    tz: Annotated[str, typer.Option("--tz", help="Time zone of times without an offset.")] = "UTC",
    only_alarms: Annotated[bool, typer.Option("--alarms", help="Only links whose alarm fires.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/estimation.md).")] = False,
) -> None:
    """Show what the samples hold of each counter, with its interval and alarm, and what is known of the device.

    Exit codes: 0 no alarm, 1 an alarm fires or the daemon is not reachable, 2 invalid input.

    Example: telemetryd coverage --alarms; telemetryd coverage --store /var/lib/telemetryd/store --from -1h
    """
    from telemetryd.cli import output

    if store is None:
        rows: list[Any] = list(talk(path, lambda client: client.status())["coverage"])
    else:
        rows = _stored(store, from_time, to_time, tz)
    fires = any(row["alarm"] for row in rows)
    shown = [row for row in rows if row["alarm"] or not only_alarms]
    # What is wrong comes first, then what deviates most.
    shown.sort(key=lambda row: (not row["alarm"], -abs((row["coverage"] or 1.0) - 1.0), row["link"], row["direction"]))
    if as_json:
        output.write_json({"alarms": sum(bool(row["alarm"]) for row in rows), "rows": shown})
    else:
        fields = [
            output.text("link"),
            output.text("device"),
            output.text("interface"),
            output.text("direction"),
            output.Field("coverage", lambda row: _percent(row["coverage"]), right=True),
            output.Field("95 %", _interval, right=True),
            output.Field("alarm", lambda row: row["alarm"] or ""),
            output.Field("counter", _counter, right=True),
            output.Field("skew", lambda row: _seconds(row["skew_ns"]), right=True),
            output.Field("lost", lambda row: _percent(row["loss_share"]), right=True),
        ]
        output.show_table(fields, shown, "coverage: the samples' octets over the counter's")
        if not rows:
            output.note("no link has counters: subscribe to the devices by gNMI, or let them send counters samples")
    if fires:
        raise typer.Exit(EXIT_FAILED)


def _stored(path: Path, from_time: str | None, to_time: str | None, tz: str) -> list[Coverage]:
    """Return what a store knows, in the shape of the daemon's answer."""
    from telemetryd.store import calibrated
    from telemetryd.store.embedded import Store
    from telemetryd.store.select import Selection
    from telemetryd.store.when import parse_time, parse_zone

    store, zone = Store.open(path, "read"), parse_zone(tz)
    newest_ns = store.snapshot().manifest.newest_ns() or 0
    selection = Selection(
        "link_usage",
        None if from_time is None else parse_time(from_time, newest_ns, zone),
        None if to_time is None else parse_time(to_time, newest_ns, zone),
    )
    return [
        {
            "link": place["link"],
            "device": "",
            "interface": "",
            "direction": place["direction"],
            "coverage": place["coverage"],
            "low": place["low"],
            "high": place["high"],
            "alarm": "" if not place["alarm_s"] else "below" if (place["coverage"] or 0.0) < 1.0 else "above",
            "since_ns": 0,
            "seconds": place["covered_s"],
            "interval_s": 0.0,
            "counter_octets": place["counter_octets"],
            "estimated_octets": place["estimated_octets"],
            "source": "",
            "skew_ns": None,
            "loss_share": None,
        }
        for place in calibrated.top(store, ("link", "direction"), selection).places
        if place["estimator"] != "none"
    ]


def _percent(share: float | None) -> str:
    from telemetryd.cli import output

    return NOT_KNOWN if share is None else output.percent_text(share)


def _interval(row: Mapping[str, Any]) -> str:
    return NOT_KNOWN if row["low"] is None else f"{_percent(row['low'])} to {_percent(row['high'])}"


def _counter(row: Mapping[str, Any]) -> str:
    if not row["interval_s"]:
        return f"{row['seconds']:,.0f} s"
    return f"{row['source']}, every {row['interval_s']:.3g} s for {row['seconds']:,.0f} s"


def _seconds(duration_ns: int | None) -> str:
    return NOT_KNOWN if duration_ns is None else f"{duration_ns / 1e9:.3g} s"
