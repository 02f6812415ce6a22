"""``telemetryd decode``: captured sFlow as JSON, one object a datagram a line (shape: docs/decode.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from telemetryd.ingest.capture import Capture, DatagramBatch

app = typer.Typer(add_completion=False)


@app.command()
def decode(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="pcap or pcapng, also .gz and .zst; /dev/stdin for a pipe"),
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="UDP destination port of the datagrams")] = 6343,
    all_udp: Annotated[
        bool, typer.Option("--all-udp", help="take every UDP payload that parses as sFlow, whatever its port")
    ] = False,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="accept a capture that is cut off or damaged as far as it goes")
    ] = False,
) -> None:
    """Print captured sFlow as one JSON object a datagram a line, in the order of the captures.

    What cannot be decoded is named in `errors` with its reason and offset; the rest of the datagram, and
    of the capture, is unharmed. Exit codes: 0 ok, 1 a capture could not be read to its end, 2 usage.
    """
    from telemetryd.ingest.capture import open_capture

    for file in files:
        with open_capture(file, port=None if all_udp else port, lenient=lenient) as capture:
            try:
                with _progress(file.name) as advance:
                    for batch in capture:
                        for line in _lines(batch):
                            sys.stdout.write(line)
                        advance(capture)
            finally:
                sys.stdout.flush()
            _warn(file, capture, None if all_udp else port)


def _lines(batch: DatagramBatch) -> Iterator[str]:
    from json import dumps

    from telemetryd.ingest.sflow.decode import decode_datagram
    from telemetryd.ingest.sflow.packet import address_text

    view = batch.buffer.data
    for row in range(batch.n):
        start = int(batch.offsets[row])
        sender: str | None = None
        if version := int(batch.source_version[row]):
            address = int(batch.source_hi[row]) << 64 | int(batch.source_lo[row])
            sender = address_text(version, address)
        datagram: dict[str, Any] = {"ts_ns": int(batch.ts_ns[row]), "source_address": sender}
        datagram.update(decode_datagram(view[start : start + int(batch.lengths[row])]))
        yield dumps(datagram, ensure_ascii=False, allow_nan=False) + "\n"


class _Advance(Protocol):
    def __call__(self, capture: Capture) -> None: ...


@contextmanager
def _progress(name: str) -> Iterator[_Advance]:
    """Show on a terminal's stderr how far the file is read; do nothing elsewhere."""
    if not sys.stderr.isatty() or sys.stdout.isatty():  # lines that scroll by are progress enough
        yield lambda capture: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # Left to itself, the bar would take standard output over and print the lines above itself, on stderr.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(name, total=None)
        yield lambda capture: bar.update(
            task, completed=capture.stats.octets_read, total=capture.stats.octets_total or None
        )


def _warn(file: Path, capture: Capture, port: int | None) -> None:
    stats = capture.stats
    if stats.damage is not None:
        offset, what = stats.damage
        print(f"telemetryd: warning: {file}: offset {offset}: {what}; stopped there", file=sys.stderr)
    if not stats.datagrams:
        where = "no UDP payload parses as sFlow" if port is None else f"no datagram to UDP port {port}"
        skipped = ", ".join(f"{count} {reason}" for reason, count in stats.skipped.items()) or "no packets"
        remedy = "" if port is None else " - choose another --port, or --all-udp"
        print(f"telemetryd: warning: {file}: {where} (skipped: {skipped}){remedy}", file=sys.stderr)
