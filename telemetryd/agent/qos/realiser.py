"""The kernel as a realiser: configurations become classes, maps and devices, all or nothing.

What was compiled is kept: a Set that changes schedulers alone looks at the policies that it changed. Every half minute
the kernel is read and compared with what it was made to be; what others have changed is named, and put right by the
next Set, or at the next start.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
from collections.abc import Collection, Mapping
from typing import Final

import grpc

from telemetryd.agent.kernel import speeds_of
from telemetryd.agent.qos.changes import ChangeFailedError, Kernel, State
from telemetryd.agent.qos.compilation import Compilation
from telemetryd.agent.qos.counting import Widened, leaves_of
from telemetryd.agent.qos.objects import PORT, Key
from telemetryd.agent.realise import Leaves
from telemetryd.agent.refusal import RefusedError
from telemetryd.errors import TelemetrydError
from telemetryd.observe.log import Log

#: How often the kernel is held against what it shall be.
LOOK_S: Final = 30.0
#: Differences that are named one by one.
_NAMED: Final = 5
_CAP_NET_ADMIN: Final = 12
_CAPABILITIES_V3: Final = 0x20080522  # linux/capability.h: _LINUX_CAPABILITY_VERSION_3
_MBIT: Final = 1_000_000


class KernelQos:
    """See :class:`telemetryd.agent.realise.Realiser`. All of it is in the namespace that it is made in.

    Attributes
    ----------
    drift:
        What in the kernel is not as it was made, by its name; empty where all is well.
    """

    def __init__(self, look_s: float = LOOK_S) -> None:
        self._kernel = Kernel()
        self._look_s = look_s
        self._log = Log("qos")
        self._busy = asyncio.Lock()
        self._compilation: Compilation | None = None
        self._widened = Widened()
        self.drift: tuple[str, ...] = ()
        how = self._kernel.nft.how
        self._unable = "" if may_change() else "this process may not change queues: it has no CAP_NET_ADMIN"
        self.features: tuple[str, ...] = ()
        if not self._unable:
            self.features = ("htb", "bfifo", *((how, "ifb", "policers that are short queues") if how else ()))

    async def run(self) -> None:
        """See :meth:`telemetryd.agent.realise.Realiser.run`."""
        if self._unable:
            self._log.warning("QoS can only be read", reason=self._unable)
        try:
            while True:
                await asyncio.sleep(self._look_s)
                try:
                    await self.look()
                except TelemetrydError as error:
                    self._log.warning("the kernel's queues cannot be read", reason=error)
        finally:
            self.close()

    def close(self) -> None:
        """Close what is open; what is in the kernel stays."""
        self._kernel.close()

    async def look(self) -> tuple[str, ...]:
        """Hold the kernel against what it shall be; return the names of what differs.

        Raises
        ------
        TelemetrydError
            If it cannot be read.
        """
        async with self._busy:
            if self._compilation is None:
                return ()
            want = self._compilation.state
            have = await asyncio.to_thread(self._kernel.read)
            found = differences(have, want)
            if found and found != self.drift:
                self._log.warning(
                    "the kernel's queues are not as they were made", count=len(found), first=", ".join(found[:_NAMED])
                )
            self.drift = found
            return found

    async def realise(self, old: Leaves, new: Leaves, changed: Collection[str]) -> None:
        """See :meth:`telemetryd.agent.realise.Realiser.realise`."""
        async with self._busy:
            if self._unable:
                if new:
                    raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"/qos: {self._unable}")
                return
            before = self._compilation
            if changed and before is not None and not self.drift:
                # In a thread: where terms change all of them are compiled, which takes seconds if there are very many.
                after = await asyncio.to_thread(before.change, changed, old, new)
                have = before.state
            else:
                speeds = await asyncio.to_thread(_interfaces)
                after = await asyncio.to_thread(Compilation, new, speeds)
                have = await asyncio.to_thread(self._read)
            try:
                self._expect(before, after, is_start=not changed)
                await asyncio.to_thread(self._change, have, after)
            except BaseException:
                if before is not None:
                    before.undo(changed, old)
                raise
            self._compilation, self.drift = after, ()

    async def read(self) -> Mapping[str, object]:
        """See :meth:`telemetryd.agent.realise.Realiser.read`."""
        async with self._busy:
            state = await asyncio.to_thread(self._kernel.read)
        return named(state)

    async def counters(self) -> Leaves:
        """See :meth:`telemetryd.agent.realise.Realiser.counters`."""
        async with self._busy:
            if self._compilation is None:
                return {}
            return await asyncio.to_thread(leaves_of, self._kernel, self._compilation, self._widened)

    def _read(self) -> State:
        try:
            return self._kernel.read()
        except TelemetrydError as error:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, f"/qos: {error}") from error

    def _expect(self, before: Compilation | None, after: Compilation, *, is_start: bool) -> None:
        """Refuse interfaces that are not there, unless they may come yet."""
        known = {one.name for one in before.missing} if before is not None else set()
        for where, name in after.missing:
            if is_start or name in known:
                self._log.warning("a policy waits for its interface", interface=name)
            else:
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"{where}: there is no interface {name} here")

    def _change(self, have: State, after: Compilation) -> None:
        if after.compiled.tables and not self._kernel.nft.how:
            why = "there is neither libnftables nor nft here: install nftables"
            raise RefusedError(grpc.StatusCode.UNIMPLEMENTED, f"/qos/classifiers: {why}")
        for tree in after.trees.values():
            if Key(tree.device, "qdisc", PORT) in have.objects:
                continue
            found = self._kernel.foreign_root(tree.device)
            if found:
                why = f"the root of {tree.device} is {found} of somebody else: tc qdisc del dev {tree.device} root"
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"{tree.where}: {why}")
        try:
            self._kernel.change(have, after.state)
        except ChangeFailedError as error:
            self._put_back(have)
            device = error.key.device if error.key is not None else ""
            where = next((tree.where for tree in after.trees.values() if tree.device == device), "/qos")
            raise RefusedError(grpc.StatusCode.INTERNAL, f"{where}: the kernel refused: {error}") from error

    def _put_back(self, before: State) -> None:
        try:
            self._kernel.change(self._kernel.read(), before)
        except TelemetrydError as error:
            self._log.error("the kernel's queues could not be put back", reason=error)
            self.drift = (str(error),)


def named(state: State) -> dict[str, object]:
    """Return objects by their names: classes, buffers, devices, maps by their elements, chains by their rules."""
    found: dict[str, object] = {str(key): one for key, one in state.objects.items()}
    for family, table in state.tables.items():
        for name, own in table.maps.items():
            found[f"{family} map {name}"] = (own.head, dict(own.elements))
        for name, chain in table.chains.items():
            found[f"{family} chain {name}"] = chain
    return found


def differences(have: State, want: State) -> tuple[str, ...]:
    """Return the names of objects that are missing, different, or too many."""
    if have == want:
        return ()
    one, other = named(have), named(want)
    return tuple(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))


def may_change() -> bool:
    """Tell whether this process has CAP_NET_ADMIN (capabilities(7))."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if ctypes.CDLL(None).capget(header, data) != 0:
        return False
    return bool(data[0] >> _CAP_NET_ADMIN & 1)


def _interfaces() -> dict[str, int]:
    """Return the interfaces of this namespace with their speeds, bit/s; 0 for those that do not say."""
    names = [name for _, name in socket.if_nameindex()]
    found = speeds_of(names)
    return {name: found.get(name, 0) * _MBIT for name in names}
