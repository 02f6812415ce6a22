"""The guard of protected queues where nobody else counts them: it asks the device itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from telemetryd.enforce.device import DeviceError
from telemetryd.enforce.guard import Judgement, Verdict
from telemetryd.enforce.guards import QueueCount, QueueGuard
from telemetryd.enforce.readback import bare
from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.path import Elem, elems_of
from telemetryd.proto import gnmi_pb2

_PATH: Final = "/qos/interfaces"
_PACKETS, _DROPPED = "transmit-pkts", "dropped-pkts"


class Asked(Protocol):
    """A device that answers whatever it is asked."""

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    async def read_notifications(self, paths: Sequence[str], kind: str = "ALL") -> list[gnmi_pb2.Notification]:
        """See :meth:`telemetryd.enforce.gnmi_device.GnmiDevice.read_notifications`."""
        ...


class AskedQueueGuard:
    """See :class:`telemetryd.enforce.guards.QueueGuard`, whose counters are read when it is asked.

    Parameters
    ----------
    queues:
        The protected ones, as ``interface/queue``.
    """

    def __init__(self, device: Asked, queues: Sequence[str]) -> None:
        self._device = device
        self._counts: dict[str, QueueCount] = {}
        self._inner = QueueGuard(device.name, queues, lambda: self._counts)

    @property
    def name(self) -> str:
        """See :class:`telemetryd.enforce.guard.Guard`."""
        return self._inner.name

    async def begin(self) -> None:
        """Note what the queues have counted; those that are still to be made count from nothing."""
        if await self._ask() is None:
            self._counts = {queue: self._counts.get(queue, QueueCount(0, 0, 0)) for queue in self._inner.queues}
        await self._inner.begin()

    async def judge(self) -> Judgement:
        """Compare the drops since the change with those before it."""
        failure = await self._ask()
        missing = [queue for queue in self._inner.queues if queue not in self._counts]
        if failure is not None or missing:
            return Judgement(Verdict.CANNOT_TELL, failure or f"it counts nothing at {missing[0]}", self.name)
        return await self._inner.judge()

    async def _ask(self) -> str | None:
        """Read the counters; return why they cannot be read."""
        try:
            found = queue_counts(await self._device.read_notifications([_PATH], "STATE"), time.time_ns())
        except (DeviceError, InputError) as error:
            return str(error)
        self._counts = found
        return None


def queue_counts(notifications: Iterable[gnmi_pb2.Notification], now_ns: int) -> dict[str, QueueCount]:
    """Return what the queues of all outputs have counted, by ``interface/queue``.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    found: dict[str, dict[str, int]] = {}
    for notification in notifications:
        before = elems_of(notification.prefix)
        for update in notification.update:
            for elems, value in _leaves([*before, *elems_of(update.path)], _content(update.val)):
                names = [elem.name for elem in elems]
                if names[-2:-1] == ["state"] and names[-1] in (_PACKETS, _DROPPED) and "output" in names:
                    keys = [key for elem in elems for _, key in elem.keys]
                    if len(keys) == 2:
                        found.setdefault("/".join(keys), {})[names[-1]] = int(value)
    return {
        queue: QueueCount(counts.get(_PACKETS, 0), counts[_DROPPED], now_ns)
        for queue, counts in found.items()
        if _DROPPED in counts
    }


def _content(value: gnmi_pb2.TypedValue) -> Any:
    field = value.WhichOneof("value")
    if field in ("json_ietf_val", "json_val"):
        try:
            return json.loads(getattr(value, field))
        except ValueError as error:
            raise InputError(f"is no JSON: {error}") from None
    return getattr(value, field) if field is not None else None


def _leaves(elems: list[Elem], value: Any) -> Iterator[tuple[list[Elem], Any]]:
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _leaves([*elems, Elem(bare(name))], child)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        last = elems[-1]
        for entry in value:
            plain = {bare(name): own for name, own in entry.items()}
            key = next((name for name in ("interface-id", "name", "type", "sequence", "id") if name in plain), "")
            yield from _leaves([*elems[:-1], Elem(last.name, ((key, str(plain.get(key))),))], entry)
    else:
        yield elems, value
