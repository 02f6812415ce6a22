"""`telemetryd run`: the daemon."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from telemetryd.cli.config import DEFAULT_FILE
from telemetryd.errors import EXIT_OK

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def run(
    config: Annotated[
        Path,
        typer.Option("--config", "-c", envvar="TELEMETRYD_CONFIG", help="The configuration (docs/configuration.md)."),
    ] = DEFAULT_FILE,
) -> None:
    """Run the daemon in the foreground: receive sFlow, keep windows of usage in the store, answer who watches it.

    SIGTERM and SIGINT process what was received, store it, and end; SIGHUP reloads configuration and registry.

    Exit codes: 0 ended by a signal, 1 failed or could not store everything, 2 invalid configuration.
    """
    # Until the supervisor listens to them: nothing has begun yet that would have to be finished.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(EXIT_OK))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # A reload starts a process that executes at once: gRPC need not prepare for a fork, nor complain on stderr.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    import asyncio
    import gc

    from telemetryd.configuration import load_configuration
    from telemetryd.daemon import Daemon, new_event_loop
    from telemetryd.observe import log
    from telemetryd.observe.systemd import Notifier, listen_fds

    configuration = load_configuration(config)
    log.configure(configuration.settings.log.level, configuration.settings.log.format)
    # A collection of all objects stops every thread: those that are there for good need not be looked through again.
    gc.collect()
    gc.freeze()
    daemon = Daemon(config, configuration, notifier=Notifier.from_environment(), listen_fds=listen_fds())
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        code = runner.run(daemon.run())
        # The work is done: nothing shall change the exit code any more.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if daemon.has_left_threads:
            # A thread hangs in the store or the socket: the interpreter would wait for it without end.
            sys.stderr.flush()
            os._exit(code)
    raise typer.Exit(code)
