"""From a scheduler policy to a tree of HTB classes: a pure function.

    scheduler with rates and a queue         a leaf: rate = cir, ceil = pir (one rate: ceil = cir)
    with rates and several queues            an inner node; below it a leaf a queue
    with a child-scheduler                   an inner node; below it the schedulers of that policy
    priority STRICT without rates            leaves, each before all that come later; least rates
    without either                           leaves that share by weight: quantum by weight, and rates by weight where
                                             nothing strict may take them

Who is served first of what others leave is the order of sequences, or, where a sequence of a policy is 65536 or more,
sequence >> 16; sequence & 0xffff is the minor number then. Otherwise numbers are digests of names.

HTB serves what is within its rate first and shares the rest by priority, then by quantum. So beside something strict
nobody has more than 0.02 % of its own: all else is borrowed, the strict ones first. It is not less because HTB
lets a class owe for a packet as long as its rate takes for it, whatever its rate is raised to meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import grpc

from telemetryd.agent.qos.config import Configuration, invalid, unimplemented
from telemetryd.agent.qos.objects import (
    DEEPEST,
    DEFAULT,
    LEAST_BPS,
    PORT,
    Fifo,
    HtbClass,
    Ifb,
    Key,
    Object,
    Root,
    ticks,
)
from telemetryd.agent.qos.schedulers import Scheduler, schedulers_of
from telemetryd.agent.refusal import RefusedError

_EXPLICIT: Final = 1 << 16
_FIRST, _LAST = 0x10, 0xFFEF
_PRIORITIES: Final = 8
_MTU: Final = 1514
#: A bucket holds what its rate sends in this time, in powers of two: they follow a rate in large steps only.
_BURST_MS: Final = 8
#: A buffer takes a whole packet of 64 KiB, as receive offload makes them, and some small ones.
_LEAST_LIMIT: Final = (1 << 16) + (1 << 12)
_MOST_QUANTUM: Final = 1 << 20
#: What a queue beside strict ones has of its own: this part of what is above it.
_OWN_SHARE: Final = 5000
#: What everything without a class has of its own, where there is as much left: 0.5 %.
_DEFAULT_SHARE: Final = 200
#: What it has in any case: where nobody learns a neighbour any more nothing goes.
_SURE_BPS: Final = 64_000


class Served(NamedTuple):
    """A queue on a port: where its packets go, and the scheduler that it is an input of.

    Attributes
    ----------
    number:
        Minor number of its class.
    policy, sequence, kind:
        Of the scheduler: "one", "two" or no rates of its own.
    """

    queue: str
    number: int
    policy: str
    sequence: int
    kind: str
    is_policed: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """What is made of the policy of an interface in a direction.

    Attributes
    ----------
    device:
        The one that has the classes: the interface, or the one its input is led through.
    where:
        The leaf that attaches the policy.
    policies:
        Names of all policies that it was made of.
    """

    where: str
    interface: str
    direction: str
    device: str
    objects: dict[Key, Object]
    served: tuple[Served, ...]
    policies: frozenset[str]

    @property
    def numbers(self) -> dict[str, int]:
        """Queue -> minor number."""
        return {one.queue: one.number for one in self.served}


@dataclass(slots=True)
class _Node:
    """A class to be; its name tells it from all others of the tree."""

    name: str
    rate_bps: int
    ceil_bps: int
    priority: int = 0
    scheduler: Scheduler | None = None
    queue: str = ""
    number: int = 0
    quantum: int = 0
    children: list[_Node] = field(default_factory=list)

    @property
    def needed_bps(self) -> int:
        """What those below it have together."""
        return sum(child.rate_bps for child in self.children)


def device_of(interface: str) -> str:
    """Return the name of the device that an interface's input is led through."""
    return f"td-{hashlib.sha256(interface.encode()).hexdigest()[:8]}"


def build(config: Configuration, interface: str, direction: str, policy: str, where: str, capacity_bps: int) -> Tree:
    """Return the classes of a policy.

    Parameters
    ----------
    direction:
        "output" or "input".
    where:
        The leaf that attaches the policy.
    capacity_bps:
        Of the interface, for policies that do not say it themselves.

    Raises
    ------
    RefusedError
        If HTB cannot do what it says.
    """
    return _Builder(config, interface, direction, policy, where, capacity_bps).build()


