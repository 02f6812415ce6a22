"""A device as a transaction sees it: it is read, written to in whole steps, and may roll back by itself.

:class:`telemetryd.enforce.gnmi_device.GnmiDevice` is the real one. What goes wrong has three kinds, which decide what a
transaction may believe: a refusal (nothing has changed), a lost answer (anything may have), and a device that is not
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from telemetryd.enforce.diff import Write
from telemetryd.enforce.names import Leaves, Value, is_ours
from telemetryd.errors import TelemetrydError


class DeviceError(TelemetrydError):
    """Something with a device, which the message names."""


class RefusedError(DeviceError):
    """The device has said no: it says that nothing has changed."""


class LostError(DeviceError):
    """No answer, or none that can be read: what was asked for may have been done, or be done later."""


@dataclass(frozen=True, slots=True)
class Traits:
    """How a device is written to and read.

    Attributes
    ----------
    is_atomic:
        A Set is all or nothing, and the device orders the changes itself: one Set holds everything.
    commits:
        The extension Commit: it rolls back by itself unless it is confirmed.
    state:
        ``required``: every leaf of config has its twin in state; ``optional``: those in containers that are served;
        ``unsupported``: state says nothing.
    rate_step_bps:
        Rates in state may be off by so much, or by :data:`telemetryd.enforce.verify.ROUNDING` of themselves.
    is_switch:
        Its writes count against the daily budget.
    """

    is_atomic: bool = False
    commits: bool = False
    state: str = "optional"
    rate_step_bps: int = 1
    is_switch: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """What a device says it has.

    Attributes
    ----------
    config:
        Everything configured below /qos and /defined-sets, of others too.
    state:
        The same paths with ``/config/`` where the device says ``/state/``, as far as it serves them.
    """

    config: Mapping[str, Value]
    state: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CommitTimer:
    """A commit that rolls back by itself unless it is confirmed: its id, and after how long."""

    id: str
    seconds: float


class Device(Protocol):
    """One device. Every call has a deadline of its own."""

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    @property
    def traits(self) -> Traits:
        """How it is written to and read."""
        ...

    async def read(self) -> Reading:
        """Read everything that a transaction looks at.

        Raises
        ------
        DeviceError
            If it cannot be read.
        """
        ...

    async def read_leaves(self, paths: Iterable[str]) -> Reading:
        """Read these leaves and their twins in state; those that are not there are left out.

        Raises
        ------
        DeviceError
            If they cannot be read.
        """
        ...

    async def write(self, writes: Sequence[Write], timer: CommitTimer | None = None) -> None:
        """Make one Set of these writes.

        Raises
        ------
        RefusedError
            If the device said no.
        LostError
            If it is not known what the device did.
        """
        ...

    async def confirm(self, commit: str) -> bool:
        """Confirm a commit; False where the device knows of none with this id.

        Raises
        ------
        LostError
            If it is not known what the device did.
        """
        ...

    async def cancel(self, commit: str) -> bool:
        """Roll a commit back; False where the device knows of none with this id.

        Raises
        ------
        LostError
            If it is not known what the device did.
        """
        ...

    async def extend(self, commit: str, seconds: float) -> None:
        """Begin the wait for a confirmation again.

        Raises
        ------
        DeviceError
            If the device does not do it.
        """
        ...


def ours_and_theirs(leaves: Leaves) -> tuple[dict[str, Value], dict[str, Value]]:
    """Divide what a device has into what is ours and what is not."""
    mine: dict[str, Value] = {}
    theirs: dict[str, Value] = {}
    for path, value in leaves.items():
        (mine if is_ours(path, leaves) else theirs)[path] = value
    return mine, theirs
