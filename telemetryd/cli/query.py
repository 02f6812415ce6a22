"""`telemetryd query`: ask the embedded store who uses how much, when, and how sure and complete that is."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from telemetryd.cli import query_calibrated, query_pooled
from telemetryd.cli.query_counters import components, demands, enforcements, interfaces, queues
from telemetryd.cli.query_options import (
    Application,
    AsCsv,
    AsJson,
    By,
    Calibrated,
    Count,
    Department,
    DirectionName,
    From,
    Link,
    Peer,
    StorePath,
    TableName,
    To,
    Zone,
)

if TYPE_CHECKING:
    from telemetryd.cli.output import Field
    from telemetryd.store.embedded import Store
    from telemetryd.store.query import Answer
    from telemetryd.store.select import Selection

app = typer.Typer(
    help="Ask the embedded store: top, series, matrix, percentile, quality, interfaces, queues, components, demand, "
    "enforcement.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# The first samples of a source are always scaled so; below this share it is not worth a remark.
NOTABLE_SHARE: Final = 0.01

FIGURES: Final = (
    "rate_bps",
    "low_bps",
    "high_bps",
    "octets",
    "packets",
    "samples",
    "stated_rate_samples",
)


@app.command()
def top(
    store: StorePath = None,
    by: By = "department",
    n: Count = 10,
    table: TableName = "totals",
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    department: Department = None,
    peer_department: Peer = None,
    application: Application = None,
    link: Link = None,
    direction: DirectionName = None,
    calibrated: Calibrated = False,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Take the samples of both ends of each link's cable; needs --registry.")
    ] = False,
    registry: Annotated[
        Path | None,
        typer.Option("--registry", envvar="TELEMETRYD_REGISTRY", help="Directory of the registry.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Rank departments, applications, links or other keys by the traffic they had."""
    from telemetryd.cli import output
    from telemetryd.store import query

    question = Question(store, table, from_time, to_time, tz, department, peer_department, application, link, direction)
    if pooled:
        query_pooled.top(question, _words(by), registry, n, output.Format.of(as_json, as_csv), calibrated)
        return
    if calibrated:
        query_calibrated.top(question, _words(by), n, output.Format.of(as_json, as_csv))
        return
    answer = query.top(question.store, _words(by), question.selection, n)
    match output.Format.of(as_json, as_csv):
        case output.Format.JSON:
            output.write_json({**question.head("top", answer), "total": answer.total, "rows": answer.rows})
        case output.Format.CSV:
            output.write_csv(answer.rows, [*answer.by, *FIGURES, "share", "folded"])
        case _:
            total = {**(answer.total or {}), "share": 1.0, answer.by[0]: "total"} if answer.by and answer.rows else None
            output.show_table([*_keys(answer), *_figures(), output.share()], answer.rows, question.title(answer), total)
            question.remarks(answer)


