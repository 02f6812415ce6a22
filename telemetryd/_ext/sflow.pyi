"""The hot path of sFlow version 5; compiled from ext/sflow.pyx."""

from typing import Any, Final

from numpy.typing import NDArray

from telemetryd.schema import Batch

constants: Final[dict[str, int]]

class Decoder:
    """See :class:`telemetryd.ingest.sflow.columns.Decoder`, which is its specification."""

    def __init__(self, datagrams: Batch, samples: Batch, counters: Batch, decapsulate: bool = False) -> None: ...
    def decode(
        self,
        buffer: NDArray[Any],  # const uint8[::1], shape (octets,)
        offsets: NDArray[Any],  # const uint64[::1], shape (n,)
        lengths: NDArray[Any],  # const uint32[::1], shape (n,)
        ts_ns: NDArray[Any],  # const int64[::1], shape (n,)
        first: int,
    ) -> int: ...
    def stats(self) -> dict[str, Any]: ...
