"""The compiled lookup tables: flat, immutable numpy arrays, swapped whole on reload.

Layout of every table, shared by the compiled classifier (``ext/match.pyx``) and its Python twin
(:mod:`telemetryd.classify.reference`):

* **Hosts.** IPv6 prefixes of full length, in a hash by (instance << 8 | version, address): servers, mostly.
  They are asked first, since a trie would take 16 dependent reads for each. IPv4 hosts are in the trie: four
  reads without a branch are faster than a hash that may or may not hold the address.
* **Prefix trie.** ``trie_nodes`` has shape (nodes, 256), uint32: one octet of the address a level. An
  entry is a leaf number, or a child's node number with the top bit set. ``trie_roots`` has shape
  (instances + 1, 2): the root node per routing instance for IPv4 and IPv6; row 0 is the common table,
  asked when the instance's own has no match; for IPv4 the instances' tries hold its answers themselves.
  Leaf 0 means "not registered".
* **Leaves.** Department, zone, kind of place and rule group of a prefix.
* **Rules.** For rule group g, ``rule_starts[g]:rule_starts[g + 1]`` is a sorted list of intervals
  over ``protocol << 16 | port`` that covers the whole range; each names an application and a rank. The
  greater rank is the more specific rule.
* **Hashes.** Open addressing, power-of-two size, linear probing, :func:`mix` as hash; an agent's key is
  (version, address), an interface's ``device << 32 | ifIndex``, a source's (device, class, index).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.schema import Names

CHILD: Final = 0x8000_0000
EMPTY: Final = 0xFFFF_FFFF_FFFF_FFFF

DEPARTMENT_UNKNOWN: Final = 0
DEPARTMENT_OUTSIDE: Final = 1
APPLICATION_UNCLASSIFIED: Final = 0
APPLICATION_LABELLED: Final = 1

INTERNAL_INTERFACE: Final = 0x3FFF_FFFF
INTERNAL_INTERFACE_EXPANDED: Final = 0xFFFF_FFFF


class Place(IntEnum):
    """What kind of place an address belongs to (``leaf_place``)."""

    UNREGISTERED = 0
    INSIDE = 1
    INTERNET = 2
    UPLINK = 3


class Counts(IntEnum):
    """Bits of ``interface_counts``: which packets a metering point counts."""

    EXIT = 1
    UPLINK = 2
    INTERNAL = 4


class Faces(IntEnum):
    """What lies beyond an interface (``interface_faces``)."""

    UNKNOWN = 0
    OUTSIDE = 1
    INSIDE = 2


class Sampling(IntEnum):
    """Where a device takes its samples (``device_sampling``)."""

    INGRESS = 0
    EGRESS = 1
    BOTH = 2


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that classification looks up, as flat arrays (see the module's text for the layout).

    Shapes: v leaves, g rule groups, r rule intervals, d devices (row 0 = none), i interfaces (row 0 = none).
    """

    names: Names
    trie_nodes: NDArray[np.uint32]
    trie_roots: NDArray[np.uint32]
    host_keys: NDArray[np.uint64]
    host_leaves: NDArray[np.uint32]
    leaf_department: NDArray[np.uint32]
    leaf_zone: NDArray[np.uint32]
    leaf_place: NDArray[np.uint8]
    leaf_group: NDArray[np.uint32]
    rule_starts: NDArray[np.uint32]
    rule_keys: NDArray[np.uint32]
    rule_applications: NDArray[np.uint32]
    rule_ranks: NDArray[np.uint32]
    application_owner: NDArray[np.uint32]
    agent_keys: NDArray[np.uint64]
    agent_devices: NDArray[np.uint32]
    device_names: tuple[str, ...]
    device_sampling: NDArray[np.uint8]
    device_correction: NDArray[np.float64]
    interface_keys: NDArray[np.uint64]
    interface_rows: NDArray[np.uint32]
    interface_link: NDArray[np.uint32]
    interface_metering: NDArray[np.uint32]
    interface_faces: NDArray[np.uint8]
    interface_counts: NDArray[np.uint8]
    interface_instance: NDArray[np.uint32]
    interface_labelled: NDArray[np.uint8]
    source_keys: NDArray[np.uint64]
    source_interfaces: NDArray[np.uint32]
    vlan_instance: NDArray[np.uint32]
    dscp_class: NDArray[np.uint8]

    @property
    def octets(self) -> int:
        """Memory that the arrays take."""
        arrays: list[NDArray[Any]] = [
            value for name in self.__slots__ if isinstance(value := getattr(self, name), np.ndarray)
        ]
        return sum(array.nbytes for array in arrays)


def mix(key: int) -> int:
    """Hash a 64-bit key: the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    mask = 0xFFFF_FFFF_FFFF_FFFF
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 & mask
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB & mask
    return key ^ (key >> 31)


def address_hash(scope: int, hi: int, lo: int) -> int:
    """Hash an address: the halves as in the columns, and what else tells it apart.

    ``scope`` is the version of an agent's address, and ``instance << 8 | version`` of a host's.
    """
    return mix(mix(hi ^ scope) ^ lo)


def source_key(device: int, source_class: int, source_index: int) -> int:
    """Pack a data source of a device into a hash key (devices and classes are small numbers)."""
    return (device << 40 | (source_class & 0xFF) << 32 | source_index) & 0xFFFF_FFFF_FFFF_FFFF
