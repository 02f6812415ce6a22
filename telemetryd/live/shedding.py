"""How much to shed: the share of the datagrams to keep follows how full the receive buffer is."""

from __future__ import annotations

import math
from typing import Final

from telemetryd.ingest.sflow.receive import KEEP_ALL

#: Up to this part of the receive buffer everything is kept: a burst, or a window that is being closed.
LOW: Final = 0.5
#: From this part on only the least share is kept.
HIGH: Final = 0.9
#: The least share that is kept, so that every agent stays in sight.
LEAST_SHARE: Final = 1 / 64
#: How fast the share follows, ns.
SMOOTHING_NS: Final = 100_000_000


class Shedding:
    """Follow the fill of one socket's receive buffer.

    The buffer adds up the excess of what comes over what is processed, so a share that falls with the fill
    settles where the two are equal.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self._fill = 0.0
        self._updated_ns = 0

    def update(self, fill: float, now_ns: int) -> int:
        """Take the fill (0 to 1) at a monotonic time; return how many parts of KEEP_ALL to keep.

        A fill counts when it lasts for two batches: after a pause the first batch finds a full buffer, and
        takes it.
        """
        lasting, self._fill = min(fill, self._fill), fill
        target = min(1.0, max(LEAST_SHARE, (HIGH - lasting) / (HIGH - LOW)))
        elapsed_ns, self._updated_ns = now_ns - self._updated_ns, now_ns
        if target == self.share == 1.0:
            return KEEP_ALL
        self.share += (target - self.share) * -math.expm1(-elapsed_ns / SMOOTHING_NS)
        if self.share > 1 - 1 / 1024:
            self.share = 1.0
        return round(self.share * KEEP_ALL)
