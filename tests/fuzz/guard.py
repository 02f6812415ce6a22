"""Room between two pages that may not be touched: a read outside of it ends the process with SIGSEGV."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE = mmap.PAGESIZE


class Room:
    """Room for so many octets at least; ``first`` is where it begins, ``end`` where the page behind it does."""

    def __init__(self, octets: int) -> None:
        room = -(-octets // PAGE) * PAGE
        libc = ctypes.CDLL(None, use_errno=True)
        self._area = mmap.mmap(-1, room + 2 * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._area))
        for page in (base, base + PAGE + room):
            if libc.mprotect(ctypes.c_void_p(page), PAGE, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        self.first, self.end = base + PAGE, base + PAGE + room

    def places(self, octets: bytes) -> Iterator[NDArray[Any]]:
        """Yield the octets at the end of the room, then at its beginning; they are those of one place at a time."""
        for address in (self.end - len(octets), self.first):
            ctypes.memmove(address, octets, len(octets))
            yield np.ctypeslib.as_array((ctypes.c_uint8 * len(octets)).from_address(address))
