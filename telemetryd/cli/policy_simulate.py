"""`telemetryd policy simulate`: what a policy would have made of recorded traffic, or of a scenario."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer

from telemetryd.cli.fold import Capabilities, Deviations, Folded, folder
from telemetryd.cli.policy_options import AsJson, Directory, StateDirectory, load, note_warnings
from telemetryd.cli.policy_options import registry as load_registry
from telemetryd.cli.policy_traffic import Captured, Source, Stored
from telemetryd.errors import InputError

if TYPE_CHECKING:
    from telemetryd.assure.simulate import Simulation
    from telemetryd.policy.loaded import Policies
    from telemetryd.registry.models import Registry

_NS: Final = 1_000_000_000
_FIFO: Final = "no policy"
_NOTABLE_BPS: Final = 10_000
_MOST_CLASSES: Final = 12
_SIDES: Final = {"old": "before", "new": "after"}


def simulate(
    policy: Annotated[
        list[Path], typer.Option("--policy", help="New policy: file or directory (repeatable), or @N of the history.")
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", help="Old policy, the same way. Default: none, one queue for everyone."),
    ] = None,
    store: Stored = None,
    capture: Captured = None,
    traffic: Annotated[
        Path | None, typer.Option("--traffic", help="Traffic files of a city, such as the example's.")
    ] = None,
    from_time: Annotated[
        str | None, typer.Option("--from", help="ISO 8601, the city's time; of a store also -7d. Default: first data.")
    ] = None,
    to_time: Annotated[str | None, typer.Option("--to", help="As --from. Default: newest data.")] = None,
    step: Annotated[
        str | None, typer.Option("--step", help="Length of a step, 1min to 1h. Default: 1min, 5min beyond two days.")
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            "--scenario",
            help="growth:rate=50%,years=1 | failure:state=isp1-down | burst:who=hrss/cseexam,rate=2.6 Gbit/s | "
            "ddos:rate=4 Gbit/s (repeatable).",
        ),
    ] = None,
    patience: Annotated[
        str, typer.Option("--patience", help="Time in which 63 % of elastic traffic that waits gives up.")
    ] = "5min",
    fold: Folded = None,
    capabilities: Capabilities = None,
    deviations: Deviations = None,
    registry: Directory = None,
    state: StateDirectory = None,
    plots: Annotated[Path | None, typer.Option("--plots", help="Directory for an SVG of each link.")] = None,
    write_demand: Annotated[
        Path | None,
        typer.Option("--write-demand", help="CSV of the new policy's worst minutes, for `policy explain --demand`."),
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Winners and losers to show of each kind.")] = 5,
    as_json: AsJson = False,
    progress: Annotated[str, typer.Option("--progress", help="auto or none.")] = "auto",
) -> None:
    """Run recorded traffic through an old and a new policy: who wins, who loses, and what is missing when.

    Links are divided as their devices do it: folded into the queues of a switch, where it is known what it can do.
    Elastic traffic (TCP) that gets less than it wants comes back later; inelastic traffic is lost. docs/simulation.md
    describes the model and its limits.

    Example: telemetryd policy simulate --policy NEW --against OLD --store /var/lib/telemetryd/store --from -7d
    """
    from telemetryd.assure.outcome import outcome
    from telemetryd.assure.scenario import apply, parse_scenario
    from telemetryd.assure.simulate import simulate as run
    from telemetryd.cli.output import note, write_json
    from telemetryd.store.when import parse_duration

    if progress not in ("auto", "none"):
        raise InputError(f"--progress {progress}: use auto or none")
    known = load_registry(registry)
    zone = ZoneInfo(known.city.time_zone)
    new = _policies(policy, known, state)
    old = _policies(against, known, state) if against else None
    places: list[tuple[str, str, str]] = [(link, direction, one.file.charge) for one, link, direction in new.ruled()]
    scenarios = [parse_scenario(text) for text in scenario or ()]
    source = Source(store, capture, traffic, from_time, to_time, step)
    patience_s = parse_duration(patience) / _NS
    folders = [folder(one, known, fold, capabilities, deviations) for one in (old, new)]
    with _progress(progress) as report:
        recorded = source.read(known, places, zone)
        offered, outages = apply(scenarios, recorded, known, [place[:2] for place in places], zone)
        found = run(
            old,
            new,
            known,
            offered,
            outages=outages,
            patience_s=patience_s,
            recorded=None if traffic is not None else recorded.bps,
            folds=(folders[0], folders[1]),
            on_progress=report,
        )
    names = (", ".join(one.name for one in old.policies) if old else _FIFO, ", ".join(one.name for one in new.policies))
    rows = outcome(found)
    drawn = _plots(found, rows, plots, zone, names) if plots is not None else []
    if write_demand is not None:
        _write_demand(rows, write_demand)
    document: dict[str, Any] = {
        "old": names[0] if old else None,
        "new": names[1],
        "from": _time(int(offered.times_ns[0]), zone),
        "to": _time(int(offered.times_ns[-1]) + round(offered.step_s * _NS), zone),
        "step_s": offered.step_s,
        "steps": len(offered.known),
        "unknown_steps": int((~offered.known).sum()),
        "patience_s": patience_s,
        "scenarios": [one.text for one in scenarios],
        "devices": list(dict.fromkeys(text for one in folders if one is not None for text in one.notes)),
        "plots": [str(path) for path in drawn],
        "links": [_dated(row, zone) for row in rows],
    }
    if as_json:
        write_json(document)
        return
    note_warnings(new.warnings)
    for path in drawn:
        note(f"wrote {path}")
    show(document, n)


def show(document: dict[str, Any], n: int) -> None:
    """Print a simulation for people."""
    from telemetryd.cli import output

    old, new = document["old"] or _FIFO, document["new"]
    print(f"{new} against {old}: {document['steps']:,} steps of {_minutes(document['step_s'] / 60)}, ", end="")
    print(f"{document['from']} to {document['to']}")
    for text in document["scenarios"]:
        print(f"scenario {text}")
    for text in document["devices"]:
        output.note(text)
    if document["unknown_steps"]:
        output.note(f"{document['unknown_steps']} steps have no data: nothing is sent in them")
    for link in document["links"]:
        print()
        total, limits = link["total"], (link["least_capacity_bps"], link["capacity_bps"])
        capacity = output.rate_text(limits[1])
        if limits[0] < limits[1]:
            capacity += f", {output.rate_text(limits[0])} at times"
        where = f"{link['link']} {link['direction']}"
        print(f"{where}: {capacity}; offered up to {output.rate_text(link['peak_offered_bps'])}")
        if link["recorded_full_minutes"]:
            full = _minutes(link["recorded_full_minutes"])
            output.note(f"{where} was full in {full} of the record: more was wanted then than it shows")
        if not link["contended_minutes"]:
            print("  nobody lacks anything under either policy")
            continue
        print(
            f"  something is missing in {_minutes(link['contended_minutes'])} of {_minutes(link['minutes'])}: short "
            f"{_minutes(total['short_minutes']['old'])} before, {_minutes(total['short_minutes']['new'])} after"
        )
        figures = [
            output.Field("offered", lambda row: output.rate_text(row["offered_bps"]), right=True),
            output.Field("before", lambda row: output.rate_text(row["delivered_bps"]["old"]), right=True),
            output.Field("after", lambda row: output.rate_text(row["delivered_bps"]["new"]), right=True),
            output.Field("gain", lambda row: f"{row['gain_bps'] / 1e6:+,.1f} Mbit/s", right=True),
            output.Field("short before", lambda row: _minutes(row["short_minutes"]["old"]), right=True),
            output.Field("short after", lambda row: _minutes(row["short_minutes"]["new"]), right=True),
        ]
        levels, rows = [output.text("importance"), output.text("class")], link["classes"]
        if len(rows) > _MOST_CLASSES:  # a tree that begins with departments has one class for each
            levels, rows = levels[:1], link["importance"]
        output.show_table([*levels, *figures], rows, "By importance, in the contended minutes")
        department = [output.text("department")]
        output.show_table([*department, *figures], _extremes(link["departments"], n), "Departments that win and lose")
        application = [*department, output.text("application")]
        output.show_table(
            [*application, *figures], _extremes(link["applications"], n), "Applications that win and lose"
        )
        for side, name in _SIDES.items():
            worst = link["worst"][side]
            missing = worst["missing_bps"]
            lacks = ", ".join(f"{output.rate_text(missing[key])} {word}" for key, word in _SIDES.items())
            print(f"  worst {worst['seconds'] / 60:g} min {name}: {worst['from']}, missing {lacks}")
            broken = link["broken_guarantees"][side]
            if broken:
                named = ", ".join(f"{'/'.join(one['node'])} {_minutes(one['minutes'])}" for one in broken[:n])
                print(f"  guarantees missed {name}: {named}")


def _policies(paths: list[Path], known: Registry, state: Path | None) -> Policies:
    from contextlib import ExitStack

    from telemetryd.cli.policy_history import version_or_path

    with ExitStack() as stack:
        return load([stack.enter_context(version_or_path(path, state)) for path in paths], known)


def _plots(
    found: Simulation, rows: list[dict[str, Any]], directory: Path, zone: tzinfo, names: tuple[str, str]
) -> list[Path]:
    from telemetryd.assure.plot import draw

    begin = datetime.fromtimestamp(int(found.offered.times_ns[0]) / _NS, zone)
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for course, row in zip(found.links, rows, strict=True):
            path = directory / f"{course.link}-{course.direction}.svg"
            path.write_text(draw(course, row, begin, found.offered.step_s, names), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise InputError(f"--plots {directory}: {error.strerror}") from error
    return written


def _write_demand(rows: list[dict[str, Any]], path: Path) -> None:
    """Write what is wanted in the new policy's worst minutes of each link, as `policy allocate` reads it."""
    import csv

    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("link", "direction", "department", "application", "demand"))
            for row in rows:
                for leaf in row["worst"]["new"]["leaves"]:
                    wanted = round(leaf["wanted_bps"]["new"])
                    writer.writerow(
                        (row["link"], row["direction"], leaf["department"], leaf["application"], f"{wanted} bit/s")
                    )
    except OSError as error:
        raise InputError(f"--write-demand {path}: {error.strerror}") from error


def _dated(row: dict[str, Any], zone: tzinfo) -> dict[str, Any]:
    for worst in row["worst"].values():
        worst["from"] = _time(worst.pop("from_ns"), zone)
    return row


def _time(time_ns: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(time_ns // _NS, UTC).astimezone(zone).isoformat(timespec="seconds")


def _minutes(minutes: float) -> str:
    if minutes == 0:
        return "0"
    return f"{minutes:g} min" if minutes < 120 else f"{minutes / 60:,.1f} h"


def _extremes(rows: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Return the greatest winners and the greatest losers; who has about the same under both is left out."""
    winners = [row for row in rows if row["gain_bps"] >= _NOTABLE_BPS]
    losers = [row for row in rows if row["gain_bps"] <= -_NOTABLE_BPS]
    return [*winners[:n], *losers[-n:]]


@contextmanager
def _progress(kind: str) -> Iterator[Callable[[float], None] | None]:
    """Show how far the simulation is on a terminal's stderr."""
    if kind == "none" or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("simulate", total=1.0)
        yield lambda done: bar.update(task, completed=done)
