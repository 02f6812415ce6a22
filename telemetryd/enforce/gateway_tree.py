"""The tree of a gateway's port: an inner node for each that the policy writes, a leaf for each that it names, rests.

    the port, rate = ceiling = capacity
      a node for each inner node of the policy's tree
        a leaf for each leaf that the policy names, and one rest leaf for all others of the node
      one rest leaf for whatever nothing names, with the terms of the policy's rest

Rate = allocation, ceiling = the policy's ceiling; the children of a node never have more together than it has. What is
left of a node's rate goes to inner nodes below it whose own guarantee is more than what their leaves have: it is there
for whoever begins to send. A two hundredth of the port is left to the gateway itself, where the guarantees leave it.

Numbers are digests of names, so that a new node moves no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from telemetryd.enforce.intent import ClassIntent, PortIntent
from telemetryd.enforce.limits import Limits
from telemetryd.enforce.rounding import down, fit, up
from telemetryd.errors import InputError
from telemetryd.policy.outline import REST as POLICY_REST

#: Number of the node that stands for the port.
ROOT: Final = 1
#: Numbers of ours; the lower ones are left to others.
_FIRST, _COUNT = 0x10, 0xFFF0 - 0x10
#: Name of a rest leaf, which no registry can hold.
REST: Final = "_rest"
#: A part of the port is left to what the gateway itself sends, which no classifier sees: its agent, routing.
OWN_SHARE: Final = 200
#: Who demands nothing keeps so much where there is room, so that no rate falls below what limits let pass.
LEAST_BPS: Final = Limits().least_rate_bps
_MTU: Final = 1518
_BURST_MS: Final = 2
_LEAST_PRIORITY: Final = 7


@dataclass(slots=True)
class TreeNode:
    """A node, and what it gets.

    Attributes
    ----------
    names:
        From the port down; () for the port.
    levels:
        (level, name) from the port down, without the rest.
    importance, is_protected, is_hard, burst, dscp:
        Terms; of several in one leaf the most important, and hard where all are.
    rate_bps, ceiling_bps:
        What it gets.
    promise_bps, need_bps:
        What it must have, and what it and all below it must have.
    guarantee_bps:
        Of an inner node: what it gets beyond its children where there is room.
    children, leaves:
        Nodes below it; of a leaf, the classes that are in it.
    """

    names: tuple[str, ...]
    levels: tuple[tuple[str, str], ...] = ()
    importance: int = _LEAST_PRIORITY
    is_protected: bool = False
    is_hard: bool = False
    burst: int | None = None
    dscp: int | None = None
    rate_bps: int = 0
    ceiling_bps: int = 0
    promise_bps: int = 0
    need_bps: int = 0
    guarantee_bps: int = 0
    children: list[TreeNode] = field(default_factory=list)
    leaves: list[ClassIntent] = field(default_factory=list)

    @property
    def priority(self) -> int:
        """0 is served first for what others leave, 7 last."""
        return 0 if self.is_protected else min(_LEAST_PRIORITY, max(1, self.importance))

    @property
    def buckets(self) -> tuple[int, int]:
        """Octets of the buckets of rate and ceiling: powers of two, which follow the rates in large steps only."""
        own = self.burst if self.burst is not None else _bucket(self.rate_bps)
        return own, _bucket(self.ceiling_bps)

    def walk(self) -> Iterable[TreeNode]:
        """Yield the node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def numbers(
    names: Iterable[tuple[str, ...]], kept: Mapping[tuple[str, ...], int] | None = None
) -> dict[tuple[str, ...], int]:
    """Return a number for each of some names: the one it had, or the next free one after its digest.

    Raises
    ------
    InputError
        If there are more names than numbers.
    """
    every = sorted(set(names))
    if len(every) > _COUNT:
        raise InputError(f"{len(every)} classes are more than the {_COUNT} that a qdisc numbers")
    known = set(every)
    found = {name: number for name, number in (kept or {}).items() if name in known}
    used = set(found.values())
    for name in every:
        if name not in found:
            value = int.from_bytes(hashlib.sha256("\0".join(name).encode()).digest()[:4], "big") % _COUNT
            while value + _FIRST in used:
                value = (value + 1) % _COUNT
            found[name] = value + _FIRST
            used.add(value + _FIRST)
    return {name: found[name] for name in every}


