"""SubscribeResponse messages to rows of a batch; compiled from ext/gnmi_wire.pyx."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.gnmi.paths import Resolver
from telemetryd.schema import UpdateBatch

class Decoder:
    """See :class:`telemetryd.ingest.gnmi.gnmi_wire_reference.Decoder`, which is its specification."""

    def __init__(
        self,
        batch: UpdateBatch,
        target: int,
        resolver: Resolver,
        asked_ns: NDArray[np.int64],  # (s,)
    ) -> None: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def error(self) -> str: ...
    def decode(
        self,
        octets: NDArray[np.uint8],  # (octets,)
        offsets: NDArray[np.int64],  # (n,)
        lengths: NDArray[np.int64],  # (n,)
        first: int,
        received_ns: int,
    ) -> int: ...
    def take_intervals(self) -> dict[str, NDArray[Any]]: ...  # (s,), histogram (s, BINS)
    def take_delay(self) -> tuple[int, int, int]: ...
