"""Numbers for distinct pairs of words; compiled from ext/group.pyx."""

import numpy as np
from numpy.typing import NDArray

def group(
    first: NDArray[np.uint64],  # (n,)
    second: NDArray[np.uint64],  # (n,)
    labels: NDArray[np.int64],  # (n,), out
    rows: NDArray[np.int64],  # (n,), out: the first `groups` are valid
) -> int: ...
