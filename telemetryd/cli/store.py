"""`telemetryd store`: statistics, verification, backup and restoration of the embedded store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from telemetryd.cli.output import Row
    from telemetryd.store.embedded import Store

EXAMPLES = """\
Examples:

  telemetryd store stats --store /var/lib/telemetryd/store

  telemetryd store verify --store /var/lib/telemetryd/store

  telemetryd store backup /mnt/backup/telemetryd --store /var/lib/telemetryd/store

  telemetryd store restore /mnt/backup/telemetryd --store /var/lib/telemetryd/store --replace

Only restore needs the daemon stopped. TELEMETRYD_STORE stands in for --store.
"""

app = typer.Typer(
    help="Look after the embedded store: stats, verify, backup, restore.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

StorePath = Annotated[
    Path | None,
    typer.Option("--store", envvar="TELEMETRYD_STORE", help="Directory of the store.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/store.md).")]


@app.command(epilog="Example: telemetryd store stats --store /var/lib/telemetryd/store")
def stats(
    store: StorePath = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> None:
    """Show what each level holds, how it grows, and what its retention will hold in the end.

    Reads the manifest only, also while the daemon writes.
    """
    from telemetryd.cli.output import Format, note, show_table, write_csv, write_json
    from telemetryd.store.growth import level_growth, outlook

    opened = _open(store)
    manifest = opened.snapshot().manifest
    rows = [_level_row(level) for level in level_growth(manifest)]
    found = outlook(manifest, opened.path)
    match Format.of(as_json, as_csv):
        case Format.JSON:
            write_json(
                {
                    "store": str(opened.path),
                    "id": manifest.id,
                    "version": manifest.version,
                    "generation": manifest.generation,
                    "backup_of": None if manifest.backup is None else manifest.backup.source,
                    "origins": len(manifest.extents),
                    "octets": sum(row["octets"] for row in rows),
                    "full_octets": None if found is None else found.full_octets,
                    "free_octets": None if found is None else found.free_octets,
                    "days_left": None if found is None else found.days_left,
                    "levels": rows,
                }
            )
        case Format.CSV:
            write_csv(rows, list(rows[0]) if rows else ["span_s"])
        case _:
            show_table(_level_fields(), rows, f"{opened.path}: generation {manifest.generation:,}")
            note("too little is stored to tell how it grows" if found is None else str(found))


@app.command(epilog="Example: telemetryd store verify --store /var/lib/telemetryd/store")
def verify(store: StorePath = None, as_json: AsJson = False) -> None:
    """Read every segment and hold it against the manifest: checksums, rows, columns, times, extents.

    Takes a backup directory as well. Nothing is changed, and the daemon may go on.

    Exit codes: 0 all is well, 1 something is damaged.
    """
    from dataclasses import asdict

    from telemetryd.cli.output import note, scaled, write_json
    from telemetryd.errors import EXIT_FAILED
    from telemetryd.store.verify import verify as verify_store

    opened = _open(store)
    with _progress("verifying") as progress:
        verdict = verify_store(opened, progress)
    if as_json:
        write_json({"store": str(opened.path), "ok": not verdict.faults, **asdict(verdict)})
    else:
        for fault in verdict.faults:
            typer.echo(str(fault))
        for stray in verdict.strays:
            note(f"{stray} belongs to nothing: a run that was killed left it, and the next writer removes it")
        held = f"{verdict.segments:,} segments, {verdict.rows:,} rows, {scaled(verdict.octets)}B"
        faults = len(verdict.faults)
        typer.echo(f"{held}: {f'{faults} fault' + 's' * (faults > 1) if faults else 'no fault'}")
    if verdict.faults:
        raise typer.Exit(EXIT_FAILED)


@app.command(epilog="Example: telemetryd store backup /mnt/backup/telemetryd --store /var/lib/telemetryd/store")
def backup(
    target: Annotated[
        Path, typer.Argument(metavar="DIR|FILE.tar", help="Where to; a directory is brought up to date.")
    ],
    store: StorePath = None,
    hard_links: Annotated[
        bool, typer.Option("--hard-links", help="Link segments on the same disk instead of copying them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back the store up as it is at this moment; the daemon goes on writing.

    Into a directory only what is new is copied. Every copy is read back from the disk. A backup that was cut
    short leaves the earlier one as it was, and the next run goes on where it ended.
    """
    from dataclasses import asdict

    from telemetryd.cli.output import scaled, write_json
    from telemetryd.errors import InputError
    from telemetryd.store.archive import TAR_SUFFIX
    from telemetryd.store.backup import backup as back_up

    if hard_links and target.suffix == TAR_SUFFIX:
        raise InputError("a tar file holds copies: leave out --hard-links, or give a directory")
    opened = _open(store)
    with _progress("copying") as progress:
        done = back_up(opened, target, hard_links=hard_links, progress=progress)
    if as_json:
        write_json({**asdict(done), "path": str(done.path), "store": str(opened.path)})
        return
    held = f"{done.segments:,} segments, {done.rows:,} rows, {scaled(done.octets)}B"
    new = f"{done.copied:,} new ({scaled(done.copied_octets)}B), {done.removed:,} removed"
    frozen = f"; {done.reports:,} frozen reports" if done.reports else ""
    typer.echo(f"{done.path}: {held} of generation {done.generation:,}; {new}{frozen}")


