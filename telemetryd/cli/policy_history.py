"""`telemetryd policy record` and `history`: versions of policies, who recorded them, when and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetryd.cli.policy_options import AsJson, At, Directory, Files, StateDirectory, load, moment, note_warnings
from telemetryd.cli.policy_options import registry as load_registry

if TYPE_CHECKING:
    from telemetryd.policy.journal import Journal, Record


def record(
    policies: Files,
    why: Annotated[str, typer.Option("--why", help="The reason, such as a ticket number.")],
    who: Annotated[
        str | None, typer.Option("--who", help="Who it is. Default: the user of this process.", show_default=False)
    ] = None,
    registry: Directory = None,
    state: StateDirectory = None,
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Check policies and keep them as a version in the history, with who, when and why.

    Example: telemetryd policy record policies/examples/exit --state /var/lib/telemetryd --why "CHG-2026-117"
    """
    from dataclasses import asdict
    from zoneinfo import ZoneInfo

    from telemetryd.cli.output import note, write_json
    from telemetryd.errors import InputError, ProblemsError
    from telemetryd.policy.admission import admit

    if not why.strip():
        raise InputError("--why is empty: write the reason, such as a ticket number")
    known = load_registry(registry)
    loaded = load(policies, known)
    when = moment(at, ZoneInfo(known.city.time_zone))
    from telemetryd.cli.policy import conflict_problem

    refused = [
        conflict_problem(conflict)
        for policy in loaded.policies
        for conflict in admit(policy, known, when.astimezone(policy.zone).replace(tzinfo=None))
        if conflict.is_refused
    ]
    if refused:
        raise ProblemsError(refused)
    journal = _journal(state)
    kept, is_new = journal.append(loaded, at=when, who=who or _user(), why=why.strip(), action="recorded")
    if as_json:
        write_json({"is_new": is_new, "record": asdict(kept)})
        return
    note_warnings(loaded.warnings)
    note(f"version {kept.number} ({kept.short}) {'recorded' if is_new else 'is the last one already'}: {kept.why}")


def history(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Number or hash of one version.", show_default=False)
    ] = None,
    into: Annotated[
        Path | None, typer.Option("--into", help="Write the files of VERSION into this directory.", show_default=False)
    ] = None,
    state: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of policies that were recorded: when, by whom, why. With --into, get one back.

    Example: telemetryd policy history 3 --into version-3 --state /var/lib/telemetryd
    """
    from dataclasses import asdict

    from telemetryd.cli.output import Field, note, show_table, text, write_json
    from telemetryd.errors import InputError

    journal = _journal(state)
    if into is not None and version is None:
        raise InputError("--into needs a version: telemetryd policy history 3 --into DIR")
    records = journal.records() if version is None else [journal.find(version)]
    written = journal.restore(records[0], into) if into is not None else []
    if as_json:
        write_json({"versions": [asdict(one) for one in records], "written": [str(path) for path in written]})
        return
    for path in written:
        note(f"wrote {path}")
    if not records:
        note(f"nothing was recorded in {journal.directory} yet: telemetryd policy record")
        return
    columns = [
        text("number", "version"),
        Field("hash", lambda row: str(row["version"])[:12]),
        text("at"),
        text("who"),
        text("action"),
        Field("policies", lambda row: ", ".join(row["policies"])),
        Field("files", lambda row: str(len(row["files"])), right=True),
        text("why"),
    ]
    rows: list[dict[str, Any]] = [asdict(one) for one in records]
    show_table(columns, rows)


@contextmanager
def version_or_path(where: Path, state: Path | None) -> Iterator[Path]:
    """Yield a path as it is, or, for ``@N``, a directory with the files of that version while it is used."""
    if not str(where).startswith("@"):
        yield where
        return
    from tempfile import TemporaryDirectory

    journal = _journal(state)
    found: Record = journal.find(str(where)[1:])
    with TemporaryDirectory(prefix="telemetryd-policy-") as directory:
        journal.restore(found, Path(directory))
        yield Path(directory)


def _journal(state: Path | None) -> Journal:
    from telemetryd.errors import InputError
    from telemetryd.policy.journal import Journal

    if state is None:
        raise InputError("say where the history is: --state DIR, or set TELEMETRYD_STATE")
    return Journal(state)


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user on this host
        import os

        return f"uid {os.getuid()}"
