"""Which paths are counters of interfaces and queues or gauges of components, and what a batch of updates says of them.

A path is looked at once; afterwards its number stands for the leaf and for the entity that it belongs to: an interface,
a queue of one, or a component. Deletes are those of whole branches too (/interfaces, or the root).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.gnmi import aliases
from telemetryd.ingest.gnmi.path import ANY, Elem, Path
from telemetryd.ingest.gnmi.paths import PathTable
from telemetryd.schema import GAUGE_KINDS, Counter, Gauge, UpdateBatch, ValueKind

#: Leaves that are no counters, after the last Counter.
OPER_STATUS, IFINDEX, PORT_SPEED, BUNDLE = 64, 65, 66, 67
#: Gauges of components begin here: each has a leaf of the moment, and after it one of an average.
GAUGES: Final = 96
NOTHING, NEW = 254, 255
#: A delete of all interfaces, where an entity stands otherwise.
EVERYTHING: Final = -1
NOBODY: Final = -2

COUNTER_LEAVES: Final = {
    "octets": "OCTETS",
    "pkts": "PACKETS",
    "unicast-pkts": "UNICAST_PACKETS",
    "multicast-pkts": "MULTICAST_PACKETS",
    "broadcast-pkts": "BROADCAST_PACKETS",
    "discards": "DISCARDS",
    "errors": "ERRORS",
}
#: Names of the elements below an interface -> leaf.
_OF_INTERFACE: Final[dict[tuple[str, ...], int]] = {
    ("state", "counters", f"{way}-{leaf}"): Counter[f"{way.upper()}_{name}"]
    for way in ("in", "out")
    for leaf, name in COUNTER_LEAVES.items()
} | {
    ("state", "oper-status"): OPER_STATUS,
    ("state", "ifindex"): IFINDEX,
    ("ethernet", "state", "port-speed"): PORT_SPEED,
    ("ethernet", "state", "aggregate-id"): BUNDLE,
}
#: The same below a queue.
_OF_QUEUE: Final[dict[tuple[str, ...], int]] = {
    ("state", "transmit-octets"): Counter.TRANSMIT_OCTETS,
    ("state", "transmit-pkts"): Counter.TRANSMIT_PACKETS,
    ("state", "dropped-octets"): Counter.DROPPED_OCTETS,
    ("state", "dropped-pkts"): Counter.DROPPED_PACKETS,
}
#: The same below a component, and below a processor of the system.
_OF_COMPONENT: Final[dict[tuple[str, ...], int]] = {
    (*branch, kind): GAUGES + gauge * len(GAUGE_KINDS) + place
    for gauge, branch in (
        (Gauge.TEMPERATURE, ("state", "temperature")),
        (Gauge.CPU, ("cpu", "utilization", "state")),
    )
    for place, kind in enumerate(GAUGE_KINDS)
}
_OF_CPU: Final[dict[tuple[str, ...], int]] = {
    ("state", "total", kind): GAUGES + Gauge.CPU * len(GAUGE_KINDS) + place for place, kind in enumerate(GAUGE_KINDS)
}
_COMPONENT: Final = ("components", "component")
_CPU: Final = ("system", "cpus", "cpu")
#: A member of a bundle by LACP: which of the bundle is in the path.
_MEMBER: Final = ("lacp", "interfaces", "interface", "members", "member", "state", "interface")
#: What no sensor says.
MOST_OF_GAUGE: Final = 1e9
_STATES: Final = {aliases.OPER_STATUS: OPER_STATUS, aliases.IFINDEX: IFINDEX}
_INTERFACE: Final = ("interfaces", "interface")
#: The queues of a direction.
_QUEUES: Final = {
    direction: ("qos", "interfaces", "interface", side, "queues", "queue")
    for direction, side in (("out", "output"), ("in", "input"))
}
_SPEED = re.compile(r"SPEED_(\d+)([KMGT])B?$")
_FACTORS: Final = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


class Entity(NamedTuple):
    """An interface, by its name or its ifIndex, or with ``queue`` one of its queues, in or out; or a component."""

    interface: str
    queue: str = ""
    direction: str = ""
    component: str = ""
    if_index: int = 0


@dataclass(slots=True)
class Told:
    """What a batch says of counters.

    Attributes
    ----------
    before, after:
        Rows of counters that came before the last delete that concerns them, and all others: ``target``, ``entity``,
        ``counter``, ``ts_ns``, ``received_ns`` and ``value``, each of shape (n,). They are to be taken in this order.
    deleted:
        (target, entity or EVERYTHING) that were deleted after ``before``.
    states:
        (target, entity, leaf, value) of leaves that are no counters.
    gauges:
        Rows of gauges: ``target``, ``entity``, ``gauge`` (from 0), ``received_ns`` and ``value``, each of shape (n,).
    unusable:
        Rows of counters whose value is no count, and of gauges whose value is no number.
    """

    before: dict[str, NDArray[Any]]
    after: dict[str, NDArray[Any]]
    gauges: dict[str, NDArray[Any]] = field(default_factory=dict)
    deleted: list[tuple[int, int]] = field(default_factory=list)
    states: list[tuple[int, int, int, Any]] = field(default_factory=list)
    unusable: int = 0


class CounterPaths:
    """What the paths of a table are.

    Attributes
    ----------
    entities:
        By their numbers.
    """

    def __init__(self, paths: PathTable) -> None:
        self.entities: list[Entity] = []
        self._paths = paths
        self._numbers: dict[Entity, int] = {}
        self._leaf = np.full(1024, NEW, np.uint8)
        self._entity = np.zeros(1024, np.int64)
        self._deleted: dict[int, int] = {}
        self._bundles: dict[int, str] = {}  # of paths that are of a member of one

    def read(self, batch: UpdateBatch) -> Told:
        """Return what the rows of a batch say; nothing of the batch is kept."""
        rows = batch.rows()
        leaf, entity = self._look_up(rows["path"])
        kind = rows["kind"]
        chosen = np.flatnonzero((leaf < len(Counter)) & (kind < ValueKind.DELETE))
        value, is_usable = _whole(rows["value"][chosen], kind[chosen])
        found = {
            "target": rows["target"][chosen][is_usable],
            "entity": entity[chosen][is_usable],
            "counter": leaf[chosen][is_usable],
            "ts_ns": rows["ts_ns"][chosen][is_usable],
            "received_ns": rows["received_ns"][chosen][is_usable],
            "value": value[is_usable],
        }
        told = Told({name: column[:0] for name, column in found.items()}, found)
        told.unusable = int(len(chosen) - is_usable.sum())
        is_state = (leaf >= OPER_STATUS) & (leaf <= BUNDLE) & (kind < ValueKind.DELETE)
        for row in np.flatnonzero(is_state).tolist():
            said = self._bundles.get(int(rows["path"][row])) or batch.value(row)
            told.states.append((int(rows["target"][row]), int(entity[row]), int(leaf[row]), said))
        is_gauge = (leaf >= GAUGES) & (leaf < GAUGES + len(_OF_COMPONENT)) & (kind < ValueKind.DELETE)
        if is_gauge.any():
            self._read_gauges(told, rows, np.flatnonzero(is_gauge), leaf, entity)
        deletes = np.flatnonzero(kind == ValueKind.DELETE)
        if len(deletes):
            self._split(told, rows, deletes, chosen[is_usable])
        return told

    @staticmethod
    def _read_gauges(
        told: Told,
        rows: dict[str, NDArray[Any]],
        chosen: NDArray[np.intp],
        leaf: NDArray[np.uint8],
        entity: NDArray[np.int64],
    ) -> None:
        value, is_usable = _real(rows["value"][chosen], rows["kind"][chosen])
        told.unusable += int(len(chosen) - is_usable.sum())
        kept = chosen[is_usable]
        told.gauges = {
            "target": rows["target"][kept],
            "entity": entity[kept],
            "gauge": leaf[kept].astype(np.int64) - GAUGES,
            "received_ns": rows["received_ns"][kept],
            "value": value[is_usable],
        }

    def _split(
        self, told: Told, rows: dict[str, NDArray[Any]], deletes: NDArray[np.intp], places: NDArray[np.intp]
    ) -> None:
        """Tell the rows before the last delete that concerns them from the others."""
        last: dict[tuple[int, int], int] = {}
        for row, target, path in zip(
            deletes.tolist(), rows["target"][deletes].tolist(), rows["path"][deletes].tolist(), strict=True
        ):
            scope = self._deletes(path)
            if scope != NOBODY:
                last[target, scope] = row
        found = told.after
        until = np.full(len(places), -1, np.int64)
        for (target, scope), row in last.items():
            concerned = found["target"] == target
            if scope != EVERYTHING:
                concerned &= found["entity"] == scope
            until[concerned] = np.maximum(until[concerned], row)
        is_before = places < until
        told.before = {name: column[is_before] for name, column in found.items()}
        told.after = {name: column[~is_before] for name, column in found.items()}
        told.deleted = list(last)

    def _look_up(self, numbers: NDArray[np.uint32]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        known = len(self._paths) + 1
        if known > len(self._leaf):
            more = max(known, 2 * len(self._leaf)) - len(self._leaf)
            self._leaf = np.concatenate((self._leaf, np.full(more, NEW, np.uint8)))
            self._entity = np.concatenate((self._entity, np.zeros(more, np.int64)))
        leaf = self._leaf[numbers]
        if (is_new := leaf == NEW).any():
            for number in np.unique(numbers[is_new]).tolist():
                path = self._paths.place(number).path
                found = _place(path)
                if found is not None and path.elems[0].name == _MEMBER[0]:
                    self._bundles[number] = _key(path.elems[2])
                self._leaf[number], self._entity[number] = (
                    (NOTHING, 0)
                    if found is None
                    else (
                        found[0],
                        self._number(found[1]),
                    )
                )
            leaf = self._leaf[numbers]
        return leaf, self._entity[numbers]

    def _number(self, entity: Entity) -> int:
        number = self._numbers.setdefault(entity, len(self.entities))
        if number == len(self.entities):
            self.entities.append(entity)
        return number

    def _deletes(self, number: int) -> int:
        """Return what a delete of a path deletes: an entity, EVERYTHING or NOBODY."""
        if number not in self._deleted:
            scope = _scope(self._paths.place(number).path)
            self._deleted[number] = scope if isinstance(scope, int) else self._number(scope)
        return self._deleted[number]


def speed_of(value: Any) -> float:
    """Return a port speed in bit/s: an identity such as ``SPEED_10GB``, or a number; 0 for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if value > 0 else 0.0
    found = _SPEED.search(value) if isinstance(value, str) else None
    return int(found[1]) * _FACTORS[found[2]] if found else 0.0


