"""`telemetryd influx`: prepare the server of an output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from telemetryd.cli.config import DEFAULT_FILE

if TYPE_CHECKING:
    from telemetryd.config.settings import OutputSettings, Settings
    from telemetryd.store.influx.setup import Outcome
    from telemetryd.store.influx.transport import Target

app = typer.Typer(
    help="Prepare the server of an output (docs/series.md).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_LEAST_NS: Final = 3_600_000_000_000  # InfluxDB's own least retention


@app.callback()
def influx() -> None:
    """Prepare the server of an output (docs/series.md)."""


@app.command()
def init(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[OUTPUT]", help="Name of the output; not needed where there is one.", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path, typer.Option("--config", "-c", envvar="TELEMETRYD_CONFIG", help="The daemon's configuration.")
    ] = DEFAULT_FILE,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a token that may set up buckets. Default: the output's own.", show_default=False),
    ] = None,
    keep: Annotated[str, typer.Option(metavar="DURATION", help="Retention of the output's bucket.")] = "60 d",
    keep_rollups: Annotated[
        str, typer.Option(metavar="DURATION", help="Retention of the bucket of rows of 5 min and 1 h.")
    ] = "400 d",
    rollups: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of that bucket (1.8: policy). Default: the bucket's and -rollups (1.8: rollups).",
            show_default=False,
        ),
    ] = None,
    no_rollups: Annotated[bool, typer.Option("--no-rollups", help="No such bucket, and no tasks.")] = False,
    change: Annotated[
        bool, typer.Option("--change", help="Set a retention that differs; a shorter one deletes.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look, and print what would be made; make nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/series.md).")] = False,
) -> None:
    """Make what an output needs on its server, where it is missing: it may be run again at any time.

    InfluxDB 2: organisation, bucket, a second bucket for what is kept for long, and the tasks that fill it.
    InfluxDB 1.8: database, retention policies, continuous queries. VictoriaMetrics needs nothing, and it says so.

    The token is read from the file or the credential that the output's settings name, or from --token-file.

    Examples:

      telemetryd influx init --dry-run

      telemetryd influx init city --config telemetryd.yaml --token-file admin.token --keep "30 d"

    Exit codes: 0 all is there, 1 the server refuses or does not answer, or a retention differs, 2 invalid input.
    """
    from telemetryd.cli.output import note, show_table, text, write_json
    from telemetryd.config.settings import load_settings
    from telemetryd.errors import EXIT_FAILED
    from telemetryd.store.influx.credentials import TokenSource
    from telemetryd.store.influx.setup import State, Wanted, set_up

    settings = load_settings(config).settings
    output = _choose(settings, name, config)
    target = _target(output)
    if token_file is not None:
        target = replace(target, token=TokenSource(token_file))
    default = "rollups" if "/" in output.bucket else f"{output.bucket}-rollups"
    wanted = Wanted(
        keep_ns=_duration("--keep", keep),
        rollups=None if no_rollups else rollups or default,
        keep_rollups_ns=_duration("--keep-rollups", keep_rollups),
        late_ns=settings.spool.age,
        may_change=change,
        dry_run=dry_run,
    )
    outcome = set_up(target, wanted)
    if as_json:
        write_json(_document(output, outcome, dry_run))
    else:
        typer.echo(f"{output.name}: {outcome.server} {outcome.version} at {output.url}")
        rows = [{"kind": s.kind, "name": s.name, "state": s.state.value, "detail": s.detail} for s in outcome.steps]
        show_table([text("kind", "what"), text("name"), text("state"), text("detail", "")], rows)
        if dry_run:
            note("dry run: nothing was made")
    if any(step.state is State.DIFFERS for step in outcome.steps):
        raise typer.Exit(EXIT_FAILED)


def _choose(settings: Settings, name: str | None, config: Path) -> OutputSettings:
    from telemetryd.errors import InputError

    names = [output.name for output in settings.outputs]
    if not names:
        raise InputError(f'{config}: there are no outputs - add one below "outputs:" (docs/configuration.md)')
    if name is None and len(names) > 1:
        raise InputError(f"{config}: there are several outputs - name one of {', '.join(names)}")
    for output in settings.outputs:
        if name in (None, output.name):
            return output
    raise InputError(f'{config}: there is no output "{name}" - name one of {", ".join(names)}')


def _target(output: OutputSettings) -> Target:
    from telemetryd.store.influx.credentials import TokenSource
    from telemetryd.store.influx.transport import Target

    token = TokenSource(output.token_file, output.credential)
    return Target(output.url, output.org, output.bucket, token, output.ca_file)


def _duration(option: str, value: str) -> int:
    from telemetryd.config.units import parse_duration, spell_duration
    from telemetryd.errors import InputError

    duration_ns = parse_duration(value)
    if duration_ns < _LEAST_NS:
        raise InputError(f"{option} {value} is too short - InfluxDB keeps {spell_duration(_LEAST_NS)} at least")
    return duration_ns // 1_000_000_000 * 1_000_000_000


def _document(output: OutputSettings, outcome: Outcome, dry_run: bool) -> dict[str, object]:
    return {
        "output": output.name,
        "url": output.url,
        "server": outcome.server,
        "version": outcome.version,
        "dry_run": dry_run,
        "steps": [
            {"kind": step.kind, "name": step.name, "state": step.state.value, "detail": step.detail}
            for step in outcome.steps
        ],
    }
