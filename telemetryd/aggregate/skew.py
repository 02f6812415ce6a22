"""How far devices' clocks are from ours: the least time of reception less the device's, of late.

A delay on the way looks like a clock that is behind, so a clock is believed where it cannot be told from a delay:
it is corrected where it is ahead, since nothing comes before it was sent, or further behind than anything is delayed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: The least delay is that of this time, and of the one before.
PERIOD_NS: Final = 60_000_000_000
#: Delays up to here say nothing of the clock.
BELIEVED_NS: Final = 5_000_000_000


class Skew:
    """Estimate the skew of numbered targets; one owner."""

    def __init__(self) -> None:
        self._least: dict[int, tuple[int, int, int]] = {}  # target -> period, least in it, least in the one before

    def offsets(
        self, target: NDArray[Any], ts_ns: NDArray[np.int64], received_ns: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Take times of rows, and return what is to be added to the device's to have ours; all of shape (n,)."""
        targets, places = np.unique(target, return_inverse=True)
        least = np.full(len(targets), np.iinfo(np.int64).max)
        latest = np.zeros(len(targets), np.int64)
        np.minimum.at(least, places, received_ns - ts_ns)
        np.maximum.at(latest, places, received_ns)
        found = [self._note(*row) for row in zip(targets.tolist(), least.tolist(), latest.tolist(), strict=True)]
        return np.array(found, np.int64)[places]

    def _note(self, target: int, delay_ns: int, now_ns: int) -> int:
        period, least, before = self._least.get(target, (now_ns // PERIOD_NS, delay_ns, delay_ns))
        if now_ns // PERIOD_NS != period:
            before, least, period = least, delay_ns, now_ns // PERIOD_NS
        least = min(least, delay_ns)
        self._least[target] = period, least, before
        skew_ns = min(least, before)
        return 0 if 0 <= skew_ns <= BELIEVED_NS else skew_ns
