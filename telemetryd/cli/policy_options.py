"""Options and loading that the commands of `telemetryd policy` have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from telemetryd.errors import Problem
    from telemetryd.policy.loaded import Policies
    from telemetryd.registry.models import Registry

Files = Annotated[list[Path], typer.Argument(metavar="POLICY...", help="Policy and calendar files, or directories.")]
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
At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help='The city\'s time, such as "2026-11-28 09:00". Default: now.', show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/policy.md).")]
StateDirectory = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar=["TELEMETRYD_STATE", "STATE_DIRECTORY"],
        help="Directory of the daemon's state, which holds the history.",
        show_default=False,
    ),
]


def registry(chosen: Path | None) -> Registry:
    """Load the registry that was named, or the default one."""
    from telemetryd.registry.load import load_registry
    from telemetryd.registry.locate import default_registry

    return load_registry(chosen if chosen is not None else default_registry())


def load(paths: Sequence[Path], known: Registry) -> Policies:
    """Load policies; see :func:`telemetryd.policy.load.load_policies`."""
    from telemetryd.policy.load import load_policies

    return load_policies(paths, known)


def moment(at: str | None, zone: tzinfo, option: str = "--at") -> datetime:
    """Return the time that was asked for, in the zone where it says none; now where nothing was asked for.

    Raises
    ------
    InputError
        If it is no time.
    """
    from telemetryd.errors import InputError

    if at is None:
        return datetime.now(zone)
    try:
        when = datetime.fromisoformat(at)
    except ValueError:
        raise InputError(f'{option} "{at}" is no time - write such as "2026-11-28 09:00"') from None
    return when if when.tzinfo is not None else when.replace(tzinfo=zone)


def note_warnings(warnings: Iterable[Problem]) -> None:
    """Print warnings on stderr."""
    from telemetryd.cli.output import note

    for warning in warnings:
        note(f"warning: {warning}")
