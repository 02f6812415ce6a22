"""`telemetryd demo`: the example city from datagrams to tables, in about a minute."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from telemetryd.errors import InputError

if TYPE_CHECKING:
    from telemetryd.ingest.generate.city import CityTraffic

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

DAY: Final = datetime(2026, 11, 28)  # a Saturday with civil-service exam enrolment from 08:00 to 18:00
LAPSE: Final = 60.0  # a minute of event time stands for an hour
BLOCK_S: Final = 5.0
PORT: Final = 6343
STORE: Final = Path("demo-store")
WATCHED: Final[dict[str, dict[str, list[str]]]] = {
    "all traffic": {},
    "exam enrolment": {"application": ["cseexam"]},
    "backups": {"service_class": ["BULK"]},
}
SPARKS: Final = " ▁▂▃▄▅▆▇█"


@app.command()
def demo(
    store: Annotated[Path, typer.Option("--store", help="Directory of the store; what is in it is replaced.")] = STORE,
    minutes: Annotated[int, typer.Option(min=1, max=24, help="Minutes of event time, each an hour of the day.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the traffic's random numbers.")] = 1,
    top: Annotated[int, typer.Option("-n", "--top", min=1, help="Rows of each table.")] = 8,
) -> None:
    """Run a Saturday of the example city in time lapse and show who used how much.

    A traffic generator makes the sFlow datagrams that the city's switches would send: the load of the day,
    an exam-enrolment burst from 08:00 to 18:00, the backups of the night. They are written to a capture and
    go through the real reader, decoder, classification and windows into a store, as your own captures would.

    Example: telemetryd demo --store ./demo-store
    """
    from telemetryd.ingest.generate.city import CityTraffic
    from telemetryd.registry.locate import default_registry

    registry = default_registry()
    traffic_dir = registry.parent / "traffic"
    _clear(store)
    capture = store.with_name(store.name + ".pcap")
    city = CityTraffic(registry, traffic_dir, seed, DAY, lapse=LAPSE, reuse_buffer=True)
    print(f"The example city, Saturday {DAY:%Y-%m-%d}, one minute for each hour. Registry: {registry}")
    started = time.monotonic()
    datagrams, octets = _write(city, capture, 60 * minutes)
    print(f"1. {datagrams:,} sFlow datagrams ({octets / 1e6:,.0f} MB) in {time.monotonic() - started:.1f} s: {capture}")
    document = _replay(capture, registry, store, top)
    _show(document, store, capture, registry)


def _clear(store: Path) -> None:
    """Remove an earlier demo's store, and nothing else."""
    if not store.exists():
        return
    if not (store / "MANIFEST.json").exists() and any(store.iterdir()):
        raise InputError(f"{store}: is no store: give another --store")
    shutil.rmtree(store)


def _write(city: CityTraffic, capture: Path, seconds: int) -> tuple[int, int]:
    from telemetryd.ingest.capture_writer import CaptureWriter

    datagrams = octets = 0
    with CaptureWriter(capture) as writer:
        for number, block in enumerate(city.generate(seconds, BLOCK_S), start=1):
            writer.write(block.buffer, block.offsets, block.lengths, block.ts_ns)
            datagrams += len(block.offsets)
            octets += int(block.lengths.sum())
            if sys.stderr.isatty():
                print(f"\r   {number * BLOCK_S / seconds:.0%} of the traffic", end="\r", file=sys.stderr, flush=True)
    return datagrams, octets


def _replay(capture: Path, registry_dir: Path, store: Path, top: int) -> dict[str, Any]:
    from telemetryd.classify.compile import compile_registry
    from telemetryd.cli.replay import show_progress
    from telemetryd.pipeline import Pipeline
    from telemetryd.registry.load import load_registry
    from telemetryd.replay import Replay
    from telemetryd.store.embedded import Store
    from telemetryd.summary import Summary

    started = time.monotonic()
    registry = load_registry(registry_dir)
    summary = Summary(registry)
    with Store.open(store, mode="write") as opened:
        run = Replay([capture], Pipeline(compile_registry(registry)), store=opened, on_window=summary.add)
        with show_progress(run, "auto"):
            run.run()
    document = summary.document(run, top)
    samples = document["counts"]["flow_samples"]
    print(
        f"2. {samples:,} flow samples decoded, classified and stored in {time.monotonic() - started:.1f} s: "
        f"{document['store']['windows']:,} windows, {document['store']['rows']:,} rows in {store}\n"
    )
    return document


def _show(document: dict[str, Any], store: Path, capture: Path, registry: Path) -> None:
    from telemetryd.cli.replay import show_summary

    show_summary(document)
    print("\nThe day, hour by hour (each a minute of event time), at the metering points:")
    for title, where in WATCHED.items():
        print(f"  {title:<16} {_spark(store, where)}")
    print(
        "\nWhat to try next:\n"
        f"  telemetryd query top --by application --store {store}\n"
        f"  telemetryd query series --application cseexam --bucket 60s --store {store}\n"
        f"  telemetryd query matrix --store {store}\n"
        f"  telemetryd query percentile --by department --store {store}\n"
        f"  telemetryd registry find 198.18.40.9 --registry {registry}\n"
        f"  telemetryd decode {capture} | head -1\n"
        "  telemetryd replay YOUR.pcap --registry YOUR-REGISTRY --store YOUR-STORE"
    )


def _spark(store: Path, where: dict[str, list[str]]) -> str:
    """Draw the rate of every minute of a selection, and say the greatest."""
    from telemetryd.cli.output import rate_text
    from telemetryd.store.embedded import Store
    from telemetryd.store.query import series
    from telemetryd.store.select import Selection

    with Store.open(store, mode="read") as opened:
        answer = series(opened, ["direction"], Selection(where=where), 60_000_000_000, n=8)
    rates: dict[int, float] = {}
    for row in answer.rows:
        rates[row["time_ns"]] = rates.get(row["time_ns"], 0.0) + row["rate_bps"]
    greatest = max(rates.values(), default=0.0)
    steps = len(SPARKS) - 1
    bars = "".join(SPARKS[round(rate / greatest * steps) if greatest else 0] for _, rate in sorted(rates.items()))
    return f"{bars}  up to {rate_text(greatest)}"
