"""`telemetryd policy demand`: what would be sent if nothing held it back, estimated from what was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from telemetryd.cli.policy_options import AsJson, Directory, Files, load, note_warnings
from telemetryd.cli.policy_options import registry as load_registry
from telemetryd.cli.policy_traffic import Captured, Source, Stored


def demand(
    policies: Files,
    store: Stored = None,
    capture: Captured = None,
    from_time: Annotated[
        str | None, typer.Option("--from", help="ISO 8601, or back from the newest data: -1h. Default: first data.")
    ] = None,
    to_time: Annotated[str | None, typer.Option("--to", help="As --from. Default: newest data.")] = None,
    step: Annotated[str | None, typer.Option("--step", help="Length of a step. Default: 1min, 5min for long.")] = None,
    window: Annotated[int, typer.Option("--window", min=1, max=1000, help="Steps whose highest usage counts.")] = 15,
    headroom: Annotated[float, typer.Option("--headroom", help="Factor above that usage.")] = 1.1,
    registry: Directory = None,
    write: Annotated[
        Path | None, typer.Option("--write", help="CSV for `policy allocate` and `policy explain --demand`.")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Demands to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Estimate demands at the end of a range, apart from usage: headroom, probing of throttled classes, few samples.

    Where the link was full, usage was cut: the demand is censored, at least what is shown. docs/demand.md says how.

    Example: telemetryd policy demand policies/examples/exit --store ./store --from -1h --write now.csv
    """
    import csv

    from telemetryd.allocate.demand import DemandSettings
    from telemetryd.assure.estimated import end_of, estimate_demands
    from telemetryd.cli.output import Field, note, rate_text, show_table, text, write_json
    from telemetryd.errors import InputError

    try:
        settings = DemandSettings(window=window, headroom=headroom)
    except ValueError as error:
        raise InputError(f"--headroom {headroom:g}: {error}") from None
    known = load_registry(registry)
    zone = ZoneInfo(known.city.time_zone)
    loaded = load(policies, known)
    places: list[tuple[str, str, str]] = [
        (link, direction, policy.file.charge) for policy, link, direction in loaded.ruled()
    ]
    offered = Source(store, capture, None, from_time, to_time, step).read(known, places, zone)
    rows = estimate_demands(loaded, known, offered, settings)
    if write is not None:
        try:
            with write.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("link", "direction", "department", "application", "demand"))
                for row in rows:
                    names = (row["link"], row["direction"], row["department"], row["application"])
                    writer.writerow((*names, f"{row['demand_bps']} bit/s"))
        except OSError as error:
            raise InputError(f"--write {write}: {error.strerror}") from error
    at = end_of(offered).astimezone(zone).isoformat(timespec="seconds")
    if as_json:
        write_json({"at": at, "step_s": offered.step_s, "window": window, "headroom": headroom, "demands": rows})
        return
    note_warnings(loaded.warnings)

    def rate(name: str) -> Field:
        return Field(name, lambda row: rate_text(row[f"{name}_bps"]), right=True)

    def marks(row: Any) -> str:
        told = ", ".join(row["causes"])
        mark = f"at least ({told})" if told else "at least" if row["censored"] else ""
        return f"{mark}{', ' if mark and row['folded'] else ''}{'in the rest' if row['folded'] else ''}"

    columns = [text("link"), text("direction"), text("department"), text("application")]
    shown = sorted(rows, key=lambda row: -row["demand_bps"])[:n]
    show_table([*columns, rate("usage"), rate("highest"), rate("demand"), Field("", marks)], shown, f"Demands at {at}")
    if len(rows) > n:
        note(f"{len(rows) - n} smaller ones are not shown: -n shows more, --json and --write have all")
