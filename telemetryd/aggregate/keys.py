"""How the codes of a key are packed into words, for the accumulator and for the result tables.

An accumulated key is three 64-bit words (most significant field first):

    key0   source 16 | link_in 24 | link_out 24
    key1   department 20 | peer_department 20 | application 20 | table 1 | direction 3
    key2   metering_point 24 | source_zone 16 | destination_zone 16 | service_class 8

``table`` is 0 there. A row of a result table is ``key1`` with its table and direction put in, and
``key2`` with its link (or metering point) in place of the metering point: two words, so that rows
are told apart by comparing two numbers.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.schema import KEY_COLUMNS, Table

#: Greatest code of each kind that a key can hold.
CODE_LIMITS: Final[dict[str, int]] = {
    "source": (1 << 16) - 1,
    "link_in": (1 << 24) - 1,
    "link_out": (1 << 24) - 1,
    "metering_point": (1 << 24) - 1,
    "direction": (1 << 3) - 1,
    "department": (1 << 20) - 1,
    "peer_department": (1 << 20) - 1,
    "application": (1 << 20) - 1,
    "source_zone": (1 << 16) - 1,
    "destination_zone": (1 << 16) - 1,
    "service_class": (1 << 8) - 1,
}

_ENDS_MASK: Final = np.uint64(~0xF & 0xFFFFFFFFFFFFFFFF)
_LINK_SHIFT: Final = np.uint64(40)
_LINK_MASK: Final = np.uint64((1 << 24) - 1)
_BELOW_LINK: Final = np.uint64((1 << 40) - 1)
_TABLE_SHIFT: Final = 3
_DTYPES: Final = {column.name: column.dtype for column in KEY_COLUMNS}


def _field(word: NDArray[np.uint64], shift: int, bits: int) -> NDArray[np.uint64]:
    return word >> np.uint64(shift) & np.uint64((1 << bits) - 1)


def unpack_key(key0: NDArray[np.uint64], key1: NDArray[np.uint64], key2: NDArray[np.uint64]) -> dict[str, Any]:
    """Take accumulated keys apart: the three words, each of shape (k,), -> code columns of shape (k,)."""
    return {
        "source": _field(key0, 48, 16),
        "link_in": _field(key0, 24, 24),
        "link_out": _field(key0, 0, 24),
        "department": _field(key1, 44, 20),
        "peer_department": _field(key1, 24, 20),
        "application": _field(key1, 4, 20),
        "direction": _field(key1, 0, 3),
        "metering_point": _field(key2, 40, 24),
        "source_zone": _field(key2, 24, 16),
        "destination_zone": _field(key2, 8, 16),
        "service_class": _field(key2, 0, 8),
    }


def link_rows(
    key1: NDArray[np.uint64], key2: NDArray[np.uint64], link: NDArray[np.uint64], direction: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the words of ``link_usage`` rows: shape (k,) each, for ``link`` of shape (k,)."""
    place = np.uint64(Table.LINK_USAGE << _TABLE_SHIFT | direction)
    return key1 & _ENDS_MASK | place, key2 & _BELOW_LINK | link << _LINK_SHIFT


def total_rows(key1: NDArray[np.uint64], key2: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the words of ``totals`` rows, shape (k,) each."""
    return key1 | np.uint64(Table.TOTALS << _TABLE_SHIFT), key2


def pack_rows(columns: dict[str, NDArray[Any]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Pack KEY_COLUMNS of shape (k,) into two words of shape (k,)."""
    wide = {name: columns[name].astype(np.uint64) for name in _DTYPES}

    def put(*fields: tuple[str, int]) -> NDArray[np.uint64]:
        word = np.zeros(len(wide["table"]), np.uint64)
        for name, shift in fields:
            word |= wide[name] << np.uint64(shift)
        return word

    return (
        put(
            ("department", 44),
            ("peer_department", 24),
            ("application", 4),
            ("table", _TABLE_SHIFT),
            ("direction", 0),
        ),
        put(("link", 40), ("source_zone", 24), ("destination_zone", 8), ("service_class", 0)),
    )


def unpack_rows(word1: NDArray[np.uint64], word2: NDArray[np.uint64]) -> dict[str, NDArray[Any]]:
    """Take the words of result rows apart: KEY_COLUMNS of shape (k,) in their declared dtypes."""
    codes = {
        "table": _field(word1, _TABLE_SHIFT, 1),
        "link": word2 >> _LINK_SHIFT & _LINK_MASK,
        "direction": _field(word1, 0, 3),
        "department": _field(word1, 44, 20),
        "peer_department": _field(word1, 24, 20),
        "application": _field(word1, 4, 20),
        "source_zone": _field(word2, 24, 16),
        "destination_zone": _field(word2, 8, 16),
        "service_class": _field(word2, 0, 8),
    }
    return {name: codes[name].astype(dtype) for name, dtype in _DTYPES.items()}
