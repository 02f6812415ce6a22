"""Entries as those who read get them: configuration with its state twins, and what the kernel says besides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from telemetryd.agent.datastore import Values
from telemetryd.agent.model import Kind, ListNode, Role
from telemetryd.agent.tree import Branch, Elems, Value
from telemetryd.agent.types import Type

_NOTHING: Mapping[str, Value] = {}


class _Goal(NamedTuple):
    """A leaf that has the value of a configured one: its position, and what puts its module before an identity."""

    position: int
    qualifier: Type | None


@cache
def _goals(node: ListNode) -> dict[str, tuple[_Goal, ...]]:
    """Return for each way into the configuration which leaves have its value."""
    found: dict[str, list[_Goal]] = {}
    for position, (leaf, twin) in enumerate(zip(node.leaves, node.sources, strict=True)):
        way = f"config/{leaf.way}" if leaf.role is Role.KEY else leaf.way if leaf.role is Role.CONFIG else twin
        if way in node.by_way:
            type_ = node.by_way[way].type
            has_modules = type_ is not None and any(type_.names.values())
            found.setdefault(way, []).append(_Goal(position, type_ if has_modules else None))
    return {way: tuple(goals) for way, goals in found.items()}


@cache
def _positions(node: ListNode) -> dict[str, int]:
    return {leaf.way: position for position, leaf in enumerate(node.leaves)}


def branch_of(node: ListNode, elems: Elems, values: Values, state: Mapping[str, Value] = _NOTHING) -> Branch:
    """Return an entry with all of its leaves.

    Parameters
    ----------
    values:
        What is configured.
    state:
        Leaves of state that are there without configuration, or with another value than it; by ways.
    """
    result: list[Value | None] = [None] * len(node.leaves)
    goals = _goals(node)
    for way, value in values.items():
        for position, qualifier in goals[way]:
            result[position] = value if qualifier is None or not isinstance(value, str) else qualifier.qualified(value)
    positions = _positions(node)
    for way, value in state.items():
        result[positions[way]] = value
    twin = node.by_way.get(f"state/{node.keys[0]}")
    if not values and twin is not None:
        # The target alone has made it. Its key is no configuration: who reads that shall be able to write it back.
        key = elems[-1].keys[0][1]
        result[positions[twin.way]] = int(key) if twin.kind is Kind.UINT else key
    return Branch(node, elems, tuple(result))
