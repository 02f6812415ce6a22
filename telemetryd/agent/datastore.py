"""The running configuration: entries of lists by their paths, changed in place, with all that can undo a change.

A change costs what it touches, whatever else there is. Whoever reads meanwhile has what was published before it
(:mod:`telemetryd.agent.config_source`), so that nothing is seen of a change that is taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from telemetryd.agent.model import Leaf, ListNode
from telemetryd.agent.realise import Leaves
from telemetryd.agent.tree import Elems, Value
from telemetryd.ingest.gnmi.path import Elem

#: Leaves of an entry, by the ways to them.
Values = dict[str, Value]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An entry of a list.

    Attributes
    ----------
    path:
        Its path as a text, which it is found by.
    list_path:
        That of its list.
    values:
        All that is configured of it, besides entries below it. Never changed once the entry is in a datastore.
    """

    node: ListNode
    path: str
    list_path: str
    elems: Elems
    values: Values = field(default_factory=dict)


def entry_path(list_path: str, key: str, value: str) -> str:
    """Return the path of an entry of a list with one key."""
    return f"{list_path}{Elem('', ((key, value),))}"


class Datastore:
    """Entries, which of them lie where, and which refer to which.

    Attributes
    ----------
    entries:
        By their paths.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        # Path of a list -> the paths of its entries, in the order in which they came.
        self._members: dict[str, dict[str, None]] = {}
        # Path of an entry -> those of leaves that refer to it.
        self._referrers: dict[str, dict[str, None]] = {}
        # Path of an entry -> what it was before the change that is under way; None where it was not there.
        self._before: dict[str, Entry | None] = {}

    def members(self, path: str) -> list[str]:
        """Return the paths of a list's entries."""
        return list(self._members.get(path, ()))

    def referrers(self, path: str) -> list[str]:
        """Return the paths of leaves that refer to an entry."""
        return list(self._referrers.get(path, ()))

    # --- changes ----------------------------------------------------------------------------------------------------

    def put(self, entry: Entry) -> None:
        """Add an entry, or have it in place of the one of its path."""
        old = self.entries.get(entry.path)
        self._before.setdefault(entry.path, old)
        self.entries[entry.path] = entry
        if old is None:
            self._members.setdefault(entry.list_path, {})[entry.path] = None
        self._refer(old, entry)

    def remove(self, path: str) -> None:
        """Remove an entry; those below it are the caller's affair."""
        old = self.entries.pop(path, None)
        if old is None:
            return
        self._before.setdefault(path, old)
        self._leave(old)
        self._refer(old, None)

    def touched(self) -> Mapping[str, Entry | None]:
        """Return what the change that is under way has touched: each entry as it was before it."""
        return self._before

    def changed(self) -> list[str]:
        """Return the paths of leaves that the change that is under way adds, removes or changes."""
        found: list[str] = []
        for path, old in self._before.items():
            new = self.entries.get(path)
            if old is new:
                continue
            before: Values = {} if old is None else old.values
            after: Values = {} if new is None else new.values
            found += [f"{path}/{way}" for way, value in after.items() if before.get(way) != value]
            found += [f"{path}/{way}" for way in before if way not in after]
        return found

    def keep(self) -> None:
        """Make the change that is under way a thing of the past."""
        self._before = {}

    def undo(self) -> None:
        """Take the change that is under way back."""
        before, self._before = self._before, {}
        for path, old in before.items():
            new = self.entries.pop(path, None)
            if old is not None:
                self.entries[path] = old
            if old is None and new is not None:
                self._leave(new)
            elif old is not None and new is None:
                self._members.setdefault(old.list_path, {})[path] = None
            self._refer(new, old)

    # --- as leaves --------------------------------------------------------------------------------------------------

    def leaves(self) -> Leaves:
        """Return a view of all leaves as they are now."""
        return _View(self.entries, {})

    def leaves_before(self) -> Leaves:
        """Return a view of all leaves as they were before the change that is under way."""
        return _View(self.entries, self._before)

    def _leave(self, entry: Entry) -> None:
        members = self._members[entry.list_path]
        del members[entry.path]
        if not members:
            del self._members[entry.list_path]

    def _refer(self, old: Entry | None, new: Entry | None) -> None:
        """Note what refers to what, now that an entry is another one."""
        for entry, is_new in ((old, False), (new, True)):
            if entry is None:
                continue
            for leaf in entry.node.references:
                value = entry.values.get(leaf.way)
                if value is None:
                    continue
                target, referrer = target_of(leaf, value), f"{entry.path}/{leaf.way}"
                if is_new:
                    self._referrers.setdefault(target, {})[referrer] = None
                elif (known := self._referrers.get(target)) is not None:
                    known.pop(referrer, None)
                    if not known:
                        del self._referrers[target]


def target_of(leaf: Leaf, value: Value) -> str:
    """Return the path of the entry that a leaf refers to: all such lists are at the top, and have names."""
    return entry_path(leaf.target, "name", str(value))


class _View(Leaves):
    """Leaves of entries, of which some are taken as they were before.

    Parameters
    ----------
    entries:
        By path.
    before:
        Those that are taken instead; None for one that was not there.
    """

    def __init__(self, entries: Mapping[str, Entry], before: Mapping[str, Entry | None]) -> None:
        self._entries, self._before = entries, before

    def __getitem__(self, path: str) -> Value:
        at = path.rfind("]") + 1
        entry = self._entry(path[:at])
        if entry is None:
            raise KeyError(path)
        try:
            return entry.values[path[at + 1 :]]
        except KeyError:
            raise KeyError(path) from None

    def get(self, path: str, default: Any = None) -> Any:
        """Return the value of a leaf, or something else where it is not there: without an exception."""
        at = path.rfind("]") + 1
        entry = self._entry(path[:at])
        return default if entry is None else entry.values.get(path[at + 1 :], default)

    def __iter__(self) -> Iterator[str]:
        for entry in self._each():
            for way in entry.values:
                yield f"{entry.path}/{way}"

    def __len__(self) -> int:
        return sum(len(entry.values) for entry in self._each())

    def _entry(self, path: str) -> Entry | None:
        return self._before[path] if path in self._before else self._entries.get(path)

    def _each(self) -> Iterator[Entry]:
        for path, entry in self._entries.items():
            if path not in self._before:
                yield entry
        for old in self._before.values():
            if old is not None:
                yield old
