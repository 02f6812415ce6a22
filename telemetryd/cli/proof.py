"""`telemetryd proof`: was delivered what policies guarantee?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Prove that guarantees were delivered, or show where they were not, and why.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command(
    epilog="Examples: telemetryd proof --department tax --month 2026-10 --policy policies/ | "
    'telemetryd proof --from "2026-11-28T08:00" --to "2026-11-28T18:00" --window 10s --json',
)
def proof(
    policy: Annotated[
        list[Path] | None,
        typer.Option(
            "--policy",
            "-p",
            envvar="TELEMETRYD_POLICIES",
            help="Policy file, or directory (repeatable).",
            show_default=False,
        ),
    ] = None,
    month: Annotated[str | None, typer.Option("--month", help="A month of the city, such as 2026-10.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Begin: ISO 8601, or before the newest data such as -1d.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="End, likewise. Default: the newest data.")] = None,
    department: Annotated[str | None, typer.Option("--department", help="Only guarantees of this department.")] = None,
    link: Annotated[list[str] | None, typer.Option("--link", help="Only this link or group (repeatable).")] = None,
    window: Annotated[str, typer.Option("--window", help="Length of the windows that are judged.")] = "5min",
    tolerance: Annotated[
        str, typer.Option("--tolerance", help="Part of a guarantee that may be missing, such as 5%.")
    ] = "0%",
    target: Annotated[
        str, typer.Option("--target", help="Part of the windows with demand in which it must be delivered.")
    ] = "99%",
    store: Annotated[
        Path | None,
        typer.Option("--store", envvar="TELEMETRYD_STORE", help="Directory of the store.", show_default=False),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(
            "--registry", "-r", envvar="TELEMETRYD_REGISTRY", help="Directory of the registry.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/proof.md).")] = False,
) -> None:
    """Hold what was measured against what policies guarantee, window by window, each met, missed or cannot tell.

    A guarantee without demand is none to keep. While a link is full, a low usage is no excuse.
    """
    from telemetryd.assure.guarantees import promises
    from telemetryd.cli import output
    from telemetryd.config.explain import suggest
    from telemetryd.errors import InputError
    from telemetryd.policy.load import load_policies
    from telemetryd.registry.load import load_registry
    from telemetryd.registry.locate import default_registry
    from telemetryd.store.embedded import Store
    from telemetryd.store.proof import Question, prove
    from telemetryd.store.when import parse_duration, parse_zone

    if store is None:
        raise InputError("say which store: --store PATH, or set TELEMETRYD_STORE")
    if not policy:
        raise InputError("say which policies: --policy PATH, or set TELEMETRYD_POLICIES")
    known = load_registry(registry if registry is not None else default_registry())
    loaded = load_policies(policy, known)
    if department is not None and department not in known.department:
        names = list(known.department)
        raise InputError(
            f'department "{department}" is unknown - {suggest(department, names, "use one of the registry")}'
        )
    promised = promises(loaded, known, link or ())
    ruled = [name for one in loaded.policies for name in one.file.links]
    for name in link or ():
        if name not in ruled:
            remedy = suggest(name, ruled, f"use one of {', '.join(ruled)}")
            raise InputError(f'no policy rules link "{name}" - {remedy}')
    opened = Store.open(store, "read")
    begin, end = _range(opened, month, from_, to, parse_zone(known.city.time_zone))
    question = Question(
        begin, end, parse_duration(window), department or "", _part(tolerance, "--tolerance"), _part(target, "--target")
    )
    with _progress() as advance:
        document = prove(opened, promised, known, question, advance)
    if as_json:
        output.write_json(document)
        return
    _show(document)


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """Show how far the store has been read, where a person looks at it."""
    if not sys.stderr.isatty():
        yield lambda part: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("reading", total=1.0)
        yield lambda part: bar.update(task, completed=part)


def _show(document: dict[str, Any]) -> None:
    from telemetryd.cli import output

    def attainment(row: output.Row) -> str:
        part = row["attainment"]
        if part is None:
            return ""
        low, high = (f"{100 * part[name]:.5g} %" for name in ("low", "high"))
        return low if low == high else f"{low} to {high}"

    def guarantee(row: output.Row) -> str:
        limits = row["guarantee_bps"]
        if limits is None:
            return ""
        least, most = (output.rate_text(limits[name]) for name in ("least", "most"))
        return least if least == most else f"{least} to {most}"

    def shortest(row: output.Row) -> str:
        seconds = row["shortest_period_s"]
        return "" if seconds is None else f"{seconds:.3g} s"

    def causes(row: output.Row) -> str:
        return ", ".join(f"{one['cause']} {one['windows']} of {one['of']}" for one in row["causes"])

    fields = [
        output.Field("link", lambda row: f"{row['link']} {row['direction']}"),
        output.Field("whose", lambda row: "/".join(row["node"])),
        output.Field("guarantee", guarantee, right=True),
        output.text("verdict"),
        output.Field("delivered", attainment, right=True),
        output.Field("windows", lambda row: f"{row['windows']['judged']:,}", right=True),
        output.Field("shortfall", lambda row: _minutes(row["shortfall_minutes"]), right=True),
        output.Field("cannot tell", lambda row: _minutes(row["undecided_minutes"]), right=True),
        output.Field("shortest period", shortest, right=True),
        output.Field("causes", causes),
    ]
    title = f"{document['from']} to {document['to']}, windows of {document['window_s']:g} s"
    output.show_table(fields, document["guarantees"], title)
    for row in document["guarantees"]:
        for one in row["shortfalls"][:3]:
            rates = f"{output.rate_text(one['delivered_bps'])} of {output.rate_text(one['guarantee_bps'])}"
            output.note(f"{'/'.join(row['node'])} on {row['link']}: {one['from']} to {one['to']}: {rates}")
        for one in row["drops"][:3]:
            output.note(
                f"{'/'.join(row['node'])} on {row['link']}: queues of {one['device']} {one['interface']} dropped "
                f"{one['packets']:,} packets in the missed windows"
            )
    if not document["guarantees"]:
        output.note("no guarantee is asked for: check --department, --link and the policies")


def _minutes(minutes: float) -> str:
    return f"{minutes:,.3g} min" if minutes else ""


def _range(store: Any, month: str | None, from_: str | None, to: str | None, zone: Any) -> tuple[int, int]:
    from telemetryd.errors import InputError
    from telemetryd.store.report.month import Month
    from telemetryd.store.when import parse_time

    if month is not None:
        if from_ is not None or to is not None:
            raise InputError("say --month, or --from and --to: not both")
        whole = Month.parse(month, zone)
        return whole.from_ns, whole.to_ns
    if from_ is None:
        raise InputError("say when: --month 2026-10, or --from TIME")
    newest = store.snapshot().manifest.newest_ns() or 0
    return parse_time(from_, newest, zone), parse_time(to, newest, zone) if to is not None else newest


def _part(text: str, option: str) -> float:
    """Read a part of one, such as 5% or 0.05."""
    from telemetryd.errors import InputError

    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if rest or not 0.0 <= value <= 1.0:
        raise InputError(f'{option} "{text}" is no part of the whole - write such as 5%')
    return value
