"""Lines from columns; compiled from ext/line_protocol.pyx."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def number(value: float | int) -> bytes: ...
def render(
    head: bytes,
    # texts octets, places (c + 1,), codes (n,)
    tags: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]],
    fields: Sequence[tuple[bytes, NDArray[Any]]],  # (n,) float64 or int64 each
    times: NDArray[np.int64],  # (n,)
) -> bytes: ...