def grow(port: PortIntent, step_bps: int, least_bps: int) -> TreeNode:
    """Return the port's tree with the rates of all nodes.

    Raises
    ------
    InputError
        If guarantees do not fit the port.
    """
    root = _tree(port)
    _needs(root, step_bps, least_bps, LEAST_BPS)
    if root.need_bps > port.capacity_bps - port.capacity_bps // OWN_SHARE:
        _needs(root, step_bps, least_bps, least_bps)
    if root.need_bps > port.capacity_bps:
        root = _tree(_with_room(port, root.need_bps - port.capacity_bps, step_bps))
        _needs(root, step_bps, least_bps, least_bps)
    if root.need_bps > port.capacity_bps:
        raise InputError(
            f"{port.interface} {port.direction}: its classes need {root.need_bps} bit/s, the port has "
            f"{port.capacity_bps} - lower guarantees, or name fewer classes"
        )
    root.rate_bps = root.ceiling_bps = down(port.capacity_bps, step_bps)
    own_bps = min(root.rate_bps // OWN_SHARE, root.rate_bps - root.need_bps)
    _divide(root, step_bps, least_bps, own_bps)
    return root


def _with_room(port: PortIntent, over_bps: int, step_bps: int) -> PortIntent:
    """Let protected classes promise less by what is missing: whatever their rate, they are served before all others.

    Else one that demands the whole port would leave nothing of it for the least rates of others, and no plan at all.
    """
    total = sum(one.promise_bps for one in port.classes if one.is_protected)
    if not total:
        return port

    def cut(one: ClassIntent) -> ClassIntent:
        part = -(-over_bps * one.promise_bps // total) + step_bps
        return replace(one, promise_bps=max(0, one.promise_bps - part)) if one.is_protected else one

    return replace(port, classes=tuple(map(cut, port.classes)))


def _tree(port: PortIntent) -> TreeNode:
    root = TreeNode((), ceiling_bps=port.capacity_bps)
    rest = TreeNode((REST,), ceiling_bps=port.capacity_bps)
    root.children.append(rest)
    nodes: dict[tuple[str, ...], TreeNode] = {(): root, (REST,): rest}
    for inner in sorted(port.inner, key=lambda one: (len(one.names), one.names)):
        if inner.names[0] == POLICY_REST:
            if len(inner.names) == 1:
                rest.importance, rest.ceiling_bps = inner.importance, min(inner.ceiling_bps, port.capacity_bps)
                rest.is_hard, rest.guarantee_bps = inner.is_hard, inner.guarantee_bps
            continue
        node = TreeNode(
            inner.names,
            inner.levels,
            inner.importance,
            is_hard=inner.is_hard,
            ceiling_bps=inner.ceiling_bps,
            guarantee_bps=inner.guarantee_bps,
        )
        nodes[inner.names] = node
        nodes[inner.names[:-1]].children.append(node)
    for node in list(nodes.values()):
        if node is not root and node is not rest:
            # As whoever nobody names: the terms of the node above, whoever is in it.
            own = TreeNode((*node.names, REST), node.levels, node.importance, ceiling_bps=node.ceiling_bps)
            nodes[own.names] = own
            node.children.append(own)
    for one in sorted(port.classes, key=lambda one: one.name):
        _add_class(nodes, one)
    for node in nodes.values():
        if len(node.children) == 1 and node is not root:
            _become_leaf(node)
    for node in sorted(nodes.values(), key=lambda node: -len(node.names)):
        node.children.sort(key=lambda child: child.names)
        below: list[ClassIntent | TreeNode] = [*node.leaves, *node.children]
        node.rate_bps = sum(one.rate_bps for one in below)
        node.promise_bps = sum(one.promise_bps for one in below)
        named = [child for child in node.children if child.names[-1] != REST]
        if node.children:
            node.is_protected = bool(named) and all(child.is_protected for child in named)
    return root


def _add_class(nodes: dict[tuple[str, ...], TreeNode], one: ClassIntent) -> None:
    """Put a class into the leaf of its names, or into the rest of the lowest node above it that is there."""
    names = tuple(name for _, name in one.levels)
    above: tuple[str, ...] = () if names[0] == POLICY_REST else names[:-1]
    while above not in nodes:
        above = above[:-1]
    if one.is_named and above == names[:-1]:
        leaf = nodes[names] = TreeNode(
            names,
            one.levels,
            one.importance,
            one.is_protected,
            one.is_hard,
            one.burst_octets,
            one.dscp,
            ceiling_bps=one.ceiling_bps,
        )
        nodes[above].children.append(leaf)
    else:
        leaf = nodes[(*above, REST)]
        leaf.is_protected |= one.is_protected
    leaf.leaves.append(one)


def _become_leaf(node: TreeNode) -> None:
    """Let a node below which nobody is named be a leaf itself."""
    (rest,) = node.children
    node.leaves, node.children, node.is_protected = rest.leaves, [], rest.is_protected


def _needs(node: TreeNode, step: int, least: int, wanted: int) -> None:
    """Set the least rate of each node: its promise, what those below it need, and what is wanted up to its ceiling."""
    for child in node.children:
        _needs(child, step, least, wanted)
    own = max(up(node.promise_bps, step), up(least, step), down(min(wanted, node.ceiling_bps), step))
    node.need_bps = max(own, sum(child.need_bps for child in node.children))


def _divide(node: TreeNode, step: int, least: int, own_bps: int = 0) -> None:
    """Give the children of a node rates that fit into its own, less what it keeps itself."""
    if not node.children:
        return
    rates = fit(
        [child.rate_bps for child in node.children],
        [child.need_bps for child in node.children],
        node.rate_bps - own_bps,
        step,
        least,
    )
    left = down(node.rate_bps - own_bps - sum(rates), step)
    for place in sorted(range(len(rates)), key=lambda i: (node.children[i].importance, i)):
        child = node.children[place]
        more = min(left, max(0, down(min(child.guarantee_bps, child.ceiling_bps), step) - rates[place]))
        rates[place], left = rates[place] + more, left - more
    for child, rate in zip(node.children, rates, strict=True):
        child.rate_bps = rate
        ceiling = rate if child.is_hard else down(min(child.ceiling_bps, node.ceiling_bps), step)
        child.ceiling_bps = max(rate, ceiling)
        _divide(child, step, least)


def _bucket(rate_bps: int) -> int:
    value = rate_bps * _BURST_MS // 8000
    return max(2 * _MTU, 1 << (value.bit_length() - 1) if value > 0 else 0)
