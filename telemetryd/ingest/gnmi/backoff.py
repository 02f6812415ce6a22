"""How long to wait before a target is tried again: longer each time, and never all targets at once."""

from __future__ import annotations

import random

FIRST_S = 0.5
LONGEST_S = 20.0


class Backoff:
    """Waiting times with decorrelated jitter: each is random between the first and three times the last one.

    Parameters
    ----------
    first_s, longest_s:
        The shortest and the longest wait.
    source:
        Where chance comes from.
    """

    def __init__(
        self, first_s: float = FIRST_S, longest_s: float = LONGEST_S, source: random.Random | None = None
    ) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._random = source or random.Random()
        self._last_s = first_s

    def next_s(self) -> float:
        """Return how long to wait now."""
        self._last_s = min(self._longest_s, self._random.uniform(self._first_s, 3 * self._last_s))
        return self._last_s

    def reset(self) -> None:
        """Begin again with short waits: it went well for a while."""
        self._last_s = self._first_s
