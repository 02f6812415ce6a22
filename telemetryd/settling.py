"""What of enforcement goes on by itself: transactions that a crash left open are brought to their end, drift is found.

Devices that something of ours was confirmed on are read every `enforce.drift_interval`, and as soon as they announce a
change of their QoS. Drift is shown, repaired by a transaction, or freezes all writing, as `enforce.drift` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from telemetryd.component import Component, wait
from telemetryd.enforce.drift import Drift, freeze_for_drift, look_for_drift, repair
from telemetryd.enforce.journal import open_transactions
from telemetryd.enforce.prepare import Prepared
from telemetryd.enforce.recover import recover
from telemetryd.enforce.transaction import Options
from telemetryd.errors import InputError, TelemetrydError
from telemetryd.ingest.gnmi.backoff import Backoff
from telemetryd.ingest.gnmi.grpc_aio import GrpcTransport
from telemetryd.ingest.gnmi.path import parse
from telemetryd.ingest.gnmi.subscription import Mode, Subscription, Wanted, subscribe_request
from telemetryd.observe.health import Health, degraded
from telemetryd.observe.log import Log
from telemetryd.proto import gnmi_pb2
from telemetryd.reaching import Reaching

SECOND_NS: Final = 1_000_000_000
#: How often open transactions are looked for.
LOOK_S: Final = 5.0
#: Changes that a device announces within this time are one.
CALM_S: Final = 1.0
#: Where nothing counts: an announcement there is a change of configuration.
WATCHED: Final = (
    "/qos/queues",
    "/qos/forwarding-groups",
    "/qos/classifiers",
    "/qos/scheduler-policies",
    "/qos/interfaces/interface[interface-id=*]/output/scheduler-policy/config",
    "/qos/interfaces/interface[interface-id=*]/input/scheduler-policy/config",
)
_LONGEST_S: Final = 600.0


class Settling(Component):
    """Bring transactions to their end, and look for drift.

    Parameters
    ----------
    reaching:
        The devices.
    """

    name: ClassVar[str] = "settling"

    def __init__(self, reaching: Reaching) -> None:
        super().__init__()
        self._reaching = reaching
        self._next: Reaching | None = None
        self._log = Log(self.name)
        self._wake = asyncio.Event()
        self._drifts: dict[str, str] = {}
        self._open: dict[str, str] = {}
        self._trouble = ""
        self._changed: set[str] = set()
        self._watchers: dict[str, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Ask :meth:`run` to return."""
        super().stop()
        self._wake.set()

    def replace(self, reaching: Reaching) -> None:
        """Go by another configuration from now on."""
        self._next = reaching
        self._wake.set()

    def health(self) -> Health:
        """Degraded while a transaction is open, a device differs, or records cannot be read."""
        reasons = [self._trouble] if self._trouble else []
        reasons += [f"transaction {name}: {why}" for name, why in self._open.items()]
        reasons += [f"{name}: {why}" for name, why in self._drifts.items()]
        return degraded(*reasons[:10])

    async def run(self) -> None:
        """Look every few seconds, until stopped."""
        self.started.set()
        loop = asyncio.get_running_loop()
        read_s = loop.time()  # a device that has just been written to need not be read at once
        backoff = Backoff(LOOK_S, 60.0)
        async with asyncio.TaskGroup() as group:
            try:
                while not self.stopping.is_set():
                    if self._next is not None:
                        await self._reaching.close()
                        self._reaching, self._next = self._next, None
                        self._leave()
                    try:
                        is_settled = await self._settle()
                        self._watch(group, await asyncio.to_thread(self._reaching.records.intended_devices))
                        if loop.time() - read_s >= self._reaching.settings.drift_interval / SECOND_NS:
                            read_s = loop.time()
                            await self._look(await asyncio.to_thread(self._reaching.records.intended_devices))
                        elif self._changed:
                            changed, self._changed = self._changed, set()
                            await self._look(sorted(changed))
                        self._trouble = ""
                    except TelemetrydError as error:
                        is_settled, self._trouble = False, str(error)
                        self._log.error("cannot look after devices", reason=error)
                    if is_settled:
                        backoff.reset()
                    self._wake.clear()
                    await wait(self._wake, LOOK_S if is_settled else backoff.next_s())
                    if self._changed and not self.stopping.is_set():
                        await asyncio.sleep(CALM_S)
            finally:
                self._leave()
                await self._reaching.close()

    async def _settle(self) -> bool:
        """Bring open transactions to their end; tell whether none is left."""
        records = self._reaching.records
        if not await asyncio.to_thread(open_transactions, records.transactions):
            self._open = {}
            return True
        found = await recover(records, self._reaching.find, patience_s=LOOK_S)
        for one in found:
            if one.outcome != "running" and one.outcome != "unsettled":
                self._log.warning("transaction recovered", id=one.id, outcome=one.outcome, reason=one.why)
        self._open = {one.id: "; ".join(one.unsettled.values()) for one in found if one.unsettled}
        return not self._open

    async def _look(self, names: Sequence[str]) -> None:
        """Hold devices against what was confirmed on them."""
        reaching = self._reaching
        wrong: list[tuple[Drift, Prepared]] = []
        for drift, prepared in await look_for_drift(reaching.records, reaching.find, names):
            before = self._drifts.pop(drift.device, "")
            if not drift.unread and not drift.is_there:
                continue
            words = drift.unread and f"cannot be read: {drift.unread}"
            words = words or f"{len(drift.change.writes) + len(drift.state)} leaves are not as confirmed"
            self._drifts[drift.device] = words
            if words != before:
                self._log.warning("drift", device=drift.device, what=words)
            if prepared is not None and drift.change.steps:
                wrong.append((drift, prepared))
        if not wrong:
            return
        match reaching.settings.drift:
            case "freeze" if await asyncio.to_thread(reaching.records.frozen) is None:
                await freeze_for_drift(reaching.records, [drift for drift, _ in wrong])
                self._log.error("frozen for drift", devices=",".join(drift.device for drift, _ in wrong))
            case "repair":
                allowed = [one for drift, one in wrong if not reaching.why_not(drift.device)]
                if allowed:
                    options = Options(limits=reaching.limits, is_forced=True)
                    done = await repair(reaching.records, allowed, "drift", options)
                    self._log.warning("drift repaired", outcome=done.outcome, reason=done.why, transaction=done.id)

    # --- announcements ----------------------------------------------------------------------------------------------

    def _watch(self, group: asyncio.TaskGroup, names: Sequence[str]) -> None:
        """Listen to the devices that something of ours is on."""
        for name in [name for name in self._watchers if name not in names]:
            self._watchers.pop(name).cancel()
        for name in names:
            if name not in self._watchers and self._reaching.find(name) is not None:
                self._watchers[name] = group.create_task(self._listen(name), name=f"{self.name}:{name}")

    async def _listen(self, name: str) -> None:
        """Note what a device announces, again and again; where it does not, it is read at its time."""
        backoff = Backoff(1.0, _LONGEST_S)
        while True:
            try:
                reach = self._reaching.device(name).reach
                credentials = await asyncio.to_thread(reach.login.read)
                endpoint = replace(reach.wanted.endpoint, credentials=credentials)
                subscriptions = tuple(Subscription(parse(path), Mode.ON_CHANGE, 0) for path in WATCHED)
                wanted = replace(reach.wanted, subscriptions=subscriptions, updates_only=True)
                await GrpcTransport(endpoint).subscribe(_asked(wanted), self._taken(name))
            except (TelemetrydError, InputError) as error:
                self._log.debug("announces no changes", device=name, reason=error)
            await asyncio.sleep(backoff.next_s())

    def _taken(self, name: str) -> Any:
        def take(octets: Any, offsets: Any, lengths: Any, received_ns: int) -> None:
            for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
                message = gnmi_pb2.SubscribeResponse.FromString(octets[offset : offset + length].tobytes())
                # Once everything is subscribed to, whatever happened before is looked for.
                if message.WhichOneof("response") in ("update", "sync_response"):
                    self._changed.add(name)
                    self._wake.set()

        return take

    def _leave(self) -> None:
        for task in self._watchers.values():
            task.cancel()
        self._watchers = {}


async def _asked(wanted: Wanted) -> AsyncIterator[bytes]:
    yield subscribe_request(wanted, gnmi_pb2.JSON_IETF)
    await asyncio.Event().wait()
