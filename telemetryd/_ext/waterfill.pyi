"""Water levels of segments; compiled from ext/waterfill.pyx."""

import numpy as np
from numpy.typing import NDArray

def fill(
    start: NDArray[np.int64],  # (s,)
    stop: NDArray[np.int64],  # (s,)
    target: NDArray[np.int64],  # (s,)
    weight: NDArray[np.float64],  # (n,)
    low: NDArray[np.int64],  # (n,)
    high: NDArray[np.int64],  # (n,)
    out: NDArray[np.int64],  # (n,), out
    level: NDArray[np.float64],  # (s,), out
) -> None: ...