@app.command(
    epilog="Example: telemetryd store restore /mnt/backup/telemetryd --store /var/lib/telemetryd/store --replace"
)
def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR|FILE.tar", help="The backup.")],
    store: StorePath = None,
    replaces: Annotated[
        bool, typer.Option("--replace", help="Take the place of the store that is there, sound or damaged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the store what a backup holds: verified first, then in one step. Stop the daemon for it.

    The user who runs the daemon has to run this, so that the files are its own.
    """
    from dataclasses import asdict

    from telemetryd.cli.output import scaled, write_json
    from telemetryd.store.restore import restore as bring_back
    from telemetryd.store.when import format_time

    path = _path(store)
    with _progress("restoring") as progress:
        done = bring_back(source, path, replaces=replaces, progress=progress)
    made = None if done.made_ns is None else format_time(done.made_ns)
    if as_json:
        plain = {key: value for key, value in asdict(done).items() if key != "made_ns"}
        write_json({**plain, "path": str(done.path), "made": made})
        return
    origin = "" if made is None else f" as {done.source} was at {made}"
    replaced = f"; {done.replaced:,} segments were replaced" if done.replaced else ""
    frozen = f"; {done.reports:,} frozen reports" if done.reports else ""
    held = f"{done.segments:,} segments, {done.rows:,} rows, {scaled(done.octets)}B"
    typer.echo(f"{done.path}: {held}{origin}{replaced}{frozen}")


def _path(store: Path | None) -> Path:
    from telemetryd.errors import InputError

    if store is None:
        raise InputError("say which store: --store PATH, or set TELEMETRYD_STORE")
    return store


def _open(path: Path | None) -> Store:
    from telemetryd.store.embedded import Store

    return Store.open(_path(path), "read")


def _level_row(level: Any) -> dict[str, Any]:
    from telemetryd.store.when import format_time

    return {
        "span_s": level.span_ns / 1e9,
        "windows": level.windows,
        "rows": level.rows,
        "quality_rows": level.quality_rows,
        "counter_rows": level.counter_rows,
        "segments": level.segments,
        "octets": level.octets,
        "octets_a_row": level.octets / (level.rows + level.quality_rows + level.counter_rows),
        "first": format_time(level.first_ns),
        "end": format_time(level.end_ns),
        "octets_a_day": level.octets_a_day,
        "keep_days": level.keep_ns / 86_400e9,
        "full_octets": level.full_octets,
    }


def _level_fields() -> list[Any]:
    from telemetryd.cli.output import Field, count, octets, scaled, text
    from telemetryd.store.growth import span_text

    def known(name: str, title: str, unit: str) -> Field:
        def show(row: Row) -> str:
            return "-" if row[name] is None else f"{scaled(row[name])}{unit}"

        return Field(title, show, right=True)

    return [
        Field("windows of", lambda row: span_text(round(row["span_s"] * 1e9))),
        count("windows"),
        count("rows"),
        count("quality_rows"),
        count("counter_rows"),
        count("segments"),
        octets(title="size"),
        Field("octets a row", lambda row: f"{row['octets_a_row']:.1f}", right=True),
        text("first"),
        text("end"),
        known("octets_a_day", "a day", "B"),
        Field("kept", lambda row: f"{row['keep_days']:g} d", right=True),
        known("full_octets", "when full", "B"),
    ]


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr while it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
