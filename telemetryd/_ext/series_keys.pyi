"""The keys of the series that are known; compiled from ext/series_keys.pyx."""

import numpy as np
from numpy.typing import NDArray

class SeriesKeys:
    def __len__(self) -> int: ...
    def look(
        self,
        first: NDArray[np.uint64],  # (n,)
        second: NDArray[np.uint64],  # (n,)
        is_known: NDArray[np.uint8],  # (n,), out
    ) -> int: ...
    def add(
        self,
        first: NDArray[np.uint64],  # (n,)
        second: NDArray[np.uint64],  # (n,)
    ) -> None: ...
