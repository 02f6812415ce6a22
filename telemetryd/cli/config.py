"""`telemetryd config`: check, show and describe the daemon's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

app = typer.Typer(
    help="Check, show and describe the daemon's configuration.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

DEFAULT_FILE: Final = Path("/etc/telemetryd/telemetryd.yaml")
File = Annotated[
    Path,
    typer.Argument(metavar="[FILE]", envvar="TELEMETRYD_CONFIG", help="The configuration."),
]


@app.command()
def check(file: File = DEFAULT_FILE) -> None:
    """Load a configuration and its registry as the daemon does, and list every mistake; exit code 2 if there is one."""
    from telemetryd.cli.output import note
    from telemetryd.configuration import load_configuration

    loaded = load_configuration(file)
    for warning in loaded.registry.warnings:
        note(f"warning: {warning}")
    names = loaded.tables.names
    note(
        f"{file}: no mistakes; {loaded.registry.city.name}: {len(loaded.registry.devices)} devices, "
        f"{len(loaded.registry.departments)} departments, {len(loaded.registry.applications)} applications, "
        f"{len(names.links) - 1} links"
    )


@app.command()
def show(
    file: File = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object: setting -> value, origin.")] = False,
) -> None:
    """Print every value in force and where it came from: the file, the environment or the default."""
    from telemetryd.cli.output import show_table, text, write_json
    from telemetryd.config.settings import load_settings

    rows = load_settings(file).effective()
    if as_json:
        write_json({row.setting: {"value": row.value, "origin": row.origin} for row in rows})
        return
    shown = [{"setting": r.setting, "value": _plain(r.value), "origin": r.origin} for r in rows]
    show_table([text("setting"), text("value"), text("origin")], shown)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from telemetryd.cli.output import write_json
    from telemetryd.config.settings_docs import settings_schema

    write_json(settings_schema())


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
