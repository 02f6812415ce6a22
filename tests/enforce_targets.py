"""Real gNMI targets for tests of enforcement: agents that keep QoS in memory, in this process, and devices on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from telemetryd.agent.config_source import ConfigSource
from telemetryd.agent.realise import NoKernel
from telemetryd.agent.roles import Roles
from telemetryd.agent.running import Running
from telemetryd.agent.server import AgentServer
from telemetryd.agent.simulated import SimulatedInterfaces
from telemetryd.enforce.gnmi_device import GnmiDevice, Reach
from telemetryd.enforce.intent import PortIntent, apportion
from telemetryd.enforce.names import Value
from telemetryd.enforce.plan import plan_device
from telemetryd.ingest.gnmi.login import Login
from telemetryd.ingest.gnmi.subscription import Wanted
from tests.enforce_case import M, capability, cls, device
from tests.gnmi_client import endpoint

TIMEOUT_S = 20.0


@dataclass
class AgentTarget:
    """An agent at a port."""

    port: int
    running: Running

    def leaves(self) -> dict[str, Value]:
        """Return its configuration."""
        return dict(self.running.leaves())


@asynccontextmanager
async def agent_target(interfaces: int = 4) -> AsyncIterator[AgentTarget]:
    """Run an agent with ports Ethernet1 ... whose QoS can be set."""
    realiser = NoKernel()
    source = ConfigSource(SimulatedInterfaces(0, interfaces), realiser)
    running = Running(source, realiser)
    server = AgentServer(source, "127.0.0.1", 0, None, running=running, roles=lambda: Roles(allows_all=True))
    task = asyncio.create_task(server.run())
    started = asyncio.create_task(server.started.wait())
    await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        started.cancel()
        task.result()
    try:
        yield AgentTarget(server.port, running)
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def gnmi_device(
    port: int, name: str = "SW1", timeout_s: float = TIMEOUT_S, **facts: Any
) -> AsyncIterator[GnmiDevice]:
    """Have a device of a target at a port."""
    reach = Reach(Wanted(name, endpoint(port, "grpc"), ()), Login(), timeout_s)
    found = GnmiDevice(reach, capability(device=name, **facts))
    try:
        yield found
    finally:
        await found.close()


def plan_of(rates: list[int], ports: int = 1, capacity: int = 10_000 * M, **facts: Any) -> dict[str, Value]:
    """Return the leaves of a plan for ports Ethernet1 ... with classes of these shares."""
    shares = apportion(capacity * 9 // 10, rates)
    classes = tuple(cls(f"c{place}", rate, ceiling_bps=capacity) for place, rate in enumerate(shares))
    intents = [PortIntent(f"Ethernet{number + 1}", "out", capacity, classes) for number in range(ports)]
    return plan_device(device(*intents), capability(**facts)).leaves
