"""Counters of the kernel as leaves of state.

HTB counts octets without the frame check sequence: 4 are added for each packet. It counts what it drops in packets
only: dropped octets are as many packets of the average length of those that were sent. Of schedulers it knows which
packets went within the rate (conforming) and which with what others left (exceeding), not their octets: those are
shared out by packets.
"""

from __future__ import annotations

from typing import Final

from telemetryd.agent.qos.changes import Kernel
from telemetryd.agent.qos.compilation import Compilation
from telemetryd.agent.qos.config import classifier_name
from telemetryd.agent.qos.netlink import Statistics
from telemetryd.agent.qos.objects import OVERHEAD, Key
from telemetryd.agent.qos.tree import Served, Tree
from telemetryd.agent.realise import Leaves
from telemetryd.agent.tree import Value
from telemetryd.enforce.names import escaped

_NONE: Final = Statistics()
_WRAP: Final = 1 << 32
#: Octets of a frame that the counter of a rule does not see: the Ethernet header and the FCS.
_AROUND: Final = 14 + OVERHEAD
#: Counters of rules are read with all elements of their table; larger tables are not.
_MOST_ELEMENTS: Final = 4096


class Widened:
    """Makes counters of 32 bits wide, as long as they are read before they turn over twice."""

    def __init__(self) -> None:
        self._last: dict[Key, Statistics] = {}
        self._added: dict[Key, list[int]] = {}

    def widen(self, found: dict[Key, Statistics]) -> dict[Key, Statistics]:
        """Return the counters with what they have turned over; a class that was made anew begins at 0."""
        self._added = {key: own for key, own in self._added.items() if key in found}
        result = {}
        for key, new in found.items():
            old = self._last.get(key, _NONE)
            if new.packets < old.packets or new.octets < old.octets:
                self._added.pop(key, None)
            elif new.drops < old.drops or new.lends < old.lends or new.borrows < old.borrows:
                added = self._added.setdefault(key, [0, 0, 0])
                for i, (one, other) in enumerate(zip(_narrow(new), _narrow(old), strict=True)):
                    added[i] += _WRAP if one < other else 0
            drops, lends, borrows = self._added.get(key, (0, 0, 0))
            result[key] = new._replace(drops=new.drops + drops, lends=new.lends + lends, borrows=new.borrows + borrows)
        self._last = dict(found)
        return result


def _narrow(one: Statistics) -> tuple[int, int, int]:
    return one.drops, one.lends, one.borrows


def leaves_of(kernel: Kernel, compilation: Compilation, widened: Widened) -> Leaves:
    """Return the counters of queues and schedulers, and of terms that count.

    Raises
    ------
    TelemetrydError
        If they cannot be read.
    """
    counted = widened.widen(kernel.statistics({tree.device for tree in compilation.trees.values()}))
    leaves: dict[str, Value] = _terms(kernel, compilation)
    for one in compilation.attached:
        for direction, policy in one.policies.items():
            tree = compilation.trees.get((one.name, direction))
            if tree is None:
                continue
            for served in tree.served:
                own = counted.get(Key(tree.device, "class", served.number), _NONE)
                path = f"{one.path}/{direction}/queues/queue[name={escaped(served.queue)}]/state"
                leaves.update(_queue(path, own))
            leaves.update(_schedulers(f"{one.path}/{direction}/scheduler-policy", policy, tree, counted))
    return leaves


def _terms(kernel: Kernel, compilation: Compilation) -> dict[str, Value]:
    """Return the counters of terms, of classifiers that are attached to one interface only."""
    places: dict[str, list[str]] = {}
    for one in compilation.attached:
        for number, name in one.classifiers.items():
            places.setdefault(name, []).append(f"{one.path}/input/classifiers/classifier[type=IPV{number}]/terms/term")
    found: dict[str, list[int]] = {}
    terms = compilation.compiled.terms
    # A packet that goes on is counted where it is forwarded; the other table looks at it for a policer.
    for family in sorted({family for family, _, _ in terms} - {"netdev"}):
        if len(compilation.state.tables[family]) > _MOST_ELEMENTS:
            continue
        listed = kernel.nft.read(family)
        for (chain, place), (packets, octets) in (listed.counters if listed is not None else {}).items():
            path = terms.get((family, chain, place))
            if path is None:
                continue
            own = found.setdefault(path, [0, 0])
            own[0] += packets
            own[1] += octets + _AROUND * packets
    leaves: dict[str, Value] = {}
    for path, (packets, octets) in found.items():
        where = places.get(classifier_name(path), [])
        if len(where) == 1:
            state = f"{where[0]}{path[path.rindex('/term[') + len('/term') :]}/state"
            leaves[f"{state}/matched-packets"], leaves[f"{state}/matched-octets"] = packets, octets
    return leaves


def _queue(path: str, own: Statistics) -> dict[str, Value]:
    return {
        f"{path}/transmit-pkts": own.packets,
        f"{path}/transmit-octets": _octets(own),
        f"{path}/dropped-pkts": own.drops,
        f"{path}/dropped-octets": _dropped(own),
    }


def _schedulers(path: str, policy: str, tree: Tree, counted: dict[Key, Statistics]) -> dict[str, Value]:
    """Return the counters of the schedulers of the attached policy: others have no place in the model."""
    leaves: dict[str, Value] = {}
    by_sequence: dict[int, list[Served]] = {}
    for served in tree.served:
        if served.policy == policy:
            by_sequence.setdefault(served.sequence, []).append(served)
    for sequence, queues in by_sequence.items():
        found = [counted.get(Key(tree.device, "class", served.number), _NONE) for served in queues]
        packets, octets = sum(one.packets for one in found), sum(map(_octets, found))
        drops, dropped = sum(one.drops for one in found), sum(map(_dropped, found))
        own = f"{path}/schedulers/scheduler[sequence={sequence}]/state"
        if queues[0].kind == "two":
            lends, borrows = sum(one.lends for one in found), sum(one.borrows for one in found)
            # Packets as offload makes them count as many there, and as one here.
            within = packets * lends // (lends + borrows) if lends + borrows else 0
            within_octets = octets * lends // (lends + borrows) if lends + borrows else 0
            values = (within, within_octets, packets - within, octets - within_octets, drops, dropped)
        else:
            values = (packets, octets, drops, dropped, 0, 0)
        for i, colour in enumerate(("conforming", "exceeding", "violating")):
            leaves[f"{own}/{colour}-pkts"], leaves[f"{own}/{colour}-octets"] = values[2 * i], values[2 * i + 1]
    return leaves


def _octets(own: Statistics) -> int:
    return own.octets + OVERHEAD * own.packets


def _dropped(own: Statistics) -> int:
    return own.drops * _octets(own) // own.packets if own.packets else 0
