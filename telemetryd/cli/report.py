"""`telemetryd report`: the monthly bandwidth report of a department or of all, frozen and re-printable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Print the monthly bandwidth report: html, xlsx, csv, pdf, json; English and Chinese.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def report() -> None:
    """Print reports of whole months."""


@app.command(
    epilog="Examples: telemetryd report monthly --all --month 2026-10 --format pdf --language zh --out october.pdf | "
    "telemetryd report monthly --department tax --month 2026-10 --format json",
)
def monthly(
    month: Annotated[str, typer.Option("--month", help="The month, such as 2026-10.", show_default=False)],
    department: Annotated[
        str | None, typer.Option("--department", help="Of this department, by its name in the registry.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Of all departments, with a summary and the links.")] = False,
    form: Annotated[str, typer.Option("--format", help="html, xlsx, csv, pdf or json.")] = "html",
    language: Annotated[str, typer.Option("--language", help="en or zh.")] = "en",
    store: Annotated[
        Path | None,
        typer.Option("--store", envvar="TELEMETRYD_STORE", help="Directory of the store.", show_default=False),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(
            "--registry",
            envvar="TELEMETRYD_REGISTRY",
            help="Directory of the registry; a month that is frozen needs none.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File to write, or a directory: with --all it gets the whole report and one of each department. "
            "Default: standard output.",
        ),
    ] = None,
    tz: Annotated[str | None, typer.Option("--tz", help="Time zone of the month. Default: the city's.")] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Make a new revision of a frozen month; the old ones stay.")
    ] = False,
) -> None:
    """Print a month's report: contracted rate, p95, busy hour, volume, top applications, comparison, data quality.

    The first run of a month that is over freezes its record in the store; every later run prints the same, byte for
    byte, whatever retention removed or the registry says by then. A month that is not over is preliminary.
    """
    import sys
    import time

    from telemetryd.cli.output import note
    from telemetryd.errors import InputError
    from telemetryd.registry.load import load_registry
    from telemetryd.registry.models import Registry
    from telemetryd.store.embedded import Store
    from telemetryd.store.report.make import FORMATS, directory_of, file_name, make, render
    from telemetryd.store.report.messages import LANGUAGES, Language
    from telemetryd.store.when import parse_zone

    if (department is None) != all_:
        raise InputError("say of whom: --department NAME, or --all (not both)")
    if form not in FORMATS:
        raise InputError(f"there is no format {form!r}: choose from {', '.join(FORMATS)}")
    chosen: Language | None = next((known for known in LANGUAGES if known == language), None)
    if chosen is None:
        raise InputError(f"there is no language {language!r}: choose from {', '.join(LANGUAGES)}")
    if store is None:
        raise InputError("say which store: --store PATH, or set TELEMETRYD_STORE")
    if out is None and form in ("xlsx", "pdf") and sys.stdout.isatty():
        raise InputError(f"a {form} is not for the terminal: give --out FILE")

    def load() -> Registry:
        if registry is None:
            raise InputError(f"{month} is not frozen yet: say which registry, by --registry DIR or TELEMETRYD_REGISTRY")
        return load_registry(registry)

    zone = None if tz is None else parse_zone(tz)
    made = make(Store.open(store, "read"), month, time.time_ns(), load, zone, refresh=refresh)
    for remark in made.remarks:
        note(remark)
    if out is None:
        sys.stdout.buffer.write(render(made.record, form, chosen, department))
        sys.stdout.buffer.flush()
        return
    if not directory_of(out):
        _write(out, render(made.record, form, chosen, department))
        return
    names = [entry["name"] for entry in made.record["departments"]] if all_ else []
    for whom in (department, *names):
        _write(out / file_name(made.record, form, chosen, whom), render(made.record, form, chosen, whom))
    note(f"{1 + len(names)} file{'s' if names else ''} written to {out}")


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all."""
    from telemetryd.errors import TelemetrydError

    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise TelemetrydError(f"cannot write {path}: {error.strerror}") from error
