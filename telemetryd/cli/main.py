"""The command line: one file a verb, imported only when it is called.

A verb's heavy imports must not cost `telemetryd --help` anything, so the verbs are listed here and the
module that holds one is imported when it runs (or shows its help).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import typer

from telemetryd import __version__
from telemetryd.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, ProblemsError, TelemetrydError

VERBS: Final = {
    "demo": "Show the example city at work, from datagrams to tables.",
    "replay": "Turn captured sFlow into bandwidth per department and application.",
    "query": "Ask the embedded store: top, series, matrix, percentile, quality.",
    "store": "Look after the embedded store: stats, verify, backup, restore.",
    "report": "Print the monthly bandwidth report: html, xlsx, csv, pdf, json.",
    "proof": "Prove that guarantees were delivered, or show where they were not.",
    "forecast": "Forecast when links will be full.",
    "run": "Run the daemon: sFlow in, windows into the store.",
    "config": "Check, show and describe the daemon's configuration.",
    "influx": "Prepare the server of an output: buckets, retention, roll-ups.",
    "status": "Show how the running daemon is.",
    "alerts": "Show what fires in the running daemon, and what is about to.",
    "coverage": "Show whether the samples agree with the counters of every link.",
    "reload": "Make the running daemon read configuration and registry again.",
    "top": "Watch who uses how much right now.",
    "doctor": "Check what the daemon needs of this host, and name the remedy.",
    "registry": "Check, show, search and extend the registry.",
    "policy": "Check, show, divide and explain bandwidth policies.",
    "enforce": "Plan, write, confirm and take off what allocations become on devices.",
    "agent": "Serve this host's interfaces by gNMI.",
    "gnmi": "Talk to a gNMI target: capabilities, get, subscribe, watch.",
    "send": "Send sFlow datagrams to a collector: captures or the example city.",
    "decode": "Print captured sFlow as one JSON object a datagram a line.",
}

HELP: Final = """\
Usage: telemetryd VERB [OPTIONS] ...

Network telemetry and bandwidth policies for a city's e-government extranet.

Verbs (telemetryd VERB --help tells more):
{verbs}

Options:
  --version   print the version
  -h, --help  print this text

Examples:
  telemetryd demo
  telemetryd replay capture.pcap --registry policies/example-city/registry --store /var/lib/telemetryd/store
  telemetryd query top --by application --store /var/lib/telemetryd/store

Exit codes: 0 ok, 1 failed, 2 usage or invalid input.
"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; expected failures end with a message and an exit code, never a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        print(HELP.format(verbs="\n".join(f"  {name:<9} {text}" for name, text in VERBS.items())), end="")
        sys.exit(EXIT_OK if arguments else EXIT_USAGE)
    if verb == "--version":
        print(f"telemetryd {__version__}")
        sys.exit(EXIT_OK)
    if verb not in VERBS:
        print(f"telemetryd: no verb {verb!r}: use one of {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    sys.exit(_run(verb, arguments[1:]))


def _run(verb: str, arguments: list[str]) -> int:
    try:
        app: typer.Typer = importlib.import_module(f"telemetryd.cli.{verb}").app
        app(args=arguments, prog_name=f"telemetryd {verb}")
    except ProblemsError as error:
        print(error, file=sys.stderr)
        count = len(error.problems)
        print(f"telemetryd: {count} mistake{'s' if count > 1 else ''}", file=sys.stderr)
        return EXIT_USAGE
    except TelemetrydError as error:
        print(f"telemetryd: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is wrong, but stdout can't be flushed any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return EXIT_OK
