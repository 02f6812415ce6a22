"""Ranges of addresses: which places each is in, and how nft writes them."""

from __future__ import annotations

import ipaddress

from telemetryd.agent.qos.terms import Range


def signatures(places: dict[str, tuple[Range, ...]]) -> list[tuple[int, int, frozenset[str]]]:
    """Return ranges of addresses that do not overlap, each with all places that it is in; those in none are left out.

    Parameters
    ----------
    places:
        Name -> ranges that do not touch.
    """
    events: dict[int, tuple[list[str], list[str]]] = {}
    for name, ranges in places.items():
        for first, last in ranges:
            events.setdefault(first, ([], []))[0].append(name)
            events.setdefault(last + 1, ([], []))[1].append(name)
    result: list[tuple[int, int, frozenset[str]]] = []
    inside: set[str] = set()
    before = 0
    for at in sorted(events):
        if inside and at > before:
            own = frozenset(inside)
            if result and result[-1][2] == own and result[-1][1] == before - 1:
                result[-1] = result[-1][0], at - 1, own
            else:
                result.append((before, at - 1, own))
        begins, ends = events[at]
        inside.difference_update(ends)
        inside.update(begins)
        before = at
    return result


def span(first: int, last: int, family: int) -> str:
    """Write a range of addresses as nft lists it: a prefix where it is one."""
    make = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    bits = 32 if family == 4 else 128
    size = last - first + 1
    if size == 1:
        return str(make(first))
    if size & (size - 1) == 0 and first % size == 0:
        return f"{make(first)}/{bits - size.bit_length() + 1}"
    return f"{make(first)}-{make(last)}"
