"""`telemetryd query interfaces`, `queues`, `components`: counters of devices; `demand`, `enforcement`: of links."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetryd.cli.query_options import AsCsv, AsJson, From, StorePath, To, Zone

if TYPE_CHECKING:
    from telemetryd.cli.output import Field, Format
    from telemetryd.store.counted import CounterAnswer

OnlyDevice = Annotated[list[str] | None, typer.Option("--device", help="Only this one (repeatable).")]
OnlyInterface = Annotated[list[str] | None, typer.Option("--interface", help="Only this one (repeatable).")]
OnlyLink = Annotated[list[str] | None, typer.Option("--link", help="Only this link or group (repeatable).")]
OnlySide = Annotated[list[str] | None, typer.Option("--direction", help="Only in, or out.")]
Bucket = Annotated[str | None, typer.Option("--bucket", help="Width such as 10s, 5min; none: the whole.")]


def interfaces(
    store: StorePath = None,
    device: OnlyDevice = None,
    interface: OnlyInterface = None,
    bucket: Bucket = None,
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
    from telemetryd.store import counter_query

    ask = partial(counter_query.interfaces, devices=device or (), names=interface or (), n=n)
    fields = [
        *map(output.text, ("device", "interface")),
        *(output.Field(way, partial(_rate_and_share, way), right=True) for way in ("in", "out")),
        *(output.count(f"{way}_{what}") for what in ("discards", "errors") for way in ("in", "out")),
        output.Field("up", lambda row: {True: "yes", False: "no", None: "-"}[row["up"]]),
        output.Field("known s", lambda row: f"{row['covered_s']:,.0f}", right=True),
    ]
    _show("interface", ask, fields, store, bucket, (from_time, to_time), tz, output.Format.of(as_json, as_csv))


def queues(
    store: StorePath = None,
    device: OnlyDevice = None,
    interface: OnlyInterface = None,
    direction: Annotated[list[str] | None, typer.Option("--direction", help="in or out (repeatable).")] = None,
    queue: Annotated[list[str] | None, typer.Option("--queue", help="Only this one (repeatable).")] = None,
    bucket: Bucket = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Queues to show, the busiest.")] = 20,
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show what queues sent and dropped, by gNMI: behind the bottleneck that is what was delivered.

    Example: telemetryd query queues --device GW-D3 --interface eth1 --from -1h
    """
    from telemetryd.cli import output
    from telemetryd.config.units import format_rate
    from telemetryd.store import counter_query

    ask = partial(
        counter_query.queues,
        devices=device or (),
        interfaces=interface or (),
        directions=direction or (),
        names=queue or (),
        n=n,
    )
    fields = [
        *map(output.text, ("device", "interface", "direction", "queue")),
        output.Field("rate", lambda row: "-" if row["bps"] is None else format_rate(row["bps"]), right=True),
        *(output.Field(name.replace("_", " "), partial(_count, name), right=True) for name in _QUEUE_COUNTS),
        output.Field(
            "dropped",
            lambda row: "-" if row["drop_share"] is None else output.percent_text(row["drop_share"], 2),
            right=True,
        ),
        output.Field("known s", lambda row: f"{row['covered_s']:,.0f}", right=True),
    ]
    _show("queue", ask, fields, store, bucket, (from_time, to_time), tz, output.Format.of(as_json, as_csv))


