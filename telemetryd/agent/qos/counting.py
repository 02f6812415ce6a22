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
from telemetryd.agent.qos.netlink import Statistics
from telemetryd.agent.qos.objects import OVERHEAD, Key
from telemetryd.agent.qos.tree import Served, Tree
from telemetryd.agent.realise import Leaves
from telemetryd.agent.tree import Value
from telemetryd.enforce.names import escaped

_NONE: Final = Statistics()


def leaves_of(kernel: Kernel, compilation: Compilation) -> Leaves:
    """Return the counters of queues and schedulers.

    Raises
    ------
    TelemetrydError
        If they cannot be read.
    """
    counted = kernel.statistics({tree.device for tree in compilation.trees.values()})
    leaves: dict[str, Value] = {}
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
