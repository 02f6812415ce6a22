"""`telemetryd replay`: captured sFlow in, bandwidth per department and application out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetryd.errors import EXIT_FAILED, InputError

if TYPE_CHECKING:
    from telemetryd.replay import Replay, Stored

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="pcap or pcapng, also .gz and .zst.")],
    registry: Annotated[
        Path | None,
        typer.Option("--registry", "-r", envvar="TELEMETRYD_REGISTRY", help="Registry; default: the example city."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", envvar="TELEMETRYD_STORE", help="Keep the windows in this store."),
    ] = None,
    speed: Annotated[str, typer.Option(help="max, realtime, or a multiple of it such as 10x.")] = "max",
    top: Annotated[int, typer.Option("-n", "--top", min=1, help="Rows of each table.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON (docs/replay.md).")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="UDP port of the datagrams.")] = 6343,
    all_udp: Annotated[bool, typer.Option("--all-udp", help="Every UDP payload that parses as sFlow.")] = False,
    lenient: Annotated[bool, typer.Option(help="Exit 0 though a capture is cut off.")] = False,
    decapsulate: Annotated[bool, typer.Option(help="Classify the inner packets of tunnels.")] = False,
    append_rows: Annotated[int, typer.Option(min=1, help="Rows gathered for an append to the store.")] = 250_000,
    progress: Annotated[str, typer.Option(help="auto, none, or json: one line an append, on stderr.")] = "auto",
) -> None:
    """Turn captured sFlow into bandwidth per department and application, with 95 % intervals.

    Captures that overlap in time are merged. With --store, the windows and their roll-ups are kept for
    `telemetryd query`; a run that was cut short may be repeated, nothing is stored twice.

    Exit codes: 0 ok, 1 a capture is damaged (the summary holds what precedes the damage), 2 invalid input.

    Example: telemetryd replay monday.pcap.zst --registry policies/example-city/registry --store ./store
    """
    from telemetryd.aggregate.sflow_reconcile import SampledReconciler
    from telemetryd.classify.compile import compile_registry
    from telemetryd.pipeline import Pipeline, words_text
    from telemetryd.registry.load import load_registry
    from telemetryd.registry.locate import default_registry
    from telemetryd.replay import COUNTER_ROWS, Replay
    from telemetryd.store.embedded import Store
    from telemetryd.summary import Summary

    factor = parse_speed(speed)
    if progress not in ("auto", "none", "json"):
        raise InputError(f"--progress {progress}: use auto, none or json")
    loaded = load_registry(registry or default_registry())
    summary = Summary(loaded)
    options: dict[str, Any] = {"counter_rows": COUNTER_ROWS}
    if len(files) > 1:
        options["tolerance_ns"] = None
    run = Replay(
        files,
        Pipeline(compile_registry(loaded), decapsulate=decapsulate, **options),
        port=None if all_udp else port,
        speed=factor,
        append_rows=append_rows,
        on_window=summary.add,
        counters=SampledReconciler(loaded, words_text),
    )
    with show_progress(run, progress):
        if store is None:
            run.run()
        else:
            with Store.open(store, mode="write") as opened:
                run.store = opened
                run.run()
    document = summary.document(run, top)
    if as_json:
        from telemetryd.cli.output import write_json

        write_json(document)
    else:
        show_summary(document)
    damaged = [capture for capture in document["captures"] if capture["damage"]]
    for capture in damaged:
        print(
            f"telemetryd: {capture['file']}: {capture['damage']['what']} at offset {capture['damage']['offset']}; "
            f"the {capture['datagrams']} datagrams before it were read"
            + ("" if lenient else " - pass --lenient to accept that"),
            file=sys.stderr,
        )
    if damaged and not lenient:
        raise typer.Exit(EXIT_FAILED)


def parse_speed(text: str) -> float | None:
    """Return event seconds a second, None for as fast as possible.

    Raises
    ------
    InputError
        If the text is neither max, realtime nor a positive multiple such as 10x.
    """
    if text == "max":
        return None
    if text == "realtime":
        return 1.0
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1e9:
        raise InputError(f"--speed {text}: use max, realtime, or a multiple such as 10x")
    return factor


@contextmanager
def show_progress(run: Replay, kind: str) -> Iterator[None]:
    """Show how far a replay is on stderr: a bar for people, or a line an append for programs."""
    if kind == "json":
        run.on_stored = _print_stored
        yield
        return
    if kind == "none" or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    # Without the redirections, what is printed while the bar runs stays where it belongs.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("replay", total=None)
        run.on_progress = lambda done, total: bar.update(task, completed=done, total=total or None)
        yield


def _print_stored(stored: Stored, until_ns: int) -> None:
    line = {"event": "stored", "batch": stored.batches, "windows": stored.windows, "rows": stored.rows}
    print(json.dumps({**line, "until_ns": until_ns}), file=sys.stderr, flush=True)


def show_summary(document: dict[str, Any]) -> None:
    """Print the tables of a summary for people."""
    from telemetryd.cli import output

    span, counts, loss = document["span"], document["counts"], document["loss"]
    if document["total"] is None:
        print("No usage: no flow sample crossed a metering point of the registry.")
    else:
        figures = [output.rate(), output.interval(), output.share(), output.count("samples")]
        directions = [output.rate(name, f"{name}_bps") for name in ("inbound", "outbound", "internal")]
        departments = [output.text("department"), output.text("title", ""), *figures, *directions]
        output.show_table(departments, document["departments"], "Departments")
        applications = [output.text("application"), output.text("owner"), output.text("title", ""), *figures]
        output.show_table(applications, document["applications"], "Applications")
    if document["links"]:
        links = [
            output.text("link"),
            output.text("direction"),
            output.rate(),
            output.interval(),
            output.count("samples"),
        ]
        output.show_table(links, document["links"], "Links")
    for line in summary_lines(span, counts, loss, document):
        print(line)


def summary_lines(
    span: dict[str, Any], counts: dict[str, Any], loss: dict[str, Any], document: dict[str, Any]
) -> list[str]:
    """Say in words what was read, what was lost and what stayed unclassified."""
    from telemetryd.cli import output

    lines = [
        f"{counts['datagrams']:,} datagrams of {counts['agents']} exporters: "
        f"{counts['flow_samples']:,} flow samples, {counts['counters_samples']:,} counters samples and "
        f"{counts['discarded_packets']:,} discarded packets",
    ]
    if span["from"]:
        lines.append(f"{span['from']} to {span['to']}: {span['seconds']:,.0f} s in {span['windows']:,} windows")
    if document["total"] is not None:
        lines.append(f"Total at the metering points: {output.estimate_text(document['total'])}")
        lines.append(f"Unclassified: {document['unclassified']['share']:.1%} of the octets")
    causes = {name.replace("_", " "): value for name, value in loss.items() if value and name != "undecodable"}
    causes |= {f"undecodable ({reason})": count for reason, count in loss["undecodable"].items() if count}
    skipped: dict[str, int] = {}
    for capture in document["captures"]:
        for reason, count in capture["skipped"].items():
            skipped[f"packets skipped ({reason})"] = skipped.get(f"packets skipped ({reason})", 0) + count
    causes |= skipped
    lines.append("Loss: " + (", ".join(f"{name} {count:,}" for name, count in causes.items()) or "none"))
    if coverage := document["coverage"]:
        alarms = [f"{one['link']} {one['direction']} {one['coverage']:.1%}" for one in coverage if one["alarm"]]
        lines.append(
            f"Counters of {len(coverage)} links and directions: "
            + (
                f"{len(alarms)} do not agree with the samples: {', '.join(alarms[:5])}"
                if alarms
                else "the samples agree"
            )
        )
    if strangers := document["unregistered_agents"]:
        shown = ", ".join(strangers[:5]) + (" ..." if len(strangers) > 5 else "")
        lines.append(
            f"Exporters that the registry does not know ({len(strangers)}): {shown} - add them to a device's "
            "`agents`; until then they count on links of their own and in no total"
        )
    if store := document["store"]:
        lines.append(
            f"Stored {store['windows']:,} windows, {store['rows']:,} rows in {store['path']}"
            + (f"; {store['already_stored']:,} windows were there already" if store["already_stored"] else "")
        )
    return lines
