"""Paced sending by sendmmsg, and bare counting; compiled from ext/send.pyx."""

import numpy as np
from numpy.typing import NDArray

class Sender:
    """See :class:`telemetryd.ingest.generate.send_reference.Sender`, which is its specification."""

    def __init__(self, fd: int) -> None: ...
    datagrams: int
    octets: int
    refused: int
    retries: int
    latest_ns: int
    def send(
        self,
        buffer: NDArray[np.uint8],
        offsets: NDArray[np.uint64],  # (n,)
        lengths: NDArray[np.uint32],  # (n,)
        due_ns: NDArray[np.int64],  # (n,)
        sources: NDArray[np.uint32],  # (n,)
        first: int,
        until_ns: int,
    ) -> int: ...

class Counter:
    """See :class:`telemetryd.ingest.generate.send_reference.Counter`, which is its specification."""

    def __init__(self, fd: int, wait_ns: int) -> None: ...
    datagrams: int
    octets: int
    def receive(self, until_ns: int) -> None: ...
