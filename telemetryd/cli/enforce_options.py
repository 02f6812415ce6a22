"""What the commands of `telemetryd enforce` that talk to devices have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from telemetryd.enforce.records import Records
    from telemetryd.enforce.recover import Recovered
    from telemetryd.reaching import Reaching

Config = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="TELEMETRYD_CONFIG", help="The daemon's configuration: targets, logins."),
]
Why = Annotated[str, typer.Option("--why", help="The reason, such as a ticket number; the audit keeps it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Device = Annotated[
    list[str] | None, typer.Option("--device", help="Only this device; repeat for more.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/enforcement.md).")]


def reaching(config: Path) -> Reaching:
    """Load the configuration, and return the devices that it knows."""
    from telemetryd.config.settings import load_settings
    from telemetryd.gateways import Gateways
    from telemetryd.registry.load import load_registry

    loaded = load_settings(config)
    return Gateways(loaded.settings, load_registry(loaded.settings.registry), loaded.document.where)


def records(config: Path) -> Records:
    """Return where the configuration keeps journal and audit."""
    from telemetryd.config.settings import load_settings
    from telemetryd.enforce.records import Records

    return Records(load_settings(config).settings.enforce.path)


def ask(question: str, yes: bool) -> None:
    """Go on only after a yes.

    Raises
    ------
    TelemetrydError
        After anything else.
    """
    import sys

    from telemetryd.errors import InputError, TelemetrydError

    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked here: give --yes")
    if not typer.confirm(question, err=True):
        raise TelemetrydError("nothing was written")


def recovered_document(found: Recovered) -> dict[str, Any]:
    """Return what came of an open transaction as JSON."""
    return {"transaction": found.id, "outcome": found.outcome, "why": found.why, "unsettled": found.unsettled}


def note_recovered(found: list[Recovered]) -> None:
    """Say what came of open transactions."""
    from telemetryd.cli.output import note

    for one in found:
        note(f"transaction {one.id}: {one.outcome}" + (f" ({one.why})" if one.why else ""))
        for why in one.unsettled.values():
            note(f"  {why}")
