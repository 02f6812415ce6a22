"""gNMI: a stream of 500 interfaces x 14 counters to columns, against gnmic, and grpcio that receives or parses.

The source is another process on the same host, with a DATA frame a message. CPU is the client's, user and system. Every
row is counted and every value is in a sum that is compared; gnmic's output is a file in which a counter is counted.
gnmic is built where it is missing and Go is there (tests/gnmic.py), but not for the short form.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import trustme
import uvloop

from benchmarks import gnmic_peer
from benchmarks.gnmi_source import COUNTERS, INTERFACES, ROUND, value_of
from benchmarks.report import Figure
from telemetryd._ext import load
from telemetryd.ingest.gnmi.path import parse
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.ingest.gnmi.transport import Endpoint, Tls, open_transport
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import UpdateBatch
from tests import gnmic

SECOND_NS = 1_000_000_000
SUM_OF_ROUND = sum(value_of(i, n) for i in range(INTERFACES) for n in range(len(COUNTERS)))


class Columns:
    """Decodes into a batch, and keeps the sum of what was in it."""

    def __init__(self) -> None:
        self._batch = UpdateBatch(1 << 16, 1 << 20)
        resolver = Resolver(PathTable(), [parse("/interfaces/interface/state/counters")])
        module = load("gnmi_wire", "telemetryd.ingest.gnmi.gnmi_wire_reference")
        self._decoder = module.Decoder(self._batch, 0, resolver, np.array([SECOND_NS], np.int64))
        self.updates = self.sum = 0

    def take(self, octets: Any, offsets: Any, lengths: Any, received_ns: int) -> None:
        """Decode messages."""
        first = 0
        while (first := self._decoder.decode(octets, offsets, lengths, first, received_ns)) < len(offsets):
            self.empty()

    def empty(self) -> None:
        """Add up what the batch holds, and empty it."""
        self.updates += self._batch.n
        self.sum += int(self._batch["value"][: self._batch.n].sum(dtype=np.uint64))
        self._batch.clear()


class Messages:
    """Takes messages, and parses them or not."""

    def __init__(self, parses: bool) -> None:
        self._parses = parses
        self.updates = self.sum = self.messages = 0

    def take(self, octets: Any, offsets: Any, lengths: Any, received_ns: int) -> None:
        """Count messages."""
        self.messages += len(offsets)
        if self._parses:
            self.updates += len(gnmi_pb2.SubscribeResponse.FromString(octets.tobytes()).update.update)

    def empty(self) -> None:
        """Have nothing to empty."""


def stream(
    kind: str, updates: int, transport: str, taker: Any, directory: Path, tls: bool = False
) -> tuple[float, float]:
    """Take a stream whole; return seconds and CPU seconds."""
    port_file, certificate = directory / f"port-{time.monotonic_ns()}", directory / "cert.pem"
    command = [sys.executable, "-m", "benchmarks.gnmi_source", kind, str(updates), str(port_file)]
    source = subprocess.Popen([*command, str(certificate)] if tls else command)
    try:
        deadline = time.monotonic() + 120
        while not port_file.exists() or not port_file.read_text():
            if source.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the source did not start")
            time.sleep(0.05)
        endpoint = Endpoint(
            "127.0.0.1",
            int(port_file.read_text()),
            tls=Tls(ca=directory / "ca.pem") if tls else None,
            transport=transport,  # type: ignore[arg-type]
        )

        async def requests() -> AsyncIterator[bytes]:
            yield b"\x0a\x00"
            await asyncio.Event().wait()

        async def receive() -> tuple[float, float]:
            wall, cpu = time.perf_counter(), time.process_time()
            await open_transport(endpoint).subscribe(requests(), taker.take)
            taker.empty()
            return time.perf_counter() - wall, time.process_time() - cpu

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(receive())
    finally:
        source.kill()
        source.wait()


def run(short: bool) -> list[Figure]:
    """Measure every way of receiving."""
    figures = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(directory / "cert.pem"))
        rounds = 1 if short else 200
        for what, kind, tls, scale in (
            ("one leaf a notification, PROTO, to columns", "single", False, 1),
            ("one leaf a notification, PROTO, over TLS, to columns", "single", True, 1),
            ("14 leaves a notification, PROTO, to columns", "bundled", False, 4),
            ("14 leaves a notification, JSON_IETF, to columns", "json", False, 4),
        ):
            wanted = ROUND * rounds * (1 if short else scale)
            columns = Columns()
            seconds, cpu = stream(kind, wanted, "fast", columns, directory, tls)
            if (columns.updates, columns.sum) != (wanted, SUM_OF_ROUND * (wanted // ROUND)):
                raise AssertionError(f"{what}: {columns.updates} of {wanted} updates, or other values")
            figures += _figures(what, wanted, seconds, cpu)
        for what, parses in (("grpcio, octets only", False), ("grpcio and protobuf's classes, no columns", True)):
            for kind, name_ in (("single", "one leaf a notification"), ("bundled", "14 leaves a notification")):
                wanted = ROUND * (1 if short else 6)
                messages = Messages(parses)
                seconds, cpu = stream(kind, wanted, "grpc", messages, directory)
                if messages.messages != wanted // (1 if kind == "single" else len(COUNTERS)):
                    raise AssertionError(f"{what}: {messages.messages} messages")
                figures += _figures(f"{what}: {name_}", wanted, seconds, cpu)
        figures += _gnmic(short, directory)
    return figures


def _gnmic(short: bool, directory: Path) -> list[Figure]:
    """Measure gnmic with two of its outputs; nothing where it is not to be had."""
    program = gnmic.find()
    if program is None and not short:
        try:
            program = gnmic.build(directory)
        except gnmic.NoGnmicError as reason:
            print(f"  gnmic is left out: {reason}")
    if program is None:
        return []
    figures = []
    for kind, what in (
        ("single", "one leaf a notification"),
        ("bundled", "14 leaves"),
        ("json", "14 leaves, JSON_IETF"),
    ):
        for form in ("json", "event"):
            wanted = ROUND * (1 if short else 40)
            seconds, cpu = gnmic_peer.receive(program, kind, form, wanted, directory)
            figures += _figures(f"gnmic 0.36, to a file as {form}: {what}", wanted, seconds, cpu)
    return figures


def _figures(what: str, updates: int, seconds: float, cpu: float) -> list[Figure]:
    return [
        Figure(what, updates / seconds, "updates/s"),
        Figure("  CPU of the client", cpu / updates * 1e6, "s per million updates"),
    ]
