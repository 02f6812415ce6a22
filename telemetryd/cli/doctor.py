"""`telemetryd doctor`: check what the daemon needs of this host, and name the remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from telemetryd.cli.config import DEFAULT_FILE

if TYPE_CHECKING:
    from telemetryd.config.settings import Settings
    from telemetryd.observe.doctor import Check

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_SYSTEMD: Final = "systemd "


@app.command()
def doctor(
    config: Annotated[
        Path, typer.Option("--config", "-c", envvar="TELEMETRYD_CONFIG", help="The daemon's configuration.")
    ] = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/operating.md).")] = False,
) -> None:
    """Check program, configuration, kernel, clock, network, permissions and disk; print the remedy of each fault.

    As root it sees more: which process holds the port. Nothing is changed.

    Exit codes: 0 all ok or warnings only, 1 something fails.
    """
    from telemetryd.cli.output import write_json
    from telemetryd.errors import EXIT_FAILED
    from telemetryd.observe.doctor import Verdict

    checks = examine(config)
    failed = [check for check in checks if check.verdict is Verdict.FAIL]
    if as_json:
        write_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def examine(config: Path) -> list[Check]:
    """Make every check, in the order in which they are shown."""
    import pwd

    import telemetryd._ext
    from telemetryd.ingest.sflow.sockets import holders
    from telemetryd.observe import doctor as host

    user = host.service_user()
    checks = [
        host.check_python(),
        host.check_extensions(Path(telemetryd._ext.__file__).parent),
        host.check_user(user),
    ]
    settings, found = _configuration(config)
    checks += found
    who = user or pwd.getpwuid(os.geteuid())
    if config.is_file():
        checks.append(_look("configuration file", lambda: host.check_readable("configuration file", config, who)))
    checks += [host.check_clock(host.read_clock()), host.check_backlog(), host.check_udp_errors(), host.check_cards()]
    if settings is None:
        return checks
    listen = settings.listen
    bound = host.bound_sockets(listen.port)
    held = [_by_command(who) for who in holders(listen.port)] if bound else []
    if settings.registry.is_dir():
        directory = settings.registry
        checks.append(_look("registry files", lambda: host.check_readable("registry files", directory, who)))
    store = settings.store.path
    return [
        *checks,
        host.check_receive_buffer(listen.receive_buffer, any(one.startswith(_SYSTEMD) for one in held)),
        host.check_port(listen.port, bound, held),
        host.check_reach(listen.address, bound),
        host.check_socket_drops(listen.port, bound),
        _look("store", lambda: host.check_store(store, who)),
        _look("disk", lambda: host.check_disk(store)),
        _look("retention", lambda: _retention(store, settings.store.retention.by_span())),
    ]


def _retention(store: Path, retention: dict[int, int]) -> Check:
    """Has the disk room for what the retention will hold at the growth of the last days?"""
    from telemetryd.errors import StoreError
    from telemetryd.observe.doctor import fail, ok, warn
    from telemetryd.store.growth import outlook
    from telemetryd.store.manifest import load

    name = "retention"
    if not store.is_dir():
        return ok(name, "nothing is stored yet, so the growth is not known")
    try:
        manifest = load(store)
        found = None if manifest is None else outlook(manifest, store, retention)
    except StoreError as error:
        return fail(name, str(error), f"telemetryd store verify --store {store}")
    if found is None:
        return ok(name, "less than an hour is stored, so the growth is not known yet")
    if found.days_left is not None:
        return warn(name, str(found), "give store.path a larger disk, or shorten store.retention of second or minute")
    return ok(name, str(found))


def _by_command(who: str) -> str:
    """Call a process ``telemetryd (pid N)`` whose command is that, whatever interpreter runs it."""
    pid = who.rpartition(" ")[2].rstrip(")")
    try:
        words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")[:3]
    except OSError:  # it has ended meanwhile
        return who
    return f"telemetryd (pid {pid})" if any(Path(os.fsdecode(word)).name == "telemetryd" for word in words) else who


def _look(name: str, check: Callable[[], Check]) -> Check:
    """Make a check of files, which this user may not be allowed to look at."""
    from telemetryd.observe.doctor import warn

    try:
        return check()
    except PermissionError as error:
        return warn(name, f"this user may not look at {error.filename}", "sudo telemetryd doctor")


def _configuration(config: Path) -> tuple[Settings | None, list[Check]]:
    """Load settings and registry as the daemon does; return the settings, if there are any, and the findings."""
    from telemetryd.config.settings import load_settings
    from telemetryd.configuration import load_configuration
    from telemetryd.errors import TelemetrydError
    from telemetryd.observe.doctor import fail, ok, warn

    if not config.is_file():
        remedy = "make install puts one there; another place: --config FILE"
        return None, [fail("configuration", f"{config} does not exist", remedy)]
    try:
        settings = load_settings(config).settings
    except TelemetrydError as error:
        return None, [fail("configuration", str(error), f"telemetryd config check {config}")]
    checks = [ok("configuration", f"{config} has no mistakes")]
    try:
        loaded = load_configuration(config)
    except TelemetrydError as error:
        mistakes = str(error).splitlines()
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        remedy = f"telemetryd registry check {settings.registry}"
        return settings, [*checks, fail("registry", mistakes[0] + more, remedy)]
    registry = loaded.registry
    finding = f"{registry.city.name}: {len(registry.devices)} devices, {len(registry.applications)} applications"
    if registry.warnings:
        finding += f", {len(registry.warnings)} warnings"
        return settings, [*checks, warn("registry", finding, f"telemetryd registry check {settings.registry}")]
    return settings, [*checks, ok("registry", finding)]


def _print(checks: list[Check]) -> None:
    """Print a line a check, and its remedy below it."""
    from telemetryd.observe.doctor import Verdict

    wide = max(len(check.name) for check in checks)
    for check in checks:
        mark = str(check.verdict) if check.verdict is Verdict.OK else str(check.verdict).upper()
        typer.echo(f"{mark:<4}  {check.name:<{wide}}  {check.finding}")
        if check.remedy:
            typer.echo(f"{'':<4}  {'':<{wide}}  -> {check.remedy}")
    number = {verdict: sum(check.verdict is verdict for check in checks) for verdict in Verdict}
    typer.echo(f"{number[Verdict.OK]} ok, {number[Verdict.WARN]} to look at, {number[Verdict.FAIL]} failed")
