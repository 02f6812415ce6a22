"""The running configuration as a component: Sets one after the other, each of them whole or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import grpc

from telemetryd.agent.config_source import ConfigSource
from telemetryd.agent.datastore import Datastore
from telemetryd.agent.decode import Written
from telemetryd.agent.edit import Editor, is_of_system
from telemetryd.agent.place import refused
from telemetryd.agent.qos_model import PORT
from telemetryd.agent.realise import Leaves, Realiser
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.set_request import SetRequest, read_set
from telemetryd.agent.tree import Branch, Value
from telemetryd.agent.validate import validate
from telemetryd.errors import TelemetrydError
from telemetryd.observe.log import Log

#: Sets that may wait for those before them.
MOST_WAITING: Final = 128
#: Requests from this size on are read in a thread: streams go on meanwhile.
LARGE_OCTETS: Final = 1 << 16
INTERNAL: Final = grpc.StatusCode.INTERNAL


@dataclass(frozen=True, slots=True)
class _Job:
    """A Set that waits."""

    request: SetRequest
    who: str
    done: asyncio.Future[bytes] = field(compare=False)


class Running:
    """The configuration of this target, and what may change it.

    Parameters
    ----------
    source:
        Where it is shown.
    realiser:
        What makes it true.
    target:
        Our name, where we have one.
    """

    def __init__(self, source: ConfigSource, realiser: Realiser, *, target: str = "") -> None:
        self._source, self._realiser, self._target = source, realiser, target
        self._store = Datastore()
        self._editor = Editor(source.model, self._store)
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(MOST_WAITING)
        self._log = Log("agent")

    async def run(self) -> None:
        """Carry out Sets, until cancelled."""
        while True:
            job = await self._jobs.get()
            if job.done.cancelled():
                continue  # whoever asked has gone before it began
            try:
                answer = await self._carry_out(job.request)
            except TelemetrydError as failure:
                if not job.done.cancelled():
                    job.done.set_exception(failure)
            else:
                if not job.done.cancelled():
                    job.done.set_result(answer)

    async def set(self, octets: bytes, who: str) -> bytes:
        """Carry out a SetRequest; return the SetResponse.

        Parameters
        ----------
        who:
            Who asks, for the audit.

        Raises
        ------
        RefusedError
            If it is not carried out; nothing has changed then.
        """
        if len(octets) < LARGE_OCTETS:
            request = read_set(self._source.model, self._target, octets)
        else:
            request = await asyncio.to_thread(read_set, self._source.model, self._target, octets)
        job = _Job(request, who, asyncio.get_running_loop().create_future())
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MOST_WAITING} Sets are waiting already: try again later"
            ) from None
        return await job.done

    def leaves(self) -> Leaves:
        """Return all leaves of the configuration: a view, good until the next Set."""
        return self._store.leaves()

    async def _carry_out(self, request: SetRequest) -> bytes:
        if not request.is_empty:
            await self._change(request)
        request.response.timestamp = time.time_ns()
        return bytes(request.response.SerializeToString())

    async def _change(self, request: SetRequest) -> None:
        store = self._store
        try:
            own = self._apply(request)
            needs_interfaces = own or any(
                entry is not None and entry.node.names == PORT for entry in map(store.entries.get, store.touched())
            )
            interfaces = await self._source.interface_names() if needs_interfaces else {}
            _check_system(own, interfaces)
            validate(store, interfaces)
            changed = store.changed()
            if changed:
                await self._realise(store.leaves_before(), store.leaves(), changed)
        except BaseException:
            store.undo()
            raise
        self._source.publish((path, old, store.entries.get(path)) for path, old in store.touched().items())
        store.keep()

    def _apply(self, request: SetRequest) -> Written:
        """Carry out the operations on the datastore; return what they say of entries that are the system's."""
        own: Written = {}
        for writing in request.writings:
            for path in [path for path, entry in writing.written.items() if is_of_system(entry)]:
                own[path] = writing.written.pop(path)
        for elems in request.deletes:
            self._editor.delete(elems)
        for writing in request.replaces:
            self._editor.replace(*writing)
        if request.unions:
            self._editor.replace_by_union(request.unions)
        for writing in request.updates:
            self._editor.update(writing.written)
        return own

    async def _realise(self, old: Leaves, new: Leaves, changed: list[str]) -> None:
        try:
            await self._realiser.realise(old, new, changed)
        except RefusedError:
            raise
        except TelemetrydError as failure:
            raise RefusedError(INTERNAL, f"{changed[0]}: cannot be realised: {failure}") from failure


def _check_system(written: Written, interfaces: Mapping[str, Branch]) -> None:
    """Refuse what is written of the system's own entries, unless it is what they are."""
    for path, entry in written.items():
        branch = interfaces.get(entry.elems[-1].keys[0][1])
        if branch is None:
            raise refused(path, "there is no such interface, and none can be made here")
        for way, value in entry.values.items():
            found = branch.values[entry.node.leaves.index(entry.node.by_way[way])]
            if found is None or _bare(found) != _bare(value):
                raise refused(f"{path}/{way}", "cannot be set here: interfaces are configured on the host itself")


def _bare(value: Value) -> Value:
    return value.rpartition(":")[2] if isinstance(value, str) else value
