"""`telemetryd alerts`: what fires in the running daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from telemetryd.cli.control import DEFAULT_SOCKET, SocketPath, duration_text, talk, time_text

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def alerts(
    path: SocketPath = DEFAULT_SOCKET,
    pending: Annotated[bool, typer.Option("--pending", help="Show what is about to fire, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/alerts.md).")] = False,
) -> None:
    """Show the alerts that fire, the most severe first, with the interval of each figure.

    Example: telemetryd alerts --pending
    """
    from telemetryd.cli import output

    reply = talk(path, lambda client: client.status())
    rows = [alert for alert in reply["alerts"] if pending or alert["state"] == "firing"]
    if as_json:
        output.write_json({"alerts": rows})
        return
    if not rows:
        output.note("nothing fires")
        return
    now_ns = reply["now_ns"]
    fields = [
        output.text("severity"),
        output.text("state"),
        output.Field("since", lambda row: time_text(row["since_ns"])),
        output.Field("for", lambda row: duration_text(now_ns - row["since_ns"]), right=True),
        output.text("summary"),
    ]
    output.show_table(fields, rows)
