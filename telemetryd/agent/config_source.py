"""The configuration and its state as a tree that can be read, beside the interfaces of the host."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from telemetryd.agent.branches import branch_of
from telemetryd.agent.datastore import Entry, Values
from telemetryd.agent.interfaces import INTERFACE
from telemetryd.agent.model import ListNode, Model
from telemetryd.agent.qos_model import LISTS, MODULE_OF, MODULES
from telemetryd.agent.realise import Leaves, Realiser
from telemetryd.agent.source import Pulse, Source
from telemetryd.agent.tree import Branch, Elems, Snapshot, Value
from telemetryd.errors import TelemetrydError
from telemetryd.ingest.gnmi.path import parse
from telemetryd.observe.log import Log

#: Readings of which it is known what has changed since the one before.
REMEMBERED: Final = 64


def whole_model(interfaces: Model) -> Model:
    """Return the model of interfaces with QoS and defined sets."""
    return Model((*interfaces.modules, *MODULES), (*interfaces.lists, *LISTS), interfaces.modules_of | MODULE_OF)


class ConfigSource:
    """See :class:`telemetryd.agent.source.Source`: interfaces, QoS and defined sets.

    Parameters
    ----------
    interfaces:
        Another source; what it announces this one does too.
    realiser:
        What tells the counters.
    """

    def __init__(self, interfaces: Source, realiser: Realiser) -> None:
        self.model = whole_model(interfaces.model)
        self.pulse = Pulse()
        self._interfaces, self._realiser = interfaces, realiser
        self._published: dict[Elems, Branch] = {}
        # Entries that have changed since the last reading: nobody may ever read them.
        self._unread: dict[Elems, Entry] = {}
        # What may have changed from one reading to the next; the number of the reading is that of the first of them.
        self._changes: deque[frozenset[Elems]] = deque(maxlen=REMEMBERED)
        self._number = 0
        self._changing: set[Elems] = set()
        self._moving: frozenset[Elems] = frozenset()
        self._configured: dict[str, tuple[ListNode, Elems, Values]] = {}
        self._counted: dict[str, tuple[ListNode, Elems]] = {}
        self._log = Log("agent")

    async def run(self) -> None:
        """Listen to what is announced, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._interfaces.run(), name="interfaces")
            group.create_task(self._realiser.run(), name="realiser")
            group.create_task(self._pass_on(), name="pulse")

    async def _pass_on(self) -> None:
        while True:
            seen = self._interfaces.pulse.number
            self.pulse.beat()
            await self._interfaces.pulse.after(seen, None)

    async def ready(self) -> None:
        """Return when interfaces can be read."""
        await self._interfaces.read(asyncio.get_running_loop().time())

    @property
    def links_announced(self) -> int:
        """How often something of the interfaces was announced."""
        return self._interfaces.pulse.number

    async def links_changed(self, seen: int) -> int:
        """Return how often something was announced, once that is more often than was seen."""
        await self._interfaces.pulse.after(seen, None)
        return self._interfaces.pulse.number

    async def link_numbers(self) -> dict[str, Value | None]:
        """Return the interfaces that are there now, by name, each with its number, which is new if it came back."""
        position = next(i for i, leaf in enumerate(INTERFACE.leaves) if leaf.way == "state/ifindex")
        return {name: branch.values[position] for name, branch in (await self.interface_names()).items()}

    async def interface_names(self) -> dict[str, Branch]:
        """Return the interfaces that are there now, by name."""
        snapshot = await self._interfaces.read(asyncio.get_running_loop().time())
        return {elems[-1].keys[0][1]: branch for elems, branch in snapshot.branches.items()}

    def publish(self, changed: Iterable[tuple[str, Entry | None, Entry | None]]) -> None:
        """Show what has changed: paths of entries, with what they were and what they are."""
        for path, old, new in changed:
            self._changing.update(entry.elems for entry in (old, new) if entry is not None)
            if new is not None:
                self._unread[new.elems] = new
                self._configured[path] = (new.node, new.elems, new.values)
            elif old is not None:
                self._unread.pop(old.elems, None)
                self._published.pop(old.elems, None)
                self._configured.pop(path, None)
        self.pulse.beat()

    async def read(self, since_s: float) -> Snapshot:
        """See :meth:`telemetryd.agent.source.Source.read`."""
        snapshot = await self._interfaces.read(since_s)
        try:
            counted = await self._realiser.counters()
        except TelemetrydError as failure:
            # The configuration can be read all the same.
            self._log.warning("counters of queues cannot be read", reason=failure)
            counted = {}
        ts_ns = time.time_ns() if counted else snapshot.ts_ns
        for elems, entry in self._unread.items():
            self._published[elems] = branch_of(entry.node, elems, entry.values)
        self._unread = {}
        counters = self._with_counters(counted)
        branches = {**snapshot.branches, **self._published, **counters}
        # Interfaces and what is counted are others every time.
        moving = frozenset((*snapshot.branches, *counters))
        self._changes.append(frozenset((*moving, *self._moving, *self._changing)))
        self._number += 1
        self._moving, self._changing = moving, set()
        return Snapshot(ts_ns, snapshot.began_s, branches, self._number, self._since(self._number))

    def _since(self, number: int) -> Callable[[int], frozenset[Elems] | None]:
        """Return what tells what may have changed between an earlier reading and one."""

        def changed(earlier: int) -> frozenset[Elems] | None:
            first = self._number - len(self._changes) + 1
            if not first <= earlier + 1 <= number + 1:
                return None
            later = (self._changes[at - first] for at in range(earlier + 1, number + 1))
            return frozenset[Elems]().union(*later)

        return changed

    def _with_counters(self, counted: Leaves) -> Mapping[Elems, Branch]:
        by_entry: dict[str, dict[str, Value]] = {}
        for path, value in counted.items():
            at = path.rfind("]") + 1
            by_entry.setdefault(path[:at], {})[path[at + 1 :]] = value
        found = {}
        for path, state in by_entry.items():
            node, elems, values = self._configured.get(path) or (*self._place(path), {})
            found[elems] = branch_of(node, elems, values, state)
        return found

    def _place(self, path: str) -> tuple[ListNode, Elems]:
        """Return where an entry lies that only the kernel tells of."""
        known = self._counted.get(path)
        if known is None:
            elems = parse(path).elems
            node = self.model.node(elems)
            if node is None or node.list is None:
                raise LookupError(f"{path} is no entry of a list")
            known = self._counted[path] = (node.list, elems)
        return known