@app.command()
def series(
    store: StorePath = None,
    by: By = "",
    bucket: Annotated[str | None, typer.Option("--bucket", help="Width such as 10s, 5min, 1h.")] = None,
    n: Count = 5,
    table: TableName = "totals",
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    department: Department = None,
    peer_department: Peer = None,
    application: Application = None,
    link: Link = None,
    direction: DirectionName = None,
    calibrated: Calibrated = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Follow the traffic through time, as a whole or by key."""
    from telemetryd.cli import output
    from telemetryd.store import query
    from telemetryd.store.when import format_time, parse_duration

    question = Question(store, table, from_time, to_time, tz, department, peer_department, application, link, direction)
    width = None if bucket is None else parse_duration(bucket)
    if calibrated:
        query_calibrated.series(question, _words(by), width, n, output.Format.of(as_json, as_csv))
        return
    answer = query.series(question.store, _words(by), question.selection, width, n)
    rows = [
        {
            "time": format_time(row["time_ns"], question.zone),
            **{k: v for k, v in row.items() if k != "time_ns"},
        }
        for row in answer.rows
    ]
    match output.Format.of(as_json, as_csv):
        case output.Format.JSON:
            output.write_json({**question.head("series", answer), "total": answer.total, "rows": rows})
        case output.Format.CSV:
            output.write_csv(rows, ["time", *answer.by, *FIGURES, "folded"])
        case _:
            if answer.by:
                output.show_pivot(rows, ("time",), answer.by, question.title(answer))
            else:
                output.show_table([output.text("time"), *_figures()], rows, question.title(answer))
            question.remarks(answer)


@app.command()
def matrix(
    store: StorePath = None,
    rows: Annotated[str, typer.Option("--rows", help="Key of the rows.")] = "department",
    columns: Annotated[str, typer.Option("--columns", help="Key of the columns.")] = "application",
    n: Count = 10,
    n_columns: Annotated[int, typer.Option("--n-columns", min=1, help="Columns to show; the rest is 'other'.")] = 6,
    table: TableName = "totals",
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    department: Department = None,
    peer_department: Peer = None,
    application: Application = None,
    link: Link = None,
    direction: DirectionName = None,
    calibrated: Calibrated = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Cross two keys, such as departments with applications."""
    from telemetryd.cli import output
    from telemetryd.store import query

    question = Question(store, table, from_time, to_time, tz, department, peer_department, application, link, direction)
    if calibrated:
        query_calibrated.matrix(question, rows, columns, (n, n_columns), output.Format.of(as_json, as_csv))
        return
    answer = query.matrix(question.store, rows, columns, question.selection, n, n_columns)
    match output.Format.of(as_json, as_csv):
        case output.Format.JSON:
            output.write_json(
                {
                    **question.head("matrix", answer),
                    "total": answer.total,
                    "margins": answer.margins,
                    "rows": answer.rows,
                }
            )
        case output.Format.CSV:
            output.write_csv(answer.rows, [*answer.by, *FIGURES, "share", "folded"])
        case _:
            margins = [{**row, columns: "total"} for row in answer.margins[rows]]
            output.show_pivot([*answer.rows, *margins], (rows,), (columns,), question.title(answer))
            question.remarks(answer)


@app.command()
def percentile(
    store: StorePath = None,
    by: By = "",
    percent: Annotated[float, typer.Option("--percent", help="The percentile.")] = 95.0,
    bin_width: Annotated[str, typer.Option("--bin", help="Width of the bins.")] = "5min",
    n: Count = 10,
    table: TableName = "totals",
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    department: Department = None,
    peer_department: Peer = None,
    application: Application = None,
    link: Link = None,
    direction: DirectionName = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Give the 95th (or another) percentile of the rate, per direction, as transit is billed."""
    from telemetryd.cli import output
    from telemetryd.store import query
    from telemetryd.store.when import parse_duration

    question = Question(store, table, from_time, to_time, tz, department, peer_department, application, link, direction)
    answer = query.percentile(question.store, _words(by), question.selection, percent, parse_duration(bin_width), n)
    extra = ("mean_bps", "peak_bps", "bins", "is_highest")
    match output.Format.of(as_json, as_csv):
        case output.Format.JSON:
            head = {**question.head("percentile", answer), "percent": percent}
            output.write_json({**head, "rows": answer.rows})
        case output.Format.CSV:
            output.write_csv(answer.rows, [*answer.by, *FIGURES, "share", *extra, "folded"])
        case _:
            fields = [
                *_keys(answer),
                output.rate(f"p{percent:g}"),
                output.interval(),
                output.rate("mean", "mean_bps"),
                output.rate("peak", "peak_bps"),
                output.count("bins"),
                output.Field("", lambda row: "highest" if row["is_highest"] else ""),
            ]
            output.show_table(fields, answer.rows, question.title(answer))
            question.remarks(answer)


@app.command()
def quality(
    store: StorePath = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Only this one, or all that begin so: loss (repeatable)."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="Only this agent, sender or socket (repeatable)."),
    ] = None,
    bucket: Annotated[str | None, typer.Option("--bucket", help="Width such as 1min, 1h; none: the whole.")] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Sources of each metric; the rest is 'other'.")] = 10,
    from_time: From = None,
    to_time: To = None,
    tz: Zone = "UTC",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Say how complete the data are: seconds covered, datagrams received, and what was lost by cause."""
    from telemetryd.cli import output
    from telemetryd.store.quality import quality as ask
    from telemetryd.store.when import format_time, parse_duration

    question = Question(store, "totals", from_time, to_time, tz)
    width = None if bucket is None else parse_duration(bucket)
    answer = ask(question.store, question.selection, metric or (), source or (), width, n)
    times = [] if width is None else ["time"]
    rows = [
        ({"time": format_time(row["time_ns"], question.zone)} if times else {})
        | {name: row[name] for name in ("metric", "source", "value", "share", "folded")}
        for row in answer.rows
    ]
    begin, end = format_time(answer.from_ns, question.zone), format_time(answer.to_ns, question.zone)
    seconds = (answer.to_ns - answer.from_ns) / 1e9
    match output.Format.of(as_json, as_csv):
        case output.Format.JSON:
            head = {
                "query": "quality",
                "from": begin,
                "to": end,
                "seconds": seconds,
                "bucket_s": None if width is None else width / 1e9,
                "window_s": [span_ns / 1e9 for span_ns in answer.spans_ns],
                "covered_s": answer.covered_s,
                "loss_share": answer.loss_share,
            }
            output.write_json({**head, "rows": rows})
        case output.Format.CSV:
            output.write_csv(rows, [*times, "metric", "source", "value", "share", "folded"])
        case _:
            fields = [
                *map(output.text, (*times, "metric", "source")),
                output.Field("value", lambda row: f"{row['value']:,.0f}", right=True),
                output.Field("of the sent", lambda row: _percent(row["share"]), right=True),
            ]
            output.show_table(fields, rows, f"quality: {begin} to {end}")
            if not rows:
                output.note("nothing is known of this range: `telemetryd run` stores it beside the usage")
                return
            lost = "" if answer.loss_share is None else f", {_percent(answer.loss_share)} of the datagrams lost"
            output.note(f"{answer.covered_s:,.0f} of {seconds:,.0f} s have data{lost}")


def _percent(share: float | None) -> str:
    from telemetryd.cli import output

    return "" if share is None else output.percent_text(share, 2)


class Question:
    """The options that all questions share, and what is printed around every answer."""

    def __init__(
        self,
        path: Path | None,
        table: str,
        from_time: str | None,
        to_time: str | None,
        tz: str,
        department: list[str] | None = None,
        peer_department: list[str] | None = None,
        application: list[str] | None = None,
        link: list[str] | None = None,
        direction: list[str] | None = None,
    ) -> None:
        from telemetryd.errors import InputError
        from telemetryd.store.embedded import Store
        from telemetryd.store.select import Selection
        from telemetryd.store.when import parse_time, parse_zone

        if path is None:
            raise InputError("say which store: --store PATH, or set TELEMETRYD_STORE")
        self.zone: tzinfo = parse_zone(tz)
        self.store: Store = Store.open(path, "read")
        newest_ns = self.store.snapshot().manifest.newest_ns() or 0
        where = {
            "department": department,
            "peer_department": peer_department,
            "application": application,
            "link": link,
            "direction": direction,
        }
        self.selection: Selection = Selection(
            table=table,
            from_ns=None if from_time is None else parse_time(from_time, newest_ns, self.zone),
            to_ns=None if to_time is None else parse_time(to_time, newest_ns, self.zone),
            where={key: tuple(names) for key, names in where.items() if names},
        )

    def head(self, query: str, answer: Answer) -> dict[str, Any]:
        """Return what every JSON answer begins with."""
        from telemetryd.store.when import format_time

        return {
            "query": query,
            "table": self.selection.table,
            "by": list(answer.by),
            "where": {key: list(names) for key, names in self.selection.where.items()},
            "from": format_time(answer.from_ns, self.zone),
            "to": format_time(answer.to_ns, self.zone),
            "seconds": (answer.to_ns - answer.from_ns) / 1e9,
            "bucket_s": None if answer.bucket_ns is None else answer.bucket_ns / 1e9,
            "window_s": [span_ns / 1e9 for span_ns in answer.spans_ns],
            "confidence": self.selection.confidence,
        }

    def title(self, answer: Answer) -> str:
        """Return the line above a table."""
        from telemetryd.store.when import format_time

        begin, end = format_time(answer.from_ns, self.zone), format_time(answer.to_ns, self.zone)
        where = "".join(f", {key} {' or '.join(names)}" for key, names in self.selection.where.items())
        return f"{self.selection.table}{where}: {begin} to {end}"

    def remarks(self, answer: Answer) -> None:
        """Say on stderr what a reader of the table should know."""
        from telemetryd.cli.output import note

        if not answer.rows:
            hint = " (traffic that passes no metering point is in --table link_usage)"
            note("no traffic in this range" + (hint if self.selection.table == "totals" else ""))
        stated = sum(row["stated_rate_samples"] for row in answer.rows)
        samples = sum(row["samples"] for row in answer.rows)
        if stated > NOTABLE_SHARE * samples:
            note(
                f"{stated / samples:.1%} of the samples are scaled by the stated sampling rate, since their "
                "sample pool is unusable: loss makes these figures too low"
            )
        is_one_link = "link" in answer.by or "link" in self.selection.where
        if self.selection.table == "link_usage" and not is_one_link:
            note("link_usage counts a packet on every link it crosses: add --link or --by link, or take totals")


def _words(by: str) -> list[str]:
    return [word.strip() for word in by.split(",") if word.strip()]


def _keys(answer: Answer) -> list[Field]:
    from telemetryd.cli.output import text

    return [text(key) for key in answer.by]


def _figures() -> list[Field]:
    from telemetryd.cli.output import count, interval, octets, rate

    return [rate(), interval(), octets(), count("samples")]


app.command("demand")(demands)
app.command("enforcement")(enforcements)
for _counters in (interfaces, queues, components):
    app.command()(_counters)
