"""`telemetryd reload`: make the running daemon read its configuration and registry again."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from telemetryd.cli.control import DEFAULT_SOCKET, SocketPath, talk
from telemetryd.errors import EXIT_USAGE

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def reload(
    path: SocketPath = DEFAULT_SOCKET,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON (docs/control.md).")] = False,
) -> None:
    """Swap in configuration and registry as they are on disk now: all of it, or nothing where there is a mistake.

    Windows of the past keep the names of their day.

    Exit codes: 0 reloaded, 1 not reachable, 2 refused: the old configuration goes on.

    Example: telemetryd config check && telemetryd reload
    """
    result = talk(path, lambda client: client.reload())
    if as_json:
        from telemetryd.cli.output import write_json

        write_json(asdict(result))
    else:
        if result.reloaded:
            print("Reloaded." if result.changes or result.needs_restart else "Reloaded: nothing has changed.")
        for change in result.changes:
            print(f"  {change}")
        for setting in result.needs_restart:
            print(f"  only a restart brings this into effect: {setting}")
    for problem in result.problems:
        print(problem, file=sys.stderr)
    if not result.reloaded:
        print("telemetryd: not reloaded: the configuration from before goes on", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE)