class _Builder:
    def __init__(
        self, config: Configuration, interface: str, direction: str, policy: str, where: str, capacity_bps: int
    ) -> None:
        self._config = config
        self._interface, self._direction = interface, direction
        self._policy, self._where, self._capacity_bps = policy, where, capacity_bps
        self._is_input = direction == "input"
        self._policies: set[str] = set()
        self._queues: dict[str, str] = {}
        self._given: dict[int, str] = {PORT: "the port", DEFAULT: "what has no class"}

    def build(self) -> Tree:
        port, where = self._port()
        port.children = self._below(port, self._schedulers(port.name or self._policy, where), where, 2, 0)
        capacity_bps, needed_bps = port.rate_bps, port.needed_bps
        if needed_bps > capacity_bps and not self._is_input:
            raise invalid(
                where, f"its schedulers have {needed_bps} bit/s together, {self._interface} has {capacity_bps}"
            )
        own_bps = _rate(max(_own(capacity_bps), min(capacity_bps - needed_bps, capacity_bps // _DEFAULT_SHARE)))
        port.rate_bps = port.ceil_bps = max(capacity_bps, needed_bps + own_bps)
        default = _Node("", own_bps, port.ceil_bps, _PRIORITIES - 1, number=DEFAULT, quantum=_MTU)
        port.children.append(default)
        self._number(port)
        device = device_of(self._interface) if self._is_input else self._interface
        objects: dict[Key, Object] = {}
        if self._is_input:
            objects[Key(device, "device")] = Ifb(self._interface)
        objects[Key(device, "qdisc", PORT)] = Root()
        served: list[Served] = []
        self._add(objects, served, device, port, 0)
        return Tree(
            self._where, self._interface, self._direction, device, objects, tuple(served), frozenset(self._policies)
        )

    def _port(self) -> tuple[_Node, str]:
        """Return the node of the port, named after the policy that holds what is below it, and who leads there."""
        capacity_bps, where = _rate(self._capacity_bps), self._where
        top = schedulers_of(self._config, self._policy, where)
        if len(top) != 1 or not top[0].child:
            return _Node("", capacity_bps, capacity_bps, number=PORT), where
        # One node above all others is the port itself.
        self._policies.add(self._policy)
        own = top[0]
        for share in (own.pir, own.cir):
            if given_bps := share.of(capacity_bps, capacity_bps):
                capacity_bps = _rate(given_bps)
                break
        where = f"{own.path}/output/config/child-scheduler"
        return _Node(own.child, capacity_bps, capacity_bps, number=PORT, scheduler=own), where

    def _schedulers(self, policy: str, where: str) -> tuple[Scheduler, ...]:
        if policy in self._policies:
            raise invalid(where, f"{policy} holds nodes of this tree already: it cannot be in two places")
        self._policies.add(policy)
        return schedulers_of(self._config, policy, where)

    def _below(self, above: _Node, schedulers: Sequence[Scheduler], where: str, depth: int, first: int) -> list[_Node]:
        """Return the nodes of the schedulers of a policy; `first` is the priority that the first of them has."""
        if schedulers and depth > DEEPEST:
            raise unimplemented(where, f"HTB holds no more than {DEEPEST} levels of classes")
        is_explicit = any(one.sequence >= _EXPLICIT for one in schedulers)
        has_strict = any(one.is_strict and not one.kind for one in schedulers)
        left_bps = self._left(above, schedulers)
        weights = sum(max(1, sum(input.weight or 1 for input in one.inputs)) for one in schedulers if not one.kind)
        queues = sum(max(1, len(one.inputs)) for one in schedulers if not one.kind)
        least_bps = min(above.rate_bps // _OWN_SHARE, left_bps // (10 * max(1, queues)))
        nodes: list[_Node] = []
        rank = first
        for one in schedulers:
            base = one.sequence >> 16 if is_explicit else rank
            own_bps = least_bps if has_strict else left_bps
            if one.kind:
                own = [self._rated(one, above, left_bps, base, depth)]
            elif one.child:
                share_bps = least_bps if has_strict else left_bps // weights
                own = [self._inner(one, _node(one, share_bps, above.ceil_bps, base), depth)]
            else:
                own = self._leaves(one, above, own_bps, 0 if has_strict else weights, base)
            if is_explicit and len(own) == 1:
                self._take(own[0], one)
            nodes += own
            rank = max([rank, *(node.priority for node in own)]) + 1
        if has_strict and not is_explicit and rank > _PRIORITIES:
            raise unimplemented(where, f"HTB has {_PRIORITIES} priorities, these schedulers need {rank}")
        for node in nodes:
            node.priority = min(_PRIORITIES - 1, node.priority)
        return nodes

    def _left(self, above: _Node, schedulers: Iterable[Scheduler]) -> int:
        """Return what of a node's rate no scheduler below it has by itself or by percent of the whole."""
        whole_bps = above.rate_bps
        taken = (one.cir.of(whole_bps, 0) for one in schedulers if one.kind and one.cir.pct_remaining is None)
        return max(0, whole_bps - sum(bps or 0 for bps in taken))

    def _rated(self, one: Scheduler, above: _Node, left_bps: int, priority: int, depth: int) -> _Node:
        rate_bps = _rate(one.cir.of(above.rate_bps, left_bps) or 0)
        ceil_bps = above.ceil_bps
        if one.is_capped:
            if one.kind == "one":
                ceil_bps = rate_bps
            elif (given_bps := one.pir.of(above.ceil_bps, left_bps)) is not None:
                ceil_bps = _rate(given_bps)
        ceil_bps = max(ceil_bps, rate_bps) if self._is_input else ceil_bps
        if ceil_bps < rate_bps:
            leaf = "two-rate-three-color/config/pir" if one.pir.is_given else "two-rate-three-color/config/cir"
            raise invalid(f"{one.path}/{leaf}", f"the ceiling is {ceil_bps} bit/s, the rate {rate_bps}")
        node = _node(one, rate_bps, ceil_bps, priority)
        if one.child:
            return self._inner(one, node, depth)
        if len(one.inputs) == 1:
            node.queue = self._queue(one, one.inputs[0].queue, one.inputs[0].id)
            node.quantum = min(60_000, max(_MTU, _power(rate_bps // 80_000)))
            return node
        if one.inputs and depth + 1 > DEEPEST:
            raise unimplemented(one.path, f"HTB holds no more than {DEEPEST} levels of classes")
        weights = sum(input.weight or 1 for input in one.inputs)
        if one.is_strict:
            own_bps = min(rate_bps // _OWN_SHARE, rate_bps // (10 * max(1, len(one.inputs))))
            node.children = self._leaves(one, node, own_bps, 0, priority)
        else:
            node.children = self._leaves(one, node, rate_bps, weights, priority)
        for child in node.children:
            child.priority = min(_PRIORITIES - 1, child.priority)
        return node

    def _inner(self, one: Scheduler, node: _Node, depth: int) -> _Node:
        where = f"{one.path}/output/config/child-scheduler"
        node.children = self._below(node, self._schedulers(one.child, where), where, depth + 1, node.priority)
        if node.needed_bps > node.rate_bps:
            raise invalid(
                where,
                f"the schedulers of {one.child} have {node.needed_bps} bit/s together, above them is {node.rate_bps}",
            )
        return node

    def _leaves(self, one: Scheduler, above: _Node, left_bps: int, weights: int, priority: int) -> list[_Node]:
        """Return the leaves of a scheduler whose queues have no rates of their own.

        They share `left_bps` by weight; where `weights` is 0 each has as much.
        """
        least = min((input.weight or 1 for input in one.inputs), default=1)
        levels = sorted({input.weight for input in one.inputs}, reverse=True)
        nodes = []
        for input in sorted(one.inputs, key=lambda input: (-input.weight, input.id)):
            weight = input.weight or 1
            share_bps = left_bps * weight // weights if weights else left_bps
            node = _Node(f"{one.path} {input.id}", _rate(share_bps), above.ceil_bps, scheduler=one)
            node.queue = self._queue(one, input.queue, input.id)
            node.priority, node.quantum = priority, min(_MOST_QUANTUM, _MTU * weight // least)
            if one.is_strict:
                node.priority, node.quantum = priority + levels.index(input.weight), _MTU
            nodes.append(node)
        return nodes

    def _queue(self, one: Scheduler, queue: str, id: str) -> str:
        first = self._queues.setdefault(queue, f"{one.path}/inputs/input[id={id}]")
        where = f"{one.path}/inputs/input[id={id}]"
        if first != where:
            raise invalid(f"{where}/config/queue", f"{queue} is an input of this tree already: {first}")
        return queue

    def _take(self, node: _Node, one: Scheduler) -> None:
        """Give a node the number that its sequence says."""
        number = one.sequence & 0xFFFF
        if not number:
            return
        other = self._given.setdefault(number, one.path)
        if other != one.path or number == 0xFFFF:
            raise invalid(f"{one.path}/config/sequence", f"class 1:{number:x} is not free: {other}")
        node.number = number

    def _number(self, port: _Node) -> None:
        used = set(self._given)
        for node in sorted(_walk(port), key=lambda node: node.name):
            if node.number:
                continue
            count = _LAST - _FIRST + 1
            value = int.from_bytes(hashlib.sha256(node.name.encode()).digest()[:4], "big") % count
            if len(used) >= count:
                status = grpc.StatusCode.RESOURCE_EXHAUSTED
                raise RefusedError(status, f"{self._where}: more classes than the {count} that a qdisc numbers")
            while value + _FIRST in used:
                value = (value + 1) % count
            node.number = value + _FIRST
            used.add(node.number)

    def _add(self, objects: dict[Key, Object], served: list[Served], device: str, node: _Node, parent: int) -> None:
        one = node.scheduler
        is_rated = one is not None and bool(one.kind) and node.name == one.path
        is_policed = one is not None and self._drops(one)
        burst = one.bc if one is not None and is_rated else None
        most = one.be if one is not None and is_rated else None
        objects[Key(device, "class", node.number)] = HtbClass(
            parent=parent,
            rate_bps=node.rate_bps,
            ceil_bps=node.ceil_bps,
            buffer=ticks(burst or _bucket(node.rate_bps), node.rate_bps),
            cbuffer=ticks(most or burst or _bucket(node.ceil_bps), node.ceil_bps),
            quantum=0 if node.children else node.quantum or _MTU,
            priority=0 if node.children else node.priority,
        )
        for child in node.children:
            self._add(objects, served, device, child, node.number)
        if node.children:
            return
        depth = one.depth if one is not None else None
        limit = _LEAST_LIMIT if is_policed else _limit(node.rate_bps, node.ceil_bps, is_rated)
        objects[Key(device, "fifo", node.number)] = Fifo(depth or limit)
        if one is not None and node.queue:
            served.append(Served(node.queue, node.number, one.policy, one.sequence, one.kind, is_policed))

    def _drops(self, one: Scheduler) -> bool:
        return one.is_policed or (self._is_input and bool(one.kind) and not one.is_shaped)


def _node(one: Scheduler, rate_bps: int, ceil_bps: int, priority: int) -> _Node:
    return _Node(one.path, _rate(rate_bps), ceil_bps, priority, one)


def _walk(node: _Node) -> Iterable[_Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _own(capacity_bps: int) -> int:
    """Return what everything without a class has of its own in any case: a thousandth, on a slow port some more."""
    return max(capacity_bps // 1000, min(_SURE_BPS, capacity_bps // 100))


def _rate(bps: int) -> int:
    """Return a rate that HTB can have: whole octets a second, at least one."""
    return max(LEAST_BPS, bps // 8 * 8)


def _bucket(rate_bps: int) -> int:
    return max(2 * _MTU, _power(rate_bps * _BURST_MS // 8000))


def _limit(rate_bps: int, ceil_bps: int, is_rated: bool) -> int:
    """Return the power of two that holds 10 to 20 ms: of the rate, or of a part of the ceiling if that is more."""
    basis_bps = max(rate_bps, ceil_bps // 4) if is_rated else ceil_bps
    return max(_LEAST_LIMIT, _power(basis_bps // 400))


def _power(value: int) -> int:
    """Return the largest power of two that is not above a number; 0 for 0."""
    return 1 << (value.bit_length() - 1) if value > 0 else 0
