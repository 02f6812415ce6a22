"""The running configuration as a component: Sets one after the other, each of them whole or not at all.

    SetRequest -> operations on the datastore -> rules -> realiser -> disk -> shown -> audit -> answer

Whatever fails before it is shown is taken back. A commit whose time is over is a change as any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import grpc

from telemetryd.agent.audit import Audit, Caller, Row
from telemetryd.agent.commit import arbitrate, check_commit, duration_of
from telemetryd.agent.config_source import ConfigSource
from telemetryd.agent.datastore import Datastore, Values
from telemetryd.agent.decode import Written
from telemetryd.agent.edit import Editor, is_of_system
from telemetryd.agent.place import refused
from telemetryd.agent.qos_model import PORT
from telemetryd.agent.realise import Leaves, Realiser
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.set_request import SetRequest, read_set
from telemetryd.agent.state_directory import Pending, StateDirectory, boot_id, boot_s, entries_of
from telemetryd.agent.tree import Branch, Value
from telemetryd.agent.validate import validate
from telemetryd.errors import TelemetrydError
from telemetryd.observe.health import Health, degraded
from telemetryd.observe.log import Log

#: Sets that may wait for those before them.
MOST_WAITING: Final = 128
#: Requests from this size on are read in a thread: streams go on meanwhile.
LARGE_OCTETS: Final = 1 << 16
#: How often what could not be realised is tried again.
AGAIN_S: Final = 30.0
INTERNAL: Final = grpc.StatusCode.INTERNAL
_TIMER: Final = Caller("timer")


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A Set that waits; without a request the clock of a commit, or a new look at what could not be realised."""

    request: SetRequest | None
    caller: Caller
    done: asyncio.Future[bytes] | None = field(default=None)


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
    state:
        Where it is kept; None for in memory only.

    Attributes
    ----------
    audit:
        Who has set what.
    """

    def __init__(
        self, source: ConfigSource, realiser: Realiser, *, target: str = "", state: StateDirectory | None = None
    ) -> None:
        self._source, self._realiser, self._target, self._state = source, realiser, target, state
        self._store = Datastore()
        self._editor = Editor(source.model, self._store)
        self.audit = Audit(None if state is None else state.audit)
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(MOST_WAITING)
        self._elections: dict[str, int] = {}
        self._pending: Pending | None = None
        self._log = Log("agent")
        self._is_prepared = False
        self._preparing = asyncio.Lock()
        # Why the kernel is not as it shall be.
        self._untrue = ""

    def health(self) -> Health:
        """Return what is not as it shall be."""
        reasons = [f"not realised: {self._untrue}"] if self._untrue else []
        if self._pending is not None:
            left_s = max(0.0, self._pending.deadline_s - boot_s())
            reasons.append(
                f'commit "{self._pending.id}" waits for its confirmation: it is rolled back in {left_s:.0f} s'
            )
        reasons += [f"changed by others: {name}" for name in self._realiser.drift[:1]]
        if self.audit.failure:
            reasons.append(f"audit: {self.audit.failure}")
        return degraded(*reasons)

    async def prepare(self) -> None:
        """Take over what was kept, and make it true; what cannot be realised is logged, and tried again.

        Raises
        ------
        InputError
            If what was kept is damaged.
        """
        async with self._preparing:
            if not self._is_prepared:
                await self._take_over()
                self._is_prepared = True

    async def _take_over(self) -> None:
        await asyncio.to_thread(boot_id)
        if self._state is None:
            self._log.warning("without --state-dir: what is set is gone when the agent ends")
        else:
            saved = await asyncio.to_thread(self._state.load)
            for entry in entries_of(self._source.model, saved.entries, self._state.path):
                self._store.put(entry)
            self._store.keep()
            self._elections = saved.elections
            self._pending = saved.pending
            self._log.info("configuration read", leaves=len(self._store.leaves()), directory=self._state.path)
        await self._source.ready()
        self._source.publish((path, None, entry) for path, entry in self._store.entries.items())
        if self._pending is not None and self._pending.boot != boot_id():
            await self._revert("the host has booted again")
        await self._realise_all()

    async def run(self) -> None:
        """Carry out Sets, and roll back commits that are not confirmed, until cancelled."""
        await self.prepare()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work(), name="jobs")
            group.create_task(self._watch(), name="links")

    async def set(self, octets: bytes, caller: Caller) -> bytes:
        """Carry out a SetRequest; return the SetResponse.

        Parameters
        ----------
        caller:
            Who asks, for the audit.

        Raises
        ------
        RefusedError
            If it is not carried out; nothing has changed then.
        """
        try:
            if len(octets) < LARGE_OCTETS:
                request = read_set(self._source.model, self._target, octets)
            else:
                request = await asyncio.to_thread(read_set, self._source.model, self._target, octets)
        except RefusedError as refusal:
            await self.audit.note(caller, refusal)
            raise
        job = _Job(request, caller, asyncio.get_running_loop().create_future())
        assert job.done is not None
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

    # --- one after the other ----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            job = await self._next()
            if job is None:
                if self._pending is not None and self._pending.deadline_s <= boot_s():
                    await self._revert("not confirmed in time")
                elif self._untrue:
                    await self._realise_all()
            elif job.request is None:
                await self._realise_all()
            elif job.done is not None and not job.done.cancelled():
                await self._serve(job, job.request, job.done)

    async def _next(self) -> _Job | None:
        """Return the next job; None when it is time for something else."""
        timeout_s = AGAIN_S if self._untrue else None
        if self._pending is not None:
            left_s = max(0.0, self._pending.deadline_s - boot_s())
            timeout_s = left_s if timeout_s is None else min(left_s, timeout_s)
            if left_s == 0.0:
                return None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._jobs.get()
        except TimeoutError:
            return None

    async def _serve(self, job: _Job, request: SetRequest, done: asyncio.Future[bytes]) -> None:
        try:
            answer = await self._carry_out(request, job.caller)
        except TelemetrydError as failure:
            await self.audit.note(job.caller, failure, request)
            if not done.done():
                done.set_exception(failure)
        except Exception as error:  # noqa: BLE001 - a request must not end the agent; what it has met is logged
            self._log.error("a Set has met a fault of ours", error=error)
            self._untrue = "a fault of ours, see the log"
            if not done.done():
                done.set_exception(RefusedError(INTERNAL, "a fault of this target: its log has more"))
        else:
            if not done.done():
                done.set_result(answer)

    async def _watch(self) -> None:
        """Make everything true again when an interface has come that the configuration may name."""
        seen, known = self._source.links_announced, await self._links()
        while True:
            seen = await self._source.links_changed(seen)
            now = await self._links()
            if now != known and self._store.entries and not self._jobs.full():
                self._jobs.put_nowait(_Job(None, _TIMER))
            known = now

    async def _links(self) -> dict[str, Value | None]:
        try:
            return await self._source.link_numbers()
        except TelemetrydError:
            return {}

    # --- changes ----------------------------------------------------------------------------------------------------

    async def _carry_out(self, request: SetRequest, caller: Caller) -> bytes:
        if arbitrate(request.arbitration, self._elections):
            await self._keep({}, self._pending)
        is_claim = request.is_empty and request.arbitration is not None and request.commit is None
        action = "" if is_claim else check_commit(request.commit, self._pending, is_empty=request.is_empty)
        pending = self._pending
        rows: list[Row] = []
        if action == "cancel":
            await self._revert("cancelled", caller)
        elif action == "confirm":
            await self._keep({}, None)
            self._pending = None
            self._log.info("commit confirmed", id=pending.id if pending else "", by=caller.name)
        elif action == "set_rollback_duration":
            assert pending is not None and request.commit is not None
            seconds = duration_of(request.commit)
            pending = replace(pending, seconds=seconds, deadline_s=boot_s() + seconds)
            await self._keep({}, pending)
            self._pending = pending
        else:
            rows = await self._change(request, caller, is_commit=action == "commit")
        await self.audit.note(caller, None, request, rows)
        request.response.timestamp = time.time_ns()
        return bytes(request.response.SerializeToString())

    async def _change(self, request: SetRequest, caller: Caller, *, is_commit: bool) -> list[Row]:
        """Carry out operations; return what they have changed: paths, old values, new values."""
        store, pending = self._store, None
        try:
            own = self._apply(request)
            needs_interfaces = own or any(
                entry is not None and entry.node.names == PORT for entry in map(store.entries.get, store.touched())
            )
            interfaces = await self._source.interface_names() if needs_interfaces else {}
            _check_system(own, interfaces)
            validate(store, interfaces)
            changed = store.changed()
            if is_commit:
                assert request.commit is not None
                seconds = duration_of(request.commit)
                undo = {path: None if old is None else old.values for path, old in store.touched().items()}
                pending = Pending(request.commit.id, caller.name, seconds, boot_s() + seconds, boot_id(), undo)
            before, after = store.leaves_before(), store.leaves()
            rows = [(path, before.get(path), after.get(path)) for path in changed] if self.audit.is_kept else []
            if changed:
                await self._realise(before, after, changed)
            if changed or pending is not None:
                await self._keep_or_take_back(self._touched(), pending, changed)
        except BaseException:
            store.undo()
            raise
        if is_commit:
            self._pending = pending
        self._publish()
        return rows

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

    async def _revert(self, why: str, caller: Caller = _TIMER) -> None:
        """Go back to what was before the commit that waits."""
        pending = self._pending
        assert pending is not None
        self._log.warning("commit rolled back", id=pending.id, why=why)
        kept = {path: values for path, values in pending.undo.items() if values is not None}
        store = self._store
        for path, values in pending.undo.items():
            if values is None:
                store.remove(path)
        for entry in entries_of(self._source.model, kept, pending.id):
            store.put(entry)
        changed = store.changed()
        before, after = store.leaves_before(), store.leaves()
        rows = [(path, before.get(path), after.get(path)) for path in changed]
        try:
            if changed:
                await self._realise(before, after, changed)
        except RefusedError as failure:
            # What was confirmed is the configuration, whatever the kernel says; it is tried again.
            self._untrue = str(failure)
            self._log.error("what a commit is rolled back to cannot be realised", reason=failure)
        touched = self._touched()
        self._pending = None
        self._publish()
        try:
            await self._keep(touched, None)
        except RefusedError as failure:
            # On the disk it still waits, and is rolled back again after a restart: to the same.
            self._log.error("a rolled back commit cannot be kept", reason=failure)
        await self.audit.note(caller, None, None, rows, what=f'rolled back commit "{pending.id}": {why}')

    def _touched(self) -> dict[str, Values | None]:
        entries = self._store.entries
        return {path: entries[path].values if path in entries else None for path in self._store.touched()}

    def _publish(self) -> None:
        store = self._store
        self._source.publish((path, old, store.entries.get(path)) for path, old in store.touched().items())
        store.keep()

    async def _keep_or_take_back(
        self, touched: dict[str, Values | None], pending: Pending | None, changed: list[str]
    ) -> None:
        try:
            await self._keep(touched, pending)
        except RefusedError:
            if changed:
                try:
                    await self._realise(self._store.leaves(), self._store.leaves_before(), changed)
                except RefusedError as failure:
                    self._untrue = str(failure)
            raise

    async def _keep(self, touched: dict[str, Values | None], pending: Pending | None) -> None:
        """Keep a change on the disk."""
        state = self._state
        if state is None:
            return
        elections = dict(self._elections)
        try:
            if state.is_large(touched):
                entries = {path: entry.values for path, entry in self._store.entries.items()}
                await asyncio.to_thread(state.save, entries, pending, elections)
            else:
                await asyncio.to_thread(state.append, touched, pending, elections)
        except TelemetrydError as failure:
            raise RefusedError(INTERNAL, f"the change cannot be kept: {failure}") from failure

    # --- the kernel -------------------------------------------------------------------------------------------------

    async def _realise(self, old: Leaves, new: Leaves, changed: list[str]) -> None:
        if self._untrue:
            # Perhaps this change is what was missing: all of it, or what is new at least.
            try:
                await self._realiser.realise(new, new, ())
            except TelemetrydError as failure:
                self._untrue = str(failure)
            else:
                self._untrue = ""
                return
        try:
            await self._realiser.realise(old, new, changed)
        except RefusedError:
            raise
        except TelemetrydError as failure:
            raise RefusedError(INTERNAL, f"{changed[0]}: cannot be realised: {failure}") from failure

    async def _realise_all(self) -> None:
        leaves = self._store.leaves()
        try:
            await self._realiser.realise(leaves, leaves, ())
        except TelemetrydError as failure:
            if str(failure) != self._untrue:
                self._log.error("the configuration is not realised", reason=failure)
            self._untrue = str(failure)
        else:
            if self._untrue:
                self._log.info("the configuration is realised again")
            self._untrue = ""


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
