"""Guards of a change, beside probes: is the device itself still there, and do its protected queues drop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from telemetryd.enforce.device import Device, DeviceError
from telemetryd.enforce.guard import Judgement, Verdict
from telemetryd.enforce.names import PREFIX

#: Part of the packets of a protected queue that may be dropped more than before.
DROPPED: Final = 0.001


class QueueCount(NamedTuple):
    """What a queue has counted since the start, and when that was read; ns since the epoch."""

    packets: int
    dropped: int
    at_ns: int


#: What a device is asked for, whether it has it or not.
ASKED: Final = f"/qos/queues/queue[name={PREFIX}protected]/config/name"
#: Counters that do not come for so long after a change cannot judge it.
PATIENCE_S: Final = 45.0

#: Queue -> what it counted; those that are not told of are not there.
ReadQueues = Callable[[], Mapping[str, QueueCount]]


class DeviceGuard:
    """Asks the device for a leaf: one that does not answer any more was hurt."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._answered = False

    @property
    def name(self) -> str:
        """See :class:`telemetryd.enforce.guard.Guard`."""
        return f"device {self._device.name}"

    async def begin(self) -> None:
        """Ask it before anything is written."""
        self._answered = await self._ask() == ""

    async def judge(self) -> Judgement:
        """Ask it again."""
        if not self._answered:
            return Judgement(Verdict.CANNOT_TELL, "it did not answer before the change either", self.name)
        failure = await self._ask()
        return Judgement(Verdict.HURT if failure else Verdict.OK, failure, self.name)

    async def _ask(self) -> str:
        try:
            await self._device.read_leaves((ASKED,))
        except DeviceError as error:
            return str(error)
        return ""


class QueueGuard:
    """Holds the drops of protected queues after a change against those before.

    Counters come at their own pace. As long as nothing new was counted nothing speaks against a change, up to
    :data:`PATIENCE_S`; then nobody can tell.

    Parameters
    ----------
    device:
        Whose queues.
    queues:
        The protected ones.
    read:
        Tells what they counted.
    clock:
        Monotonic, in s.
    """

    def __init__(
        self, device: str, queues: Sequence[str], read: ReadQueues, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.queues = tuple(queues)
        self._device, self._read, self._clock = device, read, clock
        self._first: Mapping[str, QueueCount] = {}
        self._before: Mapping[str, QueueCount] = {}
        self._begun_s = 0.0
        self._is_pending = False

    @property
    def name(self) -> str:
        """See :class:`telemetryd.enforce.guard.Guard`."""
        return f"protected queues of {self._device}"

    async def begin(self) -> None:
        """Note what they have counted; what they dropped since the last change is how it was before this one."""
        if not self._is_pending:
            self._first, self._before = self._before, dict(self._read())
            self._begun_s = self._clock()

    async def judge(self) -> Judgement:
        """Compare the drops since the change with those before it."""
        now = self._read()
        self._is_pending = False
        for queue in self.queues:
            before, after = self._before.get(queue), now.get(queue)
            if before is None or after is None or after.at_ns <= before.at_ns:
                if self._clock() - self._begun_s < PATIENCE_S:
                    self._is_pending = True
                    continue
                return Judgement(Verdict.CANNOT_TELL, f"nothing was counted at {queue} since the change", self.name)
            if after.packets < before.packets or after.dropped < before.dropped:
                return Judgement(Verdict.CANNOT_TELL, f"the counters of {queue} began anew", self.name)
            dropped = _part(before, after)
            usual = _part(self._first[queue], before) if queue in self._first else 0.0
            if dropped > usual + DROPPED:
                what = f"{queue} drops {100 * dropped:.2g} % of its packets, before it was {100 * usual:.2g} %"
                return Judgement(Verdict.HURT, what, self.name)
        return Judgement(Verdict.OK, "", self.name)


def _part(one: QueueCount, two: QueueCount) -> float:
    dropped, sent = two.dropped - one.dropped, two.packets - one.packets
    return dropped / (dropped + sent) if dropped > 0 else 0.0


class ProtectedGuard:
    """The guard of the protected queues of a gateway, whichever its plan has; without any it has nothing against it.

    Where no queue was ever counted nobody subscribed to them: then this guard is not armed.

    Parameters
    ----------
    queues:
        Returns the protected ones of the plan in force.
    """

    def __init__(self, device: str, queues: Callable[[], Sequence[str]], read: ReadQueues) -> None:
        self._device, self._queues, self._read = device, queues, read
        self._guard: QueueGuard | None = None

    @property
    def name(self) -> str:
        """See :class:`telemetryd.enforce.guard.Guard`."""
        return f"protected queues of {self._device}"

    async def begin(self) -> None:
        """Note what they have counted."""
        armed = tuple(dict.fromkeys(self._queues())) if self._read() else ()
        if self._guard is None or self._guard.queues != armed:
            self._guard = QueueGuard(self._device, armed, self._read)
        await self._guard.begin()

    async def judge(self) -> Judgement:
        """Compare with the beginning."""
        if self._guard is None:
            return Judgement(Verdict.CANNOT_TELL, "it was not asked before the change", self.name)
        return await self._guard.judge()
