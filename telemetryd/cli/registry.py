"""`telemetryd registry`: check, show, search and extend the registry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from telemetryd.errors import Problem
    from telemetryd.registry.find import Finding
    from telemetryd.registry.models import Registry

app = typer.Typer(
    help="Check, show, search and extend the registry.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Directory = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        "-r",
        envvar="TELEMETRYD_REGISTRY",
        help="Directory of the registry. Default: the shipped example city.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/registry.md).")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")]

EXIT_NOT_FOUND: Final = 1


@app.command()
def check(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Directory of the registry.", show_default=False)
    ] = None,
    registry: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Load a registry and list every mistake and warning; exit code 2 if there is a mistake."""
    from telemetryd.cli.output import count, note, show_table, text, write_json
    from telemetryd.errors import EXIT_USAGE, ProblemsError
    from telemetryd.registry.load import load_registry

    chosen = _directory(directory or registry)
    try:
        loaded = load_registry(chosen)
    except ProblemsError as error:
        if not as_json:
            raise
        write_json(_verdict(chosen, None, error.problems))
        raise typer.Exit(EXIT_USAGE) from None
    if as_json:
        write_json(_verdict(chosen, loaded, []))
        return
    for warning in loaded.warnings:
        note(f"warning: {warning}")
    rows = [{"section": name, "entries": number} for name, number in _counts(loaded).items() if number]
    typer.echo(f"{chosen}: {loaded.city.name}")
    show_table([text("section"), count("entries")], rows)
    warnings = len(loaded.warnings)
    note(f"no mistakes, {warnings or 'no'} warning{'' if warnings == 1 else 's'}")


@app.command()
def show(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DIR] [SECTION] [NAME]", help="What to show.", show_default=False),
    ] = None,
    registry: Directory = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show the sections with their sizes, the entries of one, or one entry."""
    from telemetryd.cli.output import Format, count, show_table, text, write_csv, write_json
    from telemetryd.errors import InputError
    from telemetryd.registry.flat import VIEWS, csv_rows, entries, plain, table_rows
    from telemetryd.registry.load import load_registry

    rest = list(words or ())
    if rest and rest[0] not in VIEWS and Path(rest[0]).is_dir():
        registry = Path(rest.pop(0))
    if len(rest) > 2:
        raise InputError(f'"{rest[2]}" is too much - give a section and at most one name')
    loaded = load_registry(_directory(registry))
    chosen = Format.of(as_json, as_csv)
    if not rest:
        rows = [{"section": name, "entries": number} for name, number in _counts(loaded).items()]
        if chosen is Format.JSON:
            write_json({"city": plain(loaded.city), "sections": _counts(loaded)})
        elif chosen is Format.CSV:
            write_csv(rows, ["section", "entries"])
        else:
            show_table([text("section"), count("entries")], rows)
        return
    section, name = rest[0], rest[1] if len(rest) > 1 else None
    found = entries(loaded, section, name)
    if chosen is Format.JSON:
        write_json({"section": section, "entries": found})
    elif chosen is Format.CSV:
        columns, lines = csv_rows(section, found)
        write_csv(lines, columns)
    elif name is not None and len(found) == 1:
        columns, lines = table_rows(found)
        pairs = [{"field": column, "value": lines[0][column]} for column in columns]
        show_table([text("field"), text("value")], pairs)
    else:
        columns, lines = table_rows(found)
        show_table([text(column) for column in columns], lines)


@app.command()
def find(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="IPv4 or IPv6 addresses.")],
    registry: Directory = None,
    instance: Annotated[
        str | None, typer.Option("--instance", "-i", help="Only this routing instance.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whose an address is, in every routing instance that has it; exit code 1 if one is unknown."""
    from telemetryd.cli.output import note, show_table, text, write_json
    from telemetryd.registry.find import Finder, parse_ip
    from telemetryd.registry.load import load_registry

    parsed = [parse_ip(address) for address in addresses]
    finder = Finder(load_registry(_directory(registry)))
    found = {str(address): finder.find(address, instance) for address in parsed}
    if as_json:
        write_json(
            {
                "addresses": [
                    {"address": address, "findings": [finding.to_dict() for finding in findings]}
                    for address, findings in found.items()
                ]
            }
        )
    else:
        for address, findings in found.items():
            for finding in findings:
                typer.echo(f"{address} in instance {finding.instance}")
                show_table([text("field"), text("value")], _finding_rows(finding))
            if not findings:
                note(f"{address}: in no routing instance" if instance is None else f"{address}: not in {instance}")
    if not all(found.values()):
        raise typer.Exit(EXIT_NOT_FOUND)


@app.command("import")
def import_csv(
    section: Annotated[
        str, typer.Argument(help="departments, networks, servers, applications or interfaces (of devices).")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="CSV (UTF-8) with a header.")],
    registry: Directory = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and print what would change; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add the rows of a CSV to the registry; nothing is written unless the whole registry would load."""
    from telemetryd.cli.output import note, write_json
    from telemetryd.errors import InputError
    from telemetryd.registry.importer import plan_import

    if registry is None:
        raise InputError("no registry to write to - name it with --registry DIR or TELEMETRYD_REGISTRY")
    planned = plan_import(section, file, registry)
    if not dry_run:
        planned.write()
    if as_json:
        write_json(
            {
                "section": section,
                "entries": planned.entries,
                "files": [str(change.path) for change in planned.changes],
                "written": not dry_run,
                "warnings": [asdict(warning) for warning in planned.warnings],
            }
        )
        return
    for warning in planned.warnings:
        note(f"warning: {warning}")
    if dry_run:
        for change in planned.changes:
            typer.echo("\n".join(change.diff()))
    verb = "would be added to" if dry_run else "added to"
    places = ", ".join(str(change.path) for change in planned.changes) or "no file"
    note(f"{planned.entries} {section} {verb} {places}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a registry file, for editors."""
    from telemetryd.cli.output import write_json
    from telemetryd.registry.schema_json import registry_schema

    write_json(registry_schema())


def _directory(chosen: Path | None) -> Path:
    from telemetryd.registry.locate import default_registry

    return chosen if chosen is not None else default_registry()


def _counts(registry: Registry) -> dict[str, int]:
    return {name: len(entities) for name, entities in registry}


def _verdict(directory: Path, registry: Registry | None, mistakes: list[Problem]) -> dict[str, Any]:
    return {
        "directory": str(directory),
        "ok": registry is not None,
        "sections": _counts(registry) if registry is not None else {},
        "mistakes": [asdict(problem) for problem in mistakes],
        "warnings": [asdict(problem) for problem in registry.warnings] if registry is not None else [],
    }


def _finding_rows(finding: Finding) -> list[dict[str, str]]:
    """Return (field, value) rows of what is known."""
    from telemetryd.registry.flat import cell

    rows = []
    for name, value in finding.to_dict().items():
        if name in ("address", "instance", "applications") or value in (None, (), False):
            continue
        text = cell(list(value) if isinstance(value, tuple) else value)
        rows.append({"field": name.removeprefix("is_").replace("_", " "), "value": text})
    for served in finding.applications:
        ports = " ".join(str(span) for span in served.ports) or "all ports"
        owner = f", owner {served.owner}" if served.owner else f" for {' '.join(served.shared_by)}"
        rows.append(
            {"field": "application", "value": f"{served.name} ({served.protocol} {ports} at {served.through}{owner})"}
        )
    return rows
