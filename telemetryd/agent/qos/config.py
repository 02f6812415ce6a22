"""The configuration below /qos and /defined-sets by its entries of lists, and what of it is attached to interfaces."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

import grpc

from telemetryd.agent.realise import Leaves
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.tree import Value

_ENTRY: Final = re.compile(r"(.*/[^/\[]+)\[[^=\]]+=((?:[^\]\\]|\\.)*)\]", re.DOTALL)
POLICIES: Final = "/qos/scheduler-policies/scheduler-policy"
CLASSIFIERS: Final = "/qos/classifiers/classifier"
GROUPS: Final = "/qos/forwarding-groups/forwarding-group"
INTERFACES: Final = "/qos/interfaces/interface"
#: Directions of a policy: where it is attached.
DIRECTIONS: Final = ("output", "input")

Entry = Mapping[str, Value]
_NOTHING: Final[Entry] = {}


class Attached(NamedTuple):
    """What an interface has.

    Attributes
    ----------
    path:
        Of the interface's entry.
    name:
        Of the interface in the kernel.
    policies:
        Direction -> name of the scheduler policy.
    classifiers:
        Family (4 or 6) -> name of the classifier.
    """

    path: str
    name: str
    policies: Mapping[str, str]
    classifiers: Mapping[int, str]


class Configuration:
    """Leaves by the entry of a list that they belong to.

    Parameters
    ----------
    leaves:
        All of them.
    """

    def __init__(self, leaves: Leaves) -> None:
        self._entries: dict[str, dict[str, Value]] = {}
        self._lists: dict[str, dict[str, str]] = {}
        #: What was made of scheduler policies, by their paths, until they change.
        self.parsed: dict[str, Any] = {}
        for path, value in leaves.items():
            self._put(path, value)

    def change(self, changed: Collection[str], leaves: Leaves) -> None:
        """Take over some leaves: what is not among the new ones goes."""
        for path in changed:
            value = leaves.get(path)
            if path.startswith(POLICIES):
                self._forget(path)
            if value is not None:
                self._put(path, value)
                continue
            entry, leaf = split(path)
            own = self._entries.get(entry)
            if own is None:
                continue
            own.pop(leaf, None)
            if not own:
                del self._entries[entry]
                where = _ENTRY.fullmatch(entry)
                if where is not None:
                    self._lists.get(where[1], {}).pop(_plain(where[2]), None)

    def _forget(self, path: str) -> None:
        at = path.find("]/")
        if "\\" in path or at < 0:
            self.parsed.clear()
        else:
            self.parsed.pop(path[: at + 1], None)

    def _put(self, path: str, value: Value) -> None:
        entry, leaf = split(path)
        own = self._entries.get(entry)
        if own is None:
            own = self._entries[entry] = {}
            where = _ENTRY.fullmatch(entry)
            if where is not None:
                self._lists.setdefault(where[1], {})[_plain(where[2])] = entry
        own[leaf] = value

    def entry(self, path: str) -> Entry:
        """Return the leaves of an entry by their way from it; nothing where there is no such entry."""
        return self._entries.get(path, _NOTHING)

    def value(self, path: str) -> Value | None:
        """Return the value of a leaf."""
        entry, leaf = split(path)
        return self.entry(entry).get(leaf)

    def of_list(self, path: str) -> Mapping[str, str]:
        """Return the entries of a list: key -> path."""
        return self._lists.get(path, {})

    def attached(self) -> Iterator[Attached]:
        """Yield the interfaces.

        Raises
        ------
        RefusedError
            If one is named in a way that is not realised here.
        """
        for key, path in self.of_list(INTERFACES).items():
            own = self.entry(path)
            name = text(own.get("interface-ref/config/interface", key))
            number = own.get("interface-ref/config/subinterface", 0)
            if number:
                name = f"{name}.{number}"
            policies = {
                direction: text(own[f"{direction}/scheduler-policy/config/name"])
                for direction in DIRECTIONS
                if f"{direction}/scheduler-policy/config/name" in own
            }
            classifiers: dict[int, str] = {}
            for kind, entry in self.of_list(f"{path}/input/classifiers/classifier").items():
                if kind not in _FAMILIES:
                    raise RefusedError(
                        grpc.StatusCode.UNIMPLEMENTED, f"{entry}: classifiers of type {kind} are not realised here"
                    )
                found = self.entry(entry).get("config/name")
                if found is not None:
                    classifiers[_FAMILIES[kind]] = text(found)
            yield Attached(path, name, policies, classifiers)


_FAMILIES: Final = {"IPV4": 4, "IPV6": 6}


def split(path: str) -> tuple[str, str]:
    """Return the entry that a leaf belongs to, and the leaf's way from there; without an entry the whole path."""
    at = path.rfind("]/")
    while at > 0:
        before = path[:at]
        if (len(before) - len(before.rstrip("\\"))) % 2 == 0:
            return path[: at + 1], path[at + 2 :]
        at = path.rfind("]/", 0, at)
    return "", path


def classifier_name(path: str) -> str:
    """Return the name of the classifier that a term's entry belongs to."""
    found = _ENTRY.fullmatch(path[: path.rindex("/terms/term[")])
    return _plain(found[2]) if found is not None else ""


def text(value: Value) -> str:
    """Return a value that is a text."""
    return value if isinstance(value, str) else str(value)


def unimplemented(path: str, why: str) -> RefusedError:
    """Return the refusal of what the model has and this host does not realise."""
    return RefusedError(grpc.StatusCode.UNIMPLEMENTED, f"{path}: {why}")


def invalid(path: str, why: str) -> RefusedError:
    """Return the refusal of what contradicts itself."""
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{path}: {why}")


def _plain(key: str) -> str:
    return re.sub(r"\\(.)", r"\1", key) if "\\" in key else key
