"""Applying plans to 64 simulated targets of 48 ports: the whole transaction over gNMI, read back and confirmed."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.bench_plan import CLASSES, PORTS, SWITCHES, _intent
from benchmarks.bench_plan import SWITCH as SWITCH_OF_PLAN
from benchmarks.report import Figure
from benchmarks.simulated_switches import HOST, switches
from telemetryd.enforce.gnmi_device import GnmiDevice, Reach
from telemetryd.enforce.intent import DeviceIntent
from telemetryd.enforce.limits import Limits
from telemetryd.enforce.names import Value, ours
from telemetryd.enforce.plan import plan_device
from telemetryd.enforce.prepare import Goal, prepare
from telemetryd.enforce.records import Reason, Records
from telemetryd.enforce.transaction import Options, Transaction
from telemetryd.ingest.gnmi.login import Login
from telemetryd.ingest.gnmi.subscription import Wanted
from telemetryd.ingest.gnmi.transport import Endpoint

#: Seconds that everything should take on a machine that does nothing else: both ends of the connections on its cores.
LIMIT_S = 5.0
PARALLEL = 16
PROCESSES = 2
TIMEOUT_S = 60.0
TRAITS = replace(SWITCH_OF_PLAN, driver="linux", state="required")


def run(short: bool) -> list[Figure]:
    """Install plans on bare targets, change every rate, take everything off; ``short`` takes 4 targets."""
    targets = 4 if short else SWITCHES
    each = targets // PROCESSES
    gc.disable()  # as the command does
    try:
        return _run(targets, each)
    finally:
        gc.enable()


def _run(targets: int, each: int) -> list[Figure]:
    with switches(each) as one, switches(targets - each) as two:
        return asyncio.run(_measure([*one, *two]))


async def _measure(ports: list[int]) -> list[Figure]:
    figures: list[Figure] = []
    count = CLASSES[0]
    plans = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        plans.append([_plan(_intent(f"SW{number:02}", count, rng)) for number in range(len(ports))])
    async with AsyncExitStack() as stack:
        devices = []
        for number, port in enumerate(ports):
            endpoint = Endpoint(HOST, port, transport="grpc", max_message_octets=64 << 20)
            device = GnmiDevice(Reach(Wanted(f"SW{number:02}", endpoint, ()), Login(), TIMEOUT_S), TRAITS)
            stack.push_async_callback(device.close)
            devices.append(device)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        empty: dict[str, Value] = {}
        for what, wanted in (
            ("install on bare targets", plans[0]),
            ("change all rates", plans[1]),
            ("nothing to change", plans[1]),
            ("take everything off", [empty] * len(ports)),
        ):
            figures += await _apply(f"{len(ports)} targets x {PORTS} ports: {what}", devices, wanted, directory)
    return figures


async def _apply(what: str, devices: list[GnmiDevice], wanted: list[dict[str, Value]], directory: Path) -> list[Figure]:
    cpu_s, begun_s = _cpu_s(), time.perf_counter()
    goals = [Goal(device, want) for device, want in zip(devices, wanted, strict=True)]
    prepared = await prepare(goals, PARALLEL)
    limits = Limits(devices_per_step=PARALLEL, change_percent=100)
    options = Options(limits=limits, is_forced=True)
    reason = Reason("benchmark")
    done = await Transaction(prepared, records=Records(directory), reason=reason, options=options).run()
    took_s, used_s = time.perf_counter() - begun_s, _cpu_s() - cpu_s
    assert done.outcome in ("confirmed", "unchanged"), done.why
    for device, want in zip(devices, wanted, strict=True):
        assert ours((await device.read()).config) == ours(want)
    writes = sum(len(one.change.writes) for one in prepared)
    note = f"{writes:,} writes; {used_s:.2f} s of it on our processor; limit {LIMIT_S:g} s, {os.cpu_count()} cores"
    return [Figure(what, took_s, "s", note)]


def _plan(intent: DeviceIntent) -> dict[str, Value]:
    """Plan a switch whose ports are those of a simulated target."""
    ports = tuple(replace(port, interface=f"Ethernet{number + 1}") for number, port in enumerate(intent.ports))
    return plan_device(DeviceIntent(intent.device, ports, tuple(port.interface for port in ports)), TRAITS).leaves


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
