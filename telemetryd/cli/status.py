"""`telemetryd status`: how the running daemon is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from telemetryd.cli.control import DEFAULT_SOCKET, SocketPath, duration_text, talk, time_text
from telemetryd.errors import EXIT_FAILED

if TYPE_CHECKING:
    from telemetryd.serve.messages import GnmiTarget, LinkDemand, Status

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def status(
    path: SocketPath = DEFAULT_SOCKET,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON (docs/control.md).")] = False,
    agents: Annotated[int, typer.Option(min=0, help="Exporters and gNMI targets to list, the worst first.")] = 10,
) -> None:
    """Show how the daemon is: health with reasons, what its sockets received, what was lost and why.

    Exit codes: 0 ok or degraded, 1 failed or not reachable.

    Example: telemetryd status --json | jq .loss
    """
    reply = talk(path, lambda client: client.status())
    if as_json:
        from telemetryd.cli.output import write_json

        write_json(reply)
    else:
        show(reply, agents)
    if reply["state"] == "failed":
        raise typer.Exit(EXIT_FAILED)


def show(reply: Status, agents: int) -> None:
    """Print a status for people."""
    from telemetryd.cli import output

    print(f"telemetryd {reply['version']}: {reply['state']}")
    for component in reply["components"]:
        for reason in component["reasons"]:
            print(f"  {component['name']}: {component['state']}: {reason}")
    for alert in reply["alerts"]:
        if alert["state"] == "firing":
            print(f"  alert ({alert['severity']}, since {time_text(alert['since_ns'])}): {alert['summary']}")
    up = duration_text(reply["now_ns"] - reply["started_ns"])
    print(f"Process {reply['pid']}, up {up}, since {time_text(reply['started_ns'])}")
    times = f", {reply['reloads']} reload{'s' * (reply['reloads'] != 1)}" if reply["reloads"] else ""
    print(f"Configuration {reply['config']}, registry {reply['registry']}, of {time_text(reply['loaded_ns'])}{times}")
    for line in reply["sockets"]:
        print(f"Socket {line['name']}: {_counts(line['counts'])}")
    # Those that lost most come first: they are why somebody looks.
    lost = sorted(reply["agents"], key=lambda agent: -agent["counts"].get("lost", 0))
    if rows := lost[:agents]:
        output.show_table(
            [output.text("name", "exporter"), output.Field("datagrams", lambda row: _counts(row["counts"]))], rows
        )
    if len(lost) > len(rows):
        print(f"{len(lost) - len(rows)} more exporters (--agents {len(lost)} shows them)")
    print(loss_text(reply["loss"]["share"], {**reply["loss"]["datagrams"], **_prefixed(reply["loss"]["samples"])}))
    if reply["store"]:
        print(f"Store: {_counts(reply['store']['counts'])}")
    if reply["spool"]:
        print(f"Spool {reply['spool']['name']}: {_counts(reply['spool']['counts'])}")
    for one in reply["outputs"]:
        print(f"Output {one['name']}: {_counts(one['counts'])}")
    if reply["targets"]:
        show_targets(reply["targets"], agents)
    if reply["demand"]:
        show_demand(reply["demand"])


def show_demand(links: list[LinkDemand]) -> None:
    """Print what is demanded of the links that policies rule."""
    from telemetryd.cli import output

    output.show_table(
        [
            output.text("link", "demand of"),
            output.text("direction"),
            output.text("policy"),
            *(output.rate(name, f"{name}_bps") for name in ("usage", "demand", "damped", "capacity")),
            output.Field("classes", lambda row: f"{row['classes']:,}", right=True),
            output.Field("censored", lambda row: f"{row['censored']:,}", right=True),
            output.Field("", lambda row: "; ".join(filter(None, ("full" * row["full"], row["stale"])))),
        ],
        links,
    )


def show_targets(targets: list[GnmiTarget], limit: int) -> None:
    """Print the gNMI targets for people, those that are not well first."""
    from telemetryd.cli import output

    order = {"failed": 0, "degraded": 1, "ok": 2}
    rows = sorted(targets, key=lambda one: (order[one["state"]], one["name"]))
    streaming = sum(one["phase"] == "streaming" for one in rows)
    print(f"gNMI: {streaming:,} of {len(rows):,} targets stream")
    output.show_table(
        [
            output.text("name", "target"),
            output.text("address"),
            output.text("phase"),
            output.Field("encoding", lambda one: (one["encoding"] or "-") + ("" if one["secure"] else ", not secured")),
            output.Field("skew", lambda one: _seconds(one["skew_ns"])),
            output.Field("interval", lambda one: f"{_seconds(one['achieved_ns'])} of {_seconds(one['asked_ns'])}"),
            output.Field("updates", lambda one: f"{one['counts'].get('updates', 0):,}"),
            output.Field("what is wrong", lambda one: "; ".join(one["reasons"])),
        ],
        rows[:limit],
    )
    if len(rows) > limit:
        print(f"{len(rows) - limit} more targets (--agents {len(rows)} shows them)")


def _seconds(duration_ns: int | None) -> str:
    return "-" if not duration_ns else f"{duration_ns / 1e9:.3g} s"


def loss_text(share: float, causes: dict[str, int]) -> str:
    """Write a share of loss and its causes in one line."""
    from telemetryd.cli import output

    text = f"Loss: {output.percent_text(share, 2)}"
    return f"{text} ({_counts(causes)})" if any(causes.values()) else text


def _counts(counts: dict[str, int]) -> str:
    """Write counts in one line, without those that are 0: there are many, and mostly they are."""
    words = [f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count]
    return ", ".join(words) or "nothing"


def _prefixed(samples: dict[str, int]) -> dict[str, int]:
    return {f"samples {name}": count for name, count in samples.items()}
