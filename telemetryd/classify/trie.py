"""Build the prefix trie: one octet of the address a level, leaves pushed down.

Longest-prefix match then is at most 4 (IPv4) or 16 (IPv6) array reads, with no comparison of lengths.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from telemetryd.classify.tables import CHILD

NODE_SIZE = 256


class TrieBuilder:
    """Grow one pool of nodes that holds the tries of every routing instance and both families."""

    def __init__(self) -> None:
        self._nodes = np.zeros((64, NODE_SIZE), dtype=np.uint32)
        self._used = 0

    def _allocate(self, fill: int) -> int:
        if self._used == len(self._nodes):
            grown = np.zeros((2 * len(self._nodes), NODE_SIZE), dtype=np.uint32)
            grown[: self._used] = self._nodes
            self._nodes = grown
        node = self._used
        self._used += 1
        self._nodes[node] = fill
        return node

    def _copy(self, node: int) -> int:
        copy = self._allocate(0)
        self._nodes[copy] = self._nodes[node]
        return copy

    def add(self, prefixes: Iterable[tuple[bytes, int, int]], otherwise: int | None = None) -> int:
        """Build the trie of one instance and family and return its root node.

        Parameters
        ----------
        prefixes:
            (network address of 4 or 16 octets, prefix length, leaf number); leaf numbers below 2^31. Of
            two equal prefixes the later one wins.
        otherwise:
            Root of a trie of the same family that answers where none of the prefixes covers an address. The two
            share the nodes in which they do not differ.
        """
        root = self._allocate(0) if otherwise is None else self._copy(otherwise)
        own = {root}
        # Shorter prefixes first: a longer one then overwrites its part of what they filled.
        for network, length, leaf in sorted(prefixes, key=lambda prefix: prefix[1]):
            node = root
            level = 0
            while length > 8 * (level + 1):
                slot = network[level]
                entry = int(self._nodes[node, slot])
                child = entry & ~CHILD
                if child not in own or not entry & CHILD:
                    child = self._copy(child) if entry & CHILD else self._allocate(entry)
                    own.add(child)
                    self._nodes[node, slot] = child | CHILD
                node = child
                level += 1
            span = 1 << (8 * (level + 1) - length)
            start = network[level] if length else 0
            self._nodes[node, start : start + span] = leaf
        return root

    def nodes(self) -> NDArray[np.uint32]:
        """Return the pool, shape (nodes, 256)."""
        return self._nodes[: self._used].copy()


def lookup(nodes: NDArray[np.uint32], root: int, address: bytes) -> int:
    """Return the leaf number of the longest prefix that covers ``address``, 0 where there is none."""
    entry = root | CHILD
    for octet in address:
        entry = int(nodes[entry & ~CHILD, octet])
        if not entry & CHILD:
            break
    return entry
