"""Windows of counters that wait for somebody, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque

from telemetryd.counter_windows import CounterWindow

#: What a name takes in memory, octets, counted generously.
NAME_OCTETS = 200


class CounterBacklog:
    """Closed windows that wait; any thread may put and take. Full, it loses the oldest and counts them.

    Parameters
    ----------
    limit_octets:
        Memory that may be held; one window is always held.

    Attributes
    ----------
    lost:
        Windows lost so far.
    """

    def __init__(self, limit_octets: int) -> None:
        self._limit = limit_octets
        self._lock = threading.Lock()
        self._windows: deque[tuple[int, CounterWindow]] = deque()
        self._octets = 0
        self.lost = 0

    def __len__(self) -> int:
        return len(self._windows)

    def put(self, window: CounterWindow) -> int:
        """Add a window; return how many older ones were lost for it."""
        octets = sum(column.nbytes for column in window.columns.values()) + len(window.names) * NAME_OCTETS
        with self._lock:
            lost = 0
            while self._windows and self._octets + octets > self._limit:
                self._octets -= self._windows.popleft()[0]
                lost += 1
            self._windows.append((octets, window))
            self._octets += octets
            self.lost += lost
            return lost

    def take(self, limit: int) -> list[CounterWindow]:
        """Remove and return the oldest windows, ``limit`` at most."""
        with self._lock:
            taken = [self._windows.popleft() for _ in range(min(limit, len(self._windows)))]
            self._octets -= sum(octets for octets, _ in taken)
            return [window for _, window in taken]
