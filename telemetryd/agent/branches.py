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


class _Source(NamedTuple):
    """Where the value of a leaf comes from: a way into the configuration, or one into the state."""

    configured: str
    state: str
    qualifier: Type | None


@cache
def _sources(node: ListNode) -> tuple[_Source, ...]:
    found = []
    for leaf, twin in zip(node.leaves, node.sources, strict=True):
        if leaf.role is Role.KEY:
            source = _Source(f"config/{leaf.way}", "", None)
        elif leaf.role is Role.CONFIG:
            source = _Source(leaf.way, "", leaf.type)
        else:
            source = _Source(twin, leaf.way, node.by_way[twin].type if twin else None)
        has_modules = source.qualifier is not None and any(source.qualifier.names.values())
        found.append(source if has_modules else source._replace(qualifier=None))
    return tuple(found)


def branch_of(node: ListNode, elems: Elems, values: Values, state: Mapping[str, Value] = _NOTHING) -> Branch:
    """Return an entry with all of its leaves.

    Parameters
    ----------
    values:
        What is configured.
    state:
        Leaves of state that are there without configuration, or with another value than it; by ways.
    """
    result: list[Value | None] = []
    for configured, own, qualifier in _sources(node):
        value = state.get(own) if own else None
        if value is None and configured:
            value = values.get(configured)
        if qualifier is not None and isinstance(value, str):
            value = qualifier.qualified(value)
        result.append(value)
    twin = node.by_way.get(f"state/{node.keys[0]}")
    if not values and twin is not None:
        # The target alone has made it. Its key is no configuration: who reads that shall be able to write it back.
        key = elems[-1].keys[0][1]
        result[node.leaves.index(twin)] = int(key) if twin.kind is Kind.UINT else key
    return Branch(node, elems, tuple(result))
