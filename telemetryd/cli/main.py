"""The command line: one file a verb, imported only when it is called.

A verb's heavy imports must not cost `telemetryd --help` anything, so the verbs are listed here by name
and the module that holds one is imported when it runs (or shows its help).
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

import click
import typer
from typer.main import get_command

from telemetryd import __version__
from telemetryd.errors import EXIT_FAILED, EXIT_USAGE, ProblemsError, TelemetrydError

# verb -> (module below telemetryd.cli, attribute: a typer app, one-line help)
VERBS: Final = {
    "decode": ("decode", "app", "Print captured sFlow as one JSON object a datagram a line."),
    "replay": ("replay", "app", "Turn captured sFlow into bandwidth per department and application."),
    "query": ("query", "app", "Ask the embedded store: top, series, matrix, percentile."),
    "registry": ("registry", "app", "Check, show, search and extend the registry."),
    "demo": ("demo", "app", "Show the example city at work, from datagrams to tables."),
}


class LazyGroup(click.Group):
    """A group whose verbs are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs in the order of the life of a sample."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that holds a verb."""
        if cmd_name not in VERBS:
            return None
        module, attribute, _ = VERBS[cmd_name]
        app: typer.Typer = getattr(importlib.import_module(f"telemetryd.cli.{module}"), attribute)
        command: Any = get_command(app)
        command.name = cmd_name
        return command  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs with their one-line helps, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, _, text) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="telemetryd")
def cli() -> None:
    """Network telemetry and bandwidth policies for a city's e-government extranet.

    Start with `telemetryd demo`, or with your own capture:
    `telemetryd replay capture.pcap --registry policies/example-city/registry`.

    Exit codes: 0 ok, 1 failed, 2 usage or invalid input.
    """


def main() -> None:
    """Run the command line; expected failures end with a message and an exit code, never a traceback."""
    try:
        code = cli.main(standalone_mode=False, prog_name="telemetryd")
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except ProblemsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        print(f"{len(error.problems)} mistake(s)", file=sys.stderr)
        code = EXIT_USAGE
    except TelemetrydError as error:
        print(f"telemetryd: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is wrong, but stdout can't be flushed any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    sys.exit(code if isinstance(code, int) else 0)