def is_up(value: Any) -> bool:
    """Tell whether an oper-status says that the interface is up."""
    return isinstance(value, str) and value.rpartition(":")[2].upper() == "UP"


def _key(elem: Elem) -> str:
    """Return the value of an element's only key; empty where there is none, or any."""
    value = elem.keys[0][1] if len(elem.keys) == 1 else ""
    return "" if value == ANY else value


def _place(path: Path) -> tuple[int, Entity] | None:
    """Return the leaf and the entity of a path, None for one that is of no interest here."""
    elems = path.elems
    names = tuple(elem.name for elem in elems)
    if names[:2] == _INTERFACE and (leaf := _OF_INTERFACE.get(names[2:])) is not None and _key(elems[1]):
        return leaf, Entity(_key(elems[1]))
    for direction, branch in _QUEUES.items():
        if names[:6] == branch and (leaf := _OF_QUEUE.get(names[6:])) is not None and _key(elems[2]) and _key(elems[5]):
            return leaf, Entity(_key(elems[2]), _key(elems[5]), direction)
    if names[:2] == _COMPONENT and (leaf := _OF_COMPONENT.get(names[2:])) is not None and _key(elems[1]):
        return leaf, Entity("", component=_key(elems[1]))
    if names == _MEMBER and _key(elems[2]) and _key(elems[4]):
        return BUNDLE, Entity(_key(elems[4]))
    if names[:3] == _CPU and (leaf := _OF_CPU.get(names[3:])) is not None and _key(elems[2]):
        return leaf, Entity("", component=f"cpu {_key(elems[2])}")
    return _native_place(elems, names)


