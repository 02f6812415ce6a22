"""Carrying out changes in the kernel, and reading back what is there: everything that blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from telemetryd.agent.qos import netlink
from telemetryd.agent.qos.netlink import NetlinkRefusedError, Qdisc, Statistics, TcSocket, index_of
from telemetryd.agent.qos.nft import Nft, NftRefusedError
from telemetryd.agent.qos.objects import PORT, Fifo, HtbClass, Ifb, Key, Object, Operation, Root, diff_objects
from telemetryd.agent.qos.rules import Table, script
from telemetryd.errors import TelemetrydError

#: Families that we have tables in.
FAMILIES: Final = ("ip", "ip6", "netdev")
_IFB: Final = "td-"
_ALIAS: Final = "telemetryd: input of "


@dataclass(frozen=True, slots=True)
class State:
    """Everything of ours in the kernel, or what shall be there.

    Attributes
    ----------
    tables:
        By family; a family without one is left out.
    """

    objects: Mapping[Key, Object] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)


class ChangeFailedError(TelemetrydError):
    """The kernel refused a change.

    Attributes
    ----------
    key:
        The object; None for the tables.
    """

    def __init__(self, key: Key | None, message: str) -> None:
        self.key = key
        super().__init__(f"{key}: {message}" if key is not None else f"nftables: {message}")


class Kernel:
    """Traffic control and nftables of the namespace that it is made in; not for two threads at once."""

    def __init__(self) -> None:
        self.tc = TcSocket()
        self.nft = Nft()

    def close(self) -> None:
        """Close what is open."""
        self.tc.close()

    def read(self) -> State:
        """Return everything of ours that is there.

        Raises
        ------
        TelemetrydError
            If it cannot be read.
        """
        objects: dict[Key, Object] = {}
        for name, interface in self._ifbs().items():
            objects[Key(name, "device")] = Ifb(interface)
        qdiscs = self.tc.qdiscs()
        names = netlink.names_of(one.index for one in qdiscs if one.object is not None)
        ours = {one.index for one in qdiscs if isinstance(one.object, Root) and one.index in names}
        for one in qdiscs:
            if one.index in ours and one.object is not None:
                objects[_key_of(one, names[one.index])] = one.object
        for index in sorted(ours):
            objects.update((key, own) for key, (own, _) in self.tc.classes(index, names[index]).items())
        tables = {family: found.table for family in FAMILIES if (found := self.nft.read(family)) is not None}
        return State(objects, tables)

    def statistics(self, devices: Iterable[str]) -> dict[Key, Statistics]:
        """Return the counters of all classes of some devices.

        Raises
        ------
        TelemetrydError
            If they cannot be read.
        """
        found: dict[Key, Statistics] = {}
        for device in devices:
            index = index_of(device)
            if index:
                found.update((key, counted) for key, (_, counted) in self.tc.classes(index, device).items())
        return found

    def foreign_root(self, device: str) -> str:
        """Return what others have made the root of a device; "" where that is the kernel's own, or ours."""
        index = index_of(device)
        for one in self.tc.qdiscs():
            if one.index == index and one.parent == netlink.TC_H_ROOT:
                is_default = one.handle == 0
                return "" if is_default or isinstance(one.object, Root) else f"{one.kind} {one.handle >> 16:x}:"
        return ""

    def change(self, have: State, want: State) -> None:
        """Go from one state to another.

        Raises
        ------
        ChangeFailedError
            If the kernel refuses; some of it is done then.
        """
        operations = diff_objects(have.objects, want.objects)
        self._carry_out(operations.before)
        commands = "".join(script(family, have.tables.get(family), want.tables.get(family)) for family in FAMILIES)
        if commands:
            try:
                self.nft.run(commands)
            except NftRefusedError as error:
                raise ChangeFailedError(None, str(error)) from error
        self._carry_out(operations.after)

    def _carry_out(self, operations: Iterable[Operation]) -> None:
        batch: list[tuple[Key, bytes]] = []
        indices: dict[str, int] = {}
        for one in operations:
            key = one.key
            if key.kind == "device":
                self._send(batch)
                indices.pop(key.device, None)
                self._set_ifb(key, one.new)
                continue
            index = indices.get(key.device)
            if index is None:
                index = indices[key.device] = index_of(key.device)
            if index == 0:
                if one.new is None:
                    continue  # it went with its device
                raise ChangeFailedError(key, f"there is no interface {key.device}")
            batch.append((key, _message(index, one)))
        self._send(batch)

    def _send(self, batch: list[tuple[Key, bytes]]) -> None:
        try:
            self.tc.send([message for _, message in batch])
        except NetlinkRefusedError as error:
            raise ChangeFailedError(batch[error.index][0], str(error)) from error
        except OSError as error:
            raise ChangeFailedError(None, f"netlink: {error}") from error
        batch.clear()

    def _set_ifb(self, key: Key, new: Object | None) -> None:
        try:
            with IPRoute() as route:
                if isinstance(new, Ifb):
                    if not index_of(key.device):
                        route.link("add", ifname=key.device, kind="ifb")
                    route.link("set", index=index_of(key.device), state="up", ifalias=_ALIAS + new.interface)
                elif index := index_of(key.device):
                    route.link("del", index=index)
        except (NetlinkError, OSError) as error:
            raise ChangeFailedError(key, str(error)) from error

    def _ifbs(self) -> dict[str, str]:
        """Return our devices: name -> interface whose input is led through it."""
        try:
            with IPRoute() as route:
                links: list[Any] = [link for link in route.get_links() if str(link.get("ifname", "")).startswith(_IFB)]
        except (NetlinkError, OSError) as error:
            raise TelemetrydError(f"cannot read the links of the kernel: {error}") from error
        return {
            link.get("ifname"): alias.removeprefix(_ALIAS)
            for link in links
            if (alias := link.get("ifalias") or "").startswith(_ALIAS)
        }


def _key_of(one: Qdisc, device: str) -> Key:
    if isinstance(one.object, Root):
        return Key(device, "qdisc", PORT)
    return Key(device, "fifo", one.handle >> 16)


def _message(index: int, one: Operation) -> bytes:
    number = one.key.number
    match one.new:
        case Root():
            return netlink.set_root(index)
        case HtbClass():
            return netlink.set_class(index, number, one.new, is_new=one.old is None)
        case Fifo():
            return netlink.set_fifo(index, number, one.new)
        case _:
            pass
    match one.key.kind:
        case "qdisc":
            return netlink.delete_root(index)
        case "class":
            return netlink.delete_class(index, number)
        case _:
            return netlink.delete_fifo(index, number)
