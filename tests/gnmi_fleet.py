"""Many simulated gNMI targets in one process, each on a port of its own: agents of interfaces that nobody has.

`python -m tests.gnmi_fleet TARGETS INTERFACES UP_NS [set]` prints a JSON line with their ports once all of them listen; their
counters count from the time UP_NS. Then each line that it reads is a command, and is answered by a line:

    kill N          cut off the first N targets: connections are closed, ports refuse
    revive UP_NS    bring them back on the same ports; like devices after a reboot they count anew
    state           say what each target has sent since it came up

With `set` their QoS can be set: all of the agent but the kernel. What was set is there again after a target came back.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from telemetryd.agent.config_source import ConfigSource
from telemetryd.agent.realise import NoKernel
from telemetryd.agent.roles import Roles
from telemetryd.agent.running import Running
from telemetryd.agent.server import AgentServer
from telemetryd.agent.simulated import SimulatedInterfaces
from telemetryd.agent.source import Source
from telemetryd.observe import log
from tests.commanded import Commanded

#: Where they listen: whoever connects to them does so from 127.0.0.1, and takes no port that one of them is to have again.
HOST = "127.0.0.2"


class Target:
    """A target that can be killed and brought back."""

    def __init__(self, number: int, interfaces: int, *, can_be_set: bool = False) -> None:
        self.number, self.interfaces, self.port = number, interfaces, 0
        self._task: asyncio.Task[None] | None = None
        self._source: Source | None = None
        self._running: Running | None = None
        self._can_be_set = can_be_set

    async def start(self, up_ns: int) -> None:
        if self._running is None:
            self._source = SimulatedInterfaces(self.number, self.interfaces, up_ns)
            if self._can_be_set:
                realiser = NoKernel()
                self._source = ConfigSource(self._source, realiser)
                self._running = Running(self._source, realiser)
        assert self._source is not None
        self.server = AgentServer(
            self._source, HOST, self.port, None, running=self._running, roles=lambda: Roles(allows_all=True)
        )
        self._task = asyncio.create_task(self.server.run())
        started = asyncio.create_task(self.server.started.wait())
        await asyncio.wait((self._task, started), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            started.cancel()
            self._task.result()
        self.port = self.server.port

    async def kill(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])


async def serve(targets: int, interfaces: int, up_ns: int, *, can_be_set: bool = False) -> None:
    """Run the targets until there are no more commands."""
    fleet = [Target(number, interfaces, can_be_set=can_be_set) for number in range(targets)]
    for one in fleet:
        await one.start(up_ns)
    say([one.port for one in fleet])
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    killed: list[Target] = []
    async for line in commands:
        command, *arguments = line.decode().split()
        match command:
            case "kill":
                killed = fleet[: int(arguments[0])]
                await asyncio.gather(*(one.kill() for one in killed))
                say(len(killed))
            case "revive":
                for one in killed:
                    await one.start(int(arguments[0]))
                say(len(killed))
            case "state":
                say([one.server.service.counts for one in fleet])
    await asyncio.gather(*(one.kill() for one in fleet))


def say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


class Fleet(Commanded):
    """The process; a context manager that leaves none behind.

    Attributes
    ----------
    ports:
        Of the targets, in the order of their numbers.
    interfaces:
        Of each of them.
    up_ns:
        The times that they count from, or some of them did.
    """

    def __init__(self, targets: int, interfaces: int, *, can_be_set: bool = False) -> None:
        self.interfaces = interfaces
        self.up_ns = [time.time_ns()]
        options = [*map(str, (targets, interfaces, self.up_ns[0])), *(["set"] if can_be_set else [])]
        super().__init__("tests.gnmi_fleet", *options)

    def kill(self, targets: int) -> None:
        """Cut off the first so many targets."""
        assert self.command(f"kill {targets}") == targets

    def revive(self) -> None:
        """Bring back those that were killed last."""
        self.up_ns.append(time.time_ns())
        self.command(f"revive {self.up_ns[-1]}")

    def state(self) -> list[dict[str, int]]:
        """Return what each target has sent."""
        found: list[dict[str, int]] = self.command("state")
        return found


if __name__ == "__main__":
    log.configure("error", "text")
    asyncio.run(serve(*map(int, sys.argv[1:4]), can_be_set=sys.argv[4:] == ["set"]))
