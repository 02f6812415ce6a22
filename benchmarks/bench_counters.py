"""From decoded updates to windows of interfaces: 64 devices of 48 ports, 14 counters each, every second."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.report import Figure
from telemetryd._ext import load
from telemetryd.counter_windows import CounterWindow
from telemetryd.counting import Counting
from telemetryd.ingest.gnmi.counters import COUNTER_LEAVES
from telemetryd.ingest.gnmi.login import Login
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.ingest.gnmi.subscription import Wanted
from telemetryd.registry.models import Registry
from telemetryd.schema import UpdateBatch
from telemetryd.targets import TargetPlan
from tests.gnmi_client import endpoint
from tests.gnmi_messages import notification, packed, update

DEVICES, PORTS = 64, 48
SECOND_NS = 1_000_000_000
START_NS = 1_790_000_040 * SECOND_NS
SPAN_NS = 10 * SECOND_NS
LEAVES = [f"{way}-{leaf}" for way in ("in", "out") for leaf in COUNTER_LEAVES]


def run(short: bool) -> list[Figure]:
    """Let a minute pass; what every window holds is compared with what the counters grew by."""
    devices, seconds = (4, 21) if short else (DEVICES, 61)
    now_ns = START_NS
    windows: list[CounterWindow] = []
    with tempfile.TemporaryDirectory() as directory:
        counting = Counting(
            Registry(Path("none")), windows.append, store=Path(directory, "store"), clock=lambda: now_ns
        )
        plans = {
            number: TargetPlan(Wanted(f"SW{number:02}", endpoint(1, "fast"), ()), Login(), False, 64, SECOND_NS)
            for number in range(devices)
        }
        counting.replace(Registry(Path("none")), list(plans.values()))
        paths, batch = PathTable(), UpdateBatch(1 << 17, 1 << 22)
        module = load("gnmi_wire", "telemetryd.ingest.gnmi.gnmi_wire_reference")
        decoders = [module.Decoder(batch, number, Resolver(paths), np.zeros(0, np.int64)) for number in range(devices)]
        updates, used_s = 0, 0.0
        for second in range(seconds):
            now_ns = START_NS + second * SECOND_NS
            batch.clear()
            for number, decoder in enumerate(decoders):
                decoder.decode(*packed([_message(number, second, now_ns)]), 0, now_ns)
            begun = time.thread_time()
            counting.take_updates(batch, paths, plans)
            counting._turn()
            if second:  # the first reading of each counter makes its numbers and no growth
                used_s += time.thread_time() - begun
                updates += batch.n
    _verify(windows, devices, seconds)
    share = used_s / (seconds - 1)
    return [
        Figure("updates to windows", used_s / updates * 1e6, "CPU s per M updates", f"{updates:,} updates"),
        Figure(f"{devices} devices x {PORTS} ports, every second", 100 * share, "% of a core", ""),
    ]


def _message(device: int, second: int, now_ns: int) -> bytes:
    """Make a notification of all counters: each grows by its number every second."""
    leaves = [
        update(f"/interfaces/interface[name=xe{port}]/state/counters/{leaf}", uint_val=second * _growth(device, port))
        for port in range(PORTS)
        for leaf in LEAVES
    ]
    return notification(*leaves, timestamp=now_ns)


def _growth(device: int, port: int) -> int:
    return 1000 * (device + 1) + port


def _verify(windows: list[CounterWindow], devices: int, seconds: int) -> None:
    """Hold each closed window of 10 s against the counters."""
    octets: dict[tuple[str, str], int] = defaultdict(int)
    spans = 0
    for window in windows:
        if window.span_ns == SPAN_NS:
            spans += 1
            for place, value in zip(window.columns["interface"], window.columns["in_octets"], strict=True):
                octets[window.names[place]] += int(value)
    assert spans >= seconds // 10 - 1, f"{spans} windows"
    expected = {
        (f"SW{device:02}", f"xe{port}"): spans * 10 * _growth(device, port)
        for device in range(devices)
        for port in range(PORTS)
    }
    assert octets == expected
