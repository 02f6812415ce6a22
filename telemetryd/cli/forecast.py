"""`telemetryd forecast`: how fast links grow, and when they will be full."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Forecast when links will be full, from their daily busy hours.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command(
    epilog="Examples: telemetryd forecast --store /var/lib/telemetryd/store --registry DIR | "
    "telemetryd forecast --link exit-isp1 --json",
)
def forecast(
    store: Annotated[
        Path | None,
        typer.Option("--store", envvar="TELEMETRYD_STORE", help="Directory of the store.", show_default=False),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(
            "--registry",
            envvar="TELEMETRYD_REGISTRY",
            help="Directory of the registry, which has the capacities.",
            show_default=False,
        ),
    ] = None,
    link: Annotated[list[str] | None, typer.Option("--link", help="Only this link (repeatable).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/reports.md).")] = False,
) -> None:
    """Extend the daily busy hour of each link: growth a year, and the date of exhaustion with its 95 % interval.

    Sorted by date. A link with less than 28 days of data is said to have too little.
    """
    from telemetryd.cli import output
    from telemetryd.config.explain import suggest
    from telemetryd.errors import InputError
    from telemetryd.registry.load import load_registry
    from telemetryd.store.embedded import Store
    from telemetryd.store.report.history import forecasts
    from telemetryd.store.report.messages import Words
    from telemetryd.store.report.pages_links import exhaustion

    if store is None:
        raise InputError("say which store: --store PATH, or set TELEMETRYD_STORE")
    if registry is None:
        raise InputError("say which registry: --registry DIR, or set TELEMETRYD_REGISTRY")
    known = load_registry(registry)
    for name in link or ():
        if name not in known.link:
            remedy = suggest(name, list(known.link), f"use one of {', '.join(list(known.link)[:20])}")
            raise InputError(f'link "{name}" is unknown - {remedy}')
    answer = forecasts(Store.open(store, "read"), known, link or list(known.link))
    if as_json:
        output.write_json(answer)
        return
    words = Words("en")

    def growth(row: output.Row) -> str:
        estimate: dict[str, Any] | None = row["forecast"].get("growth_a_year")
        return (
            "" if estimate is None else f"{estimate['value']:+.0%} ({estimate['low']:+.0%} to {estimate['high']:+.0%})"
        )

    def busy(row: output.Row) -> str:
        estimate = row["forecast"].get("busy_hour_bps")
        return "" if estimate is None else output.rate_text(estimate["value"])

    fields = [
        output.text("link"),
        output.text("direction"),
        output.Field("capacity", lambda row: output.rate_text(row["capacity_bps"]) if row["capacity_bps"] else ""),
        output.Field("busy hour", busy, right=True),
        output.Field("growth a year", growth, right=True),
        output.Field("exhausted", lambda row: exhaustion(words, row["forecast"])),
    ]
    output.show_table(fields, answer["rows"], f"data until {answer['until']}")
    if answer["unseen"]:
        output.note(f"{len(answer['unseen'])} links have no data: {', '.join(answer['unseen'][:8])} ...")