def components(
    store: StorePath = None,
    device: OnlyDevice = None,
    component: Annotated[list[str] | None, typer.Option("--component", help="Only this one (repeatable).")] = None,
    bucket: Bucket = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Components to show, the hottest.")] = 20,
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show how warm and how busy the components of devices are, by gNMI: mean and largest.

    Example: telemetryd query components --device CR01 --from -1d --bucket 1h
    """
    from telemetryd.cli import output
    from telemetryd.store import counter_query

    ask = partial(counter_query.components, devices=device or (), names=component or (), n=n)
    fields = [
        *map(output.text, ("device", "component")),
        *(
            output.Field(f"{title} {what}", partial(_reading, f"{name}{suffix}", unit), right=True)
            for name, title, unit in (("temperature", "temperature", "°C"), ("cpu", "CPU", "%"))
            for what, suffix in (("mean", ""), ("largest", "_largest"))
        ),
    ]
    _show("component", ask, fields, store, bucket, (from_time, to_time), tz, output.Format.of(as_json, as_csv))


def demands(
    store: StorePath = None,
    link: OnlyLink = None,
    direction: OnlySide = None,
    department: Annotated[list[str] | None, typer.Option("--department", help="Only this one (repeatable).")] = None,
    application: Annotated[list[str] | None, typer.Option("--application", help="Only this one (repeatable).")] = None,
    bucket: Bucket = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Classes to show, by their demand.")] = 20,
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show what was demanded of links, as the daemon estimated it then, beside what was sent (docs/demand.md).

    Example: telemetryd query demands --link exit --direction in --from -1h
    """
    from telemetryd.cli import output
    from telemetryd.store import counter_query

    ask = partial(
        counter_query.demands,
        links=link or (),
        directions=direction or (),
        departments=department or (),
        applications=application or (),
        n=n,
    )
    fields = [
        *map(output.text, ("link", "direction", "department", "application")),
        *(output.Field(name, partial(_rate, f"{name}_bps"), right=True) for name in ("usage", "demand", "damped")),
        output.Field("largest", partial(_rate, "demand_largest_bps"), right=True),
        output.Field("censored", lambda row: output.percent_text(row["censored_share"] or 0.0), right=True),
        output.Field("causes", lambda row: ", ".join(row["causes"])),
        output.Field("known s", lambda row: f"{row['covered_s']:,.0f}", right=True),
    ]
    _show("demand", ask, fields, store, bucket, (from_time, to_time), tz, output.Format.of(as_json, as_csv))


def enforcements(
    store: StorePath = None,
    link: OnlyLink = None,
    direction: OnlySide = None,
    node: Annotated[
        list[str] | None, typer.Option("--node", help="Only this class, such as tax/filing (repeatable).")
    ] = None,
    bucket: Bucket = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Classes to show, by what was delivered.")] = 20,
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show what queues of gateways delivered to classes of links, beside what was promised (docs/control-loop.md).

    Example: telemetryd query enforcement --link exit --direction out --from -1h
    """
    from telemetryd.cli import output
    from telemetryd.store import counter_query

    ask = partial(counter_query.enforcements, links=link or (), directions=direction or (), nodes=node or (), n=n)
    names = ("delivered", "demand", "guarantee", "ceiling", "rate", "sampled")
    fields = [
        *map(output.text, ("link", "direction", "node")),
        *(output.Field(name, partial(_rate, f"{name}_bps"), right=True) for name in names),
        output.Field("missed", lambda row: output.percent_text(row["missed_share"] or 0.0), right=True),
        output.Field("dropped", partial(_count, "dropped_packets"), right=True),
        output.Field("known s", lambda row: f"{row['covered_s']:,.0f}", right=True),
    ]
    _show("enforcement", ask, fields, store, bucket, (from_time, to_time), tz, output.Format.of(as_json, as_csv))


_QUEUE_COUNTS = ("packets", "dropped_packets", "dropped_octets")


def _show(
    kind: str,
    ask: Callable[..., CounterAnswer],
    fields: Sequence[Field],
    store: Path | None,
    bucket: str | None,
    times: tuple[str | None, str | None],
    tz: str,
    form: Format,
) -> None:
    from telemetryd.cli import output
    from telemetryd.errors import InputError
    from telemetryd.store.counted import newest_ns
    from telemetryd.store.embedded import Store
    from telemetryd.store.when import format_time, parse_duration, parse_time, parse_zone

    if store is None:
        raise InputError("say which store: --store PATH, or set TELEMETRYD_STORE")
    zone, opened = parse_zone(tz), Store.open(store, "read")
    newest = newest_ns(opened, kind)
    begin_ns, end_ns = (None if time is None else parse_time(time, newest, zone) for time in times)
    width = None if bucket is None else parse_duration(bucket)
    answer = ask(opened, begin_ns, end_ns, bucket_ns=width)
    rows = [
        ({"time": format_time(row["time_ns"], zone)} if width else {})
        | {name: value for name, value in row.items() if name != "time_ns"}
        for row in answer.rows
    ]
    begin, end = format_time(answer.from_ns, zone), format_time(answer.to_ns, zone)
    match form:
        case output.Format.JSON:
            head = {
                "query": f"{kind}s",
                "from": begin,
                "to": end,
                "seconds": (answer.to_ns - answer.from_ns) / 1e9,
                "bucket_s": None if width is None else width / 1e9,
                "window_s": [span_ns / 1e9 for span_ns in answer.spans_ns],
            }
            output.write_json({**head, "rows": rows})
        case output.Format.CSV:
            output.write_csv(rows, list(rows[0]) if rows else ["device", kind])
        case _:
            columns = [*([output.text("time")] if width else []), *fields]
            output.show_table(columns, rows, f"{kind}s: {begin} to {end}")


def _rate_and_share(way: str, row: Mapping[str, Any]) -> str:
    from telemetryd.cli.output import percent_text
    from telemetryd.config.units import format_rate

    rate, share = row[f"{way}_bps"], row[f"{way}_share"]
    return "-" if rate is None else format_rate(rate) + ("" if share is None else f" ({percent_text(share, 2)})")


def _rate(name: str, row: Mapping[str, Any]) -> str:
    from telemetryd.config.units import format_rate

    return "-" if row[name] is None else format_rate(row[name])


def _count(name: str, row: Mapping[str, Any]) -> str:
    return "-" if row[name] is None else f"{row[name]:,}"


def _reading(name: str, unit: str, row: Mapping[str, Any]) -> str:
    return "-" if row[name] is None else f"{row[name]:.1f} {unit}"
