"""Sequence, restart and sample-pool tracking; compiled from ext/track.pyx."""

from typing import Any, Final

from numpy.typing import NDArray

from telemetryd.schema import Batch

POOL_UNKNOWN: Final[int]
POOL_KNOWN: Final[int]
POOL_DUPLICATE: Final[int]
limits: Final[dict[str, int]]

class Tracker:
    """See :class:`telemetryd.ingest.sflow.sequence.Tracker`, which is its specification."""

    def __init__(self, datagrams: Batch, samples: Batch, track: Batch) -> None: ...
    @property
    def n_sources(self) -> int: ...
    def track(self) -> None: ...
    def agents(self) -> dict[str, NDArray[Any]]: ...  # columns of shape (a,)
    def sources(self) -> dict[str, NDArray[Any]]: ...  # columns of shape (s,)
