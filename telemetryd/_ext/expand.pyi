"""Result rows of a closed window; compiled from ext/expand.pyx."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.scaling import SourceRates

def expand(
    columns: dict[str, NDArray[Any]],  # (k,)
    rates: SourceRates,  # (s,)
    corrections: NDArray[np.float64],  # (s,)
) -> tuple[dict[str, NDArray[Any]], int]: ...