def _native_place(elems: tuple[Elem, ...], names: tuple[str, ...]) -> tuple[int, Entity] | None:
    """Return the same of a path in a make's own model."""
    for alias in aliases.ALIASES:
        leaf = alias.leaves.get(names[len(alias.branch) :])
        if leaf is not None and (interface := alias.interface(elems)) is not None:
            number = _STATES.get(leaf)
            number = Counter[leaf] if number is None else number
            if not alias.is_index:
                return number, Entity(interface)
            return (number, Entity("", if_index=int(interface))) if interface.isdecimal() else None
    return None


def _scope(path: Path) -> int | Entity:
    """Return what lies at and below a deleted path."""
    names = tuple(elem.name for elem in path.elems)
    for direction, branch, keyed in (
        ("", _INTERFACE, (1,)),
        *((direction, branch, (2, 5)) for direction, branch in _QUEUES.items()),
    ):
        if names == branch[: len(names)] or names[: len(branch)] == branch:
            keys = [_key(path.elems[place]) for place in keyed if place < len(names)]
            if len(keys) < len(keyed) or not all(keys):
                return EVERYTHING
            if len(names) > len(branch) and not _holds_counters(names[len(branch) :]):
                return NOBODY
            return Entity(keys[0], keys[1] if len(keys) > 1 else "", direction)
    return NOBODY


def _holds_counters(below: tuple[str, ...]) -> bool:
    """Tell whether counters lie at or below a path, given by its names below the interface or the queue."""
    leaves: Iterator[tuple[str, ...]] = (
        names for table in (_OF_INTERFACE, _OF_QUEUE) for names, leaf in table.items() if leaf < len(Counter)
    )
    return any(names[: len(below)] == below for names in leaves)


def _whole(value: NDArray[np.uint64], kind: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return values as counts, and which of them are counts."""
    is_usable = (kind == ValueKind.UINT) | ((kind == ValueKind.INT) & (value.view(np.int64) >= 0))
    if (is_real := kind == ValueKind.DOUBLE).any():
        real = value.view(np.float64)
        with np.errstate(invalid="ignore"):
            is_count = is_real & (real >= 0) & (real < 2.0**63)
        value = np.where(is_count, np.where(is_count, real, 0.0).astype(np.uint64), value)
        is_usable |= is_count
    return value, is_usable


def _real(value: NDArray[np.uint64], kind: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return values as readings of a sensor, and which of them are some."""
    real = np.where(
        kind == ValueKind.DOUBLE,
        value.view(np.float64),
        np.where(kind == ValueKind.INT, value.view(np.int64).astype(np.float64), value.astype(np.float64)),
    )
    is_number = (kind == ValueKind.DOUBLE) | (kind == ValueKind.INT) | (kind == ValueKind.UINT)
    with np.errstate(invalid="ignore"):
        return real, is_number & (np.abs(real) <= MOST_OF_GAUGE)
