"""What makes a configuration true: the kernel, or nothing but memory.

The datastore hands over leaves; what becomes of them on this host is the business of a realiser alone. Paths are
whole and canonical (:mod:`telemetryd.ingest.gnmi.path`), of configuration only: all
`config` leaves below ``/qos`` and ``/defined-sets``. They have been held against the model, and every reference leads
somewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

from telemetryd.agent.tree import Value

#: By path; a value of a leaf-list is a tuple in its order, identities and enumerations have no module's name.
#: A look-up costs the same whatever there is; to go through all of it does not.
Leaves = Mapping[str, Value]


class Realiser(Protocol):
    """Makes configurations true, one after the other: nobody calls :meth:`realise` while it is under way.

    Attributes
    ----------
    features:
        What can be realised here, as words for people: shown in the log.
    drift:
        What is not as it was made, by its name: others have changed it.
    """

    features: tuple[str, ...]
    drift: tuple[str, ...]

    async def run(self) -> None:
        """Keep open what has to be, until cancelled."""

    async def realise(self, old: Leaves, new: Leaves, changed: Collection[str]) -> None:
        """Go from one configuration to another.

        Parameters
        ----------
        old, new:
            Views, which are good for this call only: keep what has to be known later.
        changed:
            Paths of leaves that are only in one of them or differ. The same leaves twice, with nothing changed, ask to
            make everything as it shall be, from whatever is there: after a start, or when an interface has come.

        Raises
        ------
        telemetryd.agent.refusal.RefusedError
            If it cannot be done; its message begins with the path of a leaf. Everything is as it was before then.
        """

    async def read(self) -> Mapping[str, object]:
        """Return what is there of ours, as it is: objects of the kernel by their names.

        Raises
        ------
        telemetryd.errors.TelemetrydError
            If it cannot be read now.
        """

    async def counters(self) -> Leaves:
        """Return leaves of `state` that configuration does not give: counters, and values that came out otherwise.

        Raises
        ------
        telemetryd.errors.TelemetrydError
            If they cannot be read now.
        """


class NoKernel:
    """Keeps what it was given, in memory: for simulated targets, and for hosts whose queues are left alone."""

    features: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.leaves: dict[str, Value] = {}

    async def run(self) -> None:
        """See :meth:`Realiser.run`."""
        await asyncio.Event().wait()

    async def realise(self, old: Leaves, new: Leaves, changed: Collection[str]) -> None:
        """See :meth:`Realiser.realise`."""
        if not changed:
            self.leaves = dict(new)
        for path in changed:
            value = new.get(path)
            if value is None:
                self.leaves.pop(path, None)
            else:
                self.leaves[path] = value

    async def read(self) -> Mapping[str, object]:
        """See :meth:`Realiser.read`."""
        return dict(self.leaves)

    async def counters(self) -> Leaves:
        """See :meth:`Realiser.counters`."""
        return {}
