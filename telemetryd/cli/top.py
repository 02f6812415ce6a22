"""`telemetryd top`: who uses how much right now, on a screen that follows the daemon."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from telemetryd.cli.control import DEFAULT_SOCKET, SocketPath, talk, time_text
from telemetryd.cli.status import loss_text
from telemetryd.errors import InputError

if TYPE_CHECKING:
    from telemetryd.cli.output import Field
    from telemetryd.serve.control_client import ControlClient
    from telemetryd.serve.messages import Update

View = Literal["links", "departments", "applications"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def top(
    path: SocketPath = DEFAULT_SOCKET,
    once: Annotated[bool, typer.Option("--once", help="Print the tables once, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one update as JSON (docs/control.md).")] = False,
    rows: Annotated[int, typer.Option("-n", "--top", min=1, help="Rows of each table of --once.")] = 10,
) -> None:
    """Watch links, departments and applications: rates of the last ten seconds with 95 % intervals, and the loss.

    Keys: Tab or l, d, a choose the table; r, n, s, u sort by rate, name, samples, share of the whole; i inverts;
    / filters, Escape clears; p pauses; q quits.

    Example: telemetryd top --once --top 5
    """
    if once or as_json:
        update = talk(path, _first)
        if as_json:
            from telemetryd.cli.output import write_json

            write_json(update)
        else:
            show(update, rows)
        return
    if not sys.stdout.isatty():
        raise InputError("top needs a terminal - pass --once for one table, or --json")
    watch(path)


def watch(path: Path) -> None:
    """Show the screen until the user quits.

    Raises
    ------
    InputError
        If textual is not installed.
    """
    try:
        from telemetryd.cli.top_screen import TopScreen
    except ModuleNotFoundError as error:
        if error.name != "textual":
            raise
        raise InputError(
            "the screen needs textual, which is not installed - pip install 'telemetryd[top]', or pass --once"
        ) from error
    from telemetryd.serve.control_client import ControlClient

    # The first connection is made before the screen comes up, so that a mistake is told where it can be read.
    talk(path, _first)
    TopScreen(lambda: ControlClient(path)).run()


async def _first(client: ControlClient) -> Update:
    from contextlib import aclosing

    async with aclosing(client.updates()) as updates:
        return await anext(updates)


def show(update: Update, count: int) -> None:
    """Print one update for people."""
    from telemetryd.cli import output

    for line in heading(update):
        print(line)
    output.show_table(columns("links"), update["links"][:count], "Links")
    output.show_table(columns("departments"), update["departments"][:count], "Departments")
    output.show_table(columns("applications"), update["applications"][:count], "Applications")


def columns(view: View) -> list[Field]:
    """Return the columns of one of the tables."""
    from telemetryd.cli import output

    name = output.text("name", view[:-1])
    figures = [output.rate(), output.interval()]
    if view != "links":
        return [name, output.text("title", ""), *figures, output.share(), output.count("samples")]
    # A capacity that nobody knows is not one that nobody uses.
    of_capacity = output.share()
    known = output.Field(
        "of capacity", lambda row: "" if row["capacity_bps"] is None else of_capacity.show(row), right=True
    )
    return [name, output.text("direction"), *figures, known, output.count("samples")]


def heading(update: Update) -> list[str]:
    """Write what stands above the tables: state, total, unclassified share, loss."""
    from telemetryd.cli import output

    end = time_text(update["start_ns"] + update["span_ns"])
    total = f"total {output.estimate_text(update['total'])} over {update['span_ns'] / 1e9:g} s"
    unclassified = f"unclassified {output.percent_text(update['unclassified']['share'])}"
    loss = loss_text(update["loss"]["share"], update["loss"]["datagrams"])
    return [f"{end}  {update['state']}  {total}  {unclassified}", loss, *update["reasons"]]
