"""How much to shed: the share of the datagrams to keep follows how full the receive buffer stays."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
#: A backlog counts when it has lasted for one to two of these: after a pause it is there, and soon gone.
PERIOD_NS: Final = 50_000_000
#: A backlog that shrinks so fast that it will be gone within this time is not worth a datagram.
OUTLOOK_S: Final = 0.25
#: What was in the buffer at the start is processed, while it shrinks by this part of the buffer ...
PROGRESS: Final = 0.05
#: ... within this time. It is over sooner when it grows by twice that part.
PATIENCE_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Period:
    """What was seen of the buffer since a time: the first fill, and the least one."""

    since_ns: int
    first: float
    least: float


class Shedding:
    """Follow the fill of one socket's receive buffer.

    The buffer adds up the excess of what comes over what is processed, so a share that falls with the fill
    settles where the two are equal. What a pause left is processed, since it shrinks by itself; so is what a
    restart inherits, be it the whole buffer and the machine slow.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self._inherits = True
        self._progress: tuple[int, float] | None = None  # when the inherited fill last shrank, and to what
        self._updated_ns = 0
        self._before: _Period | None = None
        self._now: _Period | None = None

    def update(self, fill: float, now_ns: int) -> int:
        """Take the fill (0 to 1) at a monotonic time; return how many parts of KEEP_ALL to keep."""
        if self._inherits and self._shrinks(fill, now_ns):
            return KEEP_ALL
        self._inherits = False
        target = min(1.0, max(LEAST_SHARE, (HIGH - self._outlook(fill, now_ns)) / (HIGH - LOW)))
        elapsed_ns, self._updated_ns = now_ns - self._updated_ns, now_ns
        if target == self.share == 1.0:
            return KEEP_ALL
        self.share += (target - self.share) * -math.expm1(-elapsed_ns / SMOOTHING_NS)
        if self.share > 1 - 1 / 1024:
            self.share = 1.0
        return round(self.share * KEEP_ALL)

    def _shrinks(self, fill: float, now_ns: int) -> bool:
        """Whether the fill that was there at the start is above the low mark and on its way down."""
        if self._progress is None or fill <= self._progress[1] - PROGRESS:
            self._progress = (now_ns, fill)
        since_ns, least = self._progress
        return fill > LOW and fill <= least + 2 * PROGRESS and now_ns - since_ns < PATIENCE_NS

    def _outlook(self, fill: float, now_ns: int) -> float:
        """Return the fill that has lasted, less what will be gone by itself."""
        if self._now is None or now_ns - self._now.since_ns >= PERIOD_NS:
            self._before, self._now = self._now, _Period(now_ns, fill, fill)
        self._now.least = min(self._now.least, fill)
        if self._before is None:
            return 0.0
        trend_per_s = (fill - self._before.first) / (now_ns - self._before.since_ns) * 1e9
        return min(self._before.least, self._now.least) + min(0.0, trend_per_s * OUTLOOK_S)
