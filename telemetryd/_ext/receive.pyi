"""Batches of datagrams from a UDP socket; compiled from ext/receive.pyx."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

class Receiver:
    """See :class:`telemetryd.ingest.sflow.receive.Receiver`, which is its specification."""

    buffer: NDArray[np.uint8]  # shape (capacity_datagrams * max_octets,)
    offsets: NDArray[np.uint64]  # shape (capacity_datagrams,)
    lengths: NDArray[np.uint32]  # shape (capacity_datagrams,)
    ts_ns: NDArray[np.int64]  # shape (capacity_datagrams,)

    def __init__(
        self, fd: int, capacity_datagrams: int, max_octets: int, *, linger_ns: int = 5_000_000, seed: int = 0
    ) -> None: ...
    @property
    def is_behind(self) -> bool: ...
    @property
    def fill(self) -> float: ...
    def allow(
        self, addresses: Sequence[tuple[int, int, int]], prefixes: Sequence[tuple[int, int, int, int, int]] = ()
    ) -> None: ...
    def cap(self, rate: float, burst: float) -> None: ...
    def keep(self, parts: int) -> None: ...
    def receive(self, wait_ns: int) -> int: ...
    def stats(self) -> dict[str, int]: ...
    def agents(self) -> dict[str, NDArray[Any]]: ...  # columns of shape (a,)
    def refused(self) -> list[tuple[int, int, int, int]]: ...
